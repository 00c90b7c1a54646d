// What a synthetic corpus asks for, in figures: how evenly its answers are spread, and how many of
// them need the picture, the sound, or both.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/synth.h"
#include "protocol/error.h"

namespace crabcast::data {

// Of a data set, or of one kind of question in it.
struct SynthFigures {
  std::string name = {};  // "avqa", "avqa: Audio Counting"
  std::uint64_t samples = 0;
  std::uint64_t answers = 0;  // different ones
  double entropy = 0;         // of the answers, in bits
  std::string best_constant = {};
  double best_constant_share = 0;
  // Shares by what the answer needs; they add up to 1, or are all 0 where scenes do not say (easy).
  double both = 0, picture = 0, sound = 0, either = 0;
};

// All train and test rows of the corpus that the options describe, without rendering it; easy
// scenes are rendered, with `threads` threads, and thrown away. A data set with several kinds of
// questions is followed by a row for each.
Result<std::vector<SynthFigures>> synthetic_figures(const SynthOptions& options, int threads);

// A table in Markdown, and the same as JSON.
std::string figures_text(const std::vector<SynthFigures>& figures);
std::string figures_json(const std::vector<SynthFigures>& figures);

}  // namespace crabcast::data

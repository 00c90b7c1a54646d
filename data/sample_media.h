// The files of one sample to the tensors that the towers take.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "data/corpus.h"
#include "data/prompt.h"
#include "data/stage_times.h"
#include "model/tokenizer.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::data {

// Undefined tensors: the sample has no such medium. P patches, M videos and pictures, A sounds.
struct SampleMedia {
  at::Tensor pixel_values;      // float32 [P, 3 * T * 14 * 14]
  at::Tensor grid_thw;          // int64 [M, 3]
  at::Tensor seconds_per_grid;  // float32 [M]
  at::Tensor audio_features;    // float32 [A, mel_bins, F]
  at::Tensor audio_lengths;     // int64 [A]
  MediaTokens tokens;           // that the prompt holds in their place
  StageTimes times{};           // what reading them took
};

// Decodes what the sample's data set asks for, and nothing else, in the caller's thread; LibTorch's
// operations take as many threads as the process allows them, so a process that decodes several
// samples at once calls at::set_num_threads(1). `before` hears of each file before it is opened.
// Masks are not read: scoring does that (data/answers.h). Errors as those of data/decode.h.
// Thread-safe.
Result<SampleMedia> read_media(
    const Sample& sample, const model::MediaShape& shape, Duration deadline,
    const std::function<void(const std::filesystem::path&)>& before = {});

}  // namespace crabcast::data

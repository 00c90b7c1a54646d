// Lessons: small scenes held in memory, with questions about them and their answers. What the
// shipped base `nano` learned to see, to hear and to write from (crabcast base make).
//
// They show the same kinds of things, motions, faces and sounds as the synthetic corpus, but no
// scene of any corpus: their random streams are marked with kLessonStream, where a corpus has the
// row of a data set. They ask in other words, and the answers are plain facts ("heard: bell; at:
// [12,40,80,99]"): the labels and the layout of the seventeen data sets do not occur.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/batch.h"
#include "model/tokenizer.h"

namespace crabcast::data {

inline constexpr std::uint64_t kLessonStream = 0x6C6573736F6E;  // "lesson"

// look: a picture. listen: sound, 2 to 5 s. match: a picture and 1 to 2 s of sound. motion: ten
// pictures and 10 s of sound. face: four pictures and 4 s. events: ten pictures, 10 s of sound, or
// both. watch: things that stand there for ten pictures, with 10 or 20 s of sound.
enum class LessonKind { look, listen, match, motion, face, events, watch };
inline constexpr std::string_view kLessonNames[] = {"look", "listen", "match", "motion",
                                                    "face", "events", "watch"};

struct LessonTurn {
  std::string question, answer;
};

struct Lesson {
  std::vector<at::Tensor> frames = {};  // uint8 [3, S, S]
  bool video = false;                   // otherwise a picture
  std::vector<float> sound = {};        // mono, 16 kHz; empty: none
  std::vector<LessonTurn> turns = {};
};

// A function of its arguments. `turns`: how many questions; at least 1. `size`: side of a frame.
Lesson make_lesson(LessonKind kind, std::uint64_t seed, std::uint64_t index, int turns, int size);

// A lesson ready to be put into a batch; answers and their <|im_end|> are trained.
struct LessonTokens {
  std::vector<model::TokenId> ids = {};
  std::vector<bool> trained = {};
  Processed media = {};  // its tensors
};
LessonTokens process_lesson(const Lesson& lesson, const model::BaseFrontEnd& front_end);
// The first question without its answer, for generation.
LessonTokens lesson_prompt(const Lesson& lesson, const model::BaseFrontEnd& front_end);
Batch make_lesson_batch(const std::vector<LessonTokens>& lessons,
                        const model::BaseFrontEnd& front_end);

}  // namespace crabcast::data

// Answers as text, and how they are scored: what the synthetic corpus writes, what the reader
// expects, what the evaluator parses. One grammar for each task, in one place.
//
// A target is two parts: "<think>REASONING</think><answer>FINAL</answer>". Scores look at FINAL
// only; a text without the tags is taken as a whole. Boxes are [x1,y1,x2,y2], points [x,y], pixels
// of a 224 x 224 picture.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus.h"
#include "protocol/error.h"

namespace crabcast::data {

struct Box {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};
std::string final_answer(std::string_view text);
std::optional<Box> first_box(std::string_view text);

// One sample's score in [0, 1], with the name of its metric:
//   action, emotion, question: accuracy (class or option, compared without case and punctuation)
//   temporal localization: share of the ten seconds labelled right (segment accuracy)
//   spatial localization: IoU of the boxes
//   segmentation: IoU of the true mask and the predicted box
//   captioning: token F1
struct Score {
  double value = 0;
  std::string_view metric;
};
Result<Score> score_answer(const Sample& sample, std::string_view answer);
std::string_view metric_name(Task task);

}  // namespace crabcast::data

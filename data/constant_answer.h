// What can be scored without seeing or hearing anything: one answer that is given to every sample.
#pragma once

#include <string>

#include "data/corpus.h"
#include "protocol/error.h"
#include "protocol/tasks.h"

namespace crabcast::data {

// The answer that scores best, by the task's own metric, when every training sample of the task
// gets it. Tried are:
//
//   action, emotion, question   every answer of the training split
//   temporal localization       the same, and "none"
//   spatial localization,       every box of the training split, and all boxes with corners on a
//     segmentation              grid of 28 pixels; segmentation: also "none"
//   captioning                  every sentence of the training split; then words are added to the
//                               best one, or left out of it, while that helps
//
// Of long splits, up to 512 rows are taken at even strides. Masks belong to held-out samples only;
// in training a box is compared with the box of the target. data_error: no row of the task can be
// used.
Result<std::string> best_constant_answer(const Corpus& corpus, Task task);

}  // namespace crabcast::data

// Answers as text, and how they are scored: what the synthetic corpus writes, what the reader
// expects, what the evaluator parses. One grammar for each task, in one place.
//
// A target is two parts: "<think>REASONING</think><answer>FINAL</answer>". Scores look at FINAL
// only; a text without the tags is taken as a whole. FINAL by task:
//
//   action, emotion       CLASS
//   question              ANSWER (avqa_thu: the words of the chosen option)
//   temporal              EVENT: 2-5 s; EVENT: 7-9 s      "none" when nothing happens
//     avvp                EVENT (audio): 2-5 s            modality audio, visual or both
//   spatial               CLASS [x1,y1,x2,y2]
//   segmentation          CLASS [x1,y1,x2,y2] [x,y] [x,y] [x,y]   "none" when nothing fits
//   (ref_avs) captioning            a sentence
//   matching              video1 or video2; of two sounds audio1 or audio2
//
// Boxes and points are whole pixels, 0 to 223, of a 224 x 224 picture; a box names its first and
// its last pixel in each direction. Times are seconds of a 10 s clip; an event covers [start, end).
//
// All functions are pure but score_answer, which reads the mask of a segmentation sample; all may
// be called from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus.h"
#include "protocol/error.h"

namespace crabcast::data {

struct Box {
  double x1 = 0, y1 = 0, x2 = 0, y2 = 0;
};

// How a modality is written in FINAL; none: the data set does not ask for it.
enum class Modality { none, audio, visual, both };

struct Event {
  std::string name;
  double start = 0, end = 0;  // seconds
  Modality modality = Modality::none;
};

// "<think>REASONING</think><answer>FINAL</answer>"
std::string make_target(std::string_view reasoning, std::string_view final);
std::string final_answer(std::string_view text);

// The first "[x1,y1,x2,y2]"; blanks and fractions are accepted.
std::optional<Box> first_box(std::string_view text);
std::string format_box(const Box& box);

// Pieces that do not follow the grammar, and those that end before they start, are left out.
std::vector<Event> parse_events(std::string_view text);
std::string format_events(std::span<const Event> events);  // "none" when empty

// Intersection over union; 0 when either has no area.
double box_iou(const Box& a, const Box& b);
// The same for a mask (row by row, non-zero = object, any size) and a box of the 224 x 224 picture.
// Without a box: 1 when the mask is empty, else 0.
double mask_box_iou(std::span<const std::uint8_t> mask, int width, int height,
                    const std::optional<Box>& box);
// Share of the ten seconds in which the two say the same set of events (name and modality).
double segment_accuracy(std::span<const Event> truth, std::span<const Event> predicted);
// Harmonic mean of precision and recall over words, repeated words counted, case and punctuation
// left out.
double token_f1(std::string_view truth, std::string_view predicted);

// One sample's score in [0, 1], with the name of its metric:
//   action, emotion, question, matching: accuracy (class or option, compared without case, blanks
//   and
//     punctuation)
//   temporal localization: segment_accuracy
//   spatial localization: box_iou
//   segmentation: mask_iou of the true mask and the predicted box; a sample without a mask file has
//     no such object, and is right when no box is given
//   captioning: token_f1, the best over the references
struct Score {
  double value = 0;
  std::string_view metric;
};
// `sample.reference` as docs/corpus.md has it for each data set. data_error: a reference that
// does not follow the grammar, a mask that cannot be read; the file or the text is named.
Result<Score> score_answer(const Sample& sample, std::string_view answer);
std::string_view metric_name(Task task);

}  // namespace crabcast::data

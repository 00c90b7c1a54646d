// The data sets of AV-UIE v2: one row each, those of the optional task av_matching last. Adding one
// is a row here and a test. What each field of each row holds: docs/corpus.md.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "protocol/tasks.h"

namespace crabcast::data {

// Row number in this table; stored in ledgers, so rows are only ever appended.
using DatasetRow = std::uint32_t;

enum class VisualInput { video, image };
enum class AudioWindow {
  parts_of_second,  // `audio_parts` x 1 s: cut into equal parts, each of floor(n / parts) samples,
                    // joined
  first_seconds,    // the first `audio_parts` seconds
  centred_windows,  // ten windows of 2 s centred on 0, 6, .., 54 s
  at_frame_index,   // 1 s at the sample's frame index, of a clip of `audio_parts` seconds
};

struct Dataset {
  std::string_view id;  // folder name, for example "avqa_thu"
  Task task;
  VisualInput visual;
  int frames;  // sampled uniformly; 1 for images
  AudioWindow audio;
  int audio_parts;
  bool has_test;                  // unav, mer24 and avcap have no test.json
  std::string_view target_field;  // train: label, new_label (ucf), label_content or output
  std::string_view train_fields;  // names in published order, one space between
  std::string_view test_fields;   // empty without test.json
  int videos = 1, audios = 1;     // 2 where one of two is to be found that matches
};

std::span<const Dataset> datasets();
const Dataset* find_dataset(std::string_view id);

// How many rows at the end of a train.json are kept for evaluation when the data set has no
// test.json: a tenth, at least 4, never more than half. Training uses the rows before them.
std::uint64_t held_out_rows(std::uint64_t rows);

}  // namespace crabcast::data

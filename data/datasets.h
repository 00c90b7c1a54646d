// The seventeen data sets of AV-UIE v2: one row each. Adding one is a row here and a test.
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
  parts_of_second,     // `audio_parts` x 1 s: cut into equal parts, each of floor(n / parts) samples, joined
  first_seconds,       // the first `audio_parts` seconds
  centred_windows,     // ten windows of 2 s centred on 0, 6, .., 54 s
  at_frame_index,      // 1 s at the sample's frame index, of a clip of `audio_parts` seconds
};

struct Dataset {
  std::string_view id;             // folder name, for example "avqa_thu"
  Task task;
  VisualInput visual;
  int frames;                      // sampled uniformly; 1 for images
  AudioWindow audio;
  int audio_parts;
  bool has_test;                   // unav, mer24 and avcap have no test.json
  std::string_view target_field;   // train: label, label_content or output
};

std::span<const Dataset> datasets();
const Dataset* find_dataset(std::string_view id);

}  // namespace crabcast::data

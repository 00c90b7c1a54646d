// The seven tasks of AV-UIE v2, in the order in which quotas, reports and tables list them, and the
// names of their data sets.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace crabcast {

enum class Task {
  action_recognition,
  emotion_recognition,
  av_question_answering,
  temporal_localization,
  spatial_localization,
  segmentation,
  captioning,
};

inline constexpr std::array<std::string_view, 7> kTaskNames = {"action_recognition",
                                                               "emotion_recognition",
                                                               "av_question_answering",
                                                               "temporal_localization",
                                                               "spatial_localization",
                                                               "segmentation",
                                                               "captioning"};

inline constexpr std::size_t kTaskCount = kTaskNames.size();

constexpr std::string_view task_name(Task task) {
  return kTaskNames[static_cast<std::size_t>(task)];
}

constexpr std::optional<Task> task_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kTaskCount; ++i)
    if (kTaskNames[i] == name) return static_cast<Task>(i);
  return std::nullopt;
}

// The data sets' ids, in the order of data/datasets.h, which a test compares with this list.
inline constexpr std::array<std::string_view, 17> kDatasetNames = {
    "ks",  "ucf",  "meld", "mer24", "cremad", "mafw", "dfew",    "avqa", "avqa_thu",
    "ave", "unav", "avvp", "arig",  "s4",     "ms3",  "ref_avs", "avcap"};

}  // namespace crabcast

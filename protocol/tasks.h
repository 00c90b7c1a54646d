// The tasks of AV-UIE v2, in the order in which quotas, reports and tables list them, and the names
// of their data sets. The first seven are what a job trains unless it says otherwise; av_matching
// is optional: only a job that names it has it.
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
  av_matching,
};

inline constexpr std::array<std::string_view, 8> kTaskNames = {"action_recognition",
                                                               "emotion_recognition",
                                                               "av_question_answering",
                                                               "temporal_localization",
                                                               "spatial_localization",
                                                               "segmentation",
                                                               "captioning",
                                                               "av_matching"};

inline constexpr std::size_t kTaskCount = kTaskNames.size();

constexpr bool is_optional(Task task) {
  return task == Task::av_matching;
}

constexpr std::string_view task_name(Task task) {
  return kTaskNames[static_cast<std::size_t>(task)];
}

constexpr std::optional<Task> task_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kTaskCount; ++i)
    if (kTaskNames[i] == name) return static_cast<Task>(i);
  return std::nullopt;
}

// The data sets' ids, in the order of data/datasets.h, which a test compares with this list.
inline constexpr std::array<std::string_view, 19> kDatasetNames = {
    "ks",   "ucf",  "meld", "mer24", "cremad", "mafw",    "dfew",  "avqa", "avqa_thu", "ave",
    "unav", "avvp", "arig", "s4",    "ms3",    "ref_avs", "avcap", "a2v",  "v2a"};

}  // namespace crabcast

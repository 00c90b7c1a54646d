// The seven tasks of AV-UIE v2, in the order in which quotas, reports and tables list them.
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

}  // namespace crabcast

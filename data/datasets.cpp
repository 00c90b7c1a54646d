#include "data/datasets.h"

#include <algorithm>
#include <array>

namespace crabcast::data {
namespace {

constexpr auto kVideo = VisualInput::video;
constexpr auto kImage = VisualInput::image;
constexpr auto kParts = AudioWindow::parts_of_second;
constexpr auto kFirst = AudioWindow::first_seconds;
constexpr auto kCentred = AudioWindow::centred_windows;
constexpr auto kAtFrame = AudioWindow::at_frame_index;

constexpr std::string_view kEmotionTrain = "video_path audio_path label emotion";
constexpr std::string_view kEmotionTest = "video_path audio_path emotion";
constexpr std::string_view kMaskTest = "visual_path audio_path vid uid a_obj frame_idx";

constexpr std::array kDatasets = {
    Dataset{"ks", Task::action_recognition, kVideo, 10, kParts, 10, true, "label",
            "video_path audio_path action label", "video_path audio_path action"},
    Dataset{"ucf", Task::action_recognition, kVideo, 10, kParts, 10, true, "new_label",
            "video_path audio_path new_label label", "video_path audio_path label"},
    Dataset{"meld", Task::emotion_recognition, kVideo, 4, kFirst, 4, true, "label",
            "video_path audio_path label Emotion", "video_path audio_path Emotion"},
    Dataset{"mer24", Task::emotion_recognition, kVideo, 4, kFirst, 4, false, "label",
            "video_path audio_path label discrete", ""},
    Dataset{"cremad", Task::emotion_recognition, kVideo, 4, kFirst, 4, true, "label", kEmotionTrain,
            kEmotionTest},
    Dataset{"mafw", Task::emotion_recognition, kVideo, 4, kFirst, 4, true, "label", kEmotionTrain,
            kEmotionTest},
    Dataset{"dfew", Task::emotion_recognition, kVideo, 4, kFirst, 4, true, "label", kEmotionTrain,
            kEmotionTest},
    Dataset{"avqa", Task::av_question_answering, kVideo, 10, kCentred, 10, true, "label",
            "video_path audio_path video_id question_id type question answer label",
            "video_path audio_path video_id question_id type question answer"},
    Dataset{"avqa_thu", Task::av_question_answering, kVideo, 10, kParts, 10, true, "label",
            "video_path audio_path id video_name video_id question_relation question_type "
            "multi_choice question_text answer label",
            "video_path audio_path id video_name video_id question_relation question_type "
            "multi_choice question_text answer"},
    Dataset{"ave", Task::temporal_localization, kVideo, 10, kParts, 10, true, "label_content",
            "video_path audio_path event vid start_time end_time label_content",
            "video_path audio_path event vid start_time end_time"},
    Dataset{"unav", Task::temporal_localization, kVideo, 10, kParts, 10, false, "label_content",
            "video_path audio_path vid label_content", ""},
    Dataset{"avvp", Task::temporal_localization, kVideo, 10, kParts, 10, true, "label_content",
            "video_path audio_path filename vid event label_content",
            "video_path audio_path filename vid event"},
    Dataset{"arig", Task::spatial_localization, kImage, 1, kParts, 5, true, "label_content",
            "image_path audio_path a_obj label_content",
            "visual_path audio_path top_left bottom_right a_obj frame_idx"},
    Dataset{"s4", Task::segmentation, kImage, 1, kAtFrame, 5, true, "label_content",
            "image_path audio_path vid uid a_obj label_content", kMaskTest},
    Dataset{"ms3", Task::segmentation, kImage, 1, kAtFrame, 5, true, "label_content",
            "image_path audio_path vid uid a_obj frame_idx label_content", kMaskTest},
    Dataset{"ref_avs", Task::segmentation, kImage, 1, kAtFrame, 10, true, "output",
            "image_path audio_path vid fid uid idx description output",
            "visual_path audio_path object split vid uid fid frame_idx"},
    Dataset{"avcap", Task::captioning, kVideo, 10, kParts, 10, false, "label_content",
            "video_path audio_path video_id label_content", ""},
    Dataset{"a2v", Task::av_matching, kVideo, 10, kParts, 10, true, "label",
            "video1_path video2_path audio_path correct_video audio_event video1_event "
            "video2_event label",
            "video1_path video2_path audio_path correct_video", 2, 1},
    Dataset{"v2a", Task::av_matching, kVideo, 10, kParts, 10, true, "label",
            "video_path audio1_path audio2_path correct_audio audio1_event audio2_event "
            "video_event label",
            "video_path audio1_path audio2_path correct_audio", 1, 2},
};

}  // namespace

std::span<const Dataset> datasets() {
  return kDatasets;
}

const Dataset* find_dataset(std::string_view id) {
  const auto* found = std::ranges::find(kDatasets, id, &Dataset::id);
  return found == kDatasets.end() ? nullptr : found;
}

std::uint64_t held_out_rows(std::uint64_t rows) {
  return std::min(rows / 2, std::max<std::uint64_t>(4, rows / 10));
}

}  // namespace crabcast::data

#include "data/datasets.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>
#include <string>

#include "protocol/tasks.h"

namespace crabcast::data {
namespace {

std::set<std::string> words(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::set<std::string> out;
  for (std::string word; in >> word;) out.insert(word);
  return out;
}

struct Published {
  std::string id, train, test;
};

// The published table, word by word; kept apart from the code's own table on purpose.
const std::vector<Published> kPublished = {
    {"ks", "video_path audio_path action label", "video_path audio_path action"},
    {"ucf", "video_path audio_path new_label label", "video_path audio_path label"},
    {"meld", "video_path audio_path label Emotion", "video_path audio_path Emotion"},
    {"mer24", "video_path audio_path label discrete", ""},
    {"cremad", "video_path audio_path label emotion", "video_path audio_path emotion"},
    {"mafw", "video_path audio_path label emotion", "video_path audio_path emotion"},
    {"dfew", "video_path audio_path label emotion", "video_path audio_path emotion"},
    {"avqa", "video_path audio_path video_id question_id type question answer label",
     "video_path audio_path video_id question_id type question answer"},
    {"avqa_thu",
     "video_path audio_path id video_name video_id question_relation question_type multi_choice "
     "question_text answer label",
     "video_path audio_path id video_name video_id question_relation question_type multi_choice "
     "question_text answer"},
    {"ave", "video_path audio_path event vid start_time end_time label_content",
     "video_path audio_path event vid start_time end_time"},
    {"unav", "video_path audio_path vid label_content", ""},
    {"avvp", "video_path audio_path filename vid event label_content",
     "video_path audio_path filename vid event"},
    {"arig", "image_path audio_path a_obj label_content",
     "visual_path audio_path top_left bottom_right a_obj frame_idx"},
    {"s4", "image_path audio_path vid uid a_obj label_content",
     "visual_path audio_path vid uid a_obj frame_idx"},
    {"ms3", "image_path audio_path vid uid a_obj frame_idx label_content",
     "visual_path audio_path vid uid a_obj frame_idx"},
    {"ref_avs", "image_path audio_path vid fid uid idx description output",
     "visual_path audio_path object split vid uid fid frame_idx"},
    {"avcap", "video_path audio_path video_id label_content", ""},
    {"a2v",
     "video1_path video2_path audio_path correct_video audio_event video1_event video2_event label",
     "video1_path video2_path audio_path correct_video"},
    {"v2a",
     "video_path audio1_path audio2_path correct_audio audio1_event audio2_event video_event label",
     "video_path audio1_path audio2_path correct_audio"},
};

// Rows are stored by number in ledgers: their order may never change.
TEST(Datasets, RowsKeepTheirNumbersAndFields) {
  ASSERT_GE(datasets().size(), kPublished.size());
  for (std::size_t row = 0; row < kPublished.size(); ++row) {
    const Dataset& set = datasets()[row];
    EXPECT_EQ(set.id, kPublished[row].id) << "row " << row;
    EXPECT_EQ(set.train_fields, kPublished[row].train) << set.id;
    EXPECT_EQ(set.test_fields, kPublished[row].test) << set.id;
  }
}

TEST(Datasets, TargetsAreTrainFieldsOnly) {
  for (const Dataset& set : datasets()) {
    EXPECT_TRUE(words(set.train_fields).contains(std::string(set.target_field))) << set.id;
    EXPECT_EQ(set.has_test, !set.test_fields.empty()) << set.id;
    if (set.id == "ucf") continue;  // checked below
    EXPECT_FALSE(words(set.test_fields).contains(std::string(set.target_field))) << set.id;
  }
  EXPECT_EQ(find_dataset("ucf")->target_field, "new_label");  // its `label` is the class
}

TEST(Datasets, EachTaskHasItsSets) {
  std::map<Task, int> counts;
  for (const Dataset& set : datasets()) ++counts[set.task];
  const std::map<Task, int> expected = {{Task::action_recognition, 2},
                                        {Task::emotion_recognition, 5},
                                        {Task::av_question_answering, 2},
                                        {Task::temporal_localization, 3},
                                        {Task::spatial_localization, 1},
                                        {Task::segmentation, 3},
                                        {Task::captioning, 1},
                                        {Task::av_matching, 2}};
  EXPECT_EQ(counts, expected);
}

TEST(Datasets, WindowsAreThePublishedOnes) {
  for (const Dataset& set : datasets()) {
    SCOPED_TRACE(set.id);
    const bool image = set.task == Task::segmentation || set.task == Task::spatial_localization;
    EXPECT_EQ(set.visual, image ? VisualInput::image : VisualInput::video);
    const bool emotion = set.task == Task::emotion_recognition;
    EXPECT_EQ(set.frames, image ? 1 : emotion ? 4 : 10);
    if (set.task == Task::segmentation) {
      EXPECT_EQ(set.audio, AudioWindow::at_frame_index);
      EXPECT_EQ(set.audio_parts, set.id == "ref_avs" ? 10 : 5);
    } else if (emotion) {
      EXPECT_EQ(set.audio, AudioWindow::first_seconds);
      EXPECT_EQ(set.audio_parts, 4);
    } else if (set.id == "avqa") {
      EXPECT_EQ(set.audio, AudioWindow::centred_windows);
      EXPECT_EQ(set.audio_parts, 10);
    } else {
      EXPECT_EQ(set.audio, AudioWindow::parts_of_second);
      EXPECT_EQ(set.audio_parts, image ? 5 : 10);
    }
  }
}

TEST(Datasets, OnlyTheMatchingTaskHasTwoOfAMedium) {
  for (const Dataset& set : datasets()) {
    EXPECT_EQ(set.videos, set.id == "a2v" ? 2 : 1) << set.id;
    EXPECT_EQ(set.audios, set.id == "v2a" ? 2 : 1) << set.id;
    EXPECT_EQ(is_optional(set.task), set.videos + set.audios > 2) << set.id;
  }
}

TEST(Datasets, AreFoundByTheirFolderName) {
  ASSERT_NE(find_dataset("avqa_thu"), nullptr);
  EXPECT_EQ(find_dataset("avqa_thu"), &datasets()[8]);
  EXPECT_EQ(find_dataset("avqa-thu"), nullptr);
  EXPECT_EQ(find_dataset(""), nullptr);
}

TEST(Datasets, ATenthIsHeldOutButNeverMoreThanHalf) {
  EXPECT_EQ(held_out_rows(0), 0U);
  EXPECT_EQ(held_out_rows(1), 0U);
  EXPECT_EQ(held_out_rows(5), 2U);
  EXPECT_EQ(held_out_rows(8), 4U);
  EXPECT_EQ(held_out_rows(40), 4U);
  EXPECT_EQ(held_out_rows(55), 5U);
  EXPECT_EQ(held_out_rows(10000), 1000U);
}

TEST(Datasets, NamesInProtocolAreThoseOfTheTable) {
  ASSERT_EQ(datasets().size(), kDatasetNames.size());
  for (std::size_t i = 0; i < kDatasetNames.size(); ++i)
    EXPECT_EQ(datasets()[i].id, kDatasetNames[i]);
}

}  // namespace
}  // namespace crabcast::data

#include "data/corpus.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using nlohmann::json;
using testing::TemporaryFolder;
using testing::write_text;

const std::vector<std::string> kAll = {"all"};

// The value of a field in rows of these tests.
json value_of(std::string_view dataset, const std::string& field, int number) {
  const std::string n = std::to_string(number);
  const bool picture = find_dataset(dataset)->visual == VisualInput::image;
  if (field == "video1_path" || field == "video2_path" || field == "video_path")
    return "v" + n + field.substr(5, field.size() - 10) + ".mp4";
  if (field == "audio1_path" || field == "audio2_path")
    return "a" + n + field.substr(5, 1) + ".mp3";
  if (field == "audio_path") return picture ? "AVS/clip" + n + "/audio.wav" : "a" + n + ".mp3";
  if (field == "image_path" || field == "visual_path") return "AVS/clip" + n + "/frames/3.jpg";
  if (field == "frame_idx" || field == "idx") return 3;
  if (field == "fid") return 2;
  if (field == "vid") return "clip" + n;
  if (field == "split") return "test_s";
  if (field == "start_time") return 2;
  if (field == "end_time") return 5.0;
  if (field == "top_left") return json::array({10, 20});
  if (field == "bottom_right") return json::array({30, 40});
  if (field == "multi_choice") return json::array({"red", "green", "blue"});
  if (field == "answer" && dataset == "avqa_thu") return 1;
  if (field == find_dataset(dataset)->target_field)
    return "<think>because</think><answer>final " + n + "</answer>";
  return field + " " + n;
}

json rows_of(std::string_view dataset, std::string_view fields, int count) {
  json rows = json::array();
  for (int number = 0; number < count; ++number) {
    json row = json::object();
    for (std::size_t at = 0; at < fields.size();) {
      const auto end = std::min(fields.find(' ', at), fields.size());
      const std::string field(fields.substr(at, end - at));
      row[field] = value_of(dataset, field, number);
      at = end + 1;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

void write_dataset(const TemporaryFolder& folder, std::string_view id, int train, int test) {
  const auto& table = *find_dataset(id);
  const auto place = folder / std::string(id);
  write_text(place / "train.json", rows_of(id, table.train_fields, train).dump(2));
  if (table.has_test) write_text(place / "test.json", rows_of(id, table.test_fields, test).dump(2));
}

std::unique_ptr<Corpus> open(const TemporaryFolder& folder,
                             const std::vector<std::string>& tasks = kAll) {
  auto corpus = Corpus::open(folder.path(), tasks, folder / "cache");
  EXPECT_TRUE(corpus.has_value()) << corpus.error().message;
  return corpus ? std::move(*corpus) : nullptr;
}

DatasetRow row_of(std::string_view id) {
  for (DatasetRow row = 0; row < datasets().size(); ++row)
    if (datasets()[row].id == id) return row;
  ADD_FAILURE() << id;
  return 0;
}

Sample sample_of(const Corpus& corpus, std::string_view id, Split split, std::uint64_t index) {
  auto sample = corpus.sample(row_of(id), split, index);
  EXPECT_TRUE(sample.has_value()) << sample.error().message;
  return sample.value_or(Sample{});
}

TEST(Corpus, ReadsAllSeventeenDataSets) {
  const TemporaryFolder folder;
  for (const auto& table : datasets()) write_dataset(folder, table.id, 12, 3);
  const auto corpus = open(folder);
  ASSERT_EQ(corpus->summary().size(), 17U);
  const std::map<std::string_view, std::string> references = {{"ks", "action 1"},
                                                              {"ucf", "label 1"},
                                                              {"meld", "Emotion 1"},
                                                              {"mer24", "discrete 9"},
                                                              {"cremad", "emotion 1"},
                                                              {"mafw", "emotion 1"},
                                                              {"dfew", "emotion 1"},
                                                              {"avqa", "answer 1"},
                                                              {"avqa_thu", "green"},
                                                              {"ave", "event 1: 2-5 s"},
                                                              {"unav", "final 9"},
                                                              {"avvp", "event 1"},
                                                              {"arig", "a_obj 1 [10,20,30,40]"},
                                                              {"s4", "a_obj 1"},
                                                              {"ms3", "a_obj 1"},
                                                              {"ref_avs", "object 1"},
                                                              {"avcap", "final 9"}};
  for (const auto& [dataset, train, test, train_hash, test_hash] : corpus->summary()) {
    const auto& table = datasets()[dataset];
    SCOPED_TRACE(table.id);
    EXPECT_NE(train_hash, 0U);
    EXPECT_EQ(test_hash != 0, table.has_test);
    EXPECT_EQ(train, table.has_test ? 12U : 8U);
    EXPECT_EQ(test, table.has_test ? 3U : 4U);

    const auto first = sample_of(*corpus, table.id, Split::train, 0);
    EXPECT_EQ(first.dataset, dataset);
    EXPECT_EQ(first.task, table.task);
    EXPECT_EQ(first.target, "<think>because</think><answer>final 0</answer>");
    EXPECT_FALSE(first.question.empty());
    EXPECT_EQ(first.question.find("final"), std::string::npos);

    const auto tested = sample_of(*corpus, table.id, Split::test, 1);
    EXPECT_EQ(tested.reference, references.at(table.id));
    EXPECT_EQ(tested.target.empty(), table.has_test);
    EXPECT_EQ(tested.index, 1U);

    const auto place = folder / std::string(table.id);
    if (table.visual == VisualInput::video) {
      EXPECT_EQ(first.video, place / "video" / "v0.mp4");
      EXPECT_EQ(first.audio, place / "audio" / "a0.mp3");
      EXPECT_TRUE(first.image.empty());
    } else {
      EXPECT_EQ(first.image, place / "AVS/clip0/frames/3.jpg");
      EXPECT_EQ(first.audio, place / "AVS/clip0/audio.wav");
      EXPECT_TRUE(first.video.empty());
      EXPECT_EQ(tested.frame_index, 3);
      EXPECT_EQ(first.frame_index, table.id == "ms3" || table.id == "ref_avs" ? 3 : 0);
    }
    EXPECT_EQ(tested.mask.empty(), table.task != Task::segmentation);
    EXPECT_TRUE(first.mask.empty());
  }
}

// Only for who asks for it, whatever lies in the folder.
TEST(Corpus, MatchingRowsHaveTwoVideosOrTwoSounds) {
  const TemporaryFolder folder;
  for (const auto* id : {"a2v", "v2a", "ks"}) write_dataset(folder, id, 4, 3);
  const auto corpus = open(folder, {"av_matching"});
  ASSERT_EQ(corpus->summary().size(), 2U);
  const auto a2v = sample_of(*corpus, "a2v", Split::train, 2);
  EXPECT_EQ(a2v.task, Task::av_matching);
  EXPECT_EQ(a2v.video, folder / "a2v/video/v21.mp4");
  EXPECT_EQ(a2v.second_video, folder / "a2v/video/v22.mp4");
  EXPECT_EQ(a2v.audio, folder / "a2v/audio/a2.mp3");
  EXPECT_TRUE(a2v.second_audio.empty());
  EXPECT_EQ(media_files(a2v).size(), 3U);
  EXPECT_EQ(a2v.reference, "correct_video 2");
  EXPECT_EQ(a2v.target, "<think>because</think><answer>final 2</answer>");
  const auto v2a = sample_of(*corpus, "v2a", Split::test, 1);
  EXPECT_EQ(v2a.video, folder / "v2a/video/v1.mp4");
  EXPECT_EQ(v2a.audio, folder / "v2a/audio/a11.mp3");
  EXPECT_EQ(v2a.second_audio, folder / "v2a/audio/a12.mp3");
  EXPECT_TRUE(v2a.second_video.empty());
  EXPECT_EQ(v2a.reference, "correct_audio 1");
  EXPECT_NE(a2v.question.find("video1"), std::string::npos);
  EXPECT_NE(v2a.question.find("audio1"), std::string::npos);
  const auto others = open(folder, {"action_recognition"});
  for (const auto& summary : others->summary()) EXPECT_EQ(datasets()[summary.dataset].id, "ks");
}

TEST(Corpus, QuestionsHoldWhatTheRowAsks) {
  const TemporaryFolder folder;
  for (const auto* id : {"avqa", "avqa_thu", "ref_avs"}) write_dataset(folder, id, 4, 4);
  const auto corpus = open(folder, {"av_question_answering", "segmentation"});
  const auto holds = [&](const char* id, Split split, const char* text) {
    const auto question = sample_of(*corpus, id, split, 2).question;
    EXPECT_NE(question.find(text), std::string::npos) << question;
  };
  holds("avqa", Split::train, "question 2");
  holds("avqa_thu", Split::test, "question_text 2 Options: red, green, blue");
  holds("ref_avs", Split::train, "description 2");
  holds("ref_avs", Split::test, "object 2");
}

TEST(Corpus, HeldOutRowsAreTheLastAndNeverTrained) {
  const TemporaryFolder folder;
  write_dataset(folder, "unav", 100, 0);
  const auto corpus = open(folder, {"temporal_localization"});
  EXPECT_EQ(corpus->summary()[0].train, 90U);
  EXPECT_EQ(corpus->summary()[0].test, 10U);
  EXPECT_EQ(sample_of(*corpus, "unav", Split::train, 89).reference, "final 89");
  EXPECT_EQ(sample_of(*corpus, "unav", Split::test, 0).reference, "final 90");
  EXPECT_EQ(sample_of(*corpus, "unav", Split::test, 9).reference, "final 99");
  EXPECT_EQ(corpus->sample(row_of("unav"), Split::train, 90).error().code, Errc::invalid_argument);
  EXPECT_EQ(corpus->sample(row_of("unav"), Split::test, 10).error().code, Errc::invalid_argument);
  EXPECT_EQ(corpus->sample(row_of("ks"), Split::train, 0).error().code, Errc::invalid_argument);
}

TEST(Corpus, MasksAreFoundNextToThePicture) {
  const TemporaryFolder folder;
  for (const auto* id : {"s4", "ms3", "ref_avs"}) write_dataset(folder, id, 1, 3);
  write_text(folder / "ms3/AVS/clip1/labels_rgb/3.png", "x");
  write_text(folder / "ref_avs/REFAVS/gt_mask/clip1/fid_2/00003.png", "x");
  auto rows = rows_of("ref_avs", find_dataset("ref_avs")->test_fields, 3);
  rows[2]["split"] = "test_n";
  write_text(folder / "ref_avs/test.json", rows.dump());
  const auto corpus = open(folder, {"segmentation"});
  const auto mask = [&](const char* id, std::uint64_t index) {
    return sample_of(*corpus, id, Split::test, index).mask;
  };
  EXPECT_EQ(mask("s4", 0), folder / "s4/AVS/clip0/labels_semantic/3.png");
  EXPECT_EQ(mask("ms3", 0), folder / "ms3/AVS/clip0/labels_semantic/3.png");
  EXPECT_EQ(mask("ms3", 1), folder / "ms3/AVS/clip1/labels_rgb/3.png");
  EXPECT_EQ(mask("ref_avs", 0), folder / "ref_avs/AVS/clip0/gt_mask/fid_2/00003.png");
  EXPECT_EQ(mask("ref_avs", 1), folder / "ref_avs/REFAVS/gt_mask/clip1/fid_2/00003.png");
  EXPECT_EQ(mask("ref_avs", 2), "");
}

// Segmentation rows held out of train.json are scored like those of a test.json.
TEST(Corpus, HeldOutRowsHaveTheirMasks) {
  const TemporaryFolder folder;
  for (const auto* id : {"s4", "ref_avs"}) {
    const auto rows = rows_of(id, find_dataset(id)->train_fields, 12);
    write_text(folder / (std::string(id) + "/train.json"), rows.dump());
  }
  const auto corpus = open(folder, {"segmentation"});
  EXPECT_EQ(sample_of(*corpus, "s4", Split::test, 1).mask,
            folder / "s4/AVS/clip9/labels_semantic/3.png");
  EXPECT_EQ(sample_of(*corpus, "ref_avs", Split::test, 0).mask,
            folder / "ref_avs/AVS/clip8/gt_mask/fid_2/00003.png");
  EXPECT_EQ(sample_of(*corpus, "s4", Split::train, 1).mask, "");
}

TEST(Corpus, PathsStayInsideUnlessTheyAreAbsolute) {
  const TemporaryFolder folder;
  auto rows = rows_of("ks", find_dataset("ks")->train_fields, 6);
  rows[1]["video_path"] = "/elsewhere/x/../clip.mp4";
  rows[2]["video_path"] = "../../ucf/video/clip.mp4";  // another data set of the same corpus
  rows[3]["video_path"] = "../../../outside.mp4";
  rows[4]["audio_path"] = "a/../../../../../etc/passwd";
  rows[5]["audio_path"] = std::string("a\0b", 3);
  write_text(folder / "ks/train.json", rows.dump());
  write_text(folder / "ks/test.json", rows_of("ks", find_dataset("ks")->test_fields, 1).dump());
  const auto corpus = open(folder, {"action_recognition"});
  EXPECT_EQ(sample_of(*corpus, "ks", Split::train, 1).video, "/elsewhere/clip.mp4");
  EXPECT_EQ(sample_of(*corpus, "ks", Split::train, 2).video, folder / "ucf/video/clip.mp4");
  for (const auto& [index, field] :
       {std::pair{3, "video_path"}, {4, "audio_path"}, {5, "audio_path"}}) {
    const auto sample =
        corpus->sample(row_of("ks"), Split::train, static_cast<std::uint64_t>(index));
    ASSERT_FALSE(sample.has_value()) << index;
    EXPECT_EQ(sample.error().code, Errc::data_error);
    EXPECT_NE(sample.error().message.find(field), std::string::npos) << sample.error().message;
  }
}

TEST(Corpus, ABadRowIsNamedAndSparesTheOthers) {
  const TemporaryFolder folder;
  auto rows = rows_of("avqa_thu", find_dataset("avqa_thu")->train_fields, 4);
  rows[1].erase("question_text");
  rows[2]["answer"] = 7;
  rows[3]["video_path"] = json::object();
  write_text(folder / "avqa_thu/train.json", rows.dump(1));
  write_text(folder / "avqa_thu/test.json",
             rows_of("avqa_thu", find_dataset("avqa_thu")->test_fields, 1).dump());
  const auto corpus = open(folder, {"av_question_answering"});
  EXPECT_TRUE(corpus->sample(row_of("avqa_thu"), Split::train, 0).has_value());
  const std::vector<std::pair<std::uint64_t, std::string>> expected = {
      {1, "row 1 (line 19): the field \"question_text\" is missing"},
      {2, "the field \"answer\" names no option"},
      {3, "the field \"video_path\" should be a text"}};
  for (const auto& [index, says] : expected) {
    const auto sample = corpus->sample(row_of("avqa_thu"), Split::train, index);
    ASSERT_FALSE(sample.has_value());
    EXPECT_EQ(sample.error().code, Errc::data_error);
    EXPECT_NE(sample.error().message.find(says), std::string::npos) << sample.error().message;
    EXPECT_NE(sample.error().message.find("train.json"), std::string::npos);
  }
}

struct BadCorpus {
  const char* name;
  std::map<std::string, std::string> files;
  std::vector<std::string> tasks;
  Errc code;
  const char* says;
};

TEST(Corpus, RefusesBadFoldersByName) {
  const std::string good = rows_of("ks", find_dataset("ks")->train_fields, 5).dump();
  const std::vector<std::string> action = {"action_recognition"};
  const std::vector<BadCorpus> bad = {
      {"no data set", {{"other/train.json", good}}, kAll, Errc::not_found, "none of the data sets"},
      {"broken",
       {{"ks/train.json", "[\n{\"a\": 1},\n{\"b\": }\n]"}},
       action,
       Errc::data_error,
       "train.json:3:7: broken JSON"},
      {"cut off",
       {{"ks/train.json", good.substr(0, good.size() / 2)}},
       action,
       Errc::data_error,
       "train.json:1:"},
      {"no JSON", {{"ks/train.json", ""}}, action, Errc::data_error, "broken JSON"},
      {"no UTF-8",
       {{"ks/train.json", "[{\"a\": \"\xff\"}]"}},
       action,
       Errc::data_error,
       "train.json:1:"},
      {"an object",
       {{"ks/train.json", "{\"a\": []}"}},
       action,
       Errc::data_error,
       "expected an array"},
      {"no objects",
       {{"ks/train.json", "[\n1, 2]"}},
       action,
       Errc::data_error,
       "train.json:2:1: expected an object"},
      {"texts", {{"ks/train.json", "[\"a\"]"}}, action, Errc::data_error, "not a text"},
      {"arrays", {{"ks/train.json", "[[]]"}}, action, Errc::data_error, "not an array"},
      {"empty", {{"ks/train.json", "[]"}}, action, Errc::data_error, "data set ks is empty"},
      {"no list", {{"ks/note.txt", ""}}, action, Errc::data_error, "ks has no"},
      {"broken test",
       {{"ks/train.json", good}, {"ks/test.json", "["}},
       action,
       Errc::data_error,
       "test.json:1:"},
      {"other fields",
       {{"ks/train.json", "[{\"video\": \"a.mp4\"}]"}},
       action,
       Errc::data_error,
       "row 0 (line 1): the field \"video_path\" is missing"},
      {"a task without data",
       {{"ks/train.json", good}},
       {"action_recognition", "captioning"},
       Errc::data_error,
       "captioning (avcap)"},
      {"unknown task", {{"ks/train.json", good}}, {"juggling"}, Errc::invalid_argument, "juggling"},
      {"no task", {{"ks/train.json", good}}, {}, Errc::invalid_argument, "no task"},
  };
  for (const auto& [name, files, tasks, code, says] : bad) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    for (const auto& [file, text] : files) write_text(folder / file, text);
    const auto corpus = Corpus::open(folder.path(), tasks, folder / "cache");
    ASSERT_FALSE(corpus.has_value());
    EXPECT_EQ(corpus.error().code, code);
    EXPECT_NE(corpus.error().message.find(says), std::string::npos) << corpus.error().message;
  }
  const TemporaryFolder folder;
  EXPECT_EQ(Corpus::open(folder / "missing", kAll, folder / "cache").error().code, Errc::not_found);
}

TEST(Corpus, StringsMayHoldBracketsAndQuotes) {
  const TemporaryFolder folder;
  auto rows = rows_of("avqa", find_dataset("avqa")->train_fields, 3);
  rows[0]["type"] = R"(["Audio-Visual", "Counting"] \ {{ "x\")";
  rows[1]["extra"] = {{"deep", {1, {{"er", "]}"}}}}};
  write_text(folder / "avqa/train.json", "\xEF\xBB\xBF" + rows.dump(3) + "\n");
  const auto corpus = open(folder, {"av_question_answering"});
  EXPECT_EQ(corpus->summary()[0].train + corpus->summary()[0].test, 3U);
  EXPECT_EQ(sample_of(*corpus, "avqa", Split::train, 1).reference, "answer 1");
}

TEST(Corpus, TheFingerprintFollowsTheRowsAndNotThePlace) {
  const auto fingerprint = [](const std::function<void(const TemporaryFolder&)>& change,
                              const std::vector<std::string>& tasks = {"action_recognition"}) {
    const TemporaryFolder folder;
    write_dataset(folder, "ks", 5, 3);
    write_dataset(folder, "avcap", 9, 0);
    change(folder);
    return open(folder, tasks)->fingerprint();
  };
  const auto plain = fingerprint([](const auto&) {});
  EXPECT_EQ(plain, fingerprint([](const auto&) {}));
  EXPECT_NE(plain, fingerprint([](const auto& f) { write_dataset(f, "ks", 6, 3); }));
  EXPECT_NE(plain, fingerprint([](const auto& f) { write_dataset(f, "ks", 5, 2); }));
  EXPECT_NE(plain, fingerprint([](const auto& f) { write_dataset(f, "ucf", 5, 3); }));
  EXPECT_NE(plain, fingerprint([](const auto&) {}, {"action_recognition", "captioning"}));
  EXPECT_NE(plain, fingerprint([](const auto& f) {
              auto rows = rows_of("ks", find_dataset("ks")->train_fields, 5);
              rows[4]["label"] = "other";
              write_text(f / "ks/train.json", rows.dump(2));
            }));
}

TEST(Corpus, AFileThatChangesUnderwayIsNoticed) {
  const TemporaryFolder folder;
  write_dataset(folder, "ks", 5, 3);
  const auto corpus = open(folder, {"action_recognition"});
  std::fstream file(folder / "ks/train.json", std::ios::in | std::ios::out);
  file.seekp(30);
  file << "#";
  file.close();
  const auto sample = corpus->sample(row_of("ks"), Split::train, 0);
  ASSERT_FALSE(sample.has_value());
  EXPECT_NE(sample.error().message.find("was changed"), std::string::npos);
}

}  // namespace
}  // namespace crabcast::data

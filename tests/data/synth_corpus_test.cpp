// The synthetic corpus as a whole: rows, media files, and that picture, sound and answer agree.

#include <gtest/gtest.h>

extern "C" {
#include <libavformat/avformat.h>
}

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "data/answers.h"
#include "data/decode.h"
#include "data/scene.h"
#include "tests/data/synth_fixture.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;
using Row = nlohmann::ordered_json;

std::vector<std::string> splits_of(const Dataset& set) {
  return set.has_test ? std::vector<std::string>{"train", "test"}
                      : std::vector<std::string>{"train"};
}

template <class Visit>
void for_rows(const Visit& visit) {
  for (const Dataset& set : usual_datasets())
    for (const std::string& split : splits_of(set)) {
      const Row rows = rows_of(set, split);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        SCOPED_TRACE(std::string(set.id) + " " + split + " row " + std::to_string(i) + ", seed " +
                     std::to_string(kTestCorpus.seed));
        visit(set, split, rows[i]);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
}

std::string target_of(const Dataset& set, const Row& row) {
  return row.at(std::string(set.target_field)).get<std::string>();
}

std::string picture_field(const std::string& split) {
  return split == "train" ? "image_path" : "visual_path";
}

fs::path picture_of(const Dataset& set, const std::string& split, const Row& row) {
  const fs::path folder = rendered_corpus() / set.id;
  if (set.visual == VisualInput::video)
    return folder / "video" / row.at("video_path").get<std::string>();
  return folder / row.at(picture_field(split)).get<std::string>();
}

fs::path sound_of(const Dataset& set, const Row& row) {
  const fs::path folder = rendered_corpus() / set.id;
  const auto name = row.at("audio_path").get<std::string>();
  return set.visual == VisualInput::video ? folder / "audio" / name : folder / name;
}

// frames/3.jpg -> labels_semantic/3.png or gt_mask/fid_F/00003.png
fs::path mask_of_row(const Dataset& set, const std::string& split, const Row& row) {
  const fs::path picture = picture_of(set, split, row);
  const fs::path clip = picture.parent_path().parent_path();
  const std::string frame = picture.stem().string();
  if (set.id != "ref_avs") return clip / "labels_semantic" / (frame + ".png");
  return clip / "gt_mask" / ("fid_" + std::to_string(row.at("fid").get<int>())) /
         (std::string(5 - frame.size(), '0') + frame + ".png");
}

std::vector<float> sound_samples(const fs::path& path, int seconds) {
  const auto audio = decode_audio(path, {.window = AudioWindow::first_seconds, .parts = seconds});
  EXPECT_TRUE(audio.has_value()) << audio.error().message;
  if (!audio) return {};
  const at::Tensor samples = audio->contiguous();
  return {samples.data_ptr<float>(), samples.data_ptr<float>() + samples.numel()};
}

// Loudness of the middle of one second: what a codec smears over an edge stays out.
double loudness(const std::vector<float>& samples, int second) {
  const std::size_t first = static_cast<std::size_t>((second + 0.15) * 16000);
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = first; i < first + 11200 && i < samples.size(); ++i, ++count)
    sum += double(samples[i]) * samples[i];
  return count == 0 ? 0 : std::sqrt(sum / double(count));
}

TEST(SynthCorpus, RowsHoldExactlyThePublishedFields) {
  for_rows([](const Dataset& set, const std::string& split, const Row& row) {
    std::string names;
    for (const auto& [name, value] : row.items()) {
      names += (names.empty() ? "" : " ") + name;
      EXPECT_FALSE(value.is_null()) << name;
    }
    EXPECT_EQ(names, split == "train" ? set.train_fields : set.test_fields);
  });
}

TEST(SynthCorpus, EachSplitHasItsRows) {
  const std::size_t train = kTestCorpus.samples_per_dataset;
  const std::size_t test = synthetic_test_rows(kTestCorpus);
  EXPECT_EQ(test, 4U);
  EXPECT_EQ(synthetic_test_rows({.seed = 1, .samples_per_dataset = 64}), 16U);
  for (const Dataset& set : usual_datasets()) {
    EXPECT_EQ(rows_of(set, "train").size(), set.has_test ? train : train + test) << set.id;
    EXPECT_EQ(fs::exists(rendered_corpus() / set.id / "test.json"), set.has_test) << set.id;
    if (!set.has_test) continue;
    EXPECT_EQ(rows_of(set, "test").size(), test) << set.id;
  }
}

TEST(SynthCorpus, TargetsAreShortAndHoldTheAnswer) {
  std::size_t longest = 0;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    if (split != "train") return;
    const std::string target = target_of(set, row);
    EXPECT_TRUE(target.starts_with("<think>")) << target;
    EXPECT_TRUE(target.ends_with("</answer>")) << target;
    EXPECT_GE(target.size(), 40U) << target;
    longest = std::max(longest, target.size());
    EXPECT_LE(target.size(), 115U) << target;
    EXPECT_FALSE(final_answer(target).empty());
  });
  EXPECT_GT(longest, 60U);
}

// What a test row says is right, as docs/corpus.md has it; for train rows from the same fields.
std::string reference_of(const Dataset& set, const std::string& split, const Row& row) {
  const auto text = [&](const char* name) { return row.at(name).get<std::string>(); };
  if (set.id == "ks") return text("action");
  if (set.id == "ucf") return text("label");
  if (set.id == "meld") return text("Emotion");
  if (set.id == "mer24") return text("discrete");
  if (set.task == Task::emotion_recognition) return text("emotion");
  if (set.id == "avqa") return text("answer");
  if (set.id == "avqa_thu")
    return row.at("multi_choice").at(row.at("answer").get<std::size_t>()).get<std::string>();
  if (set.id == "ave")
    return format_events(std::array{Event{text("event"), row.at("start_time").get<double>(),
                                          row.at("end_time").get<double>(), Modality::none}});
  if (set.id == "avvp") return text("event");
  if (set.id == "ref_avs") return text(split == "train" ? "description" : "object");
  if (set.task == Task::segmentation) return text("a_obj");
  if (set.id == "arig" && split == "test")
    return text("a_obj") + " [" + std::to_string(row.at("top_left").at(0).get<int>()) + "," +
           std::to_string(row.at("top_left").at(1).get<int>()) + "," +
           std::to_string(row.at("bottom_right").at(0).get<int>()) + "," +
           std::to_string(row.at("bottom_right").at(1).get<int>()) + "]";
  return final_answer(text("label_content"));  // unav, avcap, arig
}

TEST(SynthCorpus, TheTruthScoresOneAndNonsenseLess) {
  for_rows([](const Dataset& set, const std::string& split, const Row& row) {
    Sample sample;
    sample.dataset = static_cast<DatasetRow>(&set - datasets().data());
    sample.task = set.task;
    sample.reference = reference_of(set, split, row);
    const fs::path mask = mask_of_row(set, split, row);
    if (set.task == Task::segmentation && fs::exists(mask)) sample.mask = mask;

    const bool absent = set.task == Task::segmentation && sample.mask.empty();
    const auto wrong = score_answer(
        sample, absent ? "drum [3,4,50,60]" : make_target("I guess", "a [0,0,1,1]: 0-1 s"));
    ASSERT_TRUE(wrong.has_value()) << wrong.error().message;
    EXPECT_LT(wrong->value, 1.0);
    EXPECT_EQ(wrong->metric, metric_name(set.task));
    if (split != "train") return;
    const auto right = score_answer(sample, target_of(set, row));
    ASSERT_TRUE(right.has_value()) << right.error().message;
    if (set.task == Task::segmentation && !absent)
      EXPECT_GT(right->value, 0.45);  // as far as a box can be the mask
    else
      EXPECT_EQ(right->value, 1.0);
    EXPECT_GT(right->value, wrong->value);
  });
}

struct Probe {
  std::string codec;
  int width = 0, height = 0, rate = 0, channels = 0, streams = 0;
  double seconds = 0;
};

Probe probe(const fs::path& path) {
  Probe out;
  AVFormatContext* file = nullptr;
  if (avformat_open_input(&file, path.c_str(), nullptr, nullptr) < 0) {
    ADD_FAILURE() << "cannot open " << path;
    return out;
  }
  EXPECT_GE(avformat_find_stream_info(file, nullptr), 0) << path;
  out.streams = static_cast<int>(file->nb_streams);
  if (out.streams > 0) {
    const AVCodecParameters* codec = file->streams[0]->codecpar;
    out.codec = avcodec_get_name(codec->codec_id);
    out.width = codec->width;
    out.height = codec->height;
    out.rate = codec->sample_rate;
    out.channels = codec->ch_layout.nb_channels;
    out.seconds = static_cast<double>(file->duration) / AV_TIME_BASE;
  }
  avformat_close_input(&file);
  return out;
}

TEST(SynthCorpus, MediaFilesAreWhatTheTableSays) {
  std::set<std::string> named;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    const fs::path sound = sound_of(set, row), picture = picture_of(set, split, row);
    const double length = set.id == "avqa" ? 60 : set.audio_parts;
    const Probe heard = probe(sound);
    EXPECT_EQ(heard.streams, 1);
    EXPECT_EQ(heard.codec, sound.extension() == ".mp3" ? "mp3" : "pcm_s16le");
    EXPECT_EQ(heard.rate, 16000);
    EXPECT_EQ(heard.channels, 1);
    EXPECT_NEAR(heard.seconds, length, sound.extension() == ".mp3" ? 0.15 : 1e-6);
    const Probe seen = probe(picture);
    EXPECT_EQ(seen.streams, 1);
    if (set.visual == VisualInput::image) {
      EXPECT_EQ(seen.codec, "mjpeg");
      EXPECT_EQ(seen.width, 224);
      EXPECT_EQ(seen.height, 224);
    } else {
      EXPECT_EQ(seen.codec, picture.extension() == ".avi" ? "mpeg4" : "h264");
      EXPECT_EQ(seen.width, seen.height);
      EXPECT_GE(seen.width, 96);
      EXPECT_NEAR(seen.seconds, length, 0.01);
    }
    for (const fs::path& path : {sound, picture, mask_of_row(set, split, row)})
      if (fs::exists(path)) named.insert(fs::relative(path, rendered_corpus()).string());
  });
  // Nothing stands in the folder that no row needs, and no two samples share a file.
  std::set<std::string> there;
  for (const auto& entry : fs::recursive_directory_iterator(rendered_corpus()))
    if (entry.is_regular_file() && entry.path().extension() != ".json")
      there.insert(fs::relative(entry.path(), rendered_corpus()).string());
  EXPECT_EQ(named, there);
}

TEST(SynthCorpus, NoSceneIsInBothSplits) {
  std::map<std::string, std::string> seen;
  std::size_t media = 0;
  for (const auto& [path, bytes] : all_files(rendered_corpus())) {
    if (path.ends_with(".json") || path.ends_with(".png")) continue;
    ++media;
    const auto [twin, fresh] = seen.emplace(bytes, path);
    EXPECT_TRUE(fresh) << path << " equals " << twin->second;
  }
  EXPECT_EQ(media, 2 * kUsualDatasets * (kTestCorpus.samples_per_dataset + 4));
}

TEST(SynthCorpus, EventsSoundWhenTheySayAndOnlyThen) {
  int loud = 0, quiet = 0;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    if (set.task != Task::temporal_localization) return;
    const auto events = parse_events(reference_of(set, split, row));
    ASSERT_FALSE(events.empty());
    const auto samples = sound_samples(sound_of(set, row), 10);
    ASSERT_EQ(samples.size(), 160000U);
    for (int s = 0; s < 10; ++s) {
      const bool heard = std::ranges::any_of(events, [&](const Event& e) {
        return e.modality != Modality::visual && e.start <= s && s < e.end;
      });
      (heard ? loud : quiet) += 1;
      if (heard)
        EXPECT_GT(loudness(samples, s), 0.02) << "second " << s;
      else
        EXPECT_LT(loudness(samples, s), 0.004) << "second " << s;
    }
  });
  EXPECT_GT(loud, 50);
  EXPECT_GT(quiet, 50);
}

// Pixels of about one colour.
int count_colour(const at::Tensor& rgb, const Colour& colour) {
  const at::Tensor pixels = rgb.contiguous();
  const std::uint8_t* p = pixels.data_ptr<std::uint8_t>();
  int count = 0;
  for (std::int64_t i = 0; i < pixels.numel(); i += 3) {
    const double r = p[i] - double(colour.r), g = p[i + 1] - double(colour.g),
                 b = p[i + 2] - double(colour.b);
    count += r * r + g * g + b * b < 40 * 40 ? 1 : 0;
  }
  return count;
}

const Colour& colour_of(const std::string& name) {
  for (std::size_t k = 0; k < kKindCount; ++k)
    if (info(static_cast<Kind>(k)).name == name) return info(static_cast<Kind>(k)).colour;
  ADD_FAILURE() << "no kind " << name;
  return info(Kind::drum).colour;
}

TEST(SynthCorpus, EventsAreSeenWhenTheySayAndOnlyThen) {
  int visible = 0, hidden = 0;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    if (set.task != Task::temporal_localization) return;
    const auto events = parse_events(reference_of(set, split, row));
    const auto frames = decode_video(picture_of(set, split, row), 50);
    ASSERT_TRUE(frames.has_value()) << frames.error().message;
    for (const VideoFrame& frame : *frames)
      for (const Event& e : events) {
        const bool seen = e.modality != Modality::audio && e.start <= frame.seconds + 1e-6 &&
                          frame.seconds + 1e-6 < e.end;
        const int pixels = count_colour(frame.rgb, colour_of(e.name));
        (seen ? visible : hidden) += 1;
        if (seen)
          EXPECT_GT(pixels, 60) << e.name << " at " << frame.seconds;
        else
          EXPECT_LT(pixels, 20) << e.name << " at " << frame.seconds;
      }
  });
  EXPECT_GT(visible, 100);
  EXPECT_GT(hidden, 100);
}

TEST(SynthCorpus, BoxesAndPointsFitTheirMasks) {
  int boxes = 0, absent = 0;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    if (set.visual != VisualInput::image) return;
    const fs::path file = mask_of_row(set, split, row);
    if (set.id == "ref_avs" && !fs::exists(file)) {
      ++absent;
      if (split == "train")
        EXPECT_EQ(final_answer(target_of(set, row)), "none");
      else
        EXPECT_EQ(row.at("split"), "test_n");
      return;
    }
    const auto mask = decode_mask(file);
    ASSERT_TRUE(mask.has_value()) << mask.error().message;
    const at::Tensor pixels = mask->contiguous();
    ASSERT_EQ(pixels.numel(), 224 * 224);
    const auto* p = pixels.data_ptr<std::uint8_t>();
    const auto around = box_of({p, 224 * 224}, 224);
    ASSERT_TRUE(around.has_value());
    std::string text;
    if (split == "train")
      text = final_answer(target_of(set, row));
    else if (set.id == "arig")
      text = reference_of(set, split, row);
    else
      return;  // the mask itself is the answer
    ++boxes;
    const auto box = first_box(text);
    ASSERT_TRUE(box.has_value()) << text;
    EXPECT_EQ(format_box(*box), format_box(*around));
    EXPECT_GE(box->x1, 0);
    EXPECT_GE(box->y1, 0);
    EXPECT_LT(box->x2, 224);
    EXPECT_LT(box->y2, 224);
    if (set.id == "arig") return;
    std::istringstream words(text.substr(text.find(']') + 1));
    int points = 0;
    for (std::string word; words >> word; ++points) {
      int x = -1, y = -1;
      ASSERT_EQ(std::sscanf(word.c_str(), "[%d,%d]", &x, &y), 2) << text;
      EXPECT_NE(p[y * 224 + x], 0) << word;
    }
    EXPECT_EQ(points, 3);
  });
  EXPECT_GT(boxes, 30);
  EXPECT_GT(absent, 1);
}

TEST(SynthCorpus, TheMaskedObjectHasTheAnswersColourInThePicture) {
  int checked = 0;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    if (set.visual != VisualInput::image || set.id == "ref_avs") return;
    const auto picture = decode_image(picture_of(set, split, row));
    const auto mask = decode_mask(mask_of_row(set, split, row));
    ASSERT_TRUE(picture.has_value() && mask.has_value());
    const at::Tensor rgb = picture->contiguous(), on = mask->contiguous();
    const Colour& colour = colour_of(row.at("a_obj").get<std::string>());
    int inside = 0, near = 0;
    for (int i = 0; i < 224 * 224; ++i) {
      if (on.data_ptr<std::uint8_t>()[i] == 0) continue;
      ++inside;
      const std::uint8_t* p = rgb.data_ptr<std::uint8_t>() + std::ptrdiff_t{3} * i;
      near += std::abs(p[0] - colour.r) + std::abs(p[1] - colour.g) + std::abs(p[2] - colour.b) < 60
                  ? 1
                  : 0;
    }
    EXPECT_GT(near, inside / 3) << row.at("a_obj");
    ++checked;
  });
  EXPECT_EQ(checked, 3 * (8 + 4));
}

TEST(SynthCorpus, EverySoundIsThereAndAvqaChangesBetweenItsWindows) {
  int changes = 0;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    if (set.id == "avvp") return;  // may only be seen
    const bool avqa = set.id == "avqa";
    const auto samples = sound_samples(sound_of(set, row), avqa ? 60 : set.audio_parts);
    double loudest = 0;
    for (int s = 0; s < (avqa ? 60 : set.audio_parts); ++s)
      loudest = std::max(loudest, loudness(samples, s));
    EXPECT_GT(loudest, 0.02);
    for (const float s : samples) ASSERT_LE(std::abs(s), 1.1F);
    if (!avqa || row.at("question") != "Which object sounds first?") return;
    // Two start one after the other, or one ends before: loudness is not the same all along.
    double low = 1, high = 0;
    for (int window = 0; window < 10; ++window) {
      low = std::min(low, loudness(samples, 6 * window));
      high = std::max(high, loudness(samples, 6 * window));
    }
    EXPECT_GT(high, 1.1 * low);
    ++changes;
    (void)split;
  });
  EXPECT_GT(changes, 0);
}

TEST(SynthCorpus, EveryClassIsInTheTrainRows) {
  std::map<std::string, std::set<std::string>> classes;
  for_rows([&](const Dataset& set, const std::string& split, const Row& row) {
    if (split != "train") return;
    auto& seen = classes[std::string(set.id)];
    if (set.task == Task::action_recognition || set.task == Task::emotion_recognition)
      seen.insert(reference_of(set, split, row));
    else if (row.contains("a_obj"))
      seen.insert(row.at("a_obj").get<std::string>());
    else if (set.id == "ave")
      seen.insert(row.at("event").get<std::string>());
  });
  for (const char* id : {"ave", "arig", "s4", "ms3"}) EXPECT_EQ(classes[id].size(), kKindCount);
  EXPECT_EQ(classes["ks"].size(), 8U);
  EXPECT_EQ(classes["ucf"].size(), 8U);
  EXPECT_EQ(classes["meld"].size(), 7U);
  EXPECT_EQ(classes["mer24"].size(), 6U);
  EXPECT_EQ(classes["cremad"].size(), 6U);
  EXPECT_EQ(classes["mafw"].size(), 7U);
  EXPECT_EQ(classes["dfew"].size(), 7U);
}

}  // namespace
}  // namespace crabcast::data

#include "data/corpus_row.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>

#include "data/answers.h"
#include "data/prompt.h"

namespace crabcast::data {
namespace {

using nlohmann::json;

// Reads the fields of one row; keeps the first problem, so that a row is read without a check after
// each field.
class Row {
 public:
  Row(const json& row, const std::filesystem::path& corpus, std::string_view dataset)
      : row_(row), corpus_(corpus), folder_(corpus / dataset) {}

  [[nodiscard]] const std::optional<Error>& problem() const { return problem_; }
  [[nodiscard]] bool has(std::string_view field) const { return row_.contains(field); }

  const json* find(std::string_view field) {
    const auto at = row_.find(field);
    if (at != row_.end() && !at->is_null()) return &*at;
    bad(field, "is missing");
    return nullptr;
  }

  // A text; a number as it is written.
  std::string text(std::string_view field) {
    const auto* value = find(field);
    if (value == nullptr) return {};
    if (auto text = text_of(*value)) return *text;
    bad(field, "should be a text");
    return {};
  }

  int whole_number(std::string_view field) {
    const auto* value = find(field);
    if (value == nullptr) return 0;
    const auto written = text_of(*value).value_or("");
    int number = 0;
    const auto* end = written.data() + written.size();
    const auto [stop, error] = std::from_chars(written.data(), end, number);
    if (error != std::errc{} || stop != end || number < 0)
      bad(field, "should be a whole number from 0");
    return number;
  }

  // "x,y" of an array of two numbers.
  std::string pair(std::string_view field) {
    const auto* value = find(field);
    if (value == nullptr) return {};
    if (value->is_array() && value->size() == 2 && (*value)[0].is_number() &&
        (*value)[1].is_number())
      return *text_of((*value)[0]) + "," + *text_of((*value)[1]);
    bad(field, "should be two numbers [x, y]");
    return {};
  }

  // The words of the right option: `answer` is its position, or the words themselves.
  std::string option(std::string_view options_field, std::string_view answer_field) {
    const auto* options = find(options_field);
    const auto* answer = find(answer_field);
    if (options == nullptr || answer == nullptr) return {};
    if (!options->is_array() || !answer->is_number_integer()) return text(answer_field);
    const auto position = answer->get<std::int64_t>();
    if (position >= 0 && position < static_cast<std::int64_t>(options->size()))
      if (auto words = text_of((*options)[static_cast<std::size_t>(position)])) return *words;
    bad(answer_field, "names no option");
    return {};
  }

  // The options of a question, one after the other.
  std::string listed(std::string_view field) {
    const auto* value = find(field);
    if (value == nullptr) return {};
    if (!value->is_array()) return text(field);
    std::string all;
    for (const auto& option : *value)
      all += (all.empty() ? "" : ", ") + text_of(option).value_or(option.dump());
    return all;
  }

  // A media file: an absolute path as it is, or relative to a folder of the data set.
  std::filesystem::path path(std::string_view field, std::string_view subfolder) {
    const std::string written = text(field);
    if (problem_) return {};
    if (written.empty() || written.find('\0') != std::string::npos) {
      bad(field, "is no file name");
      return {};
    }
    const std::filesystem::path path(written);
    if (path.is_absolute()) return path.lexically_normal();
    const auto full = (folder_ / subfolder / path).lexically_normal();
    const auto inside = full.lexically_relative(corpus_.lexically_normal());
    if (inside.empty() || *inside.begin() == "..") {
      bad(field, "leads out of the corpus folder: " + written);
      return {};
    }
    return full;
  }

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  static std::optional<std::string> text_of(const json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (!value.is_number()) return std::nullopt;
    const double number = value.get<double>();
    if (value.is_number_float() && std::trunc(number) == number && std::abs(number) < 1e15)
      return std::to_string(static_cast<std::int64_t>(number));  // 3.0 is 3 seconds
    return value.dump();
  }

  void bad(std::string_view field, const std::string& what) {
    if (!problem_)
      problem_ = Error{Errc::data_error, "the field \"" + std::string(field) + "\" " + what};
  }

  const json& row_;
  const std::filesystem::path& corpus_;
  std::filesystem::path folder_;
  std::optional<Error> problem_;
};

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::string padded(int number, int digits) {
  std::string text = std::to_string(number);
  while (static_cast<int>(text.size()) < digits) text.insert(text.begin(), '0');
  return text;
}

// The first place that exists; the first of all when none does, so that an error can name it.
std::filesystem::path first_existing(const std::vector<std::filesystem::path>& places) {
  std::error_code ignored;
  for (const auto& place : places)
    if (std::filesystem::exists(place, ignored)) return place;
  return places.front();
}

std::filesystem::path mask_of(Row& row, std::string_view id, const Sample& sample) {
  const auto clip = sample.image.parent_path().parent_path();
  const auto name = sample.image.stem().string();
  if (id != "ref_avs")
    return first_existing(
        {clip / "labels_semantic" / (name + ".png"), clip / "labels_rgb" / (name + ".png")});
  // It may ask for what is not there.
  if (row.has("split") ? row.text("split") == "test_n" : final_answer(sample.target) == "none")
    return {};
  const auto object = "fid_" + row.text("fid");
  const auto file = padded(sample.frame_index, 5) + ".png";
  return first_existing({clip / "gt_mask" / object / file,
                         row.folder() / "REFAVS" / "gt_mask" / row.text("vid") / object / file});
}

// What a score compares with, from the fields that hold it. Training rows of some data sets hold it
// in their target only.
std::string reference_of(Row& row, const Dataset& dataset, const Sample& sample) {
  const auto id = dataset.id;
  if (id == "ks") return row.text("action");
  if (id == "ucf") return row.text("label");
  if (id == "meld") return row.text("Emotion");
  if (id == "mer24") return row.text("discrete");
  if (dataset.task == Task::emotion_recognition) return row.text("emotion");
  if (id == "avqa") return row.text("answer");
  if (id == "avqa_thu") return row.option("multi_choice", "answer");
  if (id == "ave")
    return row.text("event") + ": " + row.text("start_time") + "-" + row.text("end_time") + " s";
  if (id == "avvp") return row.text("event");
  if (id == "a2v") return row.text("correct_video");
  if (id == "v2a") return row.text("correct_audio");
  if (id == "s4" || id == "ms3") return row.text("a_obj");
  if (id == "ref_avs") return row.text(row.has("object") ? "object" : "description");
  if (id == "arig" && row.has("top_left"))
    return row.text("a_obj") + " [" + row.pair("top_left") + "," + row.pair("bottom_right") + "]";
  return final_answer(sample.target);
}

// What the row itself adds to the instruction.
std::string detail_of(Row& row, std::string_view id, const Sample& sample) {
  if (id == "avqa") return row.text("question");
  if (id == "avqa_thu")
    return row.text("question_text") + " Options: " + row.listed("multi_choice");
  if (id == "ref_avs") return lower_case(sample.reference);
  return {};
}

int frame_of(Row& row, std::string_view id, RowFields fields) {
  if (id == "ref_avs" && fields == RowFields::train) return row.whole_number("idx");
  if (fields == RowFields::test || id == "ms3") return row.whole_number("frame_idx");
  return 0;  // training rows of s4 show the first frame
}

}  // namespace

Result<Sample> sample_of_row(const json& json_row, const RowPlace& place,
                             const std::filesystem::path& corpus) {
  const auto [dataset, fields, split, index, wording] = place;
  const Dataset& table = datasets()[dataset];
  if (!json_row.is_object()) return fail(Errc::data_error, "the row is not an object");
  Row row(json_row, corpus, table.id);
  Sample sample;
  sample.dataset = dataset;
  sample.index = index;
  sample.task = table.task;
  const bool picture = table.visual == VisualInput::image;
  if (picture) {
    sample.image = row.path(fields == RowFields::train ? "image_path" : "visual_path", "");
    sample.audio = row.path("audio_path", "");
    sample.frame_index = frame_of(row, table.id, fields);
  } else {
    sample.video = row.path(table.videos > 1 ? "video1_path" : "video_path", "video");
    if (table.videos > 1) sample.second_video = row.path("video2_path", "video");
    sample.audio = row.path(table.audios > 1 ? "audio1_path" : "audio_path", "audio");
    if (table.audios > 1) sample.second_audio = row.path("audio2_path", "audio");
  }
  if (fields == RowFields::train) sample.target = row.text(table.target_field);
  sample.reference = reference_of(row, table, sample);
  sample.question = instruction(table, {dataset, index, wording}, detail_of(row, table.id, sample));
  if (table.task == Task::segmentation && split == Split::test && !row.problem())
    sample.mask = mask_of(row, table.id, sample);
  if (row.problem()) return fail(*row.problem());
  return sample;
}

}  // namespace crabcast::data

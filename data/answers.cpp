#include "data/answers.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "data/decode.h"

namespace crabcast::data {
namespace {

constexpr std::string_view kThinkOpen = "<think>", kThinkClose = "</think>";
constexpr std::string_view kAnswerOpen = "<answer>", kAnswerClose = "</answer>";
constexpr std::string_view kNothing = "none";
constexpr double kPicture = 224;
constexpr int kSeconds = 10;

constexpr std::array<std::string_view, 4> kModalityNames = {"", "audio", "visual", "both"};

bool is_blank(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

// Letters and digits in lower case; bytes of other alphabets stay as they are.
std::string folded(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte) != 0) out += static_cast<char>(std::tolower(byte));
  }
  return out;
}

std::optional<double> take_number(std::string_view& text) {
  text = trim(text);
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc{} || !std::isfinite(value)) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  text = trim(text);
  return value;
}

bool take_char(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

// "1,2,3,4]" at the start of `text`.
std::optional<Box> take_box(std::string_view text) {
  std::array<double, 4> values{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = take_number(text);
    if (!value || !take_char(text, i + 1 < values.size() ? ',' : ']')) return std::nullopt;
    values[i] = *value;
  }
  return Box{values[0], values[1], values[2], values[3]};
}

// At most one digit after the point, and none when it is a zero.
std::string format_number(double value) {
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::fixed, 1);
  if (error != std::errc{}) return "0";
  std::string_view text(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
  if (text.ends_with(".0")) text.remove_suffix(2);
  return std::string(text);
}

std::optional<Event> parse_event(std::string_view piece) {
  const auto colon = piece.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view times = piece.substr(colon + 1);
  const auto start = take_number(times);
  if (!start || !take_char(times, '-')) return std::nullopt;
  const auto end = take_number(times);
  if (!end || *end <= *start) return std::nullopt;

  Event event{.name = {}, .start = *start, .end = *end};
  std::string_view name = trim(piece.substr(0, colon));
  if (name.ends_with(')')) {
    const auto open = name.rfind('(');
    if (open != std::string_view::npos) {
      const std::string word = folded(name.substr(open));
      for (std::size_t m = 1; m < kModalityNames.size(); ++m) {
        if (word != kModalityNames[m]) continue;
        event.modality = static_cast<Modality>(m);
        name = trim(name.substr(0, open));
        break;
      }
    }
  }
  event.name = name;
  if (folded(name).empty()) return std::nullopt;
  return event;
}

using Labels = std::set<std::pair<std::string, Modality>>;

// A second belongs to an event when its middle does.
std::array<Labels, kSeconds> labels_by_second(std::span<const Event> events) {
  std::array<Labels, kSeconds> out;
  for (const Event& event : events)
    for (int s = 0; s < kSeconds; ++s)
      if (event.start <= s + 0.5 && s + 0.5 < event.end)
        out[static_cast<std::size_t>(s)].emplace(folded(event.name), event.modality);
  return out;
}

std::map<std::string, int> word_counts(std::string_view text) {
  std::map<std::string, int> counts;
  for (std::size_t at = 0; at < text.size();) {
    while (at < text.size() && is_blank(text[at])) ++at;
    std::size_t end = at;
    while (end < text.size() && !is_blank(text[end])) ++end;
    if (std::string word = folded(text.substr(at, end - at)); !word.empty()) ++counts[word];
    at = end;
  }
  return counts;
}

int total(const std::map<std::string, int>& counts) {
  int sum = 0;
  for (const auto& [word, count] : counts) sum += count;
  return sum;
}

Result<double> score_events(const Sample& sample, std::string_view answer) {
  const std::vector<Event> truth = parse_events(sample.reference);
  if (truth.empty() && folded(sample.reference) != kNothing)
    return fail(Errc::data_error, "the reference \"" + sample.reference +
                                      "\" names no event; expected \"EVENT: START-END s\"");
  return segment_accuracy(truth, parse_events(answer));
}

Result<double> score_box(const Sample& sample, std::string_view answer) {
  const auto truth = first_box(sample.reference);
  if (!truth)
    return fail(Errc::data_error, "the reference \"" + sample.reference +
                                      "\" holds no box; expected \"CLASS [x1,y1,x2,y2]\"");
  const auto predicted = first_box(answer);
  return predicted ? box_iou(*truth, *predicted) : 0.0;
}

Result<double> score_mask(const Sample& sample, std::string_view answer) {
  const auto box = first_box(answer);
  if (sample.mask.empty()) return box ? 0.0 : 1.0;
  auto mask = decode_mask(sample.mask);
  if (!mask) return fail(std::move(mask).error());
  const at::Tensor pixels = mask->contiguous();
  const auto count = static_cast<std::size_t>(pixels.numel());
  return mask_box_iou({pixels.data_ptr<std::uint8_t>(), count}, static_cast<int>(pixels.size(1)),
                      static_cast<int>(pixels.size(0)), box);
}

Result<double> score_class(const Sample& sample, std::string_view answer) {
  const std::string truth = folded(sample.reference);
  if (truth.empty())
    return fail(Errc::data_error, "the reference \"" + sample.reference + "\" holds no word");
  return truth == folded(answer) ? 1.0 : 0.0;
}

Result<double> score_caption(const Sample& sample, std::string_view answer) {
  double best = token_f1(sample.reference, answer);
  for (const std::string& reference : sample.references)
    best = std::max(best, token_f1(reference, answer));
  return best;
}

}  // namespace

std::string make_target(std::string_view reasoning, std::string_view final) {
  std::string out;
  for (const std::string_view part :
       {kThinkOpen, reasoning, kThinkClose, kAnswerOpen, final, kAnswerClose})
    out += part;
  return out;
}

std::string final_answer(std::string_view text) {
  if (const auto open = text.find(kAnswerOpen); open != std::string_view::npos)
    text.remove_prefix(open + kAnswerOpen.size());
  return std::string(trim(text.substr(0, text.find(kAnswerClose))));
}

std::optional<Box> first_box(std::string_view text) {
  for (std::size_t at = text.find('['); at != std::string_view::npos; at = text.find('[', at + 1))
    if (const auto box = take_box(text.substr(at + 1))) return box;
  return std::nullopt;
}

std::string format_box(const Box& box) {
  return "[" + format_number(box.x1) + "," + format_number(box.y1) + "," + format_number(box.x2) +
         "," + format_number(box.y2) + "]";
}

std::vector<Event> parse_events(std::string_view text) {
  std::vector<Event> events;
  while (!text.empty()) {
    const auto cut = text.find(';');
    if (auto event = parse_event(text.substr(0, cut))) events.push_back(std::move(*event));
    if (cut == std::string_view::npos) break;
    text.remove_prefix(cut + 1);
  }
  return events;
}

std::string format_events(std::span<const Event> events) {
  if (events.empty()) return std::string(kNothing);
  std::string out;
  for (const Event& event : events) {
    if (!out.empty()) out += "; ";
    out += event.name;
    if (event.modality != Modality::none)
      out += " (" + std::string(kModalityNames[static_cast<std::size_t>(event.modality)]) + ")";
    out += ": " + format_number(event.start) + "-" + format_number(event.end) + " s";
  }
  return out;
}

double box_iou(const Box& a, const Box& b) {
  const auto area = [](const Box& box) {
    return std::max(0.0, box.x2 - box.x1) * std::max(0.0, box.y2 - box.y1);
  };
  const double shared = area(
      {std::max(a.x1, b.x1), std::max(a.y1, b.y1), std::min(a.x2, b.x2), std::min(a.y2, b.y2)});
  const double joined = area(a) + area(b) - shared;
  return shared > 0 ? shared / joined : 0.0;
}

double mask_box_iou(std::span<const std::uint8_t> mask, int width, int height,
                    const std::optional<Box>& box) {
  // A pixel is in the box when its middle is, seen in the coordinates of the 224 x 224 picture.
  const auto inside = [](int pixel, int size, double low, double high) {
    const double middle = (pixel + 0.5) * kPicture / size;
    return low <= middle && middle < high + 1;
  };
  std::uint64_t shared = 0, joined = 0;
  for (int y = 0; y < height; ++y) {
    const bool row = box && inside(y, height, box->y1, box->y2);
    for (int x = 0; x < width; ++x) {
      const bool object = mask[static_cast<std::size_t>(y) * width + x] != 0;
      const bool predicted = row && inside(x, width, box->x1, box->x2);
      shared += object && predicted ? 1 : 0;
      joined += object || predicted ? 1 : 0;
    }
  }
  if (joined == 0) return box ? 0.0 : 1.0;
  return static_cast<double>(shared) / static_cast<double>(joined);
}

double segment_accuracy(std::span<const Event> truth, std::span<const Event> predicted) {
  const auto a = labels_by_second(truth), b = labels_by_second(predicted);
  int right = 0;
  for (std::size_t s = 0; s < a.size(); ++s) right += a[s] == b[s] ? 1 : 0;
  return static_cast<double>(right) / kSeconds;
}

double token_f1(std::string_view truth, std::string_view predicted) {
  const auto a = word_counts(truth), b = word_counts(predicted);
  int shared = 0;
  for (const auto& [word, count] : b)
    if (const auto found = a.find(word); found != a.end()) shared += std::min(count, found->second);
  if (shared == 0) return 0;
  const double precision = static_cast<double>(shared) / total(b);
  const double recall = static_cast<double>(shared) / total(a);
  return 2 * precision * recall / (precision + recall);
}

std::string_view metric_name(Task task) {
  switch (task) {
    case Task::action_recognition:
    case Task::emotion_recognition:
    case Task::av_question_answering:
    case Task::av_matching:
      return "accuracy";
    case Task::temporal_localization:
      return "segment_accuracy";
    case Task::spatial_localization:
      return "box_iou";
    case Task::segmentation:
      return "mask_iou";
    case Task::captioning:
      return "token_f1";
  }
  return "accuracy";
}

Result<Score> score_answer(const Sample& sample, std::string_view answer) {
  const std::string final = final_answer(answer);
  Result<double> value = 0.0;
  switch (sample.task) {
    case Task::action_recognition:
    case Task::emotion_recognition:
    case Task::av_question_answering:
    case Task::av_matching:
      value = score_class(sample, final);
      break;
    case Task::temporal_localization:
      value = score_events(sample, final);
      break;
    case Task::spatial_localization:
      value = score_box(sample, final);
      break;
    case Task::segmentation:
      value = score_mask(sample, final);
      break;
    case Task::captioning:
      value = score_caption(sample, final);
      break;
  }
  if (!value) {
    const auto& row = datasets()[sample.dataset];
    return fail(
        value.error().within(std::string(row.id) + " sample " + std::to_string(sample.index)));
  }
  return Score{*value, metric_name(sample.task)};
}

}  // namespace crabcast::data

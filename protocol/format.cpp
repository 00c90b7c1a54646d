#include "protocol/format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace crabcast {
namespace {

struct Unit {
  std::string_view name;
  double scale;
};
constexpr std::array kByteUnits = {
    Unit{"B", 1},        Unit{"KiB", 1024.0}, Unit{"MiB", 1048576.0}, Unit{"GiB", 1073741824.0},
    Unit{"TiB", 0x1p40}, Unit{"kB", 1e3},     Unit{"KB", 1e3},        Unit{"MB", 1e6},
    Unit{"GB", 1e9},     Unit{"TB", 1e12},
};
constexpr std::array kTimeUnits = {
    Unit{"ms", 1e-3}, Unit{"s", 1},    Unit{"sec", 1},   Unit{"m", 60},
    Unit{"min", 60},  Unit{"h", 3600}, Unit{"d", 86400},
};

template <class... Args>
std::string printed(const char* pattern, Args... args) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, pattern, args...);
  return buffer;
}

// NUMBER[ ]UNIT in the unit's base.
Result<double> parse_with_unit(std::string_view text, std::span<const Unit> units, const char* what,
                               const char* example) {
  const auto refuse = [&](const std::string& why) {
    return fail(Errc::invalid_argument, "\"" + excerpt(text) + "\" is not a " + what + ": " + why +
                                            ", for example " + example);
  };
  const auto end = std::find_if(text.begin(), text.end(),
                                [](unsigned char c) { return !std::isdigit(c) && c != '.'; });
  const auto split = static_cast<std::size_t>(end - text.begin());
  const auto number = parse_number(text.substr(0, split));
  if (!number) return refuse("write a number and a unit");
  std::string_view unit = text.substr(split);
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  if (unit.empty()) return refuse("it needs a unit");
  for (const Unit& known : units)
    if (known.name == unit) return *number * known.scale;
  std::vector<std::string> names;
  for (const Unit& known : units) names.emplace_back(known.name);
  return refuse("the unit is one of " + join_names(names));
}

std::string folded(std::string_view name) {
  std::string result(name);
  for (char& c : result)
    c = c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

// Its letters stand in the full name in the same order, the first letter first: bf16, bfloat16.
bool abbreviates(std::string_view name, std::string_view full) {
  if (name.size() < 3 || name.front() != full.front()) return false;
  std::size_t matched = 0;
  for (const char c : full)
    if (matched < name.size() && name[matched] == c) ++matched;
  return matched == name.size();
}

// Code points, which is what a terminal shows for the letters that our tables hold.
std::size_t display_width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool looks_numeric(std::string_view cell) {
  if (cell.empty() || cell == "-") return true;
  if (cell.front() == '-' || cell.front() == '+') cell.remove_prefix(1);
  return !cell.empty() && std::isdigit(static_cast<unsigned char>(cell.front()));
}

}  // namespace

std::string format_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  constexpr std::array kNames = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  // 1023.95 would be printed as 1024.0 of the smaller unit.
  while (value >= 1023.95 && unit + 1 < kNames.size()) {
    value /= 1024;
    ++unit;
  }
  return printed("%.1f %s", value, kNames[unit]);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e15) return "-";
  if (seconds < 0.9995) return printed("%.0f ms", seconds * 1e3);
  if (seconds < 59.95) return printed("%.1f s", seconds);
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 3600) return printed("%lldm %02llds", whole / 60, whole % 60);
  const long long minutes = whole / 60;
  if (minutes < 24 * 60) return printed("%lldh %02lldm", minutes / 60, minutes % 60);
  const long long hours = minutes / 60;
  return printed("%lldd %02lldh", hours / 24, hours % 24);
}

std::string exact_bytes(std::uint64_t bytes) {
  constexpr std::array kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < kNames.size()) {
    bytes /= 1024;
    ++unit;
  }
  return std::to_string(bytes) + kNames[unit];
}

std::string exact_number(double value) {
  if (value == 0) return "0";  // also for -0.0
  const double size = std::abs(value);
  const bool fixed = size >= 1e-6 && size < 1e15;
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 fixed ? std::chars_format::fixed : std::chars_format::scientific)
                       .ptr;
  std::string text(buffer, end);
  // With a point, because readers of YAML 1.1 take "1e-08" for text.
  if (!fixed && text.find('.') == std::string::npos) text.insert(text.find('e'), ".0");
  return text;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_whole(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<std::uint64_t> parse_bytes(std::string_view text) {
  const auto value = parse_with_unit(text, kByteUnits, "size", "2GiB or 512MiB");
  if (!value) return fail(value.error());
  if (*value >= 0x1p63)
    return fail(Errc::invalid_argument, "\"" + excerpt(text) + "\" is larger than any machine");
  return static_cast<std::uint64_t>(std::llround(*value));
}

Result<double> parse_duration(std::string_view text) {
  return parse_with_unit(text, kTimeUnits, "duration", "60s or 5m");
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::optional<std::string> nearest_name(std::string_view name,
                                        std::span<const std::string> candidates) {
  constexpr std::size_t kLongestName = 256;  // longer ones are no misspelling, and cost time
  if (name.empty() || name.size() > kLongestName) return std::nullopt;
  const std::string wanted = folded(name);
  const std::string* best = nullptr;
  std::size_t best_distance = 0;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(wanted, folded(candidate));
    // About one mistake in three letters.
    const std::size_t limit =
        std::max<std::size_t>(1, (std::max(wanted.size(), candidate.size()) + 1) / 3);
    const bool shares_a_letter = distance < std::max(wanted.size(), candidate.size());
    if (distance <= limit && shares_a_letter && (best == nullptr || distance < best_distance)) {
      best = &candidate;
      best_distance = distance;
    }
  }
  if (best != nullptr) return *best;
  for (const std::string& candidate : candidates)
    if (abbreviates(wanted, folded(candidate))) return candidate;
  return std::nullopt;
}

std::string join_names(std::span<const std::string> names, std::string_view separator) {
  std::string result;
  for (const std::string& name : names) {
    if (!result.empty()) result += separator;
    result += name;
  }
  return result;
}

std::string excerpt(std::string_view text, std::size_t limit) {
  std::size_t length = text.size();
  if (length > limit) {
    length = limit > 3 ? limit - 3 : 0;
    while (length > 0 && (text[length] & 0xC0) == 0x80) --length;
  }
  std::string result(text.substr(0, length));
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  return length < text.size() ? result + "..." : result;
}

std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width;
  std::vector<bool> right(header.size(), !rows.empty());
  for (const std::string& title : header) width.push_back(display_width(title));
  for (const auto& row : rows)
    for (std::size_t i = 0; i < std::min(row.size(), header.size()); ++i) {
      width[i] = std::max(width[i], display_width(row[i]));
      right[i] = right[i] && looks_numeric(row[i]);
    }
  std::string text;
  const auto print_row = [&](const std::vector<std::string>& row) {
    std::string line;
    for (std::size_t i = 0; i < header.size(); ++i) {
      const std::string cell = i < row.size() ? row[i] : "";
      const std::string padding(width[i] - display_width(cell), ' ');
      if (i > 0) line += "  ";
      line += right[i] ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  print_row(header);
  for (const auto& row : rows) print_row(row);
  return text;
}

}  // namespace crabcast

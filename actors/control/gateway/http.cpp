#include "actors/control/gateway/http.h"

#include <optional>

namespace crabcast::gateway {
namespace {

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const std::size_t length = first < 0x80           ? 1
                               : (first >> 5) == 0x6  ? 2
                               : (first >> 4) == 0xE  ? 3
                               : (first >> 3) == 0x1E ? 4
                                                      : 0;
    if (length == 0 || i + length > text.size()) return false;
    std::uint32_t letter = length == 1 ? first : first & (0x7FU >> length);
    for (std::size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next >> 6) != 0x2) return false;
      letter = letter << 6 | (next & 0x3FU);
    }
    constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (letter < kSmallest[length] || letter > 0x10FFFF || (letter >= 0xD800 && letter < 0xE000))
      return false;
    i += length;
  }
  return true;
}

// Percent escapes, and in a query '+' for a blank. Nothing for a bad escape or a control character.
std::optional<std::string> decoded(std::string_view text, bool query) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || digit(text[i + 1]) < 0 || digit(text[i + 2]) < 0) return {};
      c = static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else if (c == '+' && query) {
      c = ' ';
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return {};
    result += c;
  }
  if (!is_utf8(result)) return {};
  return result;
}

// Calls `part` for each piece between separators; false as soon as one is refused.
template <class Part>
bool each(std::string_view text, char separator, const Part& part) {
  for (;;) {
    const auto end = text.find(separator);
    if (!part(text.substr(0, end))) return false;
    if (end == std::string_view::npos) return true;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

bool split_target(Request& request) {
  const std::string_view target = request.target;
  if (!target.starts_with('/')) return false;
  const auto mark = target.find('?');
  const auto path = target.substr(1, mark == std::string_view::npos ? mark : mark - 1);
  const bool parts = path.empty() || each(path, '/', [&](std::string_view raw) {
                       auto part = decoded(raw, false);
                       if (!part || part->empty() || *part == "." || *part == "..") return false;
                       request.path.push_back(std::move(*part));
                       return true;
                     });
  if (!parts || mark == std::string_view::npos) return parts;
  return each(target.substr(mark + 1), '&', [&](std::string_view pair) {
    if (pair.empty()) return true;
    const auto equals = pair.find('=');
    auto name = decoded(pair.substr(0, equals), true);
    auto value = decoded(equals == std::string_view::npos ? "" : pair.substr(equals + 1), true);
    if (!name || !value) return false;
    request.query.emplace(std::move(*name), std::move(*value));
    return true;
  });
}

}  // namespace crabcast::gateway

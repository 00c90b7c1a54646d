#include "model/word_split.h"

#include <algorithm>
#include <array>

namespace crabcast::model {
namespace {

using Kind = CharacterClass;

// (?i:'s|'t|'re|'ve|'m|'ll|'d): its length, or 0. Without regard to case, U+017F is an s.
std::size_t contraction(std::string_view text) {
  if (text[0] != '\'' || text.size() < 2) return 0;
  constexpr std::string_view kLongS = "\xC5\xBF";
  if (text.substr(1).starts_with(kLongS)) return 1 + kLongS.size();
  const auto lower = [&](std::size_t i) {
    return i < text.size() ? static_cast<char>(text[i] | 0x20) : '\0';
  };
  const char first = lower(1), second = lower(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  const bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                   (first == 'l' && second == 'l');
  return two ? 3 : 0;
}

class Splitter {
 public:
  Splitter(const Unicode& unicode, std::string_view text) : unicode_(unicode), text_(text) {}

  [[nodiscard]] std::size_t first_word() const;

 private:
  [[nodiscard]] bool at_kind(std::size_t at, Kind kind) const {
    return at < text_.size() && unicode_.character_at(text_, at).kind == kind;
  }
  // The end of the characters of that kind that begin at `at`.
  [[nodiscard]] std::size_t run(std::size_t at, Kind kind) const {
    while (at < text_.size()) {
      const auto [found, bytes] = unicode_.character_at(text_, at);
      if (found != kind) break;
      at += bytes;
    }
    return at;
  }
  [[nodiscard]] std::size_t first_spaces() const;

  const Unicode& unicode_;
  std::string_view text_;
};

// One alternative of the pattern after the other. A space joins what follows before it counts as
// white space.
std::size_t Splitter::first_word() const {
  if (const std::size_t length = contraction(text_); length > 0) return length;
  const auto [kind, bytes] = unicode_.character_at(text_, 0);
  if (kind == Kind::letter) return run(bytes, Kind::letter);
  if (kind == Kind::number) return bytes;
  if (kind != Kind::newline && at_kind(bytes, Kind::letter)) return run(bytes, Kind::letter);
  if (kind == Kind::other || (text_[0] == ' ' && at_kind(bytes, Kind::other)))
    return run(run(bytes, Kind::other), Kind::newline);
  return first_spaces();
}

// \s*[\r\n]+|\s+(?!\S)|\s+: up to the last line break, or else all but the last character, which
// goes with the word that follows.
std::size_t Splitter::first_spaces() const {
  std::size_t end = 0, last = 0, after_newline = 0;
  while (end < text_.size()) {
    const auto [kind, bytes] = unicode_.character_at(text_, end);
    if (kind != Kind::blank && kind != Kind::newline) break;
    last = end;
    end += bytes;
    if (kind == Kind::newline) after_newline = end;
  }
  if (after_newline > 0) return after_newline;
  return end == text_.size() || last == 0 ? end : last;
}

}  // namespace

std::size_t first_word(const Unicode& unicode, std::string_view text) {
  return Splitter(unicode, text).first_word();
}

}  // namespace crabcast::model

#include "model/unicode.h"

#include <unicode/bytestream.h>

#include <algorithm>
#include <array>
#include <new>

namespace crabcast::model {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
constexpr UChar32 kCodePoints = 0x110000;

// Letters and numbers of Unicode 15.1 and 16.0, which ICU before version 76 does not know.
struct Range {
  UChar32 first, last;
  CharacterClass kind;
};
constexpr auto L = CharacterClass::letter, N = CharacterClass::number;
constexpr std::array kYoung = {
    Range{0x1C89, 0x1C8A, L},   Range{0xA7CB, 0xA7CD, L},   Range{0xA7DA, 0xA7DC, L},
    Range{0x105C0, 0x105F3, L}, Range{0x10D40, 0x10D49, N}, Range{0x10D4A, 0x10D65, L},
    Range{0x10D6F, 0x10D85, L}, Range{0x10EC2, 0x10EC4, L}, Range{0x11380, 0x11389, L},
    Range{0x1138B, 0x1138B, L}, Range{0x1138E, 0x1138E, L}, Range{0x11390, 0x113B5, L},
    Range{0x113B7, 0x113B7, L}, Range{0x113D1, 0x113D1, L}, Range{0x113D3, 0x113D3, L},
    Range{0x116D0, 0x116E3, N}, Range{0x11BC0, 0x11BE0, L}, Range{0x11BF0, 0x11BF9, N},
    Range{0x13460, 0x143FA, L}, Range{0x16100, 0x1611D, L}, Range{0x16130, 0x16139, N},
    Range{0x16D40, 0x16D6C, L}, Range{0x16D70, 0x16D79, N}, Range{0x18CFF, 0x18CFF, L},
    Range{0x1CCF0, 0x1CCF9, N}, Range{0x1E5D0, 0x1E5ED, L}, Range{0x1E5F0, 0x1E5F0, L},
    Range{0x1E5F1, 0x1E5FA, N}, Range{0x2EBF0, 0x2EE5D, L},
};

// Length of the well-formed UTF-8 sequence at the start of `text`, or 0; then `bad` is the number
// of bytes that one U+FFFD replaces (the longest start of a sequence that could have been valid).
std::size_t utf8_sequence(std::string_view text, std::size_t& bad) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  bad = 1;
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  // The second byte's range excludes overlong forms, surrogates and values above U+10FFFF.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= text.size()) return 0;
    const bool in_range = i == 1 ? byte(i) >= low && byte(i) <= high : (byte(i) & 0xC0) == 0x80;
    if (!in_range) return 0;
    bad = i + 1;
  }
  return length;
}

bool is_ascii(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return (c & 0x80) != 0; });
}

void set_class(std::vector<CharacterClass>& classes, const icu::UnicodeSet& set,
               CharacterClass kind) {
  for (int32_t i = 0; i < set.getRangeCount(); ++i)
    std::fill(classes.begin() + set.getRangeStart(i), classes.begin() + set.getRangeEnd(i) + 1,
              kind);
}

}  // namespace

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    std::size_t valid = 0, bad = 0;
    while (valid < text.size()) {
      const std::size_t length = utf8_sequence(text.substr(valid), bad);
      if (length == 0) break;
      valid += length;
    }
    out += text.substr(0, valid);
    text.remove_prefix(valid);
    if (text.empty()) break;
    out += kReplacement;
    text.remove_prefix(bad);
  }
  return out;
}

Result<std::unique_ptr<const Unicode>> Unicode::load() {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  const auto set = [&](const char* pattern) { return icu::UnicodeSet(pattern, error); };
  const auto letters = set("[[:L:]&[:age=16.0:]]"), numbers = set("[[:N:]&[:age=16.0:]]");
  const auto spaces = set("[:White_Space:]"), normalized = set("[:age=9.0:]");
  if (U_FAILURE(error))
    return fail(Errc::internal, std::string("ICU cannot give the classes of characters: ") +
                                    u_errorName(error) + "; install libicu again");
  return std::unique_ptr<const Unicode>(new Unicode(*nfc, letters, numbers, spaces, normalized));
}

Unicode::Unicode(const icu::Normalizer2& nfc, const icu::UnicodeSet& letters,
                 const icu::UnicodeSet& numbers, const icu::UnicodeSet& spaces,
                 const icu::UnicodeSet& normalized)
    : classes_(kCodePoints, CharacterClass::other),
      normalized_(normalized),
      nfc_(nfc, *normalized_.freeze()) {
  set_class(classes_, letters, CharacterClass::letter);
  set_class(classes_, numbers, CharacterClass::number);
  set_class(classes_, spaces, CharacterClass::blank);
  for (const Range& range : kYoung)
    set_class(classes_, icu::UnicodeSet(range.first, range.last), range.kind);
  classes_['\r'] = classes_['\n'] = CharacterClass::newline;
}

std::string Unicode::to_nfc(std::string text) const {
  if (is_ascii(text)) return text;
  UErrorCode error = U_ZERO_ERROR;
  if (nfc_.isNormalizedUTF8(text, error)) return text;
  std::string out;
  icu::StringByteSink<std::string> sink(&out, static_cast<int32_t>(text.size()));
  nfc_.normalizeUTF8(0, text, sink, nullptr, error);
  if (U_FAILURE(error)) throw std::bad_alloc();  // nothing else can fail here
  return out;
}

}  // namespace crabcast::model

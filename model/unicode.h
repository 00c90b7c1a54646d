// What Unicode says of a text, as Hugging Face's `tokenizers` 0.23 applies it: character classes by
// Unicode 16, and Normalization Form C by Unicode 9 (a character that is younger is left alone). So
// token ids do not depend on the version of ICU that a machine has.
#pragma once

#include <unicode/normalizer2.h>
#include <unicode/uniset.h>
#include <unicode/utf8.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.h"

namespace crabcast::model {

// Each start of a sequence that could have been valid becomes one U+FFFD, as in Python and Rust.
std::string replace_invalid_utf8(std::string_view text);

// \p{L}, \p{N}, and \s without and with \r \n.
enum class CharacterClass : std::uint8_t { other, letter, number, blank, newline };

// Thread-safe: const. Texts are valid UTF-8.
class Unicode {
 public:
  // internal when ICU has no data for it.
  static Result<std::unique_ptr<const Unicode>> load();

  struct Character {
    CharacterClass kind;
    std::size_t bytes;
  };
  // The character that starts at a byte of the text.
  [[nodiscard]] Character character_at(std::string_view text, std::size_t at) const {
    std::size_t end = at;
    UChar32 code_point = 0;
    U8_NEXT_UNSAFE(text, end, code_point);
    return {classes_[static_cast<std::size_t>(code_point)], end - at};
  }

  [[nodiscard]] std::string to_nfc(std::string text) const;

 private:
  Unicode(const icu::Normalizer2& nfc, const icu::UnicodeSet& letters,
          const icu::UnicodeSet& numbers, const icu::UnicodeSet& spaces,
          const icu::UnicodeSet& normalized);

  std::vector<CharacterClass> classes_;  // by code point
  icu::UnicodeSet normalized_;           // the characters that take part in normalization
  icu::FilteredNormalizer2 nfc_;
};

}  // namespace crabcast::model

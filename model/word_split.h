// Qwen2's pre-tokenizer: cuts a text into the words that byte-pair encoding looks at one by one.
#pragma once

#include <string_view>

#include "model/unicode.h"

namespace crabcast::model {

// As it stands in tokenizer.json. Each match is a word, and every character belongs to one.
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Bytes of the first word of `text`, by kQwen2Pattern as Oniguruma reads it. The text is valid
// UTF-8 and not empty.
std::size_t first_word(const Unicode& unicode, std::string_view text);

}  // namespace crabcast::model

// Reader of Hugging Face's tokenizer.json, as far as Qwen2's tokenizers go: byte-level BPE behind
// NFC and Qwen2's pre-tokenizer. A file that asks for anything else is refused, never half obeyed.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/byte_pairs.h"
#include "model/tokenizer.h"

namespace crabcast::model {

struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool special = false;  // left out of decoded text
};

// Ids are 0 .. tokens.size() - 1, each of one token.
struct BpeVocabulary {
  std::vector<std::string> tokens;  // the bytes that an id stands for; of added tokens too
  std::array<TokenId, 256> byte_tokens{};
  std::vector<Merge> merges;  // in the order in which they are applied
  std::vector<AddedToken> added;
};

// The text of a tokenizer.json. corrupt: not JSON, or it contradicts itself; unsupported: it asks
// for what this tokenizer does not do. The message names the field or the token.
Result<BpeVocabulary> parse_tokenizer_json(std::string_view text);

// The whole file. not_found, io_error, or invalid_argument for something that is no such file.
Result<std::string> read_tokenizer_file(const std::filesystem::path& path);

}  // namespace crabcast::model

// The tokenizer of a base in Hugging Face's layout. Its ids and texts are those of the Python
// package `tokenizers` for the same file. No LibTorch here: the data loader includes this header.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace crabcast::model {

// Texts may hold any bytes, fewer than 2^31: those that are not UTF-8 count as U+FFFD. Thread-safe:
// const.
class BpeTokenizer : public Tokenizer {
 public:
  // As encode, but where the text holds an added token, such as "<|im_end|>", its id is produced:
  // what Hugging Face's encode does. Only for text that nobody else can write into.
  [[nodiscard]] virtual std::vector<TokenId> encode_with_added_tokens(
      std::string_view text) const = 0;
};

// Reads a Hugging Face tokenizer.json: byte-level BPE with NFC and Qwen2's pre-tokenizer pattern.
// not_found and io_error for the file; corrupt when it is broken; unsupported when it asks for
// another kind of tokenizer or lacks a special token. The message names the file and the field.
Result<std::shared_ptr<const Tokenizer>> load_bpe_tokenizer(
    const std::filesystem::path& tokenizer_json);

// The same from the file's text; messages name no file.
Result<std::shared_ptr<const BpeTokenizer>> parse_bpe_tokenizer(std::string_view json);

}  // namespace crabcast::model

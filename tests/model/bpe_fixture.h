// The small tokenizer.json of the tests, and where what `tokenizers` says of it stands.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "model/bpe_tokenizer.h"

namespace crabcast::model {

// tests/parity/tokenizer_golden.py writes such folders. CRABCAST_TOKENIZER_GOLDEN names another
// one, as that of the whole vocabulary.
inline std::filesystem::path golden_folder() {
  if (const char* folder = std::getenv("CRABCAST_TOKENIZER_GOLDEN")) return folder;
  const char* source = std::getenv("CRABCAST_SOURCE");
  return std::filesystem::path(source == nullptr ? "." : source) / "tests" / "model" / "bpe";
}

inline std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << "cannot read " << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline const std::string& small_tokenizer_json() {
  static const std::string text = text_of(golden_folder() / "tokenizer.json");
  return text;
}

inline std::shared_ptr<const BpeTokenizer> small_tokenizer() {
  auto tokenizer = parse_bpe_tokenizer(small_tokenizer_json());
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return tokenizer ? *tokenizer : nullptr;
}

}  // namespace crabcast::model

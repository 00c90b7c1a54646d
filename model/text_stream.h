// The text of an answer while its tokens come.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace crabcast::model {

// Gives text out as soon as it is certain: a letter when all its bytes are there, and what may be
// the beginning of a stop text when it turns out not to be. All pieces together are what
// Tokenizer::decode makes of all tokens, up to and without the first stop text. Not thread-safe.
class TextStream {
 public:
  // The tokenizer must outlive the stream; stop texts must not be empty.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop_texts);

  // The text that has become certain with this token; after a stop text always empty.
  std::string add(TokenId id);
  // The rest, when no more tokens come.
  std::string finish();
  // A stop text has come.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  std::string release(std::string_view text);

  const Tokenizer& tokenizer_;
  std::vector<std::string> stop_texts_;
  std::vector<TokenId> unfinished_;  // tokens that end within a letter
  std::string held_;                 // may begin a stop text
  bool stopped_ = false;
};

}  // namespace crabcast::model

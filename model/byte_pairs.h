// Byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) over bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace crabcast::model {

// Neighbours left and right become one token. Ids are below 2^31.
struct Merge {
  TokenId left = 0, right = 0, joined = 0;
};

// A word starts as one token a byte; of all neighbours that can merge, those whose merge stands
// first in the list do, the leftmost first, until none can. O(n log n) for a word of n bytes.
// Thread-safe: const.
class BytePairs {
 public:
  // The token of each byte, and the merges in order.
  BytePairs(const std::array<TokenId, 256>& byte_tokens, const std::vector<Merge>& merges);

  // Room that encode works in; one for each thread, kept to save allocations.
  class Workspace {
    friend class BytePairs;
    struct Symbol {
      std::uint32_t token;
      std::uint32_t joined;  // what it becomes with the next symbol; kNone when they do not merge
      std::int32_t previous, next;  // -1 at the ends
    };
    struct Candidate {
      std::uint32_t rank;
      std::int32_t at;
      std::uint32_t joined;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };
  // Appends the word's tokens.
  void encode(std::string_view word, Workspace& workspace, std::vector<TokenId>& tokens) const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  // A slot of an open-addressing table; empty when joined is kNone.
  struct Rule {
    std::uint64_t pair = 0;
    std::uint32_t rank = 0;
    std::uint32_t joined = kNone;
  };
  [[nodiscard]] std::size_t slot(std::uint64_t pair) const;
  [[nodiscard]] const Rule& rule(std::uint32_t left, std::uint32_t right) const;
  void consider(std::int32_t at, Workspace& workspace) const;

  std::array<std::uint32_t, 256> byte_tokens_{};
  std::vector<Rule> rules_;  // a power of two
};

}  // namespace crabcast::model

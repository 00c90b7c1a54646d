#include "model/byte_pairs.h"

#include <algorithm>
#include <bit>

namespace crabcast::model {
namespace {

std::uint64_t pair_of(std::uint32_t left, std::uint32_t right) {
  return static_cast<std::uint64_t>(left) << 32 | right;
}

}  // namespace

BytePairs::BytePairs(const std::array<TokenId, 256>& byte_tokens, const std::vector<Merge>& merges)
    // At most half full, so that searches are short and end.
    : rules_(std::bit_ceil(2 * merges.size() + 1)) {
  std::transform(byte_tokens.begin(), byte_tokens.end(), byte_tokens_.begin(),
                 [](TokenId id) { return static_cast<std::uint32_t>(id); });
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const std::uint64_t pair =
        pair_of(static_cast<std::uint32_t>(merge.left), static_cast<std::uint32_t>(merge.right));
    rules_[slot(pair)] = {pair, static_cast<std::uint32_t>(rank),
                          static_cast<std::uint32_t>(merge.joined)};
  }
}

// Where the pair stands or, if it is not there, would stand.
std::size_t BytePairs::slot(std::uint64_t pair) const {
  constexpr std::uint64_t kGoldenRatio = 0x9E3779B97F4A7C15ULL;
  const std::size_t mask = rules_.size() - 1;
  std::size_t at = (pair * kGoldenRatio) >> 32 & mask;
  while (rules_[at].joined != kNone && rules_[at].pair != pair) at = (at + 1) & mask;
  return at;
}

const BytePairs::Rule& BytePairs::rule(std::uint32_t left, std::uint32_t right) const {
  return rules_[slot(pair_of(left, right))];
}

// Notes what the symbol at `at` and its next one become.
void BytePairs::consider(std::int32_t at, Workspace& workspace) const {
  auto& symbol = workspace.symbols[at];
  symbol.joined = kNone;
  if (symbol.next < 0) return;
  const Rule& found = rule(symbol.token, workspace.symbols[symbol.next].token);
  if (found.joined == kNone) return;
  symbol.joined = found.joined;
  workspace.heap.push_back({found.rank, at, found.joined});
}

void BytePairs::encode(std::string_view word, Workspace& workspace,
                       std::vector<TokenId>& tokens) const {
  auto& symbols = workspace.symbols;
  auto& heap = workspace.heap;
  const auto later = [](const auto& a, const auto& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  const auto consider_now = [&](std::int32_t at) {
    const std::size_t before = heap.size();
    consider(at, workspace);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), later);
  };

  const auto length = static_cast<std::int32_t>(word.size());
  symbols.clear();
  heap.clear();
  for (std::int32_t i = 0; i < length; ++i)
    symbols.push_back({byte_tokens_[static_cast<unsigned char>(word[i])], kNone, i - 1,
                       i + 1 < length ? i + 1 : -1});
  for (std::int32_t i = 0; i < length; ++i) consider(i, workspace);
  std::make_heap(heap.begin(), heap.end(), later);

  while (!heap.empty()) {
    const auto best = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    auto& left = symbols[best.at];
    if (left.joined != best.joined) continue;  // a neighbour merged elsewhere in the meantime
    auto& right = symbols[left.next];
    left.token = best.joined;
    left.next = right.next;
    right.joined = kNone;
    if (left.next >= 0) symbols[left.next].previous = best.at;
    consider_now(best.at);
    if (left.previous >= 0) consider_now(left.previous);
  }
  for (std::int32_t i = 0; i >= 0 && i < length; i = symbols[i].next)
    tokens.push_back(symbols[i].token);
}

}  // namespace crabcast::model

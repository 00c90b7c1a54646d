#include "data/permutation.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace crabcast::data {
namespace {

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ULL;

// Rounds of the Feistel network. Few rounds give every sample any place, but in a small data set
// some orders then appear more often than others; counted over all orders of 3 to 6 samples, 20
// rounds show no difference from a uniform choice. Large data sets have orders enough after 6.
constexpr std::uint64_t kRounds = 6;
constexpr std::uint64_t kRoundsSmall = 20;
constexpr std::uint64_t kSmall = 1024;

// The round function: 32 bits, cheaper than mix; the rounds after it finish the mixing.
constexpr std::uint64_t scrambled(std::uint64_t x) {
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 32;
  x *= 0x94D049BB133111EBULL;
  return x >> 32;
}

std::uint64_t ceil_sqrt(std::uint64_t n) {
  auto root = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(n)));
  while (root * root < n) ++root;
  while (root > 1 && (root - 1) * (root - 1) >= n) --root;
  return root;
}

}  // namespace

Permutation::Permutation(std::uint64_t samples, std::uint64_t key)
    : samples_(samples),
      rows_(ceil_sqrt(samples)),
      columns_((samples + rows_ - 1) / rows_),
      rounds_(samples < kSmall ? kRoundsSmall : kRounds),
      key_(key) {}

// One pass of the network moves (row, column) to another cell of the grid; a cell beyond the
// samples is moved on until it falls inside. The pass is a bijection of the grid, so the walk is
// one of the samples. The grid has fewer than x + sqrt(x) + 1 cells for x samples, so walks are
// rare.
class Permutation::Pass {
 public:
  Pass() = default;
  Pass(const Permutation& order, std::uint64_t epoch_key, std::uint64_t cell)
      : rows_(order.rows_), columns_(order.columns_.value), key_(epoch_key) {
    const auto [row, column] = order.columns_.divide(cell);
    row_ = row;
    column_ = column;
  }
  void two_rounds(std::uint64_t round) {
    row_ += scaled(scrambled(key_ + round * kGolden + column_), rows_);
    row_ -= row_ >= rows_ ? rows_ : 0;
    column_ += scaled(scrambled(key_ + (round + 1) * kGolden + row_), columns_);
    column_ -= column_ >= columns_ ? columns_ : 0;
  }
  [[nodiscard]] std::uint64_t cell() const { return row_ * columns_ + column_; }
  [[nodiscard]] std::uint64_t key() const { return key_; }

 private:
  std::uint64_t rows_ = 0, columns_ = 0, key_ = 0, row_ = 0, column_ = 0;
};

std::uint64_t Permutation::walk(std::uint64_t epoch_key, std::uint64_t cell) const {
  do {
    Pass pass(*this, epoch_key, cell);
    for (std::uint64_t round = 0; round < rounds_; round += 2) pass.two_rounds(round);
    cell = pass.cell();
  } while (cell >= samples_);
  return cell;
}

// A pass waits for its own multiplications most of the time: several side by side take little
// longer than one.
void Permutation::answer_together(std::span<Query, kTogether> queries) {
  std::array<Pass, kTogether> passes;
  for (std::size_t i = 0; i < kTogether; ++i) {
    const auto& [order, epoch, rank] = queries[i];
    passes[i] = Pass(*order, mix(order->key_, epoch), rank);
  }
  for (std::uint64_t round = 0; round < kRounds; round += 2) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kTogether; ++i) passes[i].two_rounds(round);
  }
  for (std::size_t i = 0; i < kTogether; ++i) {
    auto& [order, epoch, rank] = queries[i];
    rank = passes[i].cell();
    if (rank >= order->samples_) rank = order->walk(passes[i].key(), rank);
  }
}

void Permutation::answer(std::span<Query> queries) {
  const auto is_large = [](const Query& query) { return query.order->rounds_ == kRounds; };
  while (!queries.empty()) {
    const auto next = queries.first(std::min(queries.size(), kTogether));
    if (next.size() == kTogether && std::ranges::all_of(next, is_large))
      answer_together(next.first<kTogether>());
    else
      for (auto& [order, epoch, rank] : next) rank = order->walk(mix(order->key_, epoch), rank);
    queries = queries.subspan(next.size());
  }
}

}  // namespace crabcast::data

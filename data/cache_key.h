// What an entry of a cache is found by. A key is a value; a hasher belongs to one thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace crabcast::data {

// XXH3-128 of all that a value depends on (CacheKeyHasher).
struct CacheKey {
  std::uint64_t high = 0, low = 0;
  friend auto operator<=>(const CacheKey&, const CacheKey&) = default;
  [[nodiscard]] std::string bytes() const;  // 16, big-endian
};

// Fields are told apart: ("a", "bc") is another key than ("ab", "c").
class CacheKeyHasher {
 public:
  CacheKeyHasher();
  ~CacheKeyHasher();
  CacheKeyHasher& add(std::string_view field);
  CacheKeyHasher& add(std::uint64_t field);
  // Without a mark of where they begin and end: for a stream in pieces.
  void add_bytes(const void* data, std::size_t size);
  [[nodiscard]] CacheKey key() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace crabcast::data

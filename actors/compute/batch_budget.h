// How far ahead a worker may ask for batches: bounded in number and in bytes.
//
// Bytes of a batch that has not come yet are taken to be those of the largest that did. So memory
// stays within the limit but for what a batch is larger than all before it. Pure; not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace crabcast::actors {

class BatchBudget {
 public:
  BatchBudget(std::size_t batches, std::uint64_t bytes) : batches_(batches), bytes_(bytes) {}

  // Whether there is room for one more beside `here` batches of `bytes_here` bytes in all, and
  // `coming` that were asked for.
  [[nodiscard]] bool has_room(std::size_t here, std::uint64_t bytes_here,
                              std::size_t coming) const {
    return here + coming < batches_ && bytes_here + (coming + 1) * largest_ <= bytes_;
  }
  void came(std::uint64_t bytes) { largest_ = std::max(largest_, bytes); }

 private:
  std::size_t batches_;
  std::uint64_t bytes_;
  std::uint64_t largest_ = 0;
};

}  // namespace crabcast::actors

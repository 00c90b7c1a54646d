// Chunks that are read one after another: a thread of its own reads a few ahead, so that the disk
// works while the caller checks what came. Internal to storage/.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>

#include "storage/rocks.h"

namespace crabcast::storage {

class ChunksAhead {
 public:
  // `key_of(i)` for i in [first, end); called on the other thread.
  ChunksAhead(std::shared_ptr<const Rocks> rocks, std::uint64_t first, std::uint64_t end,
              std::function<std::string(std::uint64_t)> key_of);
  // In order, once for each. Errors as of Rocks::chunk.
  Result<Rocks::Chunk> next();

 private:
  void read(const std::stop_token& stop);

  const std::shared_ptr<const Rocks> rocks_;
  const std::uint64_t first_, end_;
  const std::function<std::string(std::uint64_t)> key_of_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Result<Rocks::Chunk>> read_;  // guarded by mutex_
  std::jthread thread_;                    // the last member: it uses all others
};

}  // namespace crabcast::storage

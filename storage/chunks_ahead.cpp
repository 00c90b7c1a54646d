#include "storage/chunks_ahead.h"

#include <utility>

namespace crabcast::storage {
namespace {

constexpr std::size_t kAhead = 4;

}  // namespace

ChunksAhead::ChunksAhead(std::shared_ptr<const Rocks> rocks, std::uint64_t first, std::uint64_t end,
                         std::function<std::string(std::uint64_t)> key_of)
    : rocks_(std::move(rocks)),
      first_(first),
      end_(end),
      key_of_(std::move(key_of)),
      thread_([this](const std::stop_token& stop) { read(stop); }) {}

void ChunksAhead::read(const std::stop_token& stop) {
  for (std::uint64_t i = first_; i < end_ && !stop.stop_requested(); ++i) {
    auto chunk = rocks_->chunk(key_of_(i));
    std::unique_lock lock(mutex_);
    if (!changed_.wait(lock, stop, [this] { return read_.size() < kAhead; })) return;
    read_.push_back(std::move(chunk));
    changed_.notify_all();
  }
}

Result<Rocks::Chunk> ChunksAhead::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !read_.empty(); });
  auto chunk = std::move(read_.front());
  read_.pop_front();
  changed_.notify_all();
  return chunk;
}

}  // namespace crabcast::storage

// Ends another thread's wait in poll: an eventfd, written at most once until it is cleared.
#pragma once

#include <atomic>
#include <memory>

#include "protocol/error.h"

namespace crabcast::cluster {

class WakeUp {
 public:
  static Result<std::shared_ptr<WakeUp>> create();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  // Any thread. What the caller did before is seen by the waiting thread after `clear`.
  void wake();
  // The waiting thread, before it looks at what there is to do.
  void clear();

 private:
  explicit WakeUp(int fd) : fd_(fd) {}
  const int fd_;
  std::atomic<bool> pending_{false};
};

}  // namespace crabcast::cluster

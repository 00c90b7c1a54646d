// SIGINT and SIGTERM as something to wait for.
#pragma once

#include <signal.h>

#include <cerrno>
#include <ctime>

#include "protocol/clock.h"

namespace crabcast::apps {

// Blocks both signals in this thread and in those that it starts later; make it first.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  // True when one came within `timeout`.
  [[nodiscard]] bool wait(Duration timeout) const {
    const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(timeout).count();
    const timespec limit{ns / 1'000'000'000, ns % 1'000'000'000};
    return sigtimedwait(&set_, nullptr, &limit) > 0;
  }

 private:
  sigset_t set_{};
};

}  // namespace crabcast::apps

// Time as a value that is passed in, so that tests can stage it.
#pragma once

#include <chrono>
#include <cstdint>

namespace crabcast {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

// Wall time for records that people read; never used for a decision.
inline std::int64_t unix_ms_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

inline double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace crabcast

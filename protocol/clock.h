// Time as a value that is passed in, so that tests can stage it.
#pragma once

#include <chrono>
#include <cstdint>

#include "protocol/fault_points.h"

namespace crabcast {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

// Wall time for records that people read; never used for a decision.
inline std::int64_t unix_ms_now() {
  (void)fault_point("clock.wall");  // an order of another kind than jump means nothing here
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
             .count() +
         faults::wall_offset_ms();
}

inline double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}

}  // namespace crabcast

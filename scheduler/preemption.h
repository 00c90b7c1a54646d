// Room that others must give back to the first job that waits: workers beyond workers_min, then
// whole gangs.
#pragma once

#include <optional>
#include <vector>

#include "scheduler/state.h"

namespace crabcast::scheduler {

struct RoomMade {
  std::vector<Shrink> shrink;
  std::vector<Preempt> preempt;
  // When a gang that must not be preempted yet may be; nothing: that would not help either.
  std::optional<TimePoint> retry;
};
// Marks the roles and gangs as leaving. Nothing is asked of anybody when it would not be enough.
RoomMade make_room_for(ClusterState& state, Job& head);

}  // namespace crabcast::scheduler

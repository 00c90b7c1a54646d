// The reservation for the first job that waits, and the gaps before it.
//
// As EASY backfilling (Lifka 1995): one reservation, at the earliest time at which ends of running
// jobs that are known make room for it; whatever starts before it either ends by then, or leaves
// the room alone.
#pragma once

#include <optional>
#include <vector>

#include "scheduler/state.h"

namespace crabcast::scheduler {

// Where and when the gang fits first, as running jobs end. Jobs that were asked to go count as gone
// now; those whose end nobody knows go last, in the order in which they began, and then there is no
// time. Nothing: it does not fit even on an empty cluster.
std::optional<Kept> earliest_room(const ClusterState& state, Job& job);

// Whether it would be over when the reservation begins, as far as anybody knows.
bool ends_before(const ClusterState& state, const Job& job, const Kept& kept);
// Free room without that which the reservation needs: for jobs that may run into it.
std::vector<Amount> room_beside(const ClusterState& state, const Kept& kept);
// The reserved nodes still have the room, or will in time.
bool holds_good(const ClusterState& state, const Kept& kept);

// When a waiting job would start if those ahead of it in its queue, and the reservation, take the
// first room that they fit in. Nothing: an end that it depends on is not known.
std::optional<TimePoint> estimate_start(const ClusterState& state, const Job& job);

// Free room and all that was asked to go.
std::vector<Amount> coming_room(const ClusterState& state);
bool is_leaving(const Job& job, const Held& held);

}  // namespace crabcast::scheduler

// A job as the scheduler keeps it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/nodes.h"

namespace crabcast::scheduler {

using QueueIndex = std::uint32_t;
struct User;

// A role that has its room.
struct Held {
  std::string role;
  int kind = 0;
  Slot node = 0;
  Amount need;
  bool leaving = false;  // it was asked to go: its room is coming
};

struct Job {
  JobRequest request;
  std::uint64_t serial = 0;  // in the order in which the scheduler heard of them
  QueueIndex queue = 0;
  bool admitted = false;  // its queue is one where it may wait
  User* user = nullptr;
  Demand demand = 0;

  // Waiting
  bool in_line = false;
  // Why it does not stand in line, until something changes: one of held .. user_limit.
  PendingReason aside = PendingReason::none;
  std::string aside_text, aside_help;
  std::string blocked;  // what it waits for; empty: nothing
  bool aged = false;    // it has waited longer than the starvation bound
  TimePoint waiting_since;
  bool counts = false;             // waiting_since is set, and goes on
  std::uint64_t tried = 0;         // epoch in which it was tried last
  std::uint32_t shape = 0;         // jobs of one shape fit or do not fit alike
  std::uint32_t worker_shape = 0;  // the same of one more worker
  Amount wanted;                   // sum of wanted_roles

  // Running
  bool running = false;
  std::vector<Held> roles;
  Amount used;  // by its roles
  bool backfill = false;
  bool leaving = false;  // all of it was asked to go
  JobId makes_room_for;  // while some or all of its roles are asked to go
  bool clocked = false;  // `started` is set
  TimePoint started, checkpoint;
  std::optional<TimePoint> expected_end;  // nothing: not known, or over already
  std::optional<TimePoint> deadline;      // of its time limit

  [[nodiscard]] const JobId& id() const { return request.id; }
  [[nodiscard]] Priority priority() const { return request.priority; }
};

// The order of a queue's line.
struct InLineBefore {
  bool operator()(const Job* a, const Job* b) const {
    if (a->aged != b->aged) return a->aged;
    if (a->aged && a->waiting_since != b->waiting_since) return a->waiting_since < b->waiting_since;
    if (a->priority() != b->priority()) return a->priority() > b->priority();
    if (a->request.submit_seq != b->request.submit_seq)
      return a->request.submit_seq < b->request.submit_seq;
    return a->id() < b->id();
  }
};
struct HeardBefore {
  bool operator()(const Job* a, const Job* b) const { return a->serial < b->serial; }
};

// The roles that must run: the fixed ones and workers_min workers.
std::vector<const RoleRequest*> minimum_roles(const JobRequest& request);
// What a running job has lost and cannot do without.
std::vector<const RoleRequest*> lost_roles(const Job& job);
// Workers up to workers_max that it does not have.
std::vector<const RoleRequest*> missing_workers(const Job& job);
// What it waits for: lost roles when it runs, else its minimum.
std::vector<const RoleRequest*> wanted_roles(const Job& job);
Amount sum_of(const std::vector<const RoleRequest*>& roles);
// By its own estimate, after what it ran before: schedule.expected, else the time limit.
std::optional<Duration> remaining(const JobRequest& request);

}  // namespace crabcast::scheduler

// Small staged clusters for tests of the scheduler.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "protocol/common.pb.h"
#include "scheduler/scheduler.h"

namespace crabcast::scheduler {

inline constexpr std::int64_t kGiB = 1LL << 30;
inline const TimePoint kStart = TimePoint(std::chrono::hours(1000));
inline TimePoint at(double minutes) {
  return kStart + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(minutes * 60));
}

inline Node node(const std::string& id, double cpus, std::int64_t gpus = 0, std::int64_t gib = 64) {
  return {NodeId(id), {std::llround(cpus * 1000), gpus, gib * kGiB}, true};
}

// A job of one small coordinator and equal workers.
inline JobRequest job(const std::string& id, std::uint64_t seq, std::uint32_t min,
                      std::uint32_t max, Amount worker = {1000, 0, kGiB},
                      Priority priority = Priority::normal) {
  JobRequest request;
  request.id = JobId(id);
  request.submit_seq = seq;
  request.priority = priority;
  request.workers_min = min;
  request.fixed.push_back({"coordinator", pb::ROLE_COORDINATOR, {100, 0, kGiB / 4}});
  for (std::uint32_t i = 0; i < max; ++i)
    request.workers.push_back({"worker-" + std::to_string(i), pb::ROLE_WORKER, worker});
  return request;
}

// "job: role@node role@node"
inline std::vector<std::string> text_of(const std::vector<Placement>& placements) {
  std::vector<std::string> lines;
  for (const Placement& placement : placements) {
    std::string line = placement.job.value() + ":";
    for (const RolePlacement& role : placement.roles)
      line += " " + role.role + "@" + role.node.value();
    lines.push_back(line);
  }
  return lines;
}

// What one round places: gangs first, then what is added to running jobs.
inline std::vector<Placement> placed_now(Scheduler& scheduler, TimePoint now = kStart) {
  Decisions decisions = scheduler.schedule(now);
  auto all = decisions.start;
  all.insert(all.end(), decisions.add.begin(), decisions.add.end());
  return all;
}

// After a round.
inline Pending why(Scheduler& scheduler, const std::string& id, TimePoint now = kStart) {
  (void)scheduler.schedule(now);
  return scheduler.why(JobId(id), now);
}
inline PendingReason reason_of(Scheduler& scheduler, const std::string& id,
                               TimePoint now = kStart) {
  return why(scheduler, id, now).reason;
}

inline ClusterPolicy policy_of(const std::string& yaml) {
  auto policy = parse_policy(yaml, "policy.yaml");
  if (!policy) ADD_FAILURE() << policy.error().text();
  return policy ? *policy : ClusterPolicy::standard();
}

}  // namespace crabcast::scheduler

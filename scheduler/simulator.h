// A cluster in virtual time under the very same Scheduler: synthetic from a seed, or from a trace.
// The simulator keeps books of its own, from the decisions alone, and checks at every event that
// they keep the scheduler's promises (docs/scheduling.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "protocol/error.h"
#include "scheduler/policy.h"
#include "scheduler/scheduler.h"

namespace crabcast::scheduler {

// One job to come. Times are seconds since the start.
struct SimulatedJob {
  double submitted = 0;
  double duration = 60;  // with workers_min workers; more of them make it shorter
  JobRequest request;
};
struct NodeOutage {
  double at = 0;
  double lasts = 600;
  NodeId node;
};
struct Workload {
  std::vector<Node> nodes;
  std::vector<SimulatedJob> jobs;  // in order of `submitted`
  std::vector<NodeOutage> outages;
  ClusterPolicy policy;
};

struct WorkloadOptions {
  std::uint32_t nodes = 100;
  std::uint32_t jobs = 1000;
  std::uint32_t queues = 10;
  std::uint64_t seed = 1;
  double load = 1.0;                         // of the cluster's GPUs, while jobs come
  double outages = 0.02;                     // per job
  bool elastic = true;                       // some jobs have workers_max above workers_min
  std::optional<ClusterPolicy> policy = {};  // instead of one of `queues` queues
  bool estimates = true;                     // jobs say how long they run; some are wrong
};
// Nodes of several kinds in racks, a tree of queues with quotas, users, and jobs of mixed sizes,
// durations and priorities. Equal options give equal workloads.
Workload synthetic_workload(const WorkloadOptions& options);
// CSV with a header line; docs/scheduling.md lists the columns. invalid_argument names every bad
// line. Nodes and policy come from `base`.
Result<Workload> read_trace(const std::string& csv, const std::string& file, Workload base);

struct WaitingTimes {
  std::string queue;
  std::uint32_t jobs = 0;
  double median = 0, p90 = 0, p99 = 0, most = 0;  // seconds
};
struct TimelinePoint {
  double at = 0;    // seconds
  double cpus = 0;  // share of the healthy nodes' in use
  double gpus = 0;
  double memory = 0;
  std::uint32_t running = 0, pending = 0;
};
struct SimulationResult {
  std::uint32_t admitted = 0;  // starts, those after a preemption included
  std::uint32_t finished = 0, expired = 0, preempted = 0, shrunk = 0, grown = 0, backfilled = 0;
  std::uint32_t never_started = 0;
  std::uint64_t events = 0;
  std::uint64_t decisions = 0;
  double makespan = 0;                                   // seconds
  double cpus_used = 0, gpus_used = 0, memory_used = 0;  // mean share while jobs came
  // Jain's index over queues of 1 / (1 + mean hours that their jobs waited).
  double fairness = 0;
  // Mean share of GPUs that nobody used while a job waited.
  double fragmentation = 0;
  std::vector<WaitingTimes> waiting;    // all queues together first
  std::vector<TimelinePoint> timeline;  // at most a few hundred
};

struct SimulationOptions {
  std::uint64_t seed = 0;  // named in errors only
  bool check = true;
  // Called around each schedule(), so that a caller with a clock can measure it.
  std::function<void()> before_decision = {}, after_decision = {};
};
// internal: a broken promise; the message names the event, the seed and the job.
Result<SimulationResult> simulate(const Workload& workload, const SimulationOptions& options);

// A picture of the timeline: use of the cluster above, running and waiting jobs below. Follows the
// reader's light or dark mode.
std::string to_svg(const SimulationResult& result);

}  // namespace crabcast::scheduler

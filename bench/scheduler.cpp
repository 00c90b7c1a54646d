// Scheduler speed: jobs admitted per second by one core, a decision for one new job while 10,000
// wait, and memory.
//
// The reference for admission is the rate of Kueue's own performance test, about 42 jobs a second
// in real time; that for a decision and for memory is this project's limit: 5 ms and 500 MiB.
// docs/benchmarks.md says what the figures mean.
#include "bench/figure.h"
#include "bench/measure.h"
#include "scheduler/simulator.h"

namespace {

using crabcast::TimePoint;
using crabcast::bench::Better;
using crabcast::bench::median;
using crabcast::bench::must;
using crabcast::bench::print_figure;
using crabcast::bench::since;
using namespace crabcast::scheduler;

constexpr double kKueueJobsPerSecond = 42;
constexpr double kDecisionLimit = 0.005;  // s
constexpr double kMemoryLimit = 500;      // MiB
constexpr std::size_t kPending = 10'000;
constexpr std::size_t kNewJobs = 500;

WorkloadOptions cluster(std::uint32_t jobs) {
  WorkloadOptions options;
  options.nodes = 2000;
  options.jobs = jobs;
  options.queues = 1000;
  return options;
}

double admitted_per_second() {
  const Workload workload = synthetic_workload(cluster(50'000));
  const auto start = std::chrono::steady_clock::now();
  const SimulationResult result = must(simulate(workload, {}));
  return result.admitted / since(start);
}

// Every job comes at the same moment: most of them wait. Then one more, and its decision.
std::vector<double> decisions_while_many_wait() {
  Workload workload = synthetic_workload(cluster(20'000));
  Scheduler scheduler(workload.policy);
  for (const Node& node : workload.nodes) scheduler.upsert_node(node);
  std::size_t next = 0;
  const auto waiting = [&] {
    std::size_t count = 0;
    for (const QueueState& queue : scheduler.queues())
      if (queue.path.find('/') == std::string::npos) count += queue.pending;
    return count;
  };
  TimePoint now;
  while (waiting() < kPending) {
    for (int i = 0; i < 100; ++i) must(scheduler.submit(workload.jobs.at(next++).request));
    (void)scheduler.schedule(now += std::chrono::seconds(1));
  }
  std::vector<double> seconds;
  for (std::size_t i = 0; i < kNewJobs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    must(scheduler.submit(workload.jobs.at(next++).request));
    (void)scheduler.schedule(now += std::chrono::seconds(1));
    seconds.push_back(since(start));
  }
  return seconds;
}

}  // namespace

int main() {
  print_figure("scheduler_admitted", admitted_per_second(), kKueueJobsPerSecond, "jobs/s",
               Better::more);
  print_figure("scheduler_memory", crabcast::bench::status_mib("VmHWM"), kMemoryLimit, "MiB",
               Better::less);
  std::vector<double> seconds = decisions_while_many_wait();
  print_figure("scheduler_decision_10k_waiting", median(seconds), kDecisionLimit, "s",
               Better::less);
  print_figure("scheduler_decision_10k_waiting_worst",
               *std::max_element(seconds.begin(), seconds.end()), kDecisionLimit, "s",
               Better::less);
  return 0;
}

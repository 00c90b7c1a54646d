// Synthetic clusters and workloads for the simulator.
#include <algorithm>
#include <cmath>
#include <random>

#include "protocol/common.pb.h"
#include "scheduler/simulator.h"

namespace crabcast::scheduler {
namespace {

constexpr std::int64_t kGiB = 1LL << 30;
constexpr std::uint32_t kNodesPerRack = 20;
constexpr std::uint32_t kQueuesPerDepartment = 25;
constexpr double kMedianDuration = 20 * 60;
constexpr double kLongestDuration = 8 * 3600;

// The same numbers everywhere: the standard's distributions may differ between libraries.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : bits_(seed) {}
  double uniform() { return static_cast<double>(bits_() >> 11) * 0x1p-53; }
  std::uint64_t below(std::uint64_t bound) { return bits_() % bound; }
  bool chance(double p) { return uniform() < p; }
  // Box and Muller.
  double normal() {
    return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(2 * M_PI * uniform());
  }

 private:
  std::mt19937_64 bits_;
};

std::string numbered(const std::string& name, std::uint64_t number) {
  std::string digits = std::to_string(number);
  return name + std::string(digits.size() < 4 ? 4 - digits.size() : 0, '0') + digits;
}

std::vector<Node> make_nodes(std::uint32_t count) {
  std::vector<Node> nodes;
  for (std::uint32_t i = 0; i < count; ++i) {
    Node node;
    node.id = NodeId(numbered("node-", i));
    const std::uint32_t kind = i % 20;
    if (kind < 12) {
      node.total = {96'000, 8, 768 * kGiB};
      node.labels = {"gpu=h100"};
    } else if (kind < 17) {
      node.total = {48'000, 4, 384 * kGiB};
      node.labels = {"gpu=a100"};
    } else {
      node.total = {64'000, 0, 256 * kGiB};
    }
    node.labels.push_back("rack=" + numbered("r", i / kNodesPerRack));
    nodes.push_back(std::move(node));
  }
  return nodes;
}

Quota part_of(const Amount& total, double part) {
  const auto of = [&](std::int64_t whole) {
    return static_cast<std::int64_t>(static_cast<double>(whole) * part);
  };
  return {of(total.cpu_millis), of(total.gpus), of(total.memory_bytes)};
}

// Departments that are guaranteed half of the cluster together, each with teams; some teams have a
// guarantee of their own, some a limit.
ClusterPolicy make_policy(std::uint32_t queues, const Amount& total, Dice& dice) {
  ClusterPolicy policy;
  policy.backfill_depth = 100;
  policy.preemption.emplace();
  policy.starvation = std::chrono::hours(24);
  policy.users["*"] = {200, {}};
  const std::uint32_t departments = (queues + kQueuesPerDepartment - 1) / kQueuesPerDepartment;
  for (std::uint32_t d = 0; d < departments; ++d) {
    const double due = 0.5 / departments;
    QueuePolicy department{numbered("department-", d)};
    department.weight = static_cast<double>(1 + dice.below(4));
    department.guaranteed = part_of(total, due);
    const std::uint32_t first = d * kQueuesPerDepartment;
    const std::uint32_t teams = std::min(kQueuesPerDepartment, queues - first);
    policy.queues.push_back(department);
    for (std::uint32_t t = 0; t < teams; ++t) {
      QueuePolicy team{department.path + "/" + numbered("team-", first + t)};
      team.weight = static_cast<double>(1 + dice.below(3));
      if (dice.chance(0.3)) team.guaranteed = part_of(total, due / teams);
      if (dice.chance(0.1)) team.limit = part_of(total, std::max(0.1, 10.0 / queues));
      policy.queues.push_back(team);
    }
  }
  return policy;
}

void add_roles(std::vector<RoleRequest>& to, const std::string& name, std::uint64_t count, int kind,
               const Amount& need) {
  for (std::uint64_t i = 0; i < count; ++i)
    to.push_back({name + "-" + std::to_string(i), kind, need});
}

SimulatedJob make_job(std::uint32_t number, const std::vector<std::string>& queues,
                      const WorkloadOptions& options, Dice& dice) {
  SimulatedJob job;
  JobRequest& request = job.request;
  request.id = JobId(numbered("job-", number));
  request.submit_seq = number + 1;
  // A few queues are much busier than the others.
  const double skew = dice.uniform();
  const auto queue = static_cast<std::size_t>(skew * skew * static_cast<double>(queues.size()));
  request.queue = queues[queue];
  request.owner = "user-" + std::to_string(queue) + "-" + std::to_string(dice.below(8));
  const double p = dice.uniform();
  request.priority = p < 0.2    ? Priority::low
                     : p < 0.8  ? Priority::normal
                     : p < 0.95 ? Priority::high
                                : Priority::critical;
  constexpr std::uint32_t kSizes[] = {1, 1, 1, 1, 2, 2, 4, 4, 8, 16};
  const std::uint32_t workers = kSizes[dice.below(std::size(kSizes))];
  const bool gpus = dice.chance(0.85);
  const Amount need =
      gpus ? Amount{6'000, dice.chance(0.1) ? 2 : 1, 48 * kGiB} : Amount{8'000, 0, 16 * kGiB};
  request.workers_min = workers;
  const std::uint32_t most = options.elastic && dice.chance(0.3) ? 2 * workers : workers;
  request.fixed.push_back({"coordinator", pb::ROLE_COORDINATOR, {100, 0, kGiB / 4}});
  add_roles(request.fixed, "loader", 1 + workers / 4, pb::ROLE_LOADER, {2'000, 0, 8 * kGiB});
  add_roles(request.workers, "worker", most, pb::ROLE_WORKER, need);
  job.duration =
      std::clamp(kMedianDuration * std::exp(1.1 * dice.normal()), 60.0, kLongestDuration);
  if (options.estimates) {
    if (dice.chance(0.8)) {
      const double error = dice.chance(0.9) ? 1 + 0.5 * dice.uniform() : 0.5;
      request.schedule.expected_seconds = job.duration * error;
    }
    if (dice.chance(0.5)) request.schedule.time_limit_seconds = 4 * job.duration;
  }
  if (gpus && dice.chance(0.05)) request.schedule.nodes = {"gpu=h100"};
  if (dice.chance(0.05)) request.schedule.place = Spread::spread;
  if (dice.chance(0.02)) request.schedule.preemption = Preemption::never;
  return job;
}

// Somebody and a priority that the queue takes, as near as there is.
void make_admissible(JobRequest& request, const ClusterPolicy& policy) {
  for (std::string path = request.queue; !path.empty(); path = parent_queue(path)) {
    const QueuePolicy& queue = *policy.find(path);
    if (policy.admits(request.queue, request.owner, request.priority)) return;
    if (!queue.users.empty()) request.owner = queue.users[request.submit_seq % queue.users.size()];
    if (!queue.priorities.empty())
      request.priority = queue.priorities[request.submit_seq % queue.priorities.size()];
  }
}

double gpu_seconds(const SimulatedJob& job) {
  Amount sum;
  for (const RoleRequest& role : job.request.workers) sum += role.need;
  const double part = static_cast<double>(job.request.workers_min) /
                      static_cast<double>(job.request.workers.size());
  return static_cast<double>(sum.gpus) * part * job.duration;
}

}  // namespace

Workload synthetic_workload(const WorkloadOptions& options) {
  Dice dice(options.seed);
  Workload workload;
  workload.nodes = make_nodes(options.nodes);
  Amount total;
  for (const Node& node : workload.nodes) total += node.total;
  workload.policy = options.policy ? *options.policy : make_policy(options.queues, total, dice);
  const std::vector<std::string> leaves = workload.policy.leaves();
  double work = 0;
  for (std::uint32_t i = 0; i < options.jobs; ++i) {
    workload.jobs.push_back(make_job(i, leaves, options, dice));
    make_admissible(workload.jobs.back().request, workload.policy);
    work += gpu_seconds(workload.jobs.back());
  }
  const double gpus = static_cast<double>(std::max<std::int64_t>(total.gpus, 1));
  const double horizon = std::max(60.0, work / (gpus * options.load));
  for (SimulatedJob& job : workload.jobs) job.submitted = horizon * dice.uniform();
  std::stable_sort(workload.jobs.begin(), workload.jobs.end(),
                   [](const auto& a, const auto& b) { return a.submitted < b.submitted; });
  for (std::size_t i = 0; i < workload.jobs.size(); ++i)
    workload.jobs[i].request.submit_seq = i + 1;
  const auto outages = static_cast<std::uint32_t>(options.outages * options.jobs);
  for (std::uint32_t i = 0; i < outages; ++i)
    workload.outages.push_back({horizon * dice.uniform(), 120 + 1800 * dice.uniform(),
                                workload.nodes[dice.below(options.nodes)].id});
  return workload;
}

}  // namespace crabcast::scheduler

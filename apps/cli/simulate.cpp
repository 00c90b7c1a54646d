// simulate: the scheduler in virtual time.
#include <sys/resource.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>

#include "apps/cli/output.h"
#include "apps/cli/policy_file.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"
#include "scheduler/simulator.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;
using scheduler::SimulationResult;
using scheduler::Workload;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kQueuesShown = 10;

double since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

struct Measured {
  double wall = 0, decisions = 0, worst_decision = 0;  // seconds
  double memory_mib = 0;                               // at its peak
};

Result<Workload> workload_of(const SimulateOptions& options) {
  scheduler::WorkloadOptions wanted;
  wanted.nodes = options.nodes;
  wanted.jobs = options.trace.empty() ? options.jobs : 0;
  wanted.queues = options.queues;
  wanted.seed = options.seed;
  wanted.load = options.load;
  if (!options.trace.empty()) wanted.policy = scheduler::ClusterPolicy::standard();
  if (!options.policy.empty()) {
    auto policy = read_policy(options.policy);
    if (!policy) return fail(policy.error());
    wanted.policy = std::move(*policy);
  }
  Workload workload = scheduler::synthetic_workload(wanted);
  if (options.trace.empty()) return workload;
  std::ifstream file(options.trace, std::ios::binary);
  if (!file) return fail(error_from_errno(errno, "trace " + options.trace));
  std::ostringstream text;
  text << file.rdbuf();
  return scheduler::read_trace(text.str(), options.trace, std::move(workload));
}

Status write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) return fail(error_from_errno(errno, "picture " + path.string()));
  return {};
}

json waiting_json(const scheduler::WaitingTimes& times) {
  return {{"queue", times.queue}, {"jobs", times.jobs}, {"median", times.median},
          {"p90", times.p90},     {"p99", times.p99},   {"most", times.most}};
}

json to_json(const SimulationResult& result, const Measured& measured) {
  json waiting = json::array(), timeline = json::array();
  for (const auto& times : result.waiting) waiting.push_back(waiting_json(times));
  for (const auto& point : result.timeline)
    timeline.push_back({{"at", point.at},
                        {"cpus", point.cpus},
                        {"gpus", point.gpus},
                        {"memory", point.memory},
                        {"running", point.running},
                        {"pending", point.pending}});
  return {
      {"admitted", result.admitted},
      {"finished", result.finished},
      {"expired", result.expired},
      {"preempted", result.preempted},
      {"shrunk_workers", result.shrunk},
      {"grown_workers", result.grown},
      {"backfilled", result.backfilled},
      {"never_started", result.never_started},
      {"events", result.events},
      {"decisions", result.decisions},
      {"makespan_seconds", result.makespan},
      {"utilization",
       {{"cpus", result.cpus_used}, {"gpus", result.gpus_used}, {"memory", result.memory_used}}},
      {"fairness", result.fairness},
      {"fragmentation", result.fragmentation},
      {"waiting_seconds", waiting},
      {"timeline", timeline},
      {"wall_seconds", measured.wall},
      {"admitted_per_second", result.admitted / measured.wall},
      {"decision_seconds", measured.decisions},
      {"worst_decision_seconds", measured.worst_decision},
      {"peak_memory_mib", measured.memory_mib}};
}

std::string percent(double share) {
  return number_text(share * 100, 1) + "%";
}

std::string waiting_table(const SimulationResult& result) {
  std::vector<scheduler::WaitingTimes> shown = result.waiting;
  if (!shown.empty())
    std::stable_sort(shown.begin() + 1, shown.end(),
                     [](const auto& a, const auto& b) { return a.p90 > b.p90; });
  std::vector<std::vector<std::string>> rows;
  for (const auto& times : shown) {
    if (rows.size() > kQueuesShown) break;
    rows.push_back({times.queue.empty() ? "all" : times.queue, std::to_string(times.jobs),
                    format_duration(times.median), format_duration(times.p90),
                    format_duration(times.p99), format_duration(times.most)});
  }
  return format_table({"QUEUE", "JOBS", "WAITED (MEDIAN)", "90%", "99%", "MOST"}, rows);
}

void print(const SimulationResult& result, const Measured& measured) {
  std::ostringstream out;
  out << result.admitted << " starts, " << result.finished << " jobs finished, " << result.expired
      << " over their time limit, " << result.never_started << " never started, in "
      << format_duration(result.makespan) << " of virtual time\n"
      << "use while jobs came: GPUs " << percent(result.gpus_used) << ", CPUs "
      << percent(result.cpus_used) << ", memory " << percent(result.memory_used) << "\n"
      << "fairness (Jain) " << number_text(result.fairness, 3) << "; GPUs idle while jobs waited "
      << percent(result.fragmentation) << "\n"
      << result.preempted << " gangs preempted, " << result.backfilled << " started in gaps, "
      << result.grown << " workers added, " << result.shrunk << " given back\n"
      << result.decisions << " decisions in " << format_duration(measured.decisions)
      << ", the longest " << format_duration(measured.worst_decision) << "; "
      << number_text(result.admitted / measured.wall, 0) << " jobs admitted per second; "
      << number_text(measured.memory_mib, 0) << " MiB\n\n"
      << waiting_table(result);
  print_text(out.str());
}

}  // namespace

Exit simulate(const Common& common, const SimulateOptions& options) {
  const auto workload = workload_of(options);
  if (!workload) return complain(workload.error(), common.json);
  Measured measured;
  SteadyClock::time_point decision;
  scheduler::SimulationOptions how;
  how.seed = options.seed;
  how.before_decision = [&] { decision = SteadyClock::now(); };
  how.after_decision = [&] {
    const double took = since(decision);
    measured.decisions += took;
    measured.worst_decision = std::max(measured.worst_decision, took);
  };
  const auto start = SteadyClock::now();
  const auto result = scheduler::simulate(*workload, how);
  measured.wall = since(start);
  if (!result) return complain(result.error(), common.json);
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  measured.memory_mib = static_cast<double>(use.ru_maxrss) / 1024;
  if (!options.svg.empty()) {
    if (const Status written = write_file(options.svg, scheduler::to_svg(*result)); !written)
      return complain(written.error(), common.json);
    note("picture in " + options.svg.string(), common.quiet);
  }
  if (common.json)
    print_json(to_json(*result, measured));
  else
    print(*result, measured);
  return Exit::ok;
}

}  // namespace crabcast::apps

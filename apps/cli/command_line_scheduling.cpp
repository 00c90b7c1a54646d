// `crabcast simulate` and the verbs of `crabcast policy`.
#include <CLI/CLI.hpp>

#include "apps/cli/command_line.h"

namespace crabcast::apps {

void CommandLine::add_scheduling_verbs() {
  auto* simulate = verb(
      app_, "simulate",
      "Run the scheduler in virtual time, on a cluster and jobs made from a seed or on a trace, "
      "and "
      "check at every event that it keeps its promises",
      "  crabcast simulate --nodes 2000 --jobs 50000 --queues 1000 --seed 1 --svg cluster.svg\n"
      "  crabcast simulate --nodes 40 --trace jobs.csv --policy policy.yaml",
      [this] { return apps::simulate(common_, simulate_); });
  const auto number = [&](const char* name, auto& into, const char* text) {
    return simulate->add_option(name, into, text)->type_name("N")->capture_default_str();
  };
  number("--nodes", simulate_.nodes, "Nodes of the cluster")->check(CLI::Range(1, 100000));
  auto* jobs = number("--jobs", simulate_.jobs, "Jobs that come")->check(CLI::Range(1, 10000000));
  auto* queues = number("--queues", simulate_.queues, "Queues in which they wait")
                     ->check(CLI::Range(1, 100000));
  auto* seed = number("--seed", simulate_.seed, "All of it is drawn from this number");
  auto* load = number("--load", simulate_.load,
                      "Work that comes in a second, by what the cluster's GPUs do in one")
                   ->check(CLI::Range(0.01, 100.0));
  simulate->add_option("--trace", simulate_.trace, "Jobs from this file (docs/scheduling.md)")
      ->type_name("FILE.csv")
      ->excludes(jobs)
      ->excludes(queues)
      ->excludes(seed)
      ->excludes(load);
  simulate->add_option("--policy", simulate_.policy, "Queues, quotas and users")
      ->type_name("FILE")
      ->excludes(queues);
  simulate->add_option("--svg", simulate_.svg, "Draw use and waiting jobs over time")
      ->type_name("FILE");
  takes_json(simulate);
  takes_quiet(simulate);

  auto* policy = verb(app_, "policy", "Look at the rules of a shared cluster",
                      "  crabcast policy check policy.yaml", {});
  auto* check =
      verb(*policy, "check",
           "Check a policy; shows every mistake with its line, or the queues that it makes",
           "  crabcast policy check policy.yaml",
           [this] { return apps::policy_check(common_, policy_file_); });
  check->add_option("file", policy_file_, "Policy; - reads stdin")->required()->type_name("FILE");
  takes_json(check);
}

}  // namespace crabcast::apps

// The verbs of `crabcast chaos`.
#include <CLI/CLI.hpp>

#include "apps/cli/command_line.h"

namespace crabcast::apps {

void CommandLine::add_chaos_verbs() {
  auto* chaos = verb(app_, "chaos", "Stage failures in real processes and check what must hold",
                     "  crabcast chaos run tests/chaos/kill-worker.yaml --seed 7\n"
                     "  crabcast chaos points",
                     {});
  auto* run = verb(*chaos, "run",
                   "Run a job, stage the faults of a scenario, and compare the end with that of an "
                   "undisturbed run",
                   "  crabcast chaos run tests/chaos/kill-worker.yaml\n"
                   "  crabcast chaos run tests/chaos/*.yaml --minutes 60 --work /scratch/chaos",
                   [this] { return apps::chaos_run(common_, chaos_); });
  run->add_option("scenarios", chaos_.scenarios, "Scenario files")->required()->type_name("FILE");
  run->add_option("--seed", chaos_.seed, "What a scenario leaves to chance is drawn from it")
      ->type_name("N");
  run->add_option("--minutes", chaos_.minutes, "Again and again with the next seed, for so long")
      ->type_name("M");
  run->add_option("--work", chaos_.work,
                  "Folder for runs and undisturbed results (default: one that is deleted)")
      ->type_name("DIR");
  run->add_flag("--keep", chaos_.keep, "Keep also the folders of runs in which all holds");
  takes_json(run);
  takes_quiet(run);
  takes_json(verb(*chaos, "points", "List the points in the programs where a fault can be staged",
                  "  crabcast chaos points", [this] { return apps::chaos_points(common_); }));
}

}  // namespace crabcast::apps

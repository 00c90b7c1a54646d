// One chaos run: a job in real processes, the faults of a scenario, and what must hold at the end.
// One thread, and one run at a time in a work folder.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "apps/chaos/check.h"
#include "apps/chaos/scenario.h"

namespace crabcast::chaos {

struct RunOptions {
  std::filesystem::path program;  // crabcast
  std::filesystem::path work;     // runs, corpora and undisturbed results lie here
  std::function<bool()> interrupted;
};

struct RunResult {
  [[nodiscard]] std::vector<std::string> struck() const;
  Scenario played;                    // what was carried out of it
  std::vector<std::string> problems;  // empty: all holds
  Outcome outcome;
  double seconds = 0;
  std::filesystem::path folder;  // of the run
};

// The outcome without faults, made once for each job spec in the work folder.
Result<Outcome> undisturbed(const RunOptions& options, const std::filesystem::path& job);
// An error: it could not be staged, or `interrupted` said so (cancelled). What does not hold is in
// `problems`.
Result<RunResult> run_scenario(const RunOptions& options, const Scenario& scenario,
                               std::uint64_t seed, const Outcome& calm);

}  // namespace crabcast::chaos

// A job that takes seconds, and questions to a running one.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/program.h"

namespace crabcast::testing {

struct SmallJob {
  std::string name = "small";
  int steps = 10;
  int workers_min = 1, workers_max = 2;
  int checkpoint_every = 6;
  std::string corpus;  // folder; empty: the shared synthetic one
  std::string tasks = "all";
  std::string priority = "normal";
  double worker_cpus = 1;
  double bad_samples = 0.5;  // of data sets with four samples
  std::string mixture = "{policy: task_balanced}";
  std::string adapter = "{kind: ilora, rank: 4, alpha: 8, heads: 2}";
  std::string cache = "{samples: 64MiB}";
  int pack_tokens = 0;  // 0: a lane at once
  int samples_per_lane = 1;

  [[nodiscard]] std::string yaml() const;
};

// Rendered once for all tests of this program, by `crabcast data synth`.
const std::filesystem::path& shared_corpus();

// `crabcast status JOB --json`; an empty object while there is no answer.
nlohmann::json job_status(const std::filesystem::path& state, const std::string& job);
// Of a role that is up; -1 when none is known.
pid_t pid_of(const std::filesystem::path& state, const std::string& job, const std::string& role);

}  // namespace crabcast::testing

// What one worker of a job needs of memory, before it runs: `crabcast plan`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

struct PlanOptions {
  std::int64_t text_tokens = 256;    // question and answer of the longest sample
  std::int64_t answer_tokens = 128;  // of these, those of the answer
};

struct WorkerPlan {
  struct Part {
    std::string name;
    std::uint64_t bytes = 0;
    std::string note;
  };

  std::int64_t base_parameters = 0, trained_parameters = 0;
  std::string data_set;  // whose samples are longest
  std::int64_t sample_tokens = 0;
  std::vector<Part> parts;  // on the device that computes
  [[nodiscard]] std::uint64_t bytes() const;
};

// For the longest sample that the tasks of the spec can give, in every place of a lane. `base` is
// what locate_base gives; only its config.json is read. Errors as read_thinker_config's.
Result<WorkerPlan> plan_worker(const JobSpec& spec, const std::string& base,
                               const PlanOptions& options);

}  // namespace crabcast::actors

// The report of a job: what its store says about losses, scores, checkpoints, speed and time.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "protocol/error.h"
#include "protocol/records.pb.h"
#include "storage/job_store.h"

namespace crabcast::apps {

// Losses by task (mean over the first and the last tenth of the steps), sample counts by task,
// scores by task of each evaluation, checkpoints, samples/s, share of time by stage, incidents.
Result<nlohmann::json> job_report(const storage::JobStore& store);
// The same for people.
std::string report_text(const nlohmann::json& report);

}  // namespace crabcast::apps

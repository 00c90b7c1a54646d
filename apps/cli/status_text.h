// Jobs and their actors as tables and pages for people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/envelope.pb.h"

namespace crabcast::apps {

// JOB STATE STEP LOSS SAMPLES/S WORKERS AGE REASON
std::string job_table(const std::vector<pb::JobStatus>& jobs, std::int64_t now_unix_ms);
// ACTOR STATE SINCE NODE PID MAILBOX RESTARTS DOING REASON
std::string actor_table(const pb::JobStatus& job, std::int64_t now_unix_ms);
// All of one job on a page.
std::string status_text(const pb::JobStatus& job, std::int64_t now_unix_ms);

}  // namespace crabcast::apps

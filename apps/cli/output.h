// Text and JSON for terminals, files and pipes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "apps/cli/exit_codes.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::apps {

// Prints "crabcast: MESSAGE" to stderr (as JSON too with --json) and returns the fitting code.
Exit complain(const Error& error, bool json);
void print_json(const nlohmann::json& value);

nlohmann::json to_json(const pb::JobStatus& status);
nlohmann::json to_json(const pb::ActorStatus& actor);
nlohmann::json to_json(const pb::Event& event);

std::string job_state_name(pb::JobState state);       // "running"
std::string actor_state_name(pb::ActorState state);   // "healthy"
std::string role_kind_name(pb::RoleKind kind);        // "worker"
std::string time_text(std::int64_t unix_ms);          // local time, "2026-01-31 12:00:05"
bool is_terminal(int descriptor);

}  // namespace crabcast::apps

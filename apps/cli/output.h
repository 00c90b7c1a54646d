// Text and JSON for terminals, files and pipes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "apps/cli/exit_codes.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::apps {

// Prints "crabcast: MESSAGE" to stderr and returns the fitting code; with `json` also
// {"error": {"code": NAME, "message": TEXT, "exit": NUMBER}} to stdout. The mistakes of a spec come
// without the program's name, as FILE:LINE:COLUMN: lines, so that editors can jump there.
Exit complain(const Error& error, bool json);
// "crabcast: TEXT" to stderr, unless `quiet`.
void note(const std::string& text, bool quiet = false);
// Indented JSON and a line break. Bytes that are not UTF-8 are replaced.
void print_json(const nlohmann::json& value);
void print_ordered_json(const nlohmann::ordered_json& value);
// The same on one line: for streams of objects.
void print_json_line(const nlohmann::json& value);
// To stdout, and flushed: a reader of a pipe sees it at once.
void print_text(const std::string& text);

// Keys are those of the messages but for losses {TASK: {loss, tokens, samples}}, stages {NAME:
// seconds}, error (name of the code, absent when there is none) and times (ms since 1970; absent
// when it did not happen yet).
nlohmann::json to_json(const pb::JobStatus& status);
nlohmann::json to_json(const pb::ActorStatus& actor);
nlohmann::json to_json(const pb::Event& event);
nlohmann::json to_json(const pb::EvaluationRecord& record);
nlohmann::json to_json(const pb::StageSeconds& stages);
nlohmann::json to_json(const pb::Resources& resources);

std::string job_state_name(pb::JobState state);      // "running"
std::string actor_state_name(pb::ActorState state);  // "healthy"
std::string role_kind_name(pb::RoleKind kind);       // "worker"
std::string severity_name(pb::Severity severity);    // "warning"
std::string time_text(std::int64_t unix_ms);         // local time, "2026-01-31 12:00:05"; "-" for 0
// With the given number of digits after the point; "-" where it is not finite.
std::string number_text(double value, int digits);
std::string short_number(double value);  // three digits, "8.2e-05"; "-" where it is not finite
// One line: time, severity, kind, subject, message. An incident has two more, indented: culprit,
// last operation and evidence; and the seconds to detect, decide, re-form, load, redo.
std::string event_text(const pb::Event& event);
bool is_terminal(int descriptor);
// The job does no more work by itself: it succeeded, failed, was cancelled or was stopped.
bool job_is_over(pb::JobState state);

}  // namespace crabcast::apps

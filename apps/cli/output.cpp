#include "apps/cli/output.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <ctime>

#include "protocol/format.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestMessage = 2000;  // of an event, in bytes

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

// "JOB_RUNNING" -> "running"; a number that this version does not know stays a number.
std::string enum_name(const std::string& name, std::size_t prefix, int number) {
  return name.size() > prefix ? lower(name.substr(prefix)) : std::to_string(number);
}

template <class Json>
std::string dump(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

void put_time(json& object, const char* key, std::int64_t unix_ms) {
  if (unix_ms != 0) object[key] = unix_ms;
}

std::string seconds_text(double seconds) {
  return number_text(seconds, 2) + " s";
}

}  // namespace

Exit complain(const Error& error, bool as_json) {
  const Exit code = exit_of(error.code);
  if (as_json)
    print_json({{"error",
                 {{"code", to_string(error.code)},
                  {"message", error.message},
                  {"exit", static_cast<int>(code)}}}});
  std::string text = error.message;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const char* name = error.code == Errc::invalid_spec ? "" : "crabcast: ";
  std::fprintf(stderr, "%s%s\n", name, text.c_str());
  return code;
}

void note(const std::string& text, bool quiet) {
  if (!quiet) std::fprintf(stderr, "crabcast: %s\n", text.c_str());
}

void print_json(const json& value) {
  print_text(dump(value, 2));
}

void print_ordered_json(const nlohmann::ordered_json& value) {
  print_text(dump(value, 2));
}

void print_json_line(const json& value) {
  print_text(dump(value, -1));
}

void print_text(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

json to_json(const pb::StageSeconds& stages) {
  return {{"data", stages.data()},         {"forward", stages.forward()},
          {"backward", stages.backward()}, {"reduce", stages.reduce()},
          {"commit", stages.commit()},     {"optimizer", stages.optimizer()}};
}

json to_json(const pb::Resources& resources) {
  return {{"cpus", resources.cpus()},
          {"gpus", resources.gpus()},
          {"memory_bytes", resources.memory_bytes()}};
}

json to_json(const pb::EvaluationRecord& record) {
  json scores = json::array();
  for (const auto& score : record.scores()) {
    json details = json::object();
    for (const auto& [name, value] : score.details()) details[name] = value;
    scores.push_back({{"task", score.task()},
                      {"metric", score.metric()},
                      {"score", score.score()},
                      {"samples", score.samples()},
                      {"details", details}});
  }
  json examples = json::array();
  for (const auto& example : record.examples())
    examples.push_back({{"task", example.task()},
                        {"question", example.question()},
                        {"truth", example.truth()},
                        {"answer", example.answer()},
                        {"score", example.score()}});
  json object{{"checkpoint", record.checkpoint()},
              {"mean", record.mean()},
              {"seconds", record.seconds()},
              {"scores", scores},
              {"examples", examples}};
  put_time(object, "unix_ms", record.unix_ms());
  return object;
}

json to_json(const pb::ActorStatus& actor) {
  json object{{"name", actor.name()},
              {"kind", role_kind_name(actor.kind())},
              {"state", actor_state_name(actor.state())},
              {"reason", actor.reason()},
              {"mailbox", actor.mailbox()},
              {"restarts", actor.restarts()},
              {"node", actor.node()},
              {"pid", actor.pid()},
              {"doing", actor.doing()},
              {"job", actor.job()}};
  put_time(object, "since_unix_ms", actor.since_unix_ms());
  return object;
}

json to_json(const pb::JobStatus& status) {
  json losses = json::object();
  for (const auto& loss : status.losses())
    losses[loss.task()] = {
        {"loss", loss.tokens() == 0 ? json() : json(loss.loss_sum() / double(loss.tokens()))},
        {"tokens", loss.tokens()},
        {"samples", loss.samples()}};
  json actors = json::array();
  for (const auto& actor : status.actors()) actors.push_back(to_json(actor));
  json object{{"job", status.job()},
              {"name", status.name()},
              {"state", job_state_name(status.state())},
              {"reason", status.reason()},
              {"step", status.step()},
              {"steps", status.steps()},
              {"generation", status.generation()},
              {"loss", status.loss()},
              {"losses", losses},
              {"samples_per_second", status.samples_per_second()},
              {"eta_seconds", status.eta_seconds()},
              {"workers_alive", status.workers_alive()},
              {"workers_wanted", status.workers_wanted()},
              {"stages", to_json(status.stages())},
              {"actors", actors},
              {"checkpoints", status.checkpoints()},
              {"newest_checkpoint", status.newest_checkpoint()},
              {"replicated_checkpoint", status.replicated_checkpoint()},
              {"incidents", status.incidents()},
              {"priority", status.priority()},
              {"job_dir", status.job_dir()}};
  put_time(object, "submitted_unix_ms", status.submitted_unix_ms());
  put_time(object, "started_unix_ms", status.started_unix_ms());
  put_time(object, "ended_unix_ms", status.ended_unix_ms());
  if (status.has_evaluation()) object["evaluation"] = to_json(status.evaluation());
  if (status.error_code() != 0)
    object["error"] = to_string(errc_from_number(static_cast<std::uint32_t>(status.error_code())));
  return object;
}

json to_json(const pb::Event& event) {
  json object{{"seq", event.seq()},
              {"unix_ms", event.unix_ms()},
              {"severity", severity_name(event.severity())},
              {"kind", event.kind()},
              {"job", event.job()},
              {"subject", event.subject()},
              {"message", event.message()},
              {"step", event.step()},
              {"generation", event.generation()}};
  if (event.has_incident()) {
    const auto& incident = event.incident();
    object["incident"] = {{"culprit", incident.culprit()},
                          {"last_operation", incident.last_operation()},
                          {"evidence", incident.evidence()},
                          {"detect_seconds", incident.detect_seconds()},
                          {"decide_seconds", incident.decide_seconds()},
                          {"reform_seconds", incident.reform_seconds()},
                          {"load_seconds", incident.load_seconds()},
                          {"redo_seconds", incident.redo_seconds()}};
  }
  return object;
}

std::string job_state_name(pb::JobState state) {
  return enum_name(pb::JobState_Name(state), std::string_view("JOB_").size(), state);
}

std::string actor_state_name(pb::ActorState state) {
  return enum_name(pb::ActorState_Name(state), std::string_view("ACTOR_").size(), state);
}

std::string role_kind_name(pb::RoleKind kind) {
  return enum_name(pb::RoleKind_Name(kind), std::string_view("ROLE_").size(), kind);
}

std::string severity_name(pb::Severity severity) {
  return enum_name(pb::Severity_Name(severity), std::string_view("SEVERITY_").size(), severity);
}

std::string time_text(std::int64_t unix_ms) {
  if (unix_ms == 0) return "-";
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts{};
  char text[32];
  if (::localtime_r(&seconds, &parts) == nullptr ||
      std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts) == 0)
    return std::to_string(unix_ms) + " ms";
  return text;
}

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return std::isfinite(value) ? text : "-";
}

std::string number_text(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string event_text(const pb::Event& event) {
  std::string severity = severity_name(event.severity());
  severity.resize(std::max<std::size_t>(severity.size(), 7), ' ');
  std::string text = time_text(event.unix_ms()) + "  " + severity + "  " + event.kind() + "  " +
                     excerpt(event.subject(), 200) + "  " +
                     excerpt(event.message(), kLongestMessage) + "\n";
  if (!event.has_incident()) return text;
  const auto& incident = event.incident();
  text += "    culprit " + excerpt(incident.culprit(), 200) +
          "; last operation: " + excerpt(incident.last_operation(), 200) +
          "; evidence: " + excerpt(incident.evidence(), kLongestMessage) + "\n";
  text += "    detect " + seconds_text(incident.detect_seconds()) + ", decide " +
          seconds_text(incident.decide_seconds()) + ", re-form " +
          seconds_text(incident.reform_seconds()) + ", load " +
          seconds_text(incident.load_seconds()) + ", redo " +
          seconds_text(incident.redo_seconds()) + "\n";
  return text;
}

bool is_terminal(int descriptor) {
  return ::isatty(descriptor) == 1;
}

bool job_is_over(pb::JobState state) {
  return state == pb::JOB_SUCCEEDED || state == pb::JOB_FAILED || state == pb::JOB_CANCELLED ||
         state == pb::JOB_STOPPED;
}

}  // namespace crabcast::apps

#include "actors/control/gateway/routes.h"

#include <algorithm>
#include <sstream>

#include "actors/control/gateway/api.h"
#include "protocol/envelope.pb.h"

namespace crabcast::gateway {
namespace {

using Type = Field::Type;
using Letters = Field::Letters;

constexpr std::uint64_t kLargestWhole = (1ULL << 53) - 1;  // that JavaScript holds exactly

Field limit(std::uint64_t most) {
  return {
      .name = "limit", .type = Type::whole, .about = "At most so many", .least = 1, .most = most};
}

std::vector<Field> page_of_events() {
  return {{.name = "after",
           .type = Type::whole,
           .about = "Only those with a greater seq; next of the answer goes on",
           .most = kLargestWhole},
          limit(1000)};
}

std::vector<Field> next_event() {
  return {
      {.name = "next",
       .type = Type::whole,
       .about = "Ask with after=next for those that follow",
       .required = true,
       .most = kLargestWhole},
      {.name = "more", .type = Type::flag, .about = "There may be some already", .required = true}};
}

std::vector<Route> job_routes() {
  const std::string jobs = "/api/v1/jobs", job = "/api/v1/jobs/{job}";
  return {
      {.method = "GET",
       .path = jobs,
       .id = "listJobs",
       .summary = "Jobs, the newest first, without their actors and examples",
       .handler = &Api::list_jobs,
       .query =
           {{.name = "state",
             .about = "Only these; open: not over; ended: over",
             .choices = {"open", "ended", "pending", "starting", "running", "stopping", "stopped",
                         "succeeded", "failed", "cancelled"}},
            {.name = "queue",
             .about = "Only of this queue and those below it",
             .letters = Letters::printable},
            {.name = "owner", .about = "Only of this owner", .letters = Letters::printable},
            {.name = "search",
             .about = "Only with this in their id",
             .letters = Letters::printable},
            {.name = "page", .type = Type::whole, .about = "From 1", .least = 1, .most = 1000000},
            limit(200)},
       .answer = pb::JobList::descriptor(),
       .also = {{.name = "page",
                 .type = Type::whole,
                 .about = "This one",
                 .required = true,
                 .least = 1,
                 .most = kLargestWhole},
                {.name = "pages",
                 .type = Type::whole,
                 .about = "There are",
                 .required = true,
                 .most = kLargestWhole}}},
      {.method = "POST",
       .path = jobs,
       .id = "submitJob",
       .role = Role::submitter,
       .summary = "Submit a job; it is durable when this answers",
       .handler = &Api::submit_job,
       .body = {{.name = "spec",
                 .about = "The job spec, as YAML",
                 .required = true,
                 .least = 1,
                 .most = 512 * 1024},
                {.name = "client_key",
                 .about =
                     "Submits with one key make one job: send the same when an answer was lost"},
                {.name = "resume",
                 .type = Type::flag,
                 .about = "Go on with the newest unfinished job of this name"},
                {.name = "hold", .type = Type::flag, .about = "It waits until it is released"},
                {.name = "array", .about = "The sweep that it belongs to"},
                {.name = "array_index",
                 .type = Type::whole,
                 .about = "Its place in the sweep",
                 .most = 0xFFFFFFFF}},
       .answer = pb::JobAccepted::descriptor(),
       .success = 201},
      {.method = "GET",
       .path = job,
       .id = "getJob",
       .summary = "All that is known of a job now",
       .handler = &Api::get_job,
       .answer = pb::JobStatus::descriptor()},
      {.method = "POST",
       .path = job + "/cancel",
       .id = "cancelJob",
       .role = Role::submitter,
       .summary = "End a job for good",
       .handler = &Api::cancel_job,
       .answer = pb::Done::descriptor()},
      {.method = "POST",
       .path = job + "/pause",
       .id = "pauseJob",
       .role = Role::submitter,
       .summary = "Stop a job with a checkpoint, to be resumed later",
       .handler = &Api::pause_job,
       .answer = pb::Done::descriptor()},
      {.method = "POST",
       .path = job + "/resume",
       .id = "resumeJob",
       .role = Role::submitter,
       .summary = "Go on with a job that was stopped or has failed",
       .handler = &Api::resume_job,
       .answer = pb::JobAccepted::descriptor()},
      {.method = "POST",
       .path = job + "/scale",
       .id = "scaleJob",
       .role = Role::submitter,
       .summary = "Give a job more or fewer workers",
       .handler = &Api::scale_job,
       .body = {{.name = "workers",
                 .type = Type::whole,
                 .about = "From 1 to its train.lanes",
                 .required = true,
                 .least = 1,
                 .most = 1000000}},
       .answer = pb::Done::descriptor()},
      {.method = "POST",
       .path = job + "/hold",
       .id = "holdJob",
       .role = Role::submitter,
       .summary = "Do not place a waiting job until it is released",
       .handler = &Api::hold_job,
       .answer = pb::Done::descriptor()},
      {.method = "POST",
       .path = job + "/release",
       .id = "releaseJob",
       .role = Role::submitter,
       .summary = "Let a held job be placed",
       .handler = &Api::release_job,
       .answer = pb::Done::descriptor()},
      {.method = "GET",
       .path = job + "/explain",
       .id = "explainJob",
       .summary = "Why a job waits, or runs where it does, with the arithmetic",
       .handler = &Api::explain_job,
       .answer = pb::Explanation::descriptor()},
      {.method = "GET",
       .path = job + "/spec",
       .id = "getSpec",
       .summary = "A job's spec, with every default",
       .handler = &Api::job_spec,
       .answer = pb::SpecText::descriptor()},
      {.method = "GET",
       .path = job + "/series",
       .id = "getSeries",
       .summary = "What a job's charts show: at most a few hundred points",
       .handler = &Api::job_series,
       .answer = pb::JobSeries::descriptor()},
      {.method = "GET",
       .path = job + "/checkpoints",
       .id = "getCheckpoints",
       .summary = "How many checkpoints a job has, the newest, and the newest that is safe",
       .handler = &Api::job_checkpoints,
       .also = {{.name = "checkpoints",
                 .type = Type::whole,
                 .about = "In the job's store",
                 .required = true,
                 .most = kLargestWhole},
                {.name = "newest_checkpoint",
                 .type = Type::whole,
                 .about = "Its step; 0: none",
                 .required = true,
                 .most = kLargestWhole},
                {.name = "replicated_checkpoint",
                 .type = Type::whole,
                 .about = "The newest that checkpoint.quorum stores hold; 0: none",
                 .required = true,
                 .most = kLargestWhole}}},
      {.method = "GET",
       .path = job + "/actors",
       .id = "getActors",
       .summary = "A job's actors: state, since when, why, mailbox, restarts",
       .handler = &Api::job_actors,
       .answer = pb::ActorList::descriptor()},
      {.method = "GET",
       .path = job + "/events",
       .id = "listJobEvents",
       .summary = "A job's events, oldest first",
       .handler = &Api::list_events,
       .query = page_of_events(),
       .answer = pb::EventList::descriptor(),
       .also = next_event()},
      {.method = "GET",
       .path = job + "/incidents",
       .id = "listJobIncidents",
       .summary = "What failed in a job: culprit, last operation, evidence, seconds",
       .handler = &Api::list_incidents,
       .query = page_of_events(),
       .answer = pb::EventList::descriptor(),
       .also = next_event()},
      {.method = "GET",
       .path = job + "/logs/{role}",
       .id = "getLog",
       .summary = "A piece of the log of one of a job's processes",
       .handler = &Api::job_log,
       .query = {{.name = "offset",
                  .type = Type::whole,
                  .about = "In bytes; next_offset of the answer goes on",
                  .most = kLargestWhole},
                 {.name = "limit",
                  .type = Type::whole,
                  .about = "In bytes",
                  .least = 1,
                  .most = 256 * 1024}},
       .answer = pb::LogPiece::descriptor()},
  };
}

std::vector<Route> cluster_routes() {
  return {
      {.method = "GET",
       .path = "/api/v1/events",
       .id = "listEvents",
       .summary = "Events of all jobs and nodes, oldest first",
       .handler = &Api::list_events,
       .query = page_of_events(),
       .answer = pb::EventList::descriptor(),
       .also = next_event()},
      {.method = "GET",
       .path = "/api/v1/incidents",
       .id = "listIncidents",
       .summary = "What failed anywhere",
       .handler = &Api::list_incidents,
       .query = page_of_events(),
       .answer = pb::EventList::descriptor(),
       .also = next_event()},
      {.method = "GET",
       .path = "/api/v1/events/stream",
       .id = "streamEvents",
       .summary =
           "Events as they happen, as Server-Sent Events. The header Last-Event-ID, or after, "
           "resumes; without them it begins with what comes next",
       .handler = &Api::stream_events,
       .query = {{.name = "after",
                  .type = Type::whole,
                  .about = "Begin behind this seq",
                  .most = kLargestWhole},
                 {.name = "job", .about = "Only of this job", .letters = Letters::printable}},
       .type = "text/event-stream"},
      {.method = "GET",
       .path = "/api/v1/nodes",
       .id = "listNodes",
       .summary = "Nodes, with what they have and what is free",
       .handler = &Api::list_nodes,
       .answer = pb::NodeList::descriptor()},
      {.method = "POST",
       .path = "/api/v1/nodes/{node}/drain",
       .id = "drainNode",
       .role = Role::admin,
       .summary = "Place nothing new on a node and move away what runs there, or take that back",
       .handler = &Api::drain_node,
       .body = {{.name = "drain",
                 .type = Type::flag,
                 .about = "False: it takes work again",
                 .required = true},
                {.name = "reason", .about = "Why, for others to see"}},
       .answer = pb::Done::descriptor()},
      {.method = "GET",
       .path = "/api/v1/queues",
       .id = "listQueues",
       .summary = "Queues, with their shares",
       .handler = &Api::list_queues,
       .answer = pb::QueueList::descriptor()},
      {.method = "GET",
       .path = "/api/v1/actors",
       .id = "listActors",
       .summary = "Actors of all jobs",
       .handler = &Api::job_actors,
       .answer = pb::ActorList::descriptor()},
      {.method = "GET",
       .path = "/api/v1/policy",
       .id = "getPolicy",
       .summary = "Queues, quota and users as they are in force",
       .handler = &Api::get_policy,
       .answer = pb::PolicyText::descriptor()},
      {.method = "PUT",
       .path = "/api/v1/policy",
       .id = "putPolicy",
       .role = Role::admin,
       .summary = "Put another policy in force; a bad one is refused and the old one stays",
       .handler = &Api::put_policy,
       .body = {{.name = "yaml",
                 .about = "The policy; empty: the controller reads its file again",
                 .required = true,
                 .most = 512 * 1024}},
       .answer = pb::Done::descriptor()},
      {.method = "GET",
       .path = "/api/v1/me",
       .id = "whoAmI",
       .summary = "What the token may do",
       .handler = &Api::who_am_i,
       .also = {{.name = "name", .about = "Of the token; empty without one", .required = true},
                {.name = "owner", .about = "Of the jobs that it submits", .required = true},
                {.name = "role",
                 .about = "Each may do all that the ones before it may",
                 .required = true,
                 .choices = {"viewer", "submitter", "admin"}},
                {.name = "version", .about = "Of the controller", .required = true}},
       .asks = false},
      {.method = "GET",
       .path = "/api/v1/openapi.json",
       .id = "getOpenApi",
       .role = Role::anyone,
       .summary = "This description",
       .handler = &Api::openapi_file,
       .asks = false},
      {.method = "GET",
       .path = "/metrics",
       .id = "metrics",
       .summary = "Metrics for Prometheus",
       .handler = &Api::metrics_text,
       .type = "text/plain"},
      {.method = "GET",
       .path = "/healthz",
       .id = "healthz",
       .role = Role::anyone,
       .summary = "The process lives",
       .handler = &Api::healthz,
       .type = "text/plain",
       .asks = false},
      {.method = "GET",
       .path = "/readyz",
       .id = "readyz",
       .role = Role::anyone,
       .summary = "The registry is loaded and the controller has recovered, else 503",
       .handler = &Api::readyz,
       .type = "text/plain"},
  };
}

// The dashboard's files: no part of the API, so the description leaves them out (no summary).
std::vector<Route> page_routes() {
  std::vector<Route> list;
  for (const char* path : {"/", "/assets/{file}"})
    list.push_back({.method = "GET",
                    .path = path,
                    .id = "page",
                    .role = Role::anyone,
                    .summary = "",
                    .handler = &Api::page,
                    .type = "text/html",
                    .asks = false});
  return list;
}

bool is_variable(const std::string& part) {
  return part.starts_with('{');
}

// Whether the pattern leads here; variables go into `values`.
bool leads_to(const std::vector<std::string>& pattern, const std::vector<std::string>& path,
              Values& values) {
  if (pattern.size() != path.size()) return false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (!is_variable(pattern[i])) {
      if (pattern[i] != path[i]) return false;
      continue;
    }
    const auto name = pattern[i].substr(1, pattern[i].size() - 2);
    if (!check_text(path_field(name), path[i])) return false;
    values[name] = path[i];
  }
  return true;
}

}  // namespace

const std::vector<Route>& routes() {
  static const std::vector<Route> all = [] {
    auto list = job_routes();
    for (auto& route : cluster_routes()) list.push_back(std::move(route));
    for (auto& route : page_routes()) list.push_back(std::move(route));
    return list;
  }();
  return all;
}

std::vector<std::string> parts_of(const std::string& pattern) {
  std::vector<std::string> parts;
  std::istringstream text(pattern.substr(1));
  for (std::string part; std::getline(text, part, '/');) parts.push_back(part);
  return parts;
}

const Field& path_field(const std::string& name) {
  static const std::vector<Field> fields = {
      {.name = "job",
       .about = "Id of the job",
       .required = true,
       .least = 1,
       .letters = Letters::name},
      {.name = "role",
       .about = "Role id, such as worker-0",
       .required = true,
       .least = 1,
       .letters = Letters::name},
      {.name = "node",
       .about = "Name of the node",
       .required = true,
       .least = 1,
       .letters = Letters::name},
      {.name = "file",
       .about = "Of the dashboard",
       .required = true,
       .least = 1,
       .letters = Letters::name},
  };
  return *std::find_if(fields.begin(), fields.end(),
                       [&](const Field& field) { return field.name == name; });
}

Match match(const std::string& method, const std::vector<std::string>& path) {
  static const auto patterns = [] {
    std::vector<std::vector<std::string>> list;
    for (const auto& route : routes()) list.push_back(parts_of(route.path));
    return list;
  }();
  Match result;
  for (std::size_t i = 0; i < routes().size(); ++i) {
    Values values = nlohmann::json::object();
    if (!leads_to(patterns[i], path, values)) continue;
    const Route& route = routes()[i];
    result.methods.push_back(route.method);
    if (route.method != method && !(method == "HEAD" && route.method == "GET")) continue;
    result.route = &route;
    result.values = std::move(values);
    return result;
  }
  return result;
}

}  // namespace crabcast::gateway

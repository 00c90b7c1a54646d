// validate, submit, ps, status, logs, events, incidents, nodes.
#include <filesystem>
#include <memory>
#include <set>

#include "actors/control/state_folder.h"
#include "apps/cli/client.h"
#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "apps/cli/signals.h"
#include "apps/cli/spec_file.h"
#include "apps/cli/status_text.h"
#include "apps/cli/verbs.h"
#include "protocol/clock.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;

constexpr auto kFollowEvery = std::chrono::milliseconds(500);
constexpr std::uint32_t kEventsPage = 500;
constexpr std::uint32_t kLogPage = 1U << 18;
constexpr int kSubmitTries = 3;

// A folder that the spec names from here means something else in the folder of an agent.
void make_paths_absolute(JobSpec& spec) {
  const auto absolute = [](std::string& path) {
    if (!path.starts_with("/")) path = std::filesystem::absolute(path).lexically_normal();
  };
  if (spec.data.corpus.avuie) absolute(*spec.data.corpus.avuie);
  if (spec.model.adapter.init) absolute(*spec.model.adapter.init);
  if (spec.model.base.find('/') != std::string::npos) absolute(spec.model.base);
}

json problems_json(const SpecProblems& found) {
  json problems = json::array();
  for (const auto& problem : found.problems)
    problems.push_back({{"file", found.file},
                        {"line", problem.line},
                        {"column", problem.column},
                        {"field", problem.field},
                        {"expected", problem.expected},
                        {"message", problem.message}});
  return {{"valid", false}, {"problems", problems}};
}

// True until the job is over, or its end cannot be told: then Ctrl-C ends following it.
bool goes_on(JobSource& source, const std::string& job) {
  if (job.empty()) return true;
  auto status = source.job(job);
  return !status || !job_is_over(status->state());
}

}  // namespace

Exit validate(const Common& common, const ValidateOptions& options) {
  auto text = read_spec_text(options.spec);
  if (!text) return complain(text.error(), common.json);
  const std::string name = options.spec == "-" ? "stdin" : options.spec;
  auto spec = parse_job_spec(*text, name);
  if (!spec) {
    if (common.json) print_json(problems_json(spec.error()));
    return complain(spec.error().error(), false);
  }
  // A spec for a cluster is valid all the same: its nodes may have them.
  const actors::StateFolder state{common.state};
  if (const Status found = find_places(*spec, state.bases()); !found)
    note(found.error().message, common.quiet);
  if (common.json)
    print_ordered_json(spec_json(*spec));
  else if (options.print)
    print_text(to_yaml(*spec));
  else
    print_text(name + " is valid\n");
  return Exit::ok;
}

Exit submit(const Common& common, const SubmitOptions& options) {
  auto spec = read_spec(options.spec);
  if (!spec) return complain(spec.error(), common.json);
  make_paths_absolute(*spec);
  auto client = ControllerClient::connect(common);
  if (!client) return complain(client.error(), common.json);
  pb::SubmitJob body;
  body.set_spec_yaml(to_yaml(*spec));
  body.set_resume(options.resume);
  body.set_hold(options.hold);
  body.set_owner(user_name());
  // The same key each time: a submit that was taken, but whose answer was lost, is not done twice.
  body.set_client_key(options.client_key.empty() ? random_client_key() : options.client_key);
  auto answer = (*client)->ask(body);
  for (int tries = 1; !answer && tries < kSubmitTries; ++tries) {
    const auto code = answer.error().code;
    if (code != Errc::timeout && code != Errc::unavailable) break;
    note(answer.error().message + "; trying again", common.quiet);
    answer = (*client)->ask(body);
  }
  if (!answer) return complain(answer.error(), common.json);
  const auto& accepted = answer->job_accepted();
  if (common.json)
    print_json({{"job", accepted.job()},
                {"resumed", accepted.resumed()},
                {"client_key", body.client_key()}});
  else
    print_text(accepted.job() + "\n");
  if (options.resume)
    note(accepted.resumed() ? accepted.job() + " goes on" : "there was no job to go on with",
         common.quiet);
  return Exit::ok;
}

Exit ps(const Common& common, const std::string& job, bool all) {
  auto source = JobSource::open(common);
  if (!source) return complain(source.error(), common.json);
  if (!job.empty()) {
    auto status = (*source)->job(job);
    if (!status) return complain(status.error(), common.json);
    json actors = json::array();
    for (const auto& actor : status->actors()) actors.push_back(to_json(actor));
    if (common.json)
      print_json({{"job", job}, {"actors", actors}});
    else
      print_text(actor_table(*status, unix_ms_now()));
    if (status->actors().empty())
      note(job + " is " + job_state_name(status->state()) + " and has no processes", common.quiet);
    return Exit::ok;
  }
  auto jobs = (*source)->jobs(all);
  if (!jobs) return complain(jobs.error(), common.json);
  if (common.json) {
    json list = json::array();
    for (const auto& status : *jobs) list.push_back(to_json(status));
    print_json({{"jobs", list}});
    return Exit::ok;
  }
  print_text(job_table(*jobs, unix_ms_now()));
  if (jobs->empty())
    note(all ? "no job was submitted yet" : "no job runs or waits; see crabcast ps --all",
         common.quiet);
  return Exit::ok;
}

Exit status(const Common& common, const std::string& job) {
  auto source = JobSource::open(common);
  if (!source) return complain(source.error(), common.json);
  auto status = (*source)->job(job);
  if (!status) return complain(status.error(), common.json);
  if (common.json)
    print_json(to_json(*status));
  else
    print_text(status_text(*status, unix_ms_now()));
  return Exit::ok;
}

Exit logs(const Common& common, const LogOptions& options) {
  // Before the client's threads.
  const std::unique_ptr<const StopSignals> signals(options.follow ? new StopSignals : nullptr);
  auto source = JobSource::open(common);
  if (!source) return complain(source.error(), common.json);
  const std::string role = options.role.empty() ? "coordinator" : options.role;
  std::uint64_t offset = 0;
  bool last_look = !options.follow;
  while (true) {
    auto piece = (*source)->log(options.job, role, offset, kLogPage);
    if (!piece) return complain(piece.error(), common.json);
    if (common.json && !piece->text().empty())
      print_json_line(
          {{"job", options.job}, {"role", role}, {"offset", offset}, {"text", piece->text()}});
    else if (!common.json)
      print_text(piece->text());
    offset = piece->next_offset();
    if (!piece->end()) continue;
    if (last_look) return Exit::ok;
    // What it wrote between this look and its end is read once more.
    last_look = !goes_on(**source, options.job);
    if (signals->wait(last_look ? Duration::zero() : Duration(kFollowEvery))) return Exit::ok;
  }
}

Exit events(const Common& common, const std::string& job, bool follow) {
  const std::unique_ptr<const StopSignals> signals(follow ? new StopSignals : nullptr);
  auto source = JobSource::open(common);
  if (!source) return complain(source.error(), common.json);
  std::uint64_t seen = 0;
  bool last_look = !follow;
  while (true) {
    auto page = (*source)->events(job, seen, kEventsPage);
    if (!page) return complain(page.error(), common.json);
    for (const auto& event : *page) {
      seen = event.seq();
      if (common.json)
        print_json_line(to_json(event));
      else
        print_text(event_text(event));
    }
    if (page->size() == kEventsPage) continue;
    if (last_look) return Exit::ok;
    last_look = !goes_on(**source, job);
    if (signals->wait(last_look ? Duration::zero() : Duration(kFollowEvery))) return Exit::ok;
  }
}

// What failed, and the numbers that went wrong: the part of the events that somebody may have to
// act on.
Exit incidents(const Common& common, const std::string& job) {
  static const std::set<std::string> kinds = {"corruption", "disagreement",    "non_finite",
                                              "rollback",   "slow_worker",     "no_progress",
                                              "standstill", "restart_refused", "node_lost"};
  auto source = JobSource::open(common);
  if (!source) return complain(source.error(), common.json);
  std::uint64_t seen = 0;
  std::size_t found = 0;
  while (true) {
    auto page = (*source)->events(job, seen, kEventsPage);
    if (!page) return complain(page.error(), common.json);
    if (page->empty()) break;
    seen = page->back().seq();
    for (const auto& event : *page) {
      if (!event.has_incident() && !kinds.contains(event.kind())) continue;
      ++found;
      if (common.json)
        print_json_line(to_json(event));
      else
        print_text(event_text(event));
    }
  }
  note(found == 0 ? job + " had no incident" : "what to do about each kind: docs/operations.md",
       common.quiet);
  return Exit::ok;
}

Exit nodes(const Common& common) {
  auto client = ControllerClient::connect(common);
  if (!client) return complain(client.error(), common.json);
  auto answer = (*client)->ask(pb::ListNodes());
  if (!answer) return complain(answer.error(), common.json);
  const auto& list = answer->node_list().nodes();
  if (common.json) {
    json nodes = json::array();
    for (const auto& node : list)
      nodes.push_back({{"node", node.node()},
                       {"state", actor_state_name(node.state())},
                       {"total", to_json(node.total())},
                       {"free", to_json(node.free())},
                       {"roles", node.roles()},
                       {"agent_endpoint", node.agent_endpoint()}});
    print_json({{"nodes", nodes}});
    return Exit::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& node : list)
    rows.push_back(
        {node.node(), actor_state_name(node.state()),
         exact_number(node.free().cpus()) + " of " + exact_number(node.total().cpus()),
         std::to_string(node.free().gpus()) + " of " + std::to_string(node.total().gpus()),
         format_bytes(node.free().memory_bytes()) + " of " +
             format_bytes(node.total().memory_bytes()),
         std::to_string(node.roles()), node.agent_endpoint()});
  print_text(format_table(
      {"NODE", "STATE", "CPUS FREE", "GPUS FREE", "MEMORY FREE", "ROLES", "AGENT"}, rows));
  if (list.empty())
    note("no node has joined; start one with crabcast agent --join HOST:PORT", common.quiet);
  return Exit::ok;
}

}  // namespace crabcast::apps

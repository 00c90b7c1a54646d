// `crabcast run`: a controller and an agent in this process, the job in real child processes.
#include <signal.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <caf/all.hpp>
#include <iostream>

#include "actors/control/agent.h"
#include "actors/control/state_folder.h"
#include "apps/cli/client.h"
#include "apps/cli/control_process.h"
#include "apps/cli/output.h"
#include "apps/cli/progress_view.h"
#include "apps/cli/report.h"
#include "apps/cli/signals.h"
#include "apps/cli/spec_file.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"
#include "protocol/job_spec.h"
#include "scheduler/scheduler.h"

namespace crabcast::apps {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(250);
constexpr std::uint32_t kEventsPage = 200;

// `run` is one person's job on one machine: it never waits for cores that the machine does not
// have. It says so when the job asks for more.
pb::Resources offered(const JobSpec& spec, ProgressView& view) {
  auto total = actors::machine_resources();
  scheduler::Amount need;
  const auto request = scheduler::job_request(JobId{"run"}, spec, 0);
  for (const auto& role : request.fixed) need += role.need;
  for (const auto& role : request.workers) need += role.need;
  const double cpus = static_cast<double>(need.cpu_millis) / 1000.0;
  if (cpus > total.cpus()) {
    view.note("the job asks for " + std::to_string(cpus).substr(0, 4) + " CPUs on a machine with " +
              std::to_string(static_cast<int>(total.cpus())) + ": its processes share them");
    total.set_cpus(cpus);
  }
  return total;
}

bool over(pb::JobState state) {
  return state == pb::JOB_SUCCEEDED || state == pb::JOB_FAILED || state == pb::JOB_CANCELLED ||
         state == pb::JOB_STOPPED;
}

void log_to_file(const actors::StateFolder& state) {
  const auto path = state.root / "controller" / "run.log";
  try {
    spdlog::set_default_logger(spdlog::basic_logger_mt("run", path));
    spdlog::flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex&) {
    spdlog::set_level(spdlog::level::err);  // the job itself does not need this log
  }
}

// The newest event of a job that goes on: what happened before was shown by the run before.
Result<std::uint64_t> newest_event(ControllerClient& client, const std::string& job) {
  std::uint64_t seen = 0;
  while (true) {
    pb::GetEvents get;
    get.set_job(job);
    get.set_after_seq(seen);
    auto events = client.ask(get);
    if (!events) return fail(events.error());
    if (events->event_list().events_size() == 0) return seen;
    seen = events->event_list().events().rbegin()->seq();
  }
}

// Follows the job to its end; Ctrl-C asks for a checkpoint and a stop, a second one cancels.
Result<pb::JobStatus> follow(ControllerClient& client, const std::string& job, std::uint64_t seen,
                             const StopSignals& signals, ProgressView& view) {
  int stops = 0;
  while (true) {
    pb::GetEvents get_events;
    get_events.set_job(job);
    get_events.set_after_seq(seen);
    get_events.set_limit(kEventsPage);
    auto events = client.ask(get_events);
    if (!events) return fail(events.error());
    for (const auto& event : events->event_list().events()) {
      seen = event.seq();
      view.show(event);
    }
    pb::GetJob get_job;
    get_job.set_job(job);
    auto answer = client.ask(get_job);
    if (!answer) return fail(answer.error());
    const auto& status = answer->job_status();
    view.show(status, Clock::now());
    if (over(status.state()) && events->event_list().events_size() == 0) return status;
    if (!signals.wait(over(status.state()) ? Duration::zero() : Duration(kPoll))) continue;
    pb::CancelJob cancel;
    cancel.set_job(job);
    cancel.set_keep(++stops == 1);
    view.note(stops == 1 ? "stops after the next step, with a checkpoint; Ctrl-C again cancels"
                         : "cancels");
    if (auto asked = client.ask(cancel); !asked && asked.error().code != Errc::invalid_argument)
      return fail(asked.error());
  }
}

Exit conclude(const Common& common, const actors::StateFolder& state, const pb::JobStatus& status) {
  nlohmann::json result{{"job", status.job()},
                        {"state", job_state_name(status.state())},
                        {"reason", status.reason()}};
  auto store =
      storage::JobStore::open_read_only(actors::StateFolder::store(state.job(status.job())));
  if (store) {
    auto report = job_report(**store);
    if (report) {
      result["report"] = *report;
      if (!common.json) std::cout << "\n" << report_text(*report);
    } else {
      std::cerr << "crabcast: no report: " << report.error().message << "\n";
    }
  }
  if (common.json) print_json(result);
  switch (status.state()) {
    case pb::JOB_SUCCEEDED:
      if (!common.json) std::cout << status.job() << " finished\n";
      return Exit::ok;
    case pb::JOB_STOPPED:
      if (!common.json)
        std::cout << status.job() << " stopped" << (status.reason().empty() ? "" : ": ")
                  << status.reason() << "; the same command goes on from there\n";
      return Exit::stopped;
    default: {
      const auto code = errc_from_number(static_cast<std::uint32_t>(status.error_code()));
      std::cerr << "crabcast: " << status.job() << " " << job_state_name(status.state()) << ": "
                << status.reason() << "\n"
                << "its logs: crabcast logs " << status.job() << "\n";
      return code == Errc::ok ? Exit::failed : exit_of(code);
    }
  }
}

}  // namespace

Exit run(const Common& common, const RunOptions& options) {
  const StopSignals signals;  // before any thread
  auto spec = read_spec(options.spec);
  if (!spec) return complain(spec.error(), common.json);
  const actors::StateFolder state{common.state};
  // Its processes would find out too, but only after the corpus was rendered.
  if (const Status found = find_places(*spec, state.bases()); !found)
    return complain(found.error(), common.json);
  ProgressView view(common.json                  ? ProgressView::Style::json
                    : common.quiet               ? ProgressView::Style::none
                    : is_terminal(STDOUT_FILENO) ? ProgressView::Style::bar
                                                 : ProgressView::Style::lines);
  ActorSystem actors;
  auto controller =
      ControllerProcess::start(actors.system(), state, "tcp://127.0.0.1:*", false, {});
  if (!controller) return complain(controller.error(), common.json);
  if (!options.http.empty()) {
    const auto address = (*controller)->serve_http(options.http);
    if (!address) return complain(address.error(), common.json);
    note("dashboard at http://" + *address + "/", common.quiet);
  }
  log_to_file(state);
  actors::AgentOptions agent_options;
  agent_options.node = "local";
  agent_options.total = offered(*spec, view);
  agent_options.state = state;
  agent_options.controller_endpoint = (*controller)->endpoint();
  auto agent = AgentProcess::start(actors.system(), std::move(agent_options), state.keys());
  if (!agent) return complain(agent.error(), common.json);

  Common here = common;
  here.controller = (*controller)->endpoint();
  auto client = ControllerClient::connect(here);
  if (!client) return complain(client.error(), common.json);
  pb::SubmitJob submit;
  submit.set_spec_yaml(to_yaml(*spec));
  submit.set_resume(!options.fresh);
  submit.set_owner(user_name());
  auto accepted = (*client)->ask(submit);
  if (!accepted) return complain(accepted.error(), common.json);
  const auto& job = accepted->job_accepted();
  view.note(job.job() + (job.resumed() ? " goes on" : " starts") +
            "; its folder: " + state.job(job.job()).string());
  auto seen = job.resumed() ? newest_event(**client, job.job()) : Result<std::uint64_t>(0);
  if (!seen) return complain(seen.error(), common.json);
  auto status = follow(**client, job.job(), *seen, signals, view);
  view.close();
  client->reset();
  (*agent)->stop();
  (*controller)->stop();
  if (!status) return complain(status.error(), common.json);
  return conclude(common, state, *status);
}

}  // namespace crabcast::apps

// The controller: what it makes of each message, its agents and coordinators, and placement.
#include "actors/control/controller.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/controller_state.h"

namespace crabcast::actors {
namespace {

using recovered_atom = caf::atom_constant<caf::atom("recovered")>;

using tick_atom = caf::atom_constant<caf::atom("tick")>;

constexpr auto kTick = std::chrono::milliseconds(500);
constexpr auto kRecovery = std::chrono::seconds(5);  // for agents and coordinators to come back

bool is_coordinator(const scheduler::RolePlacement& role) {
  return role.kind == pb::ROLE_COORDINATOR;
}

}  // namespace

// ---- start ------------------------------------------------------------------------------------

Status ControllerState::load() {
  auto records = options.registry->jobs();  // before any other thread uses the registry
  if (!records) return fail(records.error());
  for (auto& record : *records) {
    auto spec = parse_job_spec(record.spec_yaml(), record.job());
    if (!spec) {
      spdlog::error("job {} of the registry has a spec that this version cannot read: {}",
                    record.job(), spec.error().text());
      continue;
    }
    auto& job = jobs[record.job()];
    job.record = std::move(record);
    job.spec = std::move(*spec);
  }
  return {};
}

// Jobs whose coordinator did not come back in time start again, or wait to be run again.
void ControllerState::recovered() {
  recovering = false;
  if (options.recovered) *options.recovered = true;
  for (auto& [id, job] : jobs) {
    if (ended(job.record.state()) || job.record.state() == pb::JOB_STOPPED || job.coordinator)
      continue;
    if (job.queued > 0) continue;  // it was submitted meanwhile
    if (options.recover) {
      event(id, pb::SEVERITY_WARNING, "requeued", "its coordinator did not come back");
      if (active(job.record.state()))
        tell_of_lost_node(job, node_of_coordinator(job),
                          "while the controller was away, its agent went away, and with it the "
                          "coordinator of the job");
      enqueue(job);
      continue;
    }
    job.record.set_state(pb::JOB_STOPPED);
    job.record.set_reason("its run ended before it did; run it again to go on");
    store(job);
  }
}

// ---- messages ---------------------------------------------------------------------------------

void ControllerState::deliver(const DeliveryPtr& message) {
  const auto& envelope = *message->envelope;
  const auto job_of = [&](const std::string& id) -> Job* {
    auto found = jobs.find(id);
    if (found != jobs.end()) return &found->second;
    answer(*message, Error{Errc::not_found, "no job is named '" + id + "'; see crabcast ps"});
    return nullptr;
  };
  switch (envelope.body_case()) {
    case pb::Envelope::kSubmitJob:
      return submit(message);
    case pb::Envelope::kCancelJob:
      return cancel(*message);
    case pb::Envelope::kScaleJob:
      return scale(message);
    case pb::Envelope::kPinCheckpoint:
      return pin(message);
    case pb::Envelope::kListJobs: {
      pb::JobList list;
      for (const auto& [id, job] : jobs)
        if (envelope.list_jobs().all() || !ended(job.record.state()))
          *list.add_jobs() = status_of(job);
      return answer(*message, list);
    }
    case pb::Envelope::kGetJob:
      if (Job* job = job_of(envelope.get_job().job())) answer(*message, status_of(*job));
      return;
    case pb::Envelope::kGetEvents:
      return send_events(message);
    case pb::Envelope::kGetLog:
      return forward_log(message);
    case pb::Envelope::kListActors:
      return list_actors(*message);
    case pb::Envelope::kListNodes:
      return list_nodes(*message);
    case pb::Envelope::kGetSeries:
      if (job_of(envelope.get_series().job())) charts->send(message);
      return;
    case pb::Envelope::kGetSpec:
      if (const Job* job = job_of(envelope.get_spec().job())) {
        pb::SpecText text;
        text.set_job(job->record.job());
        text.set_yaml(job->record.spec_yaml());
        answer(*message, text);
      }
      return;
    case pb::Envelope::kRegisterAgent:
      return agent_joined(*message);
    case pb::Envelope::kAgentReport:
      return agent_reported(envelope.agent_report());
    case pb::Envelope::kRegisterCoordinator:
      return coordinator_joined(*message);
    case pb::Envelope::kJobReport:
      return job_reported(*message);
    case pb::Envelope::kRoleExited:
      return coordinator_exited(*message);
    case pb::Envelope::kRoleStarted:  // its agent started it again
      if (auto found = jobs.find(envelope.role_started().job()); found != jobs.end())
        coordinator_runs(found->second, envelope.role_started());
      return;
    case pb::Envelope::kDone:
      return;
    default:
      answer(*message, Error{Errc::unsupported, "a controller takes no such message"});
  }
}

// ---- coordinators -------------------------------------------------------------------------------

void ControllerState::coordinator_joined(const Delivery& message) {
  const auto& body = message.envelope->register_coordinator();
  auto found = jobs.find(body.job());
  if (found == jobs.end()) return answer(message, Error{Errc::not_found, "unknown job"});
  Job& job = found->second;
  if (const Status current = check_fence(job, body.fence()); !current)
    return answer(message, current.error());
  const bool waits = job.record.state() == pb::JOB_PENDING;  // for a start that it does not need
  if (waits && !agents.contains(node_of_coordinator(job)))
    return answer(message, Error{Errc::unavailable, "its node has not joined again yet"});
  const bool adopted = waits || (recovering && !job.coordinator && active(job.record.state()));
  answer(message, pb::Done{});
  job.coordinator = message.sender;
  job.coordinator_pid = body.pid();
  job.status = body.status();
  self->monitor(job.coordinator);
  tell_newer_placement(job, body.status());
  self->send(job.coordinator, outbound(nodes_for_replicas(job)));
  if (job.record.state() != pb::JOB_RUNNING) {
    job.record.set_state(pb::JOB_RUNNING);
    if (job.record.started_unix_ms() == 0) job.record.set_started_unix_ms(unix_ms_now());
    store(job);
  }
  if (adopted) adopt(job);
}

void ControllerState::job_reported(const Delivery& message) {
  const auto& body = message.envelope->job_report();
  auto found = jobs.find(body.status().job());
  if (found == jobs.end()) return answer(message, Error{Errc::not_found, "unknown job"});
  Job& job = found->second;
  if (const Status current = check_fence(job, body.fence()); !current)
    return answer(message, current.error());
  job.status = body.status();
  charts->report(body.status());
  release_left(job);
  if (body.events_size() > 0) {
    auto events =
        std::make_shared<const std::vector<pb::Event>>(body.events().begin(), body.events().end());
    self->request(registry, kRegistryTimeout, PutEvents{std::move(events)})
        .then([] {},
              [](const caf::error& error) {
                spdlog::error("events were not stored: {}", from_caf(error).message);
              });
  }
  if (body.ended())
    finish(job, body.status().state(), body.status().reason(),
           errc_from_number(static_cast<std::uint32_t>(body.status().error_code())));
  answer(message, pb::Done{});
}

// Two coordinators of one job: only the one that was started last may act (T-1).
Status ControllerState::check_fence(const Job& job, std::uint64_t fence) {
  const auto& id = job.record.job();
  if (fence != job.record.attempts())
    return fail(Errc::stale_generation,
                "job " + id + " was started again: its coordinator has fence " +
                    std::to_string(job.record.attempts()) + ", not " + std::to_string(fence));
  if (ended(job.record.state()) || job.record.state() == pb::JOB_STOPPED)
    return fail(Errc::stale_generation, "job " + id + " is over");
  return {};
}

void ControllerState::coordinator_runs(Job& job, const pb::RoleStarted& started) {
  if (started.kind() == pb::ROLE_COORDINATOR && started.fence() == job.record.attempts())
    job.coordinator_pid = started.pid();
}

// The end of an earlier one says nothing about the job.
void ControllerState::coordinator_exited(const Delivery& message) {
  const auto& exit = message.envelope->role_exited();
  answer(message, pb::Done{});
  auto found = jobs.find(exit.job());
  if (found == jobs.end()) return;
  Job& job = found->second;
  if (exit.fence() != job.record.attempts()) return;
  job.coordinator = nullptr;
  if (!active(job.record.state())) return;  // it had reported its end
  if (exit.exit_code() == 0) {
    // It did what it had to do while no controller was there to be told; its store knows.
    event(exit.job(), pb::SEVERITY_INFO, "requeued",
          "its coordinator ended while the controller was away, and is asked again how");
    self->send(scheduler, JobGone{JobId{exit.job()}});
    enqueue(job);
    store(job);
    return;
  }
  finish(job, pb::JOB_FAILED,
         "its coordinator ended unexpectedly (exit code " + std::to_string(exit.exit_code()) +
             ", signal " + std::to_string(exit.signal()) + "): " + exit.last_lines(),
         Errc::process_died);
}

// ---- placement --------------------------------------------------------------------------------

void ControllerState::decided(const Decisions& decisions) {
  for (auto& [id, job] : jobs) job.pending.clear();
  for (const auto& pending : decisions.pending)
    if (auto found = jobs.find(pending.job.value()); found != jobs.end())
      found->second.pending = pending.text;
  for (const auto& placement : decisions.placements) place(placement);
}

void ControllerState::place(const scheduler::Placement& placement) {
  auto found = jobs.find(placement.job.value());
  if (found == jobs.end()) return;
  Job& job = found->second;
  if (placement.attempt != job.queued) return;
  const bool grows = active(job.record.state());
  if (!grows && job.record.state() != pb::JOB_PENDING) return;  // it is over
  if (grows && std::any_of(placement.roles.begin(), placement.roles.end(), is_coordinator))
    return;  // it was decided before its coordinator was found again
  if (!grows && !fits_its_store(job, placement)) {  // it was decided before the nodes were known
    self->send(scheduler, JobGone{placement.job});
    return enqueue(job);
  }
  if (!grows) job.record.clear_placement();
  pb::PlacementChanged added;
  added.set_job(job.record.job());
  for (const auto& role : placement.roles) {
    const auto& known = job.record.placement();
    auto old = std::find_if(known.begin(), known.end(),
                            [&](const auto& slot) { return slot.role() == role.role; });
    const auto agent = agents.find(role.node.value());
    const std::string endpoint = agent == agents.end() ? std::string{} : agent->second.endpoint;
    if (grows && old != known.end() && old->node() == role.node.value() &&
        old->agent_endpoint() == endpoint)
      continue;
    pb::RoleSlot slot;
    slot.set_role(role.role);
    slot.set_kind(static_cast<pb::RoleKind>(role.kind));
    slot.set_node(role.node.value());
    slot.mutable_resources()->set_cpus(static_cast<double>(role.need.cpu_millis) / 1000.0);
    slot.mutable_resources()->set_gpus(static_cast<std::uint32_t>(role.need.gpus));
    slot.mutable_resources()->set_memory_bytes(static_cast<std::uint64_t>(role.need.memory_bytes));
    slot.set_agent_endpoint(endpoint);
    if (old != known.end())
      *job.record.mutable_placement(static_cast<int>(old - known.begin())) = slot;
    else
      *job.record.add_placement() = slot;
    *added.add_placement() = slot;
  }
  if (grows) {
    if (job.coordinator && added.placement_size() > 0) self->send(job.coordinator, outbound(added));
    store(job);
    return;
  }
  job.record.set_state(pb::JOB_STARTING);
  job.record.set_attempts(job.record.attempts() + 1);
  job.coordinator_pid = 0;
  const auto id = job.record.job();
  store(job, [this, id] { start_coordinator(jobs.at(id)); });
}

void ControllerState::start_coordinator(Job& job) {
  const auto id = job.record.job();
  const auto node = node_of_coordinator(job);
  auto agent = agents.find(node);
  if (agent == agents.end()) return;  // gone meanwhile: `down` puts the job back into the queue
  pb::StartRole start;
  auto& launch = *start.mutable_launch();
  launch.set_job(id);
  for (const auto& slot : job.record.placement()) {
    *launch.add_placement() = slot;
    if (slot.kind() == pb::ROLE_COORDINATOR) *launch.mutable_slot() = slot;
  }
  launch.set_spec_yaml(job.record.spec_yaml());
  launch.set_controller_endpoint(options.endpoint);
  const auto fence = job.record.attempts();
  launch.set_fence(fence);
  event(id, pb::SEVERITY_INFO, "placed", "coordinator on node " + node);
  self->request(agent->second.handle, kAgentTimeout, outbound(start))
      .then(
          [this, id](const DeliveryPtr& started) {
            coordinator_runs(jobs.at(id), started->envelope->role_started());
          },
          [this, id, fence](const caf::error& error) {
            const auto why = from_caf(error);
            // The node went, or the job was placed again: then another start counts.
            if (jobs.at(id).record.attempts() != fence || !active(jobs.at(id).record.state()))
              return;
            finish(jobs.at(id), pb::JOB_FAILED,
                   "its coordinator could not be started: " + why.message, why.code);
          });
}

void ControllerState::finish(Job& job, pb::JobState state, const std::string& reason, Errc code) {
  job.record.set_state(state);
  job.record.set_reason(reason);
  job.record.set_error_code(static_cast<std::int32_t>(code));
  job.record.set_ended_unix_ms(unix_ms_now());
  job.coordinator = nullptr;
  store(job);
  charts->close(job.record.job());
  self->send(scheduler, JobGone{JobId{job.record.job()}});
}

// ---- helpers ----------------------------------------------------------------------------------

void ControllerState::store(const Job& job, std::function<void()> then,
                            std::function<void(const Error&)> on_error) {
  self->request(registry, kRegistryTimeout,
                PutJob{std::make_shared<const pb::JobRecord>(job.record)})
      .then(
          [then] {
            if (then) then();
          },
          [on_error, id = job.record.job()](const caf::error& error) {
            const auto why = from_caf(error);
            spdlog::error("job {} was not stored: {}", id, why.message);
            if (on_error) on_error(why);
          });
}

// H-1: there is no coordinator left to tell of it.
void ControllerState::tell_of_lost_node(const Job& job, const std::string& node,
                                        const std::string& evidence) {
  pb::Event event;
  event.set_job(job.record.job());
  event.set_subject("agent@" + node);
  event.set_severity(pb::SEVERITY_WARNING);
  event.set_kind("incident");
  auto& detail = *event.mutable_incident();
  if (own_standstill.is_heard_of(Clock::now())) {
    event.set_subject("controller");
    detail.set_evidence("the controller stood still, and node " + node + " gave it up");
  } else {
    detail.set_evidence(evidence);
  }
  detail.set_culprit(event.subject());
  if (job.status) {
    event.set_step(job.status->step());
    event.set_generation(job.status->generation());
    detail.set_last_operation("after step " + std::to_string(job.status->step()));
  }
  event.set_message(detail.evidence() + "; the job waits for a place to go on");
  put_event(std::move(event));
}

void ControllerState::event(const std::string& job, pb::Severity severity, const std::string& kind,
                            const std::string& message) {
  pb::Event event;
  event.set_job(job);
  event.set_subject(job);
  event.set_severity(severity);
  event.set_kind(kind);
  event.set_message(message);
  put_event(std::move(event));
}

void ControllerState::put_event(pb::Event event) {
  event.set_unix_ms(unix_ms_now());
  self->request(registry, kRegistryTimeout,
                PutEvents{std::make_shared<const std::vector<pb::Event>>(1, std::move(event))})
      .then([] {},
            [](const caf::error& error) {
              spdlog::error("an event was not stored: {}", from_caf(error).message);
            });
}

pb::JobStatus ControllerState::status_of(const Job& job) const {
  pb::JobStatus status;
  if (job.status) status = *job.status;
  status.set_job(job.record.job());
  status.set_name(job.record.name());
  // The coordinator knows more of a job that runs; the record, of every other.
  if (!job.status || !active(job.record.state()) || !job.coordinator) {
    status.set_state(job.record.state());
    status.set_reason(job.record.state() == pb::JOB_PENDING ? job.pending : job.record.reason());
  }
  status.set_error_code(job.record.error_code());
  status.set_submitted_unix_ms(job.record.submitted_unix_ms());
  status.set_started_unix_ms(job.record.started_unix_ms());
  status.set_ended_unix_ms(job.record.ended_unix_ms());
  return status;
}

namespace {

caf::behavior controller(caf::stateful_actor<ControllerState>* self,
                         const ControllerOptions& options) {
  auto& state = self->state;
  auto me = caf::actor_cast<caf::actor>(self);
  state.options = options;
  if (auto loaded = state.load(); !loaded) {
    self->quit(to_caf(loaded.error()));
    return {};
  }
  state.registry = spawn_registry(self->system(), options.registry);
  state.charts.emplace(self, state.registry);
  state.scheduler = spawn_scheduler(self->system(), me);
  self->link_to(state.registry);
  self->link_to(state.scheduler);
  self->set_down_handler([&state](const caf::down_msg& down) { state.down(down); });
  state.recovering = options.recover;
  if (options.recover)
    self->delayed_send(self, kRecovery, recovered_atom::value);
  else
    state.recovered();
  options.switchboard->publish("controller", me);
  state.own_standstill.tick(Clock::now());
  self->delayed_send(self, kTick, tick_atom::value);
  return {
      [&state](const DeliveryPtr& message) { state.deliver(message); },
      [&state](const Decisions& decisions) { state.decided(decisions); },
      [&state](recovered_atom) { state.recovered(); },
      [self, &state](tick_atom) {
        self->delayed_send(self, kTick, tick_atom::value);
        state.own_standstill.tick(Clock::now());
      },
  };
}

}  // namespace

caf::actor spawn_controller(caf::actor_system& system, const ControllerOptions& options) {
  return system.spawn(controller, options);
}

}  // namespace crabcast::actors

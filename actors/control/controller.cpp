#include "actors/control/controller.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <map>
#include <set>

#include "actors/control/controller_actors.h"
#include "protocol/job_spec.h"
#include "protocol/spec_changes.h"

namespace crabcast::actors {
namespace {

using recovered_atom = caf::atom_constant<caf::atom("recovered")>;

constexpr auto kStoreTimeout = std::chrono::seconds(30);
constexpr auto kAgentTimeout = std::chrono::seconds(20);
constexpr auto kRecovery = std::chrono::seconds(5);  // for agents and coordinators to come back
constexpr std::size_t kEventsLimit = 1000;

bool ended(pb::JobState state) {
  return state == pb::JOB_SUCCEEDED || state == pb::JOB_FAILED || state == pb::JOB_CANCELLED;
}
bool active(pb::JobState state) {
  return state == pb::JOB_STARTING || state == pb::JOB_RUNNING || state == pb::JOB_STOPPING;
}

bool has_role(const pb::JobRecord& record, const std::string& role) {
  return std::any_of(record.placement().begin(), record.placement().end(),
                     [&](const auto& slot) { return slot.role() == role; });
}

struct ControllerState {
  static inline const char* name = "controller";
  explicit ControllerState(caf::event_based_actor* s) : self(s) {}

  struct Job {
    pb::JobRecord record;
    JobSpec spec;
    std::optional<pb::JobStatus> status;  // the coordinator's last report
    caf::actor coordinator;
    std::string pending;            // why it waits
    std::set<std::string> leaving;  // roles that it was scaled down by, and that may run yet
  };
  struct Agent {
    caf::actor handle;
    pb::Resources total;
    std::string endpoint;
    std::vector<pb::RoleStarted> running;
  };

  caf::event_based_actor* self;
  ControllerOptions options;
  caf::actor registry, scheduler;
  std::map<std::string, Job> jobs;
  std::map<std::string, Agent> agents;
  bool recovering = false;

  Status load();
  void recovered();
  void deliver(const DeliveryPtr& message);
  void down(const caf::down_msg& message);
  void decided(const Decisions& decisions);

  void submit(const DeliveryPtr& message);
  void cancel(const Delivery& message);
  void scale(const DeliveryPtr& message);
  void forward_log(const DeliveryPtr& message);
  void send_events(const DeliveryPtr& message);
  void list_actors(const Delivery& message) const;
  void list_nodes(const Delivery& message) const;
  void agent_joined(const Delivery& message);
  void coordinator_joined(const Delivery& message);
  void coordinator_exited(const pb::RoleExited& exit);
  void job_reported(const Delivery& message);

  static scheduler::JobRequest request_of(const Job& job);
  void resize(Job& job, const DeliveryPtr& message);
  static pb::PlacementChanged placement_of(const Job& job, const std::set<std::string>& removed);
  void release_left(Job& job);
  // The newest job of this name that is not over, or failed.
  Job* resumable(const std::string& spec_name);
  void pin(const DeliveryPtr& message);
  void enqueue(Job& job);
  void start_coordinator(Job& job, const std::string& node);
  void place(const scheduler::Placement& placement);
  void finish(Job& job, pb::JobState state, const std::string& reason, Errc code);
  // Stores the record, then does `then`; an error goes to the log and to `on_error`.
  void store(const Job& job, std::function<void()> then = {},
             std::function<void(const Error&)> on_error = {});
  void event(const std::string& job, pb::Severity severity, const std::string& kind,
             const std::string& message);
  pb::JobStatus status_of(const Job& job) const;
};

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
  for (auto& [id, job] : jobs) {
    if (ended(job.record.state()) || job.record.state() == pb::JOB_STOPPED || job.coordinator)
      continue;
    if (options.recover) {
      event(id, pb::SEVERITY_WARNING, "requeued", "its coordinator did not come back");
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
    case pb::Envelope::kRegisterAgent:
      return agent_joined(*message);
    case pb::Envelope::kAgentReport: {
      const auto& report = envelope.agent_report();
      if (auto found = agents.find(report.node()); found != agents.end())
        found->second.running = {report.running().begin(), report.running().end()};
      return;
    }
    case pb::Envelope::kRegisterCoordinator:
      return coordinator_joined(*message);
    case pb::Envelope::kJobReport:
      return job_reported(*message);
    case pb::Envelope::kRoleExited:
      return coordinator_exited(envelope.role_exited());
    case pb::Envelope::kDone:
    case pb::Envelope::kRoleStarted:
      return;
    default:
      answer(*message, Error{Errc::unsupported, "a controller takes no such message"});
  }
}

void ControllerState::submit(const DeliveryPtr& message) {
  const auto& body = message->envelope->submit_job();
  auto spec = parse_job_spec(body.spec_yaml(), "spec");
  if (!spec) return answer(*message, spec.error().error());
  const auto accept = [message](const std::string& job, bool resumed, std::uint64_t step) {
    pb::JobAccepted accepted;
    accepted.set_job(job);
    accepted.set_resumed(resumed);
    accepted.set_resumed_from_step(step);
    answer(*message, accepted);
  };
  for (const auto& [id, job] : jobs)  // the same submit once more
    if (!body.client_key().empty() && job.record.client_key() == body.client_key())
      return accept(id, false, 0);
  if (Job* job = body.resume() ? resumable(spec->name) : nullptr) {
    if (const Status same = check_resumable(job->spec, *spec); !same) {
      Error error = same.error().within(job->record.job() + " cannot go on with this spec");
      error.message +=
          "; undo this, or begin a new job (crabcast run --fresh, crabcast submit "
          "without --resume)";
      return answer(*message, error);
    }
    job->spec = *spec;
    job->record.set_spec_yaml(to_yaml(*spec));
    job->record.set_spec_hash(spec_hash(*spec));
    job->record.clear_error_code();
    job->record.clear_ended_unix_ms();
    enqueue(*job);
    store(
        *job, [accept, id = job->record.job()] { accept(id, true, 0); },
        [message](const Error& error) { answer(*message, error); });
    return;
  }
  self->request(registry, kStoreTimeout, NewSequence{})
      .then(
          [this, message, accept, spec = *spec](std::uint64_t seq) {
            const auto& body = message->envelope->submit_job();
            const std::string id = spec.name + "-" + std::to_string(seq);
            auto& job = jobs[id];
            job.spec = spec;
            job.record.set_job(id);
            job.record.set_name(spec.name);
            job.record.set_spec_yaml(to_yaml(spec));
            job.record.set_spec_hash(spec_hash(spec));
            job.record.set_submit_seq(seq);
            job.record.set_submitted_unix_ms(unix_ms_now());
            job.record.set_client_key(body.client_key());
            job.record.set_state(pb::JOB_PENDING);
            store(
                job,
                [this, id, accept] {
                  accept(id, false, 0);
                  event(id, pb::SEVERITY_INFO, "submitted", "waits to be placed");
                  enqueue(jobs.at(id));
                },
                [this, id, message](const Error& error) {
                  jobs.erase(id);
                  answer(*message, error);
                });
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

ControllerState::Job* ControllerState::resumable(const std::string& spec_name) {
  Job* newest = nullptr;
  for (auto& [id, job] : jobs) {
    if (job.record.name() != spec_name || job.coordinator) continue;
    if (ended(job.record.state()) && job.record.state() != pb::JOB_FAILED) continue;
    if (!newest || job.record.submit_seq() > newest->record.submit_seq()) newest = &job;
  }
  return newest;
}

void ControllerState::enqueue(Job& job) {
  job.record.set_state(pb::JOB_PENDING);
  job.record.set_reason("");
  job.record.clear_error_code();
  job.status.reset();
  const auto id = job.record.job();
  self->request(scheduler, kStoreTimeout, JobQueued{request_of(job)})
      .then([] {},
            [id](const caf::error& error) {
              spdlog::error("job {} was not queued: {}", id, from_caf(error).message);
            });
}

void ControllerState::cancel(const Delivery& message) {
  const auto& body = message.envelope->cancel_job();
  auto found = jobs.find(body.job());
  if (found == jobs.end())
    return answer(message, Error{Errc::not_found, "no job is named '" + body.job() + "'"});
  Job& job = found->second;
  if (ended(job.record.state()))
    return answer(message,
                  Error{Errc::invalid_argument, "job " + body.job() + " has ended already"});
  if (job.coordinator) {
    pb::StopJob stop;
    stop.set_job(body.job());
    stop.set_keep(body.keep());
    stop.set_reason("asked by a client");
    self->send(job.coordinator, outbound(stop));
  } else {
    finish(job, body.keep() ? pb::JOB_STOPPED : pb::JOB_CANCELLED, "asked by a client", Errc::ok);
  }
  answer(message, pb::Done{});
}

// ---- scale ------------------------------------------------------------------------------------

// What the spec asks for, with the workers that were asked for since.
scheduler::JobRequest ControllerState::request_of(const Job& job) {
  JobSpec spec = job.spec;
  if (const auto workers = job.record.workers(); workers > 0) {
    spec.resources.workers_max = workers;
    spec.resources.workers_min = std::min(spec.resources.workers_min, workers);
  }
  return scheduler::job_request(JobId{job.record.job()}, spec, job.record.submit_seq());
}

void ControllerState::scale(const DeliveryPtr& message) {
  const auto& body = message->envelope->scale_job();
  auto found = jobs.find(body.job());
  if (found == jobs.end())
    return answer(*message,
                  Error{Errc::not_found, "no job is named '" + body.job() + "'; see crabcast ps"});
  Job& job = found->second;
  if (ended(job.record.state()))
    return answer(*message,
                  Error{Errc::invalid_argument, "job " + body.job() + " has ended already"});
  const auto lanes = job.spec.train.lanes;
  if (body.workers() < 1 || body.workers() > lanes)
    return answer(*message,
                  Error{Errc::invalid_argument,
                        "job " + body.job() + " can have from 1 to " + std::to_string(lanes) +
                            " workers (train.lanes), not " + std::to_string(body.workers())});
  job.record.set_workers(body.workers());
  // J-1: what was asked for is durable before it is acknowledged.
  store(
      job,
      [this, message, id = body.job()] {
        if (auto known = jobs.find(id); known != jobs.end()) resize(known->second, message);
      },
      [message](const Error& error) { answer(*message, error); });
}

void ControllerState::resize(Job& job, const DeliveryPtr& message) {
  const auto id = job.record.job();
  event(id, pb::SEVERITY_INFO, "scaled", "to " + std::to_string(job.record.workers()) + " workers");
  if (job.record.state() == pb::JOB_STOPPED)  // it has them when it goes on
    return answer(*message, pb::Done{});
  self->request(scheduler, kStoreTimeout, JobResized{request_of(job)})
      .then(
          [this, message, id](const std::vector<std::string>& surplus) {
            answer(*message, pb::Done{});
            auto known = jobs.find(id);
            if (known == jobs.end()) return;
            Job& job = known->second;
            const std::set<std::string> removed(surplus.begin(), surplus.end());
            auto& slots = *job.record.mutable_placement();
            slots.erase(
                std::remove_if(slots.begin(), slots.end(),
                               [&](const auto& slot) { return removed.contains(slot.role()); }),
                slots.end());
            job.leaving.insert(removed.begin(), removed.end());
            store(job);
            // Without a coordinator: it is told when it registers.
            if (job.coordinator) self->send(job.coordinator, outbound(placement_of(job, removed)));
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

// All of it: what the coordinator knows already changes nothing.
pb::PlacementChanged ControllerState::placement_of(const Job& job,
                                                   const std::set<std::string>& removed) {
  pb::PlacementChanged body;
  body.set_job(job.record.job());
  *body.mutable_placement() = job.record.placement();
  for (const auto& role : removed) body.add_removed(role);
  if (job.record.workers() > 0)
    body.set_workers_min(std::min(job.spec.resources.workers_min, job.record.workers()));
  return body;
}

// Gives the room of roles back that have left.
void ControllerState::release_left(Job& job) {
  const auto& actors = job.status->actors();
  std::erase_if(job.leaving, [&](const std::string& role) {
    const bool runs = std::any_of(actors.begin(), actors.end(), [&](const auto& actor) {
      return actor.name() == role && actor.state() != pb::ACTOR_GONE;
    });
    if (!runs && !has_role(job.record, role))
      self->send(scheduler, RoleGone{JobId{job.record.job()}, role});
    return !runs;
  });
}

void ControllerState::pin(const DeliveryPtr& message) {
  const auto& body = message->envelope->pin_checkpoint();
  const auto found = jobs.find(body.job());
  if (found == jobs.end())
    return answer(*message, Error{Errc::not_found, "no job is named '" + body.job() + "'"});
  if (!found->second.coordinator)
    return answer(*message, Error{Errc::unavailable, "job " + body.job() + " does not run"});
  self->request(found->second.coordinator, kStoreTimeout, outbound(body))
      .then([message](const DeliveryPtr&) { answer(*message, pb::Done{}); },
            [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

void ControllerState::send_events(const DeliveryPtr& message) {
  const auto& query = message->envelope->get_events();
  if (!query.job().empty() && !jobs.contains(query.job()))
    return answer(*message, Error{Errc::not_found, "no job is named '" + query.job() + "'"});
  const auto limit =
      query.limit() == 0 ? kEventsLimit : std::min<std::size_t>(query.limit(), kEventsLimit);
  self->request(registry, kStoreTimeout, ReadEvents{query.job(), query.after_seq(), limit})
      .then(
          [message](const EventsRead& read) {
            pb::EventList list;
            for (const auto& one : *read.events) *list.add_events() = one;
            answer(*message, list);
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

void ControllerState::forward_log(const DeliveryPtr& message) {
  const auto& query = message->envelope->get_log();
  auto found = jobs.find(query.job());
  if (found == jobs.end())
    return answer(*message, Error{Errc::not_found, "no job is named '" + query.job() + "'"});
  for (const auto& slot : found->second.record.placement()) {
    if (slot.role() != query.role()) continue;
    auto agent = agents.find(slot.node());
    if (agent == agents.end())
      return answer(*message, Error{Errc::unavailable, "node " + slot.node() + " is not here"});
    auto request = std::make_shared<Outbound>();
    *request->envelope.mutable_get_log() = query;
    self->request(agent->second.handle, kAgentTimeout, OutboundPtr(std::move(request)))
        .then(
            [message](const DeliveryPtr& piece) { answer(*message, piece->envelope->log_piece()); },
            [message](const caf::error& error) { answer(*message, from_caf(error)); });
    return;
  }
  answer(*message, Error{Errc::not_found, "job " + query.job() + " has no role '" + query.role() +
                                              "'; see crabcast ps " + query.job()});
}

void ControllerState::list_actors(const Delivery& message) const {
  const auto& wanted = message.envelope->list_actors().job();
  if (!wanted.empty() && !jobs.contains(wanted))
    return answer(message, Error{Errc::not_found, "no job is named '" + wanted + "'"});
  pb::ActorList list;
  for (const auto& [id, job] : jobs) {
    if (!wanted.empty() && id != wanted) continue;
    if (job.status)
      for (const auto& actor : job.status->actors()) *list.add_actors() = actor;
  }
  answer(message, list);
}

void ControllerState::list_nodes(const Delivery& message) const {
  pb::NodeList list;
  for (const auto& [node, agent] : agents) {
    auto& status = *list.add_nodes();
    status.set_node(node);
    *status.mutable_total() = agent.total;
    status.set_state(pb::ACTOR_HEALTHY);
    status.set_roles(static_cast<std::uint32_t>(agent.running.size()));
    status.set_agent_endpoint(agent.endpoint);
    auto& free = *status.mutable_free();
    free = agent.total;
    for (const auto& role : agent.running) {
      free.set_cpus(free.cpus() - role.resources().cpus());
      free.set_gpus(free.gpus() - std::min(free.gpus(), role.resources().gpus()));
      free.set_memory_bytes(free.memory_bytes() -
                            std::min(free.memory_bytes(), role.resources().memory_bytes()));
    }
  }
  answer(message, list);
}

// ---- agents and coordinators --------------------------------------------------------------------

void ControllerState::agent_joined(const Delivery& message) {
  const auto& body = message.envelope->register_agent();
  if (auto known = agents.find(body.node());
      known != agents.end() && known->second.handle != message.sender) {
    answer(message, Error{Errc::already_exists, "a node is named " + body.node() + " already"});
    spdlog::warn("a second agent says that it is node {}; refused", body.node());
    return;
  }
  auto& agent = agents[body.node()];
  agent.handle = message.sender;
  agent.total = body.total();
  agent.endpoint = body.endpoint();
  agent.running = {body.running().begin(), body.running().end()};
  self->monitor(agent.handle);
  answer(message, pb::Done{});
  spdlog::info("node {} joined: {} cpus, {} gpus", body.node(), body.total().cpus(),
               body.total().gpus());
  scheduler::Node node;
  node.id = NodeId{body.node()};
  node.total = scheduler::amount(
      ProcessResources{body.total().cpus(), body.total().gpus(), body.total().memory_bytes()});
  self->send(scheduler, NodeJoined{node});
}

void ControllerState::coordinator_joined(const Delivery& message) {
  const auto& body = message.envelope->register_coordinator();
  auto found = jobs.find(body.job());
  if (found == jobs.end()) return answer(message, Error{Errc::not_found, "unknown job"});
  Job& job = found->second;
  const bool adopted = recovering && !job.coordinator && active(job.record.state());
  job.coordinator = message.sender;
  job.status = body.status();
  self->monitor(job.coordinator);
  // It may have been started with an older placement.
  std::set<std::string> removed = job.leaving;
  for (const auto& actor : body.status().actors())
    if (!has_role(job.record, actor.name())) removed.insert(actor.name());
  self->send(job.coordinator, outbound(placement_of(job, removed)));
  if (job.record.state() != pb::JOB_RUNNING) {
    job.record.set_state(pb::JOB_RUNNING);
    if (job.record.started_unix_ms() == 0) job.record.set_started_unix_ms(unix_ms_now());
    store(job);
  }
  if (!adopted) return;
  scheduler::Placement placement{JobId{body.job()}, {}};
  for (const auto& slot : job.record.placement())
    placement.roles.push_back({slot.role(), slot.kind(), NodeId{slot.node()},
                               scheduler::amount({slot.resources().cpus(), slot.resources().gpus(),
                                                  slot.resources().memory_bytes()})});
  self->send(scheduler, JobAdopted{request_of(job), placement});
}

void ControllerState::job_reported(const Delivery& message) {
  const auto& body = message.envelope->job_report();
  auto found = jobs.find(body.status().job());
  if (found == jobs.end()) return answer(message, Error{Errc::not_found, "unknown job"});
  Job& job = found->second;
  job.status = body.status();
  release_left(job);
  if (body.events_size() > 0) {
    auto events =
        std::make_shared<const std::vector<pb::Event>>(body.events().begin(), body.events().end());
    self->request(registry, kStoreTimeout, PutEvents{std::move(events)})
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

void ControllerState::coordinator_exited(const pb::RoleExited& exit) {
  auto found = jobs.find(exit.job());
  if (found == jobs.end()) return;
  Job& job = found->second;
  job.coordinator = nullptr;
  if (!active(job.record.state())) return;  // it had reported its end
  finish(job, pb::JOB_FAILED,
         "its coordinator ended unexpectedly (exit code " + std::to_string(exit.exit_code()) +
             ", signal " + std::to_string(exit.signal()) + "): " + exit.last_lines(),
         Errc::process_died);
}

void ControllerState::down(const caf::down_msg& message) {
  for (auto it = agents.begin(); it != agents.end(); ++it) {
    if (it->second.handle.address() != message.source) continue;
    const std::string node = it->first;
    agents.erase(it);
    spdlog::warn("node {} is gone", node);
    self->send(scheduler, NodeLeft{NodeId{node}});
    for (auto& [id, job] : jobs) {
      if (!active(job.record.state())) continue;
      for (const auto& slot : job.record.placement()) {
        if (slot.node() != node) continue;
        if (slot.kind() == pb::ROLE_COORDINATOR) {
          // Its processes died with the agent; its store is on that node.
          event(id, pb::SEVERITY_WARNING, "node_lost", "node " + node + " with its coordinator");
          job.coordinator = nullptr;
          self->send(scheduler, JobGone{JobId{id}});
          enqueue(job);
          store(job);
          break;
        }
        self->send(scheduler, RoleGone{JobId{id}, slot.role()});
      }
    }
    return;
  }
  for (auto& [id, job] : jobs)
    if (job.coordinator && job.coordinator.address() == message.source) job.coordinator = nullptr;
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
  const bool grows = active(job.record.state());
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
  std::string node;
  for (const auto& slot : job.record.placement())
    if (slot.kind() == pb::ROLE_COORDINATOR) node = slot.node();
  const auto id = job.record.job();
  store(job, [this, id, node] { start_coordinator(jobs.at(id), node); });
}

void ControllerState::start_coordinator(Job& job, const std::string& node) {
  const auto id = job.record.job();
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
  event(id, pb::SEVERITY_INFO, "placed", "coordinator on node " + node);
  self->request(agent->second.handle, kAgentTimeout, outbound(start))
      .then([](const DeliveryPtr&) {},
            [this, id](const caf::error& error) {
              const auto why = from_caf(error);
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
  self->send(scheduler, JobGone{JobId{job.record.job()}});
}

// ---- helpers ----------------------------------------------------------------------------------

void ControllerState::store(const Job& job, std::function<void()> then,
                            std::function<void(const Error&)> on_error) {
  self->request(registry, kStoreTimeout, PutJob{std::make_shared<const pb::JobRecord>(job.record)})
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

void ControllerState::event(const std::string& job, pb::Severity severity, const std::string& kind,
                            const std::string& message) {
  pb::Event event;
  event.set_job(job);
  event.set_subject(job);
  event.set_severity(severity);
  event.set_kind(kind);
  event.set_message(message);
  event.set_unix_ms(unix_ms_now());
  self->request(registry, kStoreTimeout,
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
  return {
      [&state](const DeliveryPtr& message) { state.deliver(message); },
      [&state](const Decisions& decisions) { state.decided(decisions); },
      [&state](recovered_atom) { state.recovered(); },
  };
}

}  // namespace

caf::actor spawn_controller(caf::actor_system& system, const ControllerOptions& options) {
  return system.spawn(controller, options);
}

}  // namespace crabcast::actors

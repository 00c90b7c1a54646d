// The controller's decisions: start, messages and placement.
#include "actors/control/cluster_machine.h"

#include <algorithm>
#include <utility>

#include "protocol/envelopes.h"

namespace crabcast::actors {

bool is_over(pb::JobState state) {
  return state == pb::JOB_SUCCEEDED || state == pb::JOB_FAILED || state == pb::JOB_CANCELLED;
}
bool is_active(pb::JobState state) {
  return state == pb::JOB_STARTING || state == pb::JOB_RUNNING || state == pb::JOB_STOPPING;
}

// ---- start ------------------------------------------------------------------------------------

ClusterMachine::ClusterMachine(ClusterOptions options)
    : options_(std::move(options)), scheduler_(options_.policy) {}

std::vector<Error> ClusterMachine::start(ClusterHistory history, Moment now) {
  own_standstill_.tick(now.time);
  recovering_ = options_.recover;
  next_seq_ = history.next_submit_seq;
  for (auto& node : history.nodes) known_[node.node()] = std::move(node);
  std::vector<Error> unreadable;
  for (auto& record : history.jobs) {
    next_seq_ = std::max(next_seq_, record.submit_seq() + 1);
    auto spec = parse_job_spec(record.spec_yaml(), record.job());
    if (!spec) {
      unreadable.push_back(spec.error().error().within("job " + record.job() + " of the registry"));
      continue;
    }
    Job& job = jobs_[record.job()];
    job.record = std::move(record);
    job.spec = std::move(*spec);
    job.is_durable = true;
  }
  for (auto& [id, job] : jobs_) {
    const auto state = job.record.state();
    if (is_over(state) || state == pb::JOB_STOPPED) continue;
    if (!options_.recover) {
      lose_place(job, now);
      job.record.set_state(pb::JOB_STOPPED);
      job.record.set_reason("its run ended before it did; run it again to go on");
      store(job);
    } else if (is_active(state)) {
      scheduler_.adopt(request_of(job), placement_of(job));  // its room is taken
    } else {
      enqueue(job, now);
    }
  }
  return unreadable;
}

void ClusterMachine::on_recovery_over(Moment now) {
  recovering_ = false;
  for (auto& [id, job] : jobs_) {
    if (!is_active(job.record.state()) || job.placed_here) continue;
    if (job.coordinator != 0 || coordinator_lives(job)) {
      adopt(job);
      continue;
    }
    if (job.record.state() == pb::JOB_STARTING)  // perhaps its start was lost with that controller
      event(job, pb::SEVERITY_INFO, "requeued", "it had not started when the controller died", now);
    else
      incident_of_lost_node(job, node_of_coordinator(job),
                            "while the controller was away, its agent went away, and with it the "
                            "coordinator of the job",
                            now);
    enqueue(job, now);
    store(job);
  }
  decide(now);
}

void ClusterMachine::set_policy(scheduler::ClusterPolicy policy, Moment now) {
  options_.policy = policy;
  scheduler_.set_policy(std::move(policy));
  decide(now);
}

bool ClusterMachine::is_current(const std::string& job, std::uint64_t fence) const {
  const auto found = jobs_.find(job);
  return found != jobs_.end() && check_fence(found->second, fence).has_value();
}

// ---- messages ---------------------------------------------------------------------------------

void ClusterMachine::on_message(PeerNumber from, RequestNumber request, const pb::Envelope& message,
                                Moment now) {
  switch (message.body_case()) {
    case pb::Envelope::kSubmitJob:
      submit(request, message.submit_job(), now);
      break;
    case pb::Envelope::kResumeJob:
      resume(request, message.resume_job(), now);
      break;
    case pb::Envelope::kCancelJob:
      cancel(request, message.cancel_job(), now);
      break;
    case pb::Envelope::kHoldJob:
      hold(request, message.hold_job());
      break;
    case pb::Envelope::kScaleJob:
      scale(request, message.scale_job());
      break;
    case pb::Envelope::kPinCheckpoint:
      return pin(request, message.pin_checkpoint());
    case pb::Envelope::kDrainNode:
      drain(request, message.drain_node(), now);
      break;
    case pb::Envelope::kListJobs:
      return list_jobs(request, message.list_jobs(), now);
    case pb::Envelope::kGetJob:
      if (const Job* job = find(message.get_job().job(), request))
        answer(request, status_of(*job, now));
      return;
    case pb::Envelope::kGetSpec:
      if (const Job* job = find(message.get_spec().job(), request)) {
        pb::SpecText text;
        text.set_job(job->record.job());
        text.set_yaml(job->record.spec_yaml());
        answer(request, text);
      }
      return;
    case pb::Envelope::kExplainJob:
      return explain(request, message.explain_job(), now);
    case pb::Envelope::kGetLog:
      return forward_log(request, message.get_log());
    case pb::Envelope::kListActors:
      return list_actors(request, message.list_actors());
    case pb::Envelope::kListNodes:
      return list_nodes(request);
    case pb::Envelope::kListQueues:
      return list_queues(request);
    case pb::Envelope::kRegisterAgent:
      agent_joined(from, request, message.register_agent(), now);
      break;
    case pb::Envelope::kAgentReport:
      agent_reported(message.agent_report(), now);
      break;
    case pb::Envelope::kRegisterCoordinator:
      coordinator_joined(from, request, message.register_coordinator(), now);
      break;
    case pb::Envelope::kJobReport:
      job_reported(request, message.job_report(), now);
      break;
    case pb::Envelope::kRoleExited:
      coordinator_exited(request, message.role_exited(), now);
      break;
    case pb::Envelope::kDone:
      return;
    default:
      return refuse(request, {Errc::unsupported, "a controller takes no such message"});
  }
  decide(now);
}

void ClusterMachine::on_down(PeerNumber peer, Moment now) {
  for (auto it = nodes_.begin(); it != nodes_.end(); ++it) {
    if (it->second.agent != peer) continue;
    agent_left(std::string(it->first), now);
    return decide(now);
  }
  for (auto& [id, job] : jobs_)
    if (job.coordinator == peer) job.coordinator = 0;
}

void ClusterMachine::on_tick(Moment now) {
  own_standstill_.tick(now.time);
  write_again();
  end_those_out_of_time(now);
  decide(now);
}

// ---- writes -------------------------------------------------------------------------------------

void ClusterMachine::on_stored(std::uint64_t number, Moment now) {
  const auto known = writes_.extract(number);
  if (known.empty()) return;
  const Write& write = known.mapped();
  if (write.purpose == Purpose::acknowledge) return answer(write.request, pb::Done{});
  const auto found = jobs_.find(write.job);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  switch (write.purpose) {
    case Purpose::none:
    case Purpose::acknowledge:
      return;
    case Purpose::submit: {
      job.is_durable = true;
      pb::JobAccepted accepted;
      accepted.set_job(write.job);
      for (const RequestNumber each : std::exchange(job.submitters, {})) answer(each, accepted);
      event(job, pb::SEVERITY_INFO, "submitted", "waits to be placed", now);
      if (job.record.state() == pb::JOB_PENDING) enqueue(job, now);
      return decide(now);
    }
    case Purpose::resume: {
      pb::JobAccepted accepted;
      accepted.set_job(write.job);
      accepted.set_resumed(true);
      return answer(write.request, accepted);
    }
    case Purpose::start:
      if (write.fence == job.record.attempts() && job.record.state() == pb::JOB_STARTING)
        start_coordinator(job, now);
      return;
    case Purpose::scale:
      resize(job, now);
      answer(write.request, pb::Done{});
      return decide(now);
  }
}

void ClusterMachine::on_not_stored(std::uint64_t number, const Error& error) {
  const auto known = writes_.extract(number);
  if (known.empty()) return;
  const Write& write = known.mapped();
  const auto found = jobs_.find(write.job);
  if (write.purpose == Purpose::submit && found != jobs_.end()) {
    for (const RequestNumber each : found->second.submitters) refuse(each, error);
    jobs_.erase(found);
    return;
  }
  refuse(write.request, error);
  // What was decided stands, and the disk follows when it can; of a job, only its last record.
  Write again = write;
  again.request = 0;
  refused_writes_.push_back(std::move(again));
}

void ClusterMachine::write_again() {
  for (const Write& write : std::exchange(refused_writes_, {})) {
    if (!write.node.empty()) {
      store_node(write.node);
      continue;
    }
    const auto found = jobs_.find(write.job);
    if (found == jobs_.end()) continue;
    const bool starts =
        write.purpose == Purpose::start && write.fence == found->second.record.attempts();
    store(found->second, starts ? Purpose::start : Purpose::none);
  }
}

// ---- placement --------------------------------------------------------------------------------

void ClusterMachine::decide(Moment now) {
  const scheduler::Decisions decisions = scheduler_.schedule(now.time);
  for (const auto& placement : decisions.start) place(placement, now);
  for (const auto& placement : decisions.add) add_roles(placement);
  for (const auto& shrink : decisions.shrink) {
    Job& job = jobs_.at(shrink.job.value());
    event(job, pb::SEVERITY_INFO, "shrunk",
          std::to_string(shrink.roles.size()) + " workers leave for " + shrink.for_job.value(),
          now);
    take_away(job, {shrink.roles.begin(), shrink.roles.end()});
  }
  for (const auto& preempt : decisions.preempt)
    send_away(jobs_.at(preempt.victim.value()), Leaving::preempted,
              "for " + preempt.for_job.value() + ": " + preempt.why, now);
  for (const auto& id : decisions.expired) {
    Job& job = jobs_.at(id.value());
    send_away(job, Leaving::out_of_time, "it ran for its schedule.time_limit", now);
  }
}

namespace {

pb::RoleSlot slot_of(const scheduler::RolePlacement& role, const std::string& agent_endpoint) {
  pb::RoleSlot slot;
  slot.set_role(role.role);
  slot.set_kind(static_cast<pb::RoleKind>(role.kind));
  slot.set_node(role.node.value());
  slot.mutable_resources()->set_cpus(static_cast<double>(role.need.cpu_millis) / 1000.0);
  slot.mutable_resources()->set_gpus(static_cast<std::uint32_t>(role.need.gpus));
  slot.mutable_resources()->set_memory_bytes(static_cast<std::uint64_t>(role.need.memory_bytes));
  slot.set_agent_endpoint(agent_endpoint);
  return slot;
}

}  // namespace

void ClusterMachine::place(const scheduler::Placement& placement, Moment now) {
  Job& job = jobs_.at(placement.job.value());
  job.record.clear_placement();
  for (const auto& role : placement.roles)
    *job.record.add_placement() = slot_of(role, nodes_.at(role.node.value()).endpoint);
  job.record.set_state(pb::JOB_STARTING);
  job.record.set_attempts(job.record.attempts() + 1);
  job.record.set_placed_unix_ms(now.unix_ms);
  job.leaving = Leaving::no;
  job.leave_by.reset();
  job.leaving_roles.clear();
  job.placed_here = true;
  store(job, Purpose::start);
}

// Roles of a running job that came back elsewhere, or more workers.
void ClusterMachine::add_roles(const scheduler::Placement& placement) {
  Job& job = jobs_.at(placement.job.value());
  pb::PlacementChanged added;
  added.set_job(job.record.job());
  auto& slots = *job.record.mutable_placement();
  for (const auto& role : placement.roles) {
    const auto slot = slot_of(role, nodes_.at(role.node.value()).endpoint);
    const auto old = std::find_if(slots.begin(), slots.end(),
                                  [&](const auto& known) { return known.role() == role.role; });
    if (old != slots.end())
      *old = slot;
    else
      *slots.Add() = slot;
    *added.add_placement() = slot;
    job.leaving_roles.erase(role.role);
  }
  if (job.coordinator != 0) tell(job.coordinator, added);
  store(job);
}

void ClusterMachine::start_coordinator(Job& job, Moment now) {
  const auto node = node_of_coordinator(job);
  const auto agent = nodes_.find(node);
  if (agent == nodes_.end()) return;  // gone meanwhile: it was put back into the queue
  pb::RoleLaunch launch;
  launch.set_job(job.record.job());
  for (const auto& slot : job.record.placement()) {
    *launch.add_placement() = slot;
    if (slot.kind() == pb::ROLE_COORDINATOR) *launch.mutable_slot() = slot;
  }
  launch.set_spec_yaml(job.record.spec_yaml());
  launch.set_controller_endpoint(options_.endpoint);
  launch.set_fence(job.record.attempts());
  event(job, pb::SEVERITY_INFO, "placed", "coordinator on node " + node, now);
  actions.push_back(StartCoordinator{agent->second.agent, std::move(launch)});
}

void ClusterMachine::on_start_answered(const std::string& id, std::uint64_t fence,
                                       const Result<pb::RoleStarted>& answer, Moment now) {
  const auto found = jobs_.find(id);
  if (answer || found == jobs_.end()) return;
  Job& job = found->second;
  // The node went, or the job was placed again: then another start counts.
  if (job.record.attempts() != fence || job.record.state() != pb::JOB_STARTING) return;
  finish(job, pb::JOB_FAILED, "its coordinator could not be started: " + answer.error().message,
         answer.error().code, now);
  decide(now);
}

// Its time in its place counts as having run.
void ClusterMachine::lose_place(Job& job, Moment now) {
  if (job.record.placed_unix_ms() > 0)
    job.record.set_ran_ms(job.record.ran_ms() +
                          std::max<std::int64_t>(0, now.unix_ms - job.record.placed_unix_ms()));
  job.record.set_placed_unix_ms(0);
  job.coordinator = 0;
  job.leaving = Leaving::no;
  job.leave_by.reset();
}

std::string ClusterMachine::node_of_coordinator(const Job& job) {
  for (const auto& slot : job.record.placement())
    if (slot.kind() == pb::ROLE_COORDINATOR) return slot.node();
  return {};
}

scheduler::Placement ClusterMachine::placement_of(const Job& job) {
  scheduler::Placement placement{JobId{job.record.job()}, {}};
  for (const auto& slot : job.record.placement())
    placement.roles.push_back({slot.role(), slot.kind(), NodeId{slot.node()},
                               scheduler::amount({slot.resources().cpus(), slot.resources().gpus(),
                                                  slot.resources().memory_bytes()})});
  return placement;
}

// ---- helpers ----------------------------------------------------------------------------------

ClusterMachine::Job* ClusterMachine::find(const std::string& id, RequestNumber request) {
  const auto found = jobs_.find(id);
  if (found != jobs_.end()) return &found->second;
  refuse(request, {Errc::not_found, "no job is named '" + id + "'; see crabcast ps"});
  return nullptr;
}

void ClusterMachine::answer(RequestNumber request, const google::protobuf::Message& body) {
  if (request == 0) return;
  Answer answer{request, {}};
  set_body(answer.body, body);
  actions.push_back(std::move(answer));
}

void ClusterMachine::refuse(RequestNumber request, Error error) {
  if (request != 0) actions.push_back(Refuse{request, std::move(error)});
}

void ClusterMachine::tell(PeerNumber peer, const google::protobuf::Message& body) {
  Tell message{peer, {}};
  set_body(message.body, body);
  actions.push_back(std::move(message));
}

void ClusterMachine::store(const Job& job) {
  store(job, Purpose::none);
}

void ClusterMachine::store(const Job& job, Purpose purpose, RequestNumber request) {
  writes_[next_write_] = {job.record.job(), purpose, request, job.record.attempts(), ""};
  actions.push_back(StoreJob{next_write_++, job.record});
}

void ClusterMachine::event(const Job& job, pb::Severity severity, const std::string& kind,
                           const std::string& message, Moment now) {
  pb::Event event;
  event.set_job(job.record.job());
  event.set_subject(job.record.job());
  event.set_severity(severity);
  event.set_kind(kind);
  event.set_message(message);
  event.set_unix_ms(now.unix_ms);
  actions.push_back(StoreEvents{{std::move(event)}});
}

// H-1: there is no coordinator left to tell of it.
void ClusterMachine::incident_of_lost_node(const Job& job, const std::string& node,
                                           const std::string& evidence, Moment now) {
  pb::Event event;
  event.set_job(job.record.job());
  event.set_subject("agent@" + node);
  event.set_severity(pb::SEVERITY_WARNING);
  event.set_kind("incident");
  event.set_unix_ms(now.unix_ms);
  auto& detail = *event.mutable_incident();
  if (own_standstill_.is_heard_of(now.time)) {
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
  actions.push_back(StoreEvents{{std::move(event)}});
}

}  // namespace crabcast::actors

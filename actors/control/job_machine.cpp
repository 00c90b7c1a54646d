// Membership of a job: who is there, who is lost, when a generation opens. Steps, checkpoints and
// the end are in job_machine_steps.cpp.
#include "actors/control/job_machine.h"

#include <algorithm>

#include "protocol/envelopes.h"

namespace crabcast::actors {
namespace {

constexpr std::string_view kWaitingForOthers[] = {"reduce", "wait for commit", "form"};

bool waits_for_others(const std::string& doing) {
  return std::any_of(std::begin(kWaitingForOthers), std::end(kWaitingForOthers),
                     [&](std::string_view wait) { return doing.find(wait) != std::string::npos; });
}

std::string plural(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace

JobMachine::JobMachine(std::string job, JobSpec spec, std::vector<pb::RoleSlot> placement,
                       JobHistory history, JobTimeouts timeouts)
    : job_(std::move(job)),
      spec_(std::move(spec)),
      timeouts_(timeouts),
      generation_(history.last_generation),
      last_commit_(history.last_commit),
      checkpoints_(std::move(history.checkpoints)),
      evaluated_(std::move(history.evaluated)),
      restarts_used_(history.restarts) {
  for (auto& slot : placement) {
    if (slot.kind() == pb::ROLE_COORDINATOR) continue;
    members_[slot.role()].slot = slot;
  }
  status_.set_job(job_);
  status_.set_name(spec_.name);
  status_.set_state(pb::JOB_STARTING);
}

void JobMachine::start(TimePoint now) {
  started_ = last_commit_at_ = now;
  event(pb::SEVERITY_INFO, last_commit_ == 0 ? "job_started" : "job_resumed", job_,
        last_commit_ == 0 ? "starts from step 0"
                          : "goes on after committed step " + std::to_string(last_commit_));
  for (auto& [role, member] : members_) {
    if (member.process_up) continue;
    set_state(member, pb::ACTOR_STARTING, "", now);
    member.process_up = true;
    actions_.push_back(StartProcess{member.slot, member.restarts});
  }
  refresh_status();
}

void JobMachine::adopt_process(const std::string& role, int pid, TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end()) return;
  found->second.process_up = true;
  found->second.pid = pid;
  set_state(found->second, pb::ACTOR_STARTING, "adopted from an earlier coordinator", now);
}

void JobMachine::on_registered(const pb::RegisterMember& registration, TimePoint now) {
  auto found = members_.find(registration.role());
  if (found == members_.end() || phase_ == Phase::leaving) return;
  const std::string& role = found->first;
  Member& member = found->second;
  member.registered = true;
  member.process_up = true;
  member.registration = registration;
  member.pid = registration.pid();
  member.last_sign = member.last_progress = now;
  member.holds.reset();
  member.restart_at.reset();
  set_state(member, pb::ACTOR_HEALTHY, "", now);

  if (registration.has_corpus()) {
    if (corpus_ && corpus_->fingerprint() != registration.corpus().fingerprint()) {
      leave(pb::JOB_FAILED,
            {Errc::data_error, role + " on node " + member.slot.node() +
                                   " sees another corpus than the others: make the folders equal"},
            now);
      return;
    }
    corpus_ = registration.corpus();
  }
  pb::MemberAccepted accepted;
  accepted.set_generation(generation_);
  accepted.set_last_commit(last_commit_);
  send(role, accepted);

  switch (member.slot.kind()) {
    case pb::ROLE_WORKER: {
      if (!first_worker_at_) first_worker_at_ = now;
      if (registration.holds_state()) member.holds = registration.state_step();
      // A member that waited through this coordinator's restart can apply the commit it missed.
      if (registration.pending_step() != 0 && registration.pending_step() == last_commit_) {
        pb::Commit commit;
        commit.set_step(last_commit_);
        commit.set_generation(registration.generation());
        send(role, commit);
        member.holds = last_commit_;
      }
      if (phase_ == Phase::running) {
        regroup_ = true;
        generation_reason_ = role + " joined";
      } else if (phase_ == Phase::forming) {
        generation_reason_ = role + " joined";
        drop_generation();
        open_generation_when_possible(now);
      } else {
        open_generation_when_possible(now);
      }
      send_loader_directory();
      break;
    }
    case pb::ROLE_LOADER:
      send_loader_directory();
      open_generation_when_possible(now);  // epochs become a number of steps only now
      break;
    case pb::ROLE_EVALUATOR:
      start_evaluations(now);
      break;
    default:
      break;
  }
  settle_incidents(now);
  refresh_status();
}

void JobMachine::on_progress(const pb::MemberProgress& progress, TimePoint now) {
  auto found = members_.find(progress.role());
  if (found == members_.end() || !found->second.registered) return;
  Member& member = found->second;
  member.last_sign = now;
  member.mailbox = progress.mailbox();
  member.doing = progress.doing();
  if (member.progress != progress.progress()) {
    member.progress = progress.progress();
    member.last_progress = now;
  }
}

void JobMachine::on_fault(const std::string& role, const pb::MemberFault& fault, TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || phase_ == Phase::leaving) return;
  const Error error{errc_from_number(fault.code()), fault.message()};
  if (fault.fatal()) {
    event(pb::SEVERITY_ERROR, "member_fault", role, fault.operation() + ": " + error.message);
    leave(pb::JOB_FAILED, error.within(role), now);
    return;
  }
  if (fault.generation() != generation_) return;
  event(pb::SEVERITY_WARNING, "member_fault", role, fault.operation() + ": " + error.message);
  // Its cause, mostly a peer's death, is reported by better evidence in a moment. If not, the
  // generation is opened anew all the same.
  if (!regroup_at_) regroup_at_ = now + std::chrono::seconds(1);
}

void JobMachine::on_start_failed(const std::string& role, const Error& error, TimePoint now) {
  on_gone(role, "could not be started: " + error.message, true, now);
}

void JobMachine::on_gone(const std::string& role, const std::string& evidence, bool exited,
                         TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end()) return;
  Member& member = found->second;
  if (phase_ == Phase::leaving) {
    if (exited) member.process_up = false;
    set_state(member, exited ? pb::ACTOR_GONE : pb::ACTOR_DRAINING, "", now);
    finish_when_all_left(now);
    refresh_status();
    return;
  }
  if (!exited && !member.registered) return;  // known already
  const bool known = member.state == pb::ACTOR_FAILED;
  if (exited && !member.process_up) return;
  if (exited) member.process_up = false;
  if (!known) lose_member(role, evidence, exited, now);
  if (exited) schedule_restart(role, member, now);
  refresh_status();
}

void JobMachine::lose_member(const std::string& role, const std::string& evidence, bool exited,
                             TimePoint now) {
  Member& member = members_.at(role);
  open_incident(role, member, evidence, now);
  const bool was_in_generation = member.in_generation;
  member.registered = false;
  member.in_generation = false;
  member.holds.reset();
  member.step_ready.reset();
  set_state(member, pb::ACTOR_FAILED, evidence, now);
  // Whatever cannot be reached must not act any more either.
  if (!exited) actions_.push_back(StopProcess{role, Duration::zero()});

  if (member.slot.kind() == pb::ROLE_LOADER) send_loader_directory();
  if (member.evaluating) {
    to_evaluate_.push_front(*member.evaluating);
    member.evaluating.reset();
  }
  if (saver_ == role) {
    for (const auto id : std::set<std::uint64_t>(checkpoints_in_flight_))
      on_checkpoint_failed(id, {Errc::process_died, role + " died while it saved it"}, now);
  }
  if (was_in_generation) {
    generation_reason_ = role + " was lost";
    drop_generation();
    open_generation_when_possible(now);
  }
}

void JobMachine::open_incident(const std::string& role, const Member& member,
                               const std::string& evidence, TimePoint now) {
  OpenIncident incident;
  incident.detected = now;
  incident.members_changed = member.in_generation;
  incident.event.set_kind("incident");
  incident.event.set_severity(pb::SEVERITY_WARNING);
  incident.event.set_subject(role);
  auto& detail = *incident.event.mutable_incident();
  detail.set_culprit(role);
  detail.set_last_operation(member.doing.empty() ? "starting" : member.doing);
  detail.set_evidence(evidence);
  if (member.last_sign != TimePoint{}) detail.set_detect_seconds(seconds(now - member.last_sign));
  event(pb::SEVERITY_WARNING, std::string(role.substr(0, role.find('-'))) + "_lost", role,
        evidence + (member.doing.empty() ? "" : ", last seen in: " + member.doing));
  incidents_.push_back(std::move(incident));
  status_.set_incidents(status_.incidents() + 1);
}

void JobMachine::schedule_restart(const std::string& role, Member& member, TimePoint now) {
  if (restarts_used_ >= spec_.failure.restarts) {
    const std::string reason = "the budget of " + plural(spec_.failure.restarts, "restart") +
                               " (failure.restarts) is used up";
    set_state(member, pb::ACTOR_FAILED, reason, now);
    event(pb::SEVERITY_ERROR, "restart_refused", role, reason);
    const auto kind = member.slot.kind();
    if (kind == pb::ROLE_EVALUATOR) {
      if (!any_left(kind)) to_evaluate_.clear();
      finish_when_done(now);
    } else if (!any_left(kind)) {
      leave(pb::JOB_FAILED,
            {Errc::budget_exhausted,
             "no " + role.substr(0, role.find('-')) + " is left and " + reason},
            now);
    }
    return;
  }
  ++restarts_used_;
  const auto doublings = std::min<std::uint32_t>(member.restarts, 10);
  ++member.restarts;
  const Duration wait =
      std::min<Duration>(timeouts_.back_off_most, timeouts_.back_off_first * (1LL << doublings));
  member.restart_at = now + wait;
}

void JobMachine::restart_due(TimePoint now) {
  for (auto& [role, member] : members_) {
    if (!member.restart_at || *member.restart_at > now) continue;
    member.restart_at.reset();
    member.process_up = true;
    member.doing.clear();
    member.last_sign = TimePoint{};
    set_state(member, pb::ACTOR_STARTING, "restart " + std::to_string(member.restarts), now);
    event(pb::SEVERITY_INFO, "restart", role, "restart " + std::to_string(member.restarts));
    actions_.push_back(StartProcess{member.slot, member.restarts});
  }
}

void JobMachine::on_placement(const std::vector<pb::RoleSlot>& placement, TimePoint now) {
  for (const auto& slot : placement) {
    if (slot.kind() == pb::ROLE_COORDINATOR) continue;
    auto& member = members_[slot.role()];
    if (member.process_up || member.restart_at) continue;
    member.slot = slot;
    member.process_up = true;
    set_state(member, pb::ACTOR_STARTING, "placed", now);
    event(pb::SEVERITY_INFO, "placed", slot.role(), "starts on node " + slot.node());
    actions_.push_back(StartProcess{slot, member.restarts});
  }
  refresh_status();
}

// ---- generations ------------------------------------------------------------------------------

std::vector<std::string> JobMachine::eligible_workers() const {
  std::vector<std::string> roles;
  for (const auto& [role, member] : members_)
    if (member.slot.kind() == pb::ROLE_WORKER && member.registered) roles.push_back(role);
  // worker-2 before worker-10
  std::sort(roles.begin(), roles.end(), [](const auto& a, const auto& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  });
  if (roles.size() > spec_.train.lanes) roles.resize(spec_.train.lanes);
  return roles;
}

std::vector<std::string> JobMachine::in_generation() const {
  auto roles = eligible_workers();
  std::erase_if(roles, [&](const auto& role) { return !members_.at(role).in_generation; });
  return roles;
}

bool JobMachine::more_workers_expected() const {
  return std::any_of(members_.begin(), members_.end(), [](const auto& entry) {
    const Member& member = entry.second;
    return member.slot.kind() == pb::ROLE_WORKER && !member.registered &&
           (member.process_up || member.restart_at);
  });
}

bool JobMachine::any_left(pb::RoleKind kind) const {
  return std::any_of(members_.begin(), members_.end(), [&](const auto& entry) {
    const Member& member = entry.second;
    return member.slot.kind() == kind && (member.process_up || member.restart_at);
  });
}

void JobMachine::open_generation_when_possible(TimePoint now) {
  // A commit that is being written decides first which step the generation begins with.
  if (phase_ != Phase::gathering || committing_) return;
  const auto workers = eligible_workers();
  const auto total = total_steps();
  if (workers.size() < spec_.resources.workers_min || !total) return;
  const bool state_lives = std::any_of(workers.begin(), workers.end(), [&](const auto& role) {
    return members_.at(role).holds == last_commit_;
  });
  if (state_lives) {
    if (last_commit_ >= *total) {  // nothing left to train; somebody still holds the result
      phase_ = Phase::finishing;
      for (const auto& role : workers)
        members_.at(role).in_generation = members_.at(role).holds == last_commit_;
      finish_when_done(now);
      return;
    }
    open_generation("peer", now);
    return;
  }
  // Nobody holds the state: worth waiting a while for those that are still starting.
  const bool patience_over = first_worker_at_ && now - *first_worker_at_ >= timeouts_.gather;
  if (more_workers_expected() && !patience_over) return;
  if (last_commit_ == 0) {
    open_generation("fresh", now);
    return;
  }
  phase_ = Phase::finding;
  actions_.push_back(FindCheckpoint{});
}

void JobMachine::on_checkpoint_found(std::optional<std::uint64_t> checkpoint, TimePoint now) {
  if (phase_ != Phase::finding) return;
  phase_ = Phase::gathering;
  const std::uint64_t step = checkpoint.value_or(0);
  if (step != last_commit_) {
    event(pb::SEVERITY_WARNING, "rewind", job_,
          "no worker holds the state after step " + std::to_string(last_commit_) +
              "; training goes on after step " + std::to_string(step) +
              (checkpoint ? ", from its checkpoint" : ": no checkpoint verifies"));
    actions_.push_back(RewindLedger{step});
    last_commit_ = step;
  }
  if (eligible_workers().size() < spec_.resources.workers_min) return;  // lost meanwhile
  if (const auto total = total_steps(); total && last_commit_ >= *total) {
    // The finished state is in the store; only evaluations may be missing.
    phase_ = Phase::finishing;
    if (checkpoint && !evaluated_.contains(*checkpoint)) queue_evaluation(*checkpoint);
    start_evaluations(now);
    finish_when_done(now);
    return;
  }
  open_generation(checkpoint ? "checkpoint" : "fresh", now);
}

void JobMachine::open_generation(const std::string& source, TimePoint now) {
  const auto workers = eligible_workers();
  ++generation_;
  first_step_ = last_commit_ + 1;
  phase_ = Phase::forming;
  forming_since_ = now;
  regroup_ = false;
  regroup_at_.reset();

  pb::Generation generation;
  generation.set_number(generation_);
  generation.set_first_step(first_step_);
  generation.set_steps(*total_steps());
  generation.set_state_source(source);
  generation.set_reason(generation_reason_);
  if (source == "checkpoint") generation.set_source_checkpoint(last_commit_);
  const auto lanes = spec_.train.lanes;
  std::uint32_t first_lane = 0;
  for (std::uint32_t rank = 0; rank < workers.size(); ++rank) {
    Member& member = members_.at(workers[rank]);
    member.in_generation = true;
    member.ready = false;
    member.step_ready.reset();
    member.last_progress = now;
    auto& entry = *generation.add_members();
    entry.set_role(workers[rank]);
    entry.set_rank(rank);
    entry.set_collective_endpoint(member.registration.collective_endpoint());
    entry.set_bulk_endpoint(member.registration.bulk_endpoint());
    const auto count = lanes / workers.size() + (rank < lanes % workers.size() ? 1 : 0);
    entry.set_first_lane(first_lane);
    entry.set_lanes(static_cast<std::uint32_t>(count));
    first_lane += static_cast<std::uint32_t>(count);
    entry.set_needs_state(member.holds != last_commit_);
    if (source == "peer" && member.holds == last_commit_ && generation.source_role().empty())
      generation.set_source_role(workers[rank]);
  }
  for (const auto& [role, member] : members_) {
    if (member.slot.kind() != pb::ROLE_LOADER || !member.registered) continue;
    auto& loader = *generation.add_loaders();
    loader.set_role(role);
    loader.set_bulk_endpoint(member.registration.bulk_endpoint());
  }
  for (auto& incident : incidents_)
    if (incident.members_changed && !incident.opened) incident.opened = now;
  event(pb::SEVERITY_INFO, "generation", job_,
        "generation " + std::to_string(generation_) + ": " + plural(workers.size(), "worker") +
            " from step " + std::to_string(first_step_) + " (" + generation_reason_ + ")");
  for (const auto& role : workers) send(role, generation);
  refresh_status();
}

void JobMachine::drop_generation() {
  for (auto& [role, member] : members_) {
    member.in_generation = false;
    member.ready = false;
    member.step_ready.reset();
  }
  phase_ = Phase::gathering;
}

void JobMachine::on_generation_ready(const std::string& role, const pb::GenerationReady& ready,
                                     TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || ready.generation() != generation_ || phase_ != Phase::forming)
    return;
  Member& member = found->second;
  member.ready = true;
  member.holds = ready.state_step();
  member.load_seconds = ready.load_seconds();
  member.last_progress = now;
  const auto roles = in_generation();
  if (!std::all_of(roles.begin(), roles.end(), [&](const auto& r) { return members_.at(r).ready; }))
    return;
  phase_ = Phase::running;
  status_.set_state(pb::JOB_RUNNING);
  for (auto& incident : incidents_)
    if (incident.opened && !incident.formed) incident.formed = now;
  commit_when_all_ready(now);
  refresh_status();
}

void JobMachine::send_loader_directory() {
  pb::LoaderDirectory directory;
  for (const auto& [role, member] : members_) {
    if (member.slot.kind() != pb::ROLE_LOADER || !member.registered) continue;
    auto& entry = *directory.add_loaders();
    entry.set_role(role);
    entry.set_bulk_endpoint(member.registration.bulk_endpoint());
  }
  for (const auto& role : eligible_workers()) send(role, directory);
}

// ---- time -------------------------------------------------------------------------------------

void JobMachine::on_tick(TimePoint now) {
  if (finished_) return;
  if (phase_ == Phase::leaving) {
    finish_when_all_left(now);
    return;
  }
  restart_due(now);
  check_registration(now);
  check_forming(now);
  check_hang(now);
  if (regroup_at_ && now >= *regroup_at_) {
    regroup_at_.reset();
    generation_reason_ = "a member could not go on";
    drop_generation();
  }
  open_generation_when_possible(now);
  if (final_save_at_ && now >= *final_save_at_) save_final_again(now);
  for (auto& [role, member] : members_) {
    if (member.evaluating && now - member.evaluating_since > timeouts_.evaluation) {
      lose_member(role, "evaluation took longer than its limit", false, now);
      break;
    }
  }
  refresh_status();
}

void JobMachine::check_registration(TimePoint now) {
  for (auto& [role, member] : members_) {
    if (!member.process_up || member.registered || member.state != pb::ACTOR_STARTING) continue;
    if (now - member.since <= timeouts_.registration) continue;
    lose_member(role,
                "did not register within " +
                    std::to_string(static_cast<int>(seconds(timeouts_.registration))) + " s",
                false, now);
    return;
  }
}

void JobMachine::check_forming(TimePoint now) {
  if (phase_ != Phase::forming || now - forming_since_ <= timeouts_.form) return;
  for (const auto& role : in_generation()) {
    if (members_.at(role).ready) continue;
    lose_member(role, "was not ready for generation " + std::to_string(generation_) + " in time",
                false, now);
    return;
  }
}

void JobMachine::check_hang(TimePoint now) {
  if (phase_ != Phase::running) return;
  const auto limit = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(spec_.failure.hang_after_seconds));
  bool all_stuck = true;
  for (const auto& role : in_generation()) {
    const Member& member = members_.at(role);
    if (now - member.last_progress <= limit) {
      all_stuck = false;
      continue;
    }
    if (member.step_ready || waits_for_others(member.doing)) continue;
    if (member.doing.find("wait for batch") != std::string::npos) {
      // The loader owes it a batch.
      for (const auto& [name, loader] : members_) {
        if (loader.slot.kind() != pb::ROLE_LOADER || !loader.registered) continue;
        lose_member(name, "gave no batch for longer than failure.hang_after", false, now);
        members_.at(role).last_progress = now;
        return;
      }
      continue;
    }
    lose_member(role, "made no progress for longer than failure.hang_after", false, now);
    return;
  }
  if (!all_stuck || in_generation().empty()) return;
  generation_reason_ = "all members waited for one another";
  event(pb::SEVERITY_WARNING, "standstill", job_, generation_reason_);
  drop_generation();
}

// ---- helpers ----------------------------------------------------------------------------------

void JobMachine::set_state(Member& member, pb::ActorState state, std::string reason,
                           TimePoint now) {
  if (member.state != state || member.since == TimePoint{}) member.since = now;
  member.state = state;
  member.reason = std::move(reason);
}

void JobMachine::send(const std::string& role, const google::protobuf::Message& body) {
  SendTo action{role, {}};
  set_body(action.envelope, body);
  actions_.push_back(std::move(action));
}

void JobMachine::event(pb::Severity severity, const std::string& kind, const std::string& subject,
                       const std::string& message) {
  pb::Event event;
  event.set_severity(severity);
  event.set_kind(kind);
  event.set_subject(subject);
  event.set_message(message);
  event.set_step(last_commit_);
  event.set_generation(generation_);
  actions_.push_back(RecordEvent{std::move(event)});
}

std::optional<std::uint64_t> JobMachine::total_steps() const {
  if (spec_.train.steps) return spec_.train.steps;
  if (corpus_ && corpus_->steps() > 0) return corpus_->steps();
  return std::nullopt;
}

std::string JobMachine::node_of(const std::string& role) const {
  auto found = members_.find(role);
  return found == members_.end() ? std::string{} : found->second.slot.node();
}

std::vector<std::string> JobMachine::roles_on(const std::string& node) const {
  std::vector<std::string> roles;
  for (const auto& [role, member] : members_)
    if (member.slot.node() == node) roles.push_back(role);
  return roles;
}

std::vector<JobAction> JobMachine::take_actions() {
  return std::exchange(actions_, {});
}

}  // namespace crabcast::actors

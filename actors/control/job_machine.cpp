// Membership of a job: who is started, and who is there. Losses and restarts are in
// job_machine_losses.cpp, generations in job_machine_generation.cpp, steps in
// job_machine_steps.cpp, the end in job_machine_end.cpp.
#include "actors/control/job_machine.h"

#include <algorithm>
#include <utility>

#include "protocol/envelopes.h"

namespace crabcast::actors {
namespace {

// A member that cannot go on so often without a commit between is started anew.
constexpr std::uint32_t kFaultsBeforeRestart = 3;

}  // namespace

JobMachine::JobMachine(std::string job, JobSpec spec, std::vector<pb::RoleSlot> placement,
                       JobHistory history, JobTimeouts timeouts)
    : job_(std::move(job)),
      spec_(std::move(spec)),
      timeouts_(timeouts),
      generation_(std::max(history.last_generation, history.generation)),
      last_commit_(history.last_commit),
      last_skipped_(history.last_skipped),
      last_commit_generation_(history.last_generation),
      corpus_(std::move(history.corpus)),
      checkpoints_(std::move(history.checkpoints)),
      evaluated_(std::move(history.evaluated)),
      restarts_used_(history.restarts) {
  base_hash_ = std::move(history.base_hash);
  for (auto& bad : history.quarantined)
    quarantine_.emplace(SampleId{bad.sample().dataset(), bad.sample().index()}, std::move(bad));
  if (spec_.data.mixture.policy == MixturePolicy::adaptive)
    mixture_.emplace(spec_.data.mixture, spec_.data.tasks, std::move(history.mixture),
                     std::move(history.window));
  loss_watch_.reset(history.losses);
  open_losses_ = std::move(history.open_losses);
  rollbacks_ = std::move(history.rollbacks);
  if (rollbacks_.under_way()) trusted_up_to_ = rollbacks_.trusted_up_to();
  for (auto& slot : placement) {
    if (slot.kind() == pb::ROLE_COORDINATOR) continue;
    members_[slot.role()].slot = slot;
  }
  // What lies beyond the ledger is of a history that was rewound.
  checkpoints_.erase(checkpoints_.upper_bound(last_commit_), checkpoints_.end());
  evaluated_.erase(evaluated_.upper_bound(last_commit_), evaluated_.end());
  status_.set_job(job_);
  status_.set_name(spec_.name);
  status_.set_state(pb::JOB_STARTING);
}

void JobMachine::start(TimePoint now) {
  started_ = last_commit_at_ = now;
  own_standstill_.tick(now);
  event(pb::SEVERITY_INFO, last_commit_ == 0 ? "job_started" : "job_resumed", job_,
        last_commit_ == 0 ? "starts from step 0"
                          : "goes on after committed step " + std::to_string(last_commit_));
  reopen_incidents(std::exchange(open_losses_, {}), now);
  for (auto& [role, member] : members_)
    if (!member.process_up) start_process(role, "", now);
  // What an earlier coordinator left to evaluate.
  const auto newest = evaluated_.empty() ? 0 : *evaluated_.rbegin();
  for (const auto id : checkpoints_)
    if (id > newest && evaluation_due(id)) queue_evaluation(id);
  refresh_status();
}

void JobMachine::start_process(const std::string& role, const std::string& reason, TimePoint now) {
  Member& member = members_.at(role);
  member.process_up = true;
  member.pid = 0;
  member.progress = 0;
  member.trained = false;
  member.doing.clear();
  member.last_sign = member.last_progress = TimePoint{};
  set_state(member, pb::ACTOR_STARTING, reason, now);
  member.since = now;
  actions_.push_back(StartProcess{member.slot, member.restarts});
}

void JobMachine::stop_process(const std::string& role) {
  actions_.push_back(StopProcess{role, members_.at(role).slot.node()});
}

void JobMachine::adopt_process(const std::string& role, int pid, TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || finished_) return;
  Member& member = found->second;
  if (phase_ == Phase::leaving) {
    if (!member.process_up) stop_process(role);  // it seemed to have ended
    member.process_up = true;
    return;
  }
  if (member.registered || member.condemned) return;  // known already
  const bool starts = member.process_up || member.restart_at;
  member.process_up = true;
  member.pid = pid;
  if (pid != 0 && pid == member.lost_pid) {
    // It was given up while its agent was away, but ran on. Others went on without it.
    if (starts && !member.restart_at) member.restart_at = now;
    set_state(member, pb::ACTOR_FAILED, "was given up while its agent was away", now);
    condemn(role, now);
  } else {
    member.restart_at.reset();
    set_state(member, pb::ACTOR_STARTING, "adopted from an earlier coordinator", now);
  }
}

void JobMachine::on_started(const std::string& role, int pid) {
  auto found = members_.find(role);
  if (found == members_.end() || !found->second.process_up || found->second.registered) return;
  found->second.pid = pid;
}

// Whether `pid` is not that of the role's process, as far as that is known.
bool JobMachine::is_another(const Member& member, int pid) {
  if (pid == 0) return false;
  return member.pid != 0 ? pid != member.pid : pid == member.lost_pid;
}

bool JobMachine::on_registered(const pb::RegisterMember& registration, TimePoint now) {
  auto found = members_.find(registration.role());
  if (found == members_.end() || phase_ == Phase::leaving) return false;
  const std::string& role = found->first;
  Member& member = found->second;
  if (member.condemned || is_another(member, registration.pid())) return false;
  const bool rejoins = member.in_generation;
  member.process_up = true;  // possibly not known: its start seemed to have failed
  member.registered = true;
  member.registration = registration;
  member.pid = registration.pid();
  member.last_sign = member.last_progress = now;
  member.holds.reset();
  member.restart_at.reset();
  member.released.reset();
  set_state(member, pb::ACTOR_HEALTHY, "", now);
  if (!accept_corpus(role, now) || !accept_base(role, now)) return true;
  if (registration.generation() > generation_) {
    // A generation that an earlier coordinator opened, but that committed nothing: its number is
    // taken.
    generation_ = registration.generation();
    if (trains()) drop_generation();
  }
  pb::MemberAccepted accepted;
  accepted.set_generation(generation_);
  accepted.set_last_commit(last_commit_);
  send(role, accepted);

  switch (member.slot.kind()) {
    case pb::ROLE_WORKER:
      worker_registered(role, rejoins, now);
      break;
    case pb::ROLE_LOADER:
      send_sampling_history(role);
      send_loader_directory();
      renew_patience(now);
      open_generation_when_possible(now);  // epochs become a number of steps only now
      break;
    case pb::ROLE_EVALUATOR:
      if (member.evaluating) to_evaluate_.push_front(*member.evaluating);  // it may not know of it
      member.evaluating.reset();
      start_evaluations(now);
      break;
    default:
      break;
  }
  settle_incidents(now);
  refresh_status();
  return true;
}

// rejoins: it is in the generation, and its connection broke and came back before anybody noticed.
void JobMachine::worker_registered(const std::string& role, bool rejoins, TimePoint now) {
  Member& member = members_.at(role);
  if (!first_worker_at_) first_worker_at_ = now;
  const auto& registration = member.registration;
  // A load for a generation before this connection may be under way yet.
  member.trained = member.trained || registration.holds_state() ||
                   (registration.generation() > 0 && last_commit_ > 0);
  if (registration.holds_state()) member.holds = registration.state_step();
  tell_missed_verdict(role);
  if (phase_ == Phase::forming || (phase_ == Phase::running && rejoins)) {
    // What was said on the broken connection is lost.
    generation_reason_ = role + (rejoins ? " connected again" : " joined");
    drop_generation();
  } else if (phase_ == Phase::running) {
    generation_reason_ = role + " joined";
    regroup_ = true;
  }
  if (rejoins) forget_saves_of(role, "lost its connection while it was asked to save it");
  send_loader_directory();
  open_generation_when_possible(now);
  finish_when_done(now);
}

// A worker that waited through this coordinator's restart, or through a broken connection, can
// apply the verdict that it missed.
void JobMachine::tell_missed_verdict(const std::string& role) {
  Member& member = members_.at(role);
  const auto& registration = member.registration;
  if (registration.pending_step() == 0 || registration.pending_step() != last_commit_ ||
      registration.generation() != last_commit_generation_)
    return;
  if (last_skipped_) {
    pb::SkipStep skip;
    skip.set_step(last_commit_);
    skip.set_generation(last_commit_generation_);
    skip.set_reason("not finite");
    send(role, skip);
  } else {
    pb::Commit commit;
    commit.set_step(last_commit_);
    commit.set_generation(last_commit_generation_);
    send(role, commit);
  }
  member.holds = last_commit_;
  member.trained = true;
}

void JobMachine::on_progress(const pb::MemberProgress& progress, TimePoint now) {
  auto found = members_.find(progress.role());
  if (found == members_.end()) return;
  Member& member = found->second;
  const bool prepares = member.process_up && member.state == pb::ACTOR_STARTING;
  if ((!member.registered && !prepares) || is_another(member, progress.pid())) return;
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
  Member& member = found->second;
  if (fault.generation() != generation_ || !member.in_generation || !trains()) return;
  event(pb::SEVERITY_WARNING, "member_fault", role, fault.operation() + ": " + error.message);
  committing_roles_.erase(role);  // it does not wait for a verdict any more
  if (++member.faults >= kFaultsBeforeRestart) {
    lose_member(role,
                "could not go on " + std::to_string(member.faults) +
                    " times in a row: " + fault.operation() + ": " + error.message,
                false, now);
    refresh_status();
    return;
  }
  // Its cause, mostly a peer's death, is reported by better evidence in a moment. If not, the
  // generation is opened anew all the same.
  if (!regroup_at_) regroup_at_ = now + std::chrono::seconds(1);
}

// ---- placement --------------------------------------------------------------------------------

void JobMachine::on_placement(const std::vector<pb::RoleSlot>& placement, TimePoint now) {
  if (phase_ == Phase::leaving) return;
  for (const auto& slot : placement) {
    if (slot.kind() == pb::ROLE_COORDINATOR) continue;
    auto& member = members_[slot.role()];
    const bool moved = !member.slot.node().empty() && member.slot.node() != slot.node();
    if (member.registered || member.restart_at) {
      if (moved) member.moved = slot;
      member.unwanted = false;
      continue;
    }
    member.unwanted = false;  // the job has more workers again
    if (member.process_up && !moved) continue;
    if (member.process_up) stop_process(slot.role());  // unless it is gone with its node
    move(member, slot);
    member.condemned = false;
    event(pb::SEVERITY_INFO, "placed", slot.role(), "starts on node " + slot.node());
    start_process(slot.role(), "placed", now);
  }
  refresh_status();
}

void JobMachine::move(Member& member, const pb::RoleSlot& slot) {
  if (member.slot.node() != slot.node()) member.lost_pid = 0;  // pids are a node's own
  member.slot = slot;
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
  forgive_own_standstill(now);
  if (phase_ == Phase::leaving) {
    finish_when_all_left(now);
    return;
  }
  restart_due(now);
  stop_condemned(now);
  stop_late_leavers(now);
  check_registration(now);
  check_forming(now);
  check_hang(now);
  check_saves(now);
  check_evaluations(now);
  if (regroup_at_ && now >= *regroup_at_ && trains()) {
    generation_reason_ = "a member could not go on";
    drop_generation();
  }
  commit_when_all_ready(now);
  open_generation_when_possible(now);
  finish_when_done(now);
  if (phase_ == Phase::finishing && final_save_at_ && now >= *final_save_at_) save_last_state(now);
  refresh_status();
}

void JobMachine::check_registration(TimePoint now) {
  for (auto& [role, member] : members_) {
    if (!member.process_up || member.registered || member.state != pb::ACTOR_STARTING) continue;
    const auto heard = std::max(member.since, member.last_progress);
    const bool still = now - heard > timeouts_.registration;
    if (!still && now - member.since <= timeouts_.preparation) continue;
    const auto limit = still ? timeouts_.registration : timeouts_.preparation;
    lose_member(role,
                (still && heard != member.since ? "did not register and stood still for "
                                                : "did not register within ") +
                    std::to_string(static_cast<int>(seconds(limit))) + " s",
                false, now, heard);
    return;
  }
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

// Members of a job that leave in good order: one that was told to go (its node is drained, or a
// preemption gave it notice), and workers that the job is to do without. No incident, and no step
// is done twice.
#include <algorithm>

#include "actors/control/job_machine.h"

namespace crabcast::actors {

void JobMachine::on_draining(const std::string& role, const std::string& reason, TimePoint now) {
  const auto found = members_.find(role);
  if (found == members_.end() || phase_ == Phase::leaving) return;
  Member& member = found->second;
  if (!member.registered || member.draining) return;
  member.draining = true;
  set_state(member, pb::ACTOR_DRAINING, reason, now);
  event(pb::SEVERITY_INFO, "draining", role, reason);
  if (member.slot.kind() == pb::ROLE_WORKER)
    release_leavers(now);
  else
    release(role, now);  // it holds nothing
  refresh_status();
}

void JobMachine::on_scaled(const std::vector<std::string>& removed, std::uint32_t workers_min,
                           TimePoint now) {
  if (phase_ == Phase::leaving) return;
  if (workers_min > 0) spec_.resources.workers_min = workers_min;
  for (const auto& role : removed) {
    const auto found = members_.find(role);
    if (found == members_.end() || found->second.unwanted) continue;
    Member& member = found->second;
    event(pb::SEVERITY_INFO, "scaled_down", role, "the job goes on without it");
    member.unwanted = true;
    member.restart_at.reset();
    const auto state = member.process_up ? pb::ACTOR_DRAINING : pb::ACTOR_GONE;
    set_state(member, state, "the job has fewer workers", now);
    if (member.registered || !member.process_up) continue;
    member.released = now;
    stop_process(role);
  }
  release_leavers(now);
  open_generation_when_possible(now);
  refresh_status();
}

// All that train are to go: the state must be stored before they do.
bool JobMachine::everybody_leaves() const {
  const auto roles = in_generation();
  return !roles.empty() && std::all_of(roles.begin(), roles.end(),
                                       [&](const auto& role) { return leaves(members_.at(role)); });
}

// Lets go whoever leaves, as soon as the state after the last commit is in other hands, or stored.
// While members train that is only between two steps.
void JobMachine::release_leavers(TimePoint now, bool between_steps) {
  if (phase_ == Phase::leaving || phase_ == Phase::finishing || committing_ || stop_asked_) return;
  if (phase_ == Phase::running && !between_steps) return;
  std::vector<std::string> leavers;
  bool safe = last_commit_ == 0 || checkpoints_.contains(last_commit_);
  for (const auto& role : eligible_workers()) {
    const Member& member = members_.at(role);
    if (leaves(member))
      leavers.push_back(role);
    else
      safe = safe || member.holds == last_commit_;
  }
  if (leavers.empty() || !safe) return;
  for (const auto& role : leavers) release(role, now);
  generation_reason_ = leavers.front() + " left";
  drop_generation();
  open_generation_when_possible(now);
}

void JobMachine::release(const std::string& role, TimePoint now) {
  Member& member = members_.at(role);
  pb::LeaveJob body;
  body.set_reason(member.unwanted ? "the job goes on with fewer workers" : "it was told to go");
  send(role, body);
  forget_saves_of(role, "left while it saved it");
  give_back_evaluation(role);
  member.registered = member.in_generation = member.ready = false;
  member.holds.reset();
  member.step_ready.reset();
  member.released = now;
  if (member.slot.kind() == pb::ROLE_LOADER) send_loader_directory();
  start_evaluations(now);
}

void JobMachine::stop_late_leavers(TimePoint now) {
  for (auto& [role, member] : members_) {
    if (!member.released || now - *member.released <= timeouts_.leave) continue;
    member.released = now;
    stop_process(role);
  }
}

// Its process has ended. Another one takes the place of one that was told to go.
void JobMachine::left_in_good_order(const std::string& role, TimePoint now) {
  Member& member = members_.at(role);
  event(pb::SEVERITY_INFO, "left", role, "in good order");
  member.draining = false;
  member.released.reset();
  if (member.unwanted) {
    set_state(member, pb::ACTOR_GONE, "the job has fewer workers", now);
    return;
  }
  member.restart_at = now + timeouts_.back_off_first;
  set_state(member, pb::ACTOR_GONE, "left in good order", now);
}

}  // namespace crabcast::actors

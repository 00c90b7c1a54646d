// Generations of a job: when one opens, who is in it, and what ends it.
#include <algorithm>

#include "actors/control/job_machine.h"

namespace crabcast::actors {

// ---- who is there -----------------------------------------------------------------------------

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

bool JobMachine::state_lives() const {
  if (trusted_up_to_ && *trusted_up_to_ < last_commit_) return false;
  const auto workers = eligible_workers();
  return std::any_of(workers.begin(), workers.end(),
                     [&](const auto& role) { return members_.at(role).holds == last_commit_; });
}

bool JobMachine::trained_to_the_end() const {
  const auto total = total_steps();
  return total && last_commit_ >= *total && state_lives();
}

bool JobMachine::more_workers_expected() const {
  return std::any_of(members_.begin(), members_.end(), [](const auto& entry) {
    const Member& member = entry.second;
    return member.slot.kind() == pb::ROLE_WORKER && !member.registered &&
           (member.process_up || member.restart_at);
  });
}

std::size_t JobMachine::left(pb::RoleKind kind) const {
  return static_cast<std::size_t>(
      std::count_if(members_.begin(), members_.end(), [&](const auto& entry) {
        const Member& member = entry.second;
        return member.slot.kind() == kind && (member.process_up || member.restart_at);
      }));
}

// ---- a generation opens -----------------------------------------------------------------------

void JobMachine::open_generation_when_possible(TimePoint now) {
  // A commit that is being written decides first which step the generation begins with, and a
  // quarantine what it draws.
  if (phase_ != Phase::gathering || committing_ || !quarantining_.empty()) return;
  if (trained_to_the_end()) return enter_finishing(now);
  const bool enough = eligible_workers().size() >= spec_.resources.workers_min && total_steps();
  const bool lives = state_lives();
  if (stop_asked_ && !(enough && lives)) return save_and_stop(now);
  if (!enough) return;
  if (lives) return open_generation("peer", now);
  // Nobody holds the state: worth waiting a while for those that are still starting.
  const bool patience_over = first_worker_at_ && now - *first_worker_at_ >= timeouts_.gather;
  if (more_workers_expected() && !patience_over) return;
  if (!saving_.empty()) return;  // it may become the newest checkpoint
  if (last_commit_ == 0) {
    if (!restart_trained(now)) open_generation("fresh", now);
    return;
  }
  phase_ = Phase::finding;
  actions_.push_back(FindCheckpoint{std::min(last_commit_, trusted_up_to_.value_or(last_commit_))});
}

void JobMachine::on_checkpoint_found(std::optional<std::uint64_t> checkpoint, TimePoint now,
                                     const TaskLosses& window, const std::vector<double>& losses) {
  if (phase_ != Phase::finding) return;
  phase_ = Phase::gathering;
  if (state_lives()) return open_generation_when_possible(now);  // somebody came back meanwhile
  const std::uint64_t step = checkpoint.value_or(0);
  // Newer ones did not verify.
  checkpoints_.erase(checkpoints_.upper_bound(step), checkpoints_.end());
  if (step != last_commit_) {
    event(
        pb::SEVERITY_WARNING, "rewind", job_,
        (trusted_up_to_ ? "the state after step " + std::to_string(last_commit_) + " is void"
                        : "no worker holds the state after step " + std::to_string(last_commit_)) +
            "; training goes on after step " + std::to_string(step) +
            (checkpoint ? ", from its checkpoint" : ": there is no checkpoint to go on from"));
    rewind(step, window, losses);
  }
  trusted_up_to_.reset();
  if (rollbacks_.under_way()) {
    rollbacks_.set_under_way(false);
    actions_.push_back(RecordRollbacks{rollbacks_});
  }
  if (last_commit_ >= total_steps().value_or(UINT64_MAX)) return enter_finishing(now);
  if (eligible_workers().size() < spec_.resources.workers_min) return;  // lost meanwhile
  if (checkpoint)
    open_generation("checkpoint", now);
  else if (!restart_trained(now))
    open_generation("fresh", now);
  refresh_status();
}

// The steps after `step` are done again, and what they brought is void.
void JobMachine::rewind(std::uint64_t step, const TaskLosses& window,
                        const std::vector<double>& losses) {
  actions_.push_back(RewindLedger{step});
  last_commit_ = step;
  last_commit_generation_ = 0;  // nobody waits for the verdict of that one
  if (mixture_) mixture_->rewind(step, window);
  const auto is_void = [&](std::uint64_t checkpoint) { return checkpoint > step; };
  std::erase_if(evaluated_, is_void);
  std::erase_if(to_evaluate_, is_void);
  std::erase_if(evaluation_tries_, [&](const auto& tries) { return is_void(tries.first); });
  save_owed_ = false;
  final_save_tries_ = 0;
  recent_commits_.clear();
  recent_losses_.clear();
  loss_watch_.reset(losses);
}

// Everybody is to begin afresh, which a process that has trained cannot. Returns whether there was
// one: then the generation has to wait for its successor.
bool JobMachine::restart_trained(TimePoint now) {
  bool any = false;
  for (const auto& role : eligible_workers()) {
    const Member& member = members_.at(role);
    if (!member.registered || !member.trained) continue;
    any = true;
    told_of_losses_ = true;  // by whatever made its state void
    lose_member(role, "its state is void, and there is no checkpoint to replace it", false, now);
    told_of_losses_ = false;
  }
  return any;
}

void JobMachine::open_generation(const std::string& source, TimePoint now) {
  const auto workers = eligible_workers();
  ++generation_;
  first_step_ = last_commit_ + 1;
  phase_ = Phase::forming;
  forming_since_ = now;
  final_save_at_.reset();
  step_seconds_.clear();

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
    member.trained = member.trained || last_commit_ > 0;  // whether or not it gets ready in time
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
        "generation " + std::to_string(generation_) + ": " + std::to_string(workers.size()) +
            (workers.size() == 1 ? " worker" : " workers") + " from step " +
            std::to_string(first_step_) + " (" + generation_reason_ + ")");
  actions_.push_back(PublishGeneration{std::move(generation), workers});
  refresh_status();
}

void JobMachine::on_generation_failed(std::uint64_t generation, const Error& error, TimePoint now) {
  leave(pb::JOB_FAILED,
        error.within("generation " + std::to_string(generation) + " could not be recorded"), now);
}

void JobMachine::drop_generation() {
  if (phase_ == Phase::leaving) return;
  for (auto& [role, member] : members_) {
    member.in_generation = false;
    member.ready = false;
    member.step_ready.reset();
  }
  regroup_ = false;
  regroup_at_.reset();
  phase_ = Phase::gathering;
}

void JobMachine::on_generation_ready(const std::string& role, const pb::GenerationReady& ready,
                                     TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || ready.generation() != generation_ || phase_ != Phase::forming)
    return;
  Member& member = found->second;
  if (!member.in_generation) return;
  member.ready = true;
  member.doing = "form";
  member.holds = ready.state_step();
  member.load_seconds = ready.load_seconds();
  member.last_progress = now;
  const auto roles = in_generation();
  if (!std::all_of(roles.begin(), roles.end(), [&](const auto& r) { return members_.at(r).ready; }))
    return;
  phase_ = Phase::running;
  if (!stop_asked_) status_.set_state(pb::JOB_RUNNING);
  for (const auto& r : roles) members_.at(r).last_progress = now;  // those that were ready first
  for (auto& incident : incidents_)
    if (incident.opened && !incident.formed) incident.formed = now;
  commit_when_all_ready(now);
  refresh_status();
}

// ---- what ends one ----------------------------------------------------------------------------

void JobMachine::check_forming(TimePoint now) {
  if (phase_ != Phase::forming || now - forming_since_ <= timeouts_.form) return;
  // Who joins copies the state of one that holds it, so the latter comes first.
  std::string late;
  for (const auto& role : in_generation()) {
    const Member& member = members_.at(role);
    if (member.ready) continue;
    if (late.empty() || member.holds == last_commit_) late = role;
    if (member.holds == last_commit_) break;
  }
  if (late.empty()) return;
  lose_member(late, "was not ready for generation " + std::to_string(generation_) + " in time",
              false, now, forming_since_);
}

}  // namespace crabcast::actors

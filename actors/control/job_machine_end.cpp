// Checkpoints, evaluations and the end of a job.
#include <algorithm>
#include <map>

#include "actors/control/job_machine.h"
#include "protocol/sums.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kEvaluationsWaiting = 2;
constexpr int kEvaluationTries = 3;
constexpr std::uint32_t kFinalSaveTries = 6;

// It will be so at the next checkpoint, too, until somebody mends it.
bool is_disk_trouble(Errc code) {
  return code == Errc::disk_full || code == Errc::io_error || code == Errc::permission_denied;
}

}  // namespace

// ---- checkpoints ------------------------------------------------------------------------------

void JobMachine::on_checkpoint_stored(std::uint64_t checkpoint, TimePoint now) {
  if (finished_) return;
  if (void_saves_.erase(checkpoint) > 0 && !saving_.contains(checkpoint)) {
    actions_.push_back(VoidCheckpoints{checkpoint - 1});
    return;
  }
  saving_.erase(checkpoint);
  if (checkpoint > last_commit_) return;  // its save was given up, and the ledger rewound since
  checkpoints_.insert(checkpoint);
  save_trouble_.reset();
  event(pb::SEVERITY_INFO, "checkpoint_stored", std::to_string(checkpoint),
        "the state after step " + std::to_string(checkpoint) + " is durable");
  if (evaluation_due(checkpoint)) queue_evaluation(checkpoint);
  // The newest of this history is kept whatever a rewound one left in the store.
  std::set<std::uint64_t> in_use{*checkpoints_.rbegin()};
  in_use.insert(to_evaluate_.begin(), to_evaluate_.end());
  for (const auto& [role, member] : members_)
    if (member.evaluating) in_use.insert(*member.evaluating);
  actions_.push_back(ApplyRetention{std::move(in_use)});
  start_evaluations(now);
  if (stop_asked_ && checkpoint == last_commit_ && !committing_)
    save_and_stop(now);
  else
    finish_when_done(now);
  release_leavers(now, checkpoint == last_commit_);
  if (phase_ == Phase::gathering && last_commit_ == total_steps() && checkpoint == last_commit_)
    enter_finishing(now);              // whoever held the result may be lost, but it is stored
  open_generation_when_possible(now);  // it may have waited for this checkpoint
  refresh_status();
}

void JobMachine::on_checkpoint_failed(std::uint64_t checkpoint, const Error& error, TimePoint now) {
  if (finished_ || !forget_save(checkpoint, error) || phase_ == Phase::leaving) return;
  if (stop_asked_ && checkpoint == last_commit_) {
    leave(pb::JOB_STOPPED,
          {Errc::ok, "stopped; its last checkpoint could not be stored: " + error.message}, now);
    return;
  }
  if (checkpoint == total_steps()) {
    if (++final_save_tries_ > kFinalSaveTries) {
      leave(
          pb::JOB_FAILED,
          error.within("the final checkpoint could not be stored; mend the cause and run it again"),
          now);
      return;
    }
    final_save_at_ = now + std::chrono::seconds(1LL << std::min(final_save_tries_, 5U));
  }
  open_generation_when_possible(now);
  finish_when_done(now);
  refresh_status();
}

bool JobMachine::forget_save(std::uint64_t checkpoint, const Error& error) {
  if (saving_.erase(checkpoint) == 0) return false;
  const bool disk = is_disk_trouble(error.code);
  if (disk && save_trouble_ == error.code) return true;  // said when it began
  if (disk) save_trouble_ = error.code;
  event(pb::SEVERITY_WARNING, "checkpoint_failed", std::to_string(checkpoint),
        error.message + "; the job goes on, older checkpoints stay");
  return true;
}

void JobMachine::forget_saves_of(const std::string& role, const std::string& why) {
  std::vector<std::uint64_t> ids;
  for (const auto& [id, save] : saving_)
    if (save.role == role) ids.push_back(id);
  for (const auto id : ids) forget_save(id, {Errc::process_died, role + " " + why});
}

// Training goes on without a checkpoint that takes too long. When the job waits for nothing else,
// whoever owes it is replaced.
void JobMachine::check_saves(TimePoint now) {
  for (const auto& [id, save] : saving_) {
    if (now - save.since <= timeouts_.checkpoint) continue;
    const bool awaited = id == last_commit_ && (phase_ == Phase::finishing || stop_asked_);
    if (awaited)
      lose_member(std::string(save.role),
                  "did not save checkpoint " + std::to_string(id) + " in time", false, now,
                  save.since);
    else
      on_checkpoint_failed(id, {Errc::timeout, save.role + " did not save it in time"}, now);
    return;
  }
}

bool JobMachine::save_last_state(TimePoint now) {
  final_save_at_.reset();
  if (!state_lives()) return false;
  auto holders = eligible_workers();
  std::erase_if(holders, [&](const auto& role) { return members_.at(role).holds != last_commit_; });
  if (holders.empty()) return false;
  const auto& role = holders[final_save_tries_ % holders.size()];  // each time another one
  pb::Commit commit;
  commit.set_generation(generation_);
  commit.set_step(last_commit_);
  commit.set_checkpoint(last_commit_);
  saving_[last_commit_] = {role, now};
  send(role, commit);
  return true;
}

// ---- evaluations ------------------------------------------------------------------------------

// Whether evaluate.every came up since the checkpoint before.
bool JobMachine::evaluation_due(std::uint64_t checkpoint) const {
  const auto at = checkpoints_.lower_bound(checkpoint);
  const auto before = at == checkpoints_.begin() ? 0 : *std::prev(at);
  const auto every = spec_.evaluate.every_steps;
  return checkpoint / every > before / every || checkpoint == total_steps();
}

bool JobMachine::evaluates_something() const {
  return !to_evaluate_.empty() || std::any_of(members_.begin(), members_.end(), [](const auto& e) {
    return e.second.evaluating.has_value();
  });
}

void JobMachine::queue_evaluation(std::uint64_t checkpoint) {
  const bool under_way =
      std::find(to_evaluate_.begin(), to_evaluate_.end(), checkpoint) != to_evaluate_.end() ||
      std::any_of(members_.begin(), members_.end(),
                  [&](const auto& e) { return e.second.evaluating == checkpoint; });
  if (under_way || evaluated_.contains(checkpoint) || left(pb::ROLE_EVALUATOR) == 0 ||
      evaluation_tries_[checkpoint] >= kEvaluationTries)
    return;
  to_evaluate_.push_back(checkpoint);
  while (to_evaluate_.size() > kEvaluationsWaiting) {
    event(pb::SEVERITY_WARNING, "evaluation_skipped", std::to_string(to_evaluate_.front()),
          "the evaluators are slower than evaluate.every; a newer checkpoint waits");
    to_evaluate_.pop_front();
  }
}

// Its evaluator is gone. A checkpoint that kills evaluators is not tried for ever.
void JobMachine::give_back_evaluation(const std::string& role) {
  const auto checkpoint = std::exchange(members_.at(role).evaluating, std::nullopt);
  if (!checkpoint) return;
  event(pb::SEVERITY_WARNING, "evaluation_failed", std::to_string(*checkpoint),
        role + " was lost while it evaluated it");
  if (++evaluation_tries_[*checkpoint] < kEvaluationTries) to_evaluate_.push_front(*checkpoint);
}

void JobMachine::start_evaluations(TimePoint now) {
  if (phase_ == Phase::leaving) return;
  for (auto& [role, member] : members_) {
    if (member.slot.kind() != pb::ROLE_EVALUATOR || !member.registered || member.evaluating)
      continue;
    if (to_evaluate_.empty()) return;
    member.evaluating = to_evaluate_.front();
    member.evaluating_since = now;
    to_evaluate_.pop_front();
    pb::Evaluate evaluate;
    evaluate.set_checkpoint(*member.evaluating);
    for (const auto& task : spec_.evaluate.tasks) evaluate.add_tasks(task);
    evaluate.set_samples_per_task(spec_.evaluate.samples_per_task);
    send(role, evaluate);
  }
}

void JobMachine::check_evaluations(TimePoint now) {
  for (const auto& [role, member] : members_) {
    if (!member.evaluating || now - member.evaluating_since <= timeouts_.evaluation) continue;
    lose_member(role, "evaluation took longer than its limit", false, now, member.evaluating_since);
    return;
  }
}

bool JobMachine::on_evaluation(const std::string& role, const pb::EvaluationDone& done,
                               TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || finished_) return false;
  auto& evaluating = found->second.evaluating;
  bool good = false;
  if (done.has_failure()) {
    if (!evaluating) return false;
    const auto checkpoint = *std::exchange(evaluating, std::nullopt);
    event(pb::SEVERITY_WARNING, "evaluation_failed", std::to_string(checkpoint),
          done.failure().message());
    if (++evaluation_tries_[checkpoint] < kEvaluationTries) to_evaluate_.push_front(checkpoint);
  } else {
    // Possibly one that an earlier coordinator asked for, or that was done twice.
    const auto checkpoint = done.record().checkpoint();
    if (evaluating == checkpoint) evaluating.reset();
    std::erase(to_evaluate_, checkpoint);
    good = checkpoint <= last_commit_ && evaluated_.insert(checkpoint).second;
    if (good) {
      *status_.mutable_evaluation() = done.record();
      event(pb::SEVERITY_INFO, "evaluated", std::to_string(checkpoint),
            "mean score " + std::to_string(done.record().mean()).substr(0, 6));
    }
  }
  start_evaluations(now);
  finish_when_done(now);
  refresh_status();
  return good;
}

// ---- the end ----------------------------------------------------------------------------------

void JobMachine::on_stop(bool keep, const std::string& reason, TimePoint now) {
  if (finished_ || phase_ == Phase::leaving || (keep && stop_asked_)) return;
  event(pb::SEVERITY_INFO, "stop_asked", job_, reason);
  if (!keep) {
    leave(pb::JOB_CANCELLED, {Errc::ok, reason}, now);
    return;
  }
  status_.set_state(pb::JOB_STOPPING);
  stop_asked_ = true;
  stop_reason_ = reason;
  // While members train, or a commit is being written, the next commit brings a checkpoint, and
  // that one ends the job. A trainer at work cannot save anything else.
  const bool next_commit_saves = trains() && last_commit_ > 0 && state_lives();
  if (!committing_ && (!next_commit_saves || checkpoints_.contains(last_commit_)))
    save_and_stop(now);
  refresh_status();
}

// Ends a job that is asked to stop, as soon as the state after its last commit is stored.
void JobMachine::save_and_stop(TimePoint now) {
  if (phase_ == Phase::leaving || saving_.contains(last_commit_)) return;
  const bool stored = checkpoints_.contains(last_commit_);
  if (!stored && last_commit_ > 0 && save_last_state(now)) return;
  const bool complete = stored && last_commit_ == total_steps() && !evaluates_something();
  std::string reason = stop_reason_;
  if (!stored && last_commit_ > 0)
    reason += "; no process is left that holds the state after step " +
              std::to_string(last_commit_) + ", so it goes on from an older checkpoint";
  leave(complete ? pb::JOB_SUCCEEDED : pb::JOB_STOPPED, {Errc::ok, reason}, now);
}

// Nothing is left to train. Whoever holds the result may have to save it.
void JobMachine::enter_finishing(TimePoint now) {
  phase_ = Phase::finishing;
  for (const auto& role : eligible_workers())
    members_.at(role).in_generation = members_.at(role).holds == last_commit_;
  for (auto& incident : incidents_) {  // no generation is needed to repair these any more
    if (!incident.members_changed || incident.formed) continue;
    incident.opened = incident.opened.value_or(now);
    incident.formed = now;
  }
  settle_incidents(now);
  if (checkpoints_.contains(last_commit_)) queue_evaluation(last_commit_);
  start_evaluations(now);
  finish_when_done(now);
}

void JobMachine::finish_when_done(TimePoint now) {
  if (phase_ != Phase::finishing) return;
  if (stop_asked_) return save_and_stop(now);
  if (!checkpoints_.contains(last_commit_)) {
    if (saving_.contains(last_commit_) || final_save_at_ || save_last_state(now)) return;
    drop_generation();  // nobody holds the result
    open_generation_when_possible(now);
    return;
  }
  if (!evaluates_something() && saving_.empty()) leave(pb::JOB_SUCCEEDED, {Errc::ok, ""}, now);
}

void JobMachine::leave(pb::JobState state, Error error, TimePoint now) {
  if (phase_ == Phase::leaving) return;
  phase_ = Phase::leaving;
  leave_state_ = state;
  leave_error_ = std::move(error);
  leaving_since_ = now;
  for (auto& incident : incidents_) {  // never repaired, but never forgotten
    incident.event.set_message(incident.event.incident().evidence() +
                               "; the job ended before it was repaired");
    incident.event.set_step(last_commit_);
    incident.event.set_generation(generation_);
    actions_.push_back(RecordEvent{std::move(incident.event)});
  }
  incidents_.clear();
  pb::LeaveJob body;
  body.set_reason(leave_error_.message);
  body.set_finished(state == pb::JOB_SUCCEEDED);
  for (auto& [role, member] : members_) {
    member.restart_at.reset();
    member.in_generation = false;
    if (member.registered)
      send(role, body);
    else
      stop_process(role);  // an order to start it may be under way
    if (member.process_up) set_state(member, pb::ACTOR_DRAINING, "the job ends", now);
  }
  finish_when_all_left(now);
  refresh_status();
}

void JobMachine::finish_when_all_left(TimePoint now) {
  if (finished_) return;
  const bool all_left = std::none_of(members_.begin(), members_.end(),
                                     [](const auto& e) { return e.second.process_up; });
  const auto waited = now - leaving_since_;
  if (!all_left && waited <= timeouts_.leave) return;
  if (!all_left) {
    if (!std::exchange(killed_late_ones_, true))
      for (auto& [role, member] : members_)
        if (member.process_up) stop_process(role);
    if (waited <= 2 * timeouts_.leave) return;
  }
  finished_ = true;
  status_.set_state(leave_state_);
  status_.set_reason(leave_error_.message);
  status_.set_error_code(static_cast<std::int32_t>(leave_error_.code));
  static const std::map<int, std::pair<pb::Severity, const char*>> kinds = {
      {pb::JOB_SUCCEEDED, {pb::SEVERITY_INFO, "job_succeeded"}},
      {pb::JOB_STOPPED, {pb::SEVERITY_INFO, "job_stopped"}},
      {pb::JOB_CANCELLED, {pb::SEVERITY_INFO, "job_cancelled"}},
      {pb::JOB_FAILED, {pb::SEVERITY_ERROR, "job_failed"}}};
  const auto& [severity, kind] = kinds.at(leave_state_);
  event(severity, kind, job_,
        leave_error_.message.empty() ? "after step " + std::to_string(last_commit_)
                                     : leave_error_.message);
  refresh_status();
  actions_.push_back(Finish{leave_state_, leave_error_});
}

pb::JobStatus JobMachine::status(TimePoint now, std::int64_t now_unix_ms) const {
  auto status = status_;
  for (auto& actor : *status.mutable_actors()) {
    const auto age = now - members_.at(actor.name()).since;
    actor.set_since_unix_ms(now_unix_ms -
                            std::chrono::duration_cast<std::chrono::milliseconds>(age).count());
  }
  return status;
}

void JobMachine::refresh_status() {
  status_.set_step(last_commit_);
  status_.set_steps(total_steps().value_or(0));
  status_.set_generation(generation_);
  status_.set_checkpoints(static_cast<std::uint32_t>(checkpoints_.size()));
  status_.set_newest_checkpoint(checkpoints_.empty() ? 0 : *checkpoints_.rbegin());
  status_.set_quarantined(static_cast<std::uint32_t>(quarantine_.size()));
  status_.clear_mixture();
  if (mixture_ && !mixture_->changes().empty()) *status_.add_mixture() = mixture_->changes().back();
  status_.clear_losses();
  double loss_sum = 0;
  double tokens = 0;
  for (const auto& [task, recent] : recent_losses_) {
    auto& sum = *status_.add_losses();
    for (const auto& loss : recent) add_to(sum, loss);
    loss_sum += sum.loss_sum();
    tokens += static_cast<double>(sum.tokens());
  }
  status_.set_loss(tokens > 0 ? loss_sum / tokens : 0);
  status_.set_samples_per_second(0);
  status_.set_eta_seconds(0);
  if (recent_commits_.size() > 1) {
    const double span = seconds(recent_commits_.back().first - recent_commits_.front().first);
    double samples = 0;
    for (std::size_t i = 1; i < recent_commits_.size(); ++i)
      samples += static_cast<double>(recent_commits_[i].second);
    if (span > 0) {
      status_.set_samples_per_second(samples / span);
      const double per_step = span / static_cast<double>(recent_commits_.size() - 1);
      const auto left = total_steps().value_or(last_commit_) - last_commit_;
      status_.set_eta_seconds(per_step * static_cast<double>(left));
    }
  }
  status_.clear_actors();
  std::uint32_t alive = 0;
  std::uint32_t wanted = 0;
  for (const auto& [role, member] : members_) {
    auto& actor = *status_.add_actors();
    actor.set_name(role);
    actor.set_job(job_);
    actor.set_kind(member.slot.kind());
    actor.set_state(member.state);
    actor.set_reason(member.reason);
    actor.set_mailbox(member.mailbox);
    actor.set_restarts(member.restarts);
    actor.set_node(member.slot.node());
    actor.set_pid(member.pid);
    actor.set_doing(member.doing);
    if (member.slot.kind() != pb::ROLE_WORKER || member.unwanted) continue;
    ++wanted;
    if (member.registered) ++alive;
  }
  status_.set_workers_alive(alive);
  status_.set_workers_wanted(wanted);
}

}  // namespace crabcast::actors

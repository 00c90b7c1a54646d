// Steps, checkpoints, evaluations and the end of a job. Membership is in job_machine.cpp.
#include <algorithm>
#include <map>

#include "actors/control/job_machine.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kRecentCommits = 20;  // window of samples/s and of the shown losses
constexpr std::size_t kCheckpointsInFlight = 2;
constexpr std::size_t kEvaluationsWaiting = 2;
constexpr int kEvaluationTries = 3;
constexpr std::uint32_t kFinalSaveTries = 6;

void add_stages(pb::StageSeconds& sum, const pb::StageSeconds& more, double scale) {
  sum.set_data(sum.data() + scale * more.data());
  sum.set_forward(sum.forward() + scale * more.forward());
  sum.set_backward(sum.backward() + scale * more.backward());
  sum.set_reduce(sum.reduce() + scale * more.reduce());
  sum.set_commit(sum.commit() + scale * more.commit());
  sum.set_optimizer(sum.optimizer() + scale * more.optimizer());
}

void add_loss(pb::TaskLoss& sum, const pb::TaskLoss& more) {
  sum.set_task(more.task());
  sum.set_loss_sum(sum.loss_sum() + more.loss_sum());
  sum.set_tokens(sum.tokens() + more.tokens());
  sum.set_samples(sum.samples() + more.samples());
}

}  // namespace

// ---- steps ------------------------------------------------------------------------------------

void JobMachine::on_step_ready(const std::string& role, const pb::StepReady& ready, TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || !found->second.in_generation) return;
  if (ready.generation() != generation_ || ready.step() != last_commit_ + 1) return;
  found->second.step_ready = ready;
  found->second.last_progress = now;
  commit_when_all_ready(now);
}

void JobMachine::commit_when_all_ready(TimePoint now) {
  if (phase_ != Phase::running || committing_) return;
  const auto roles = in_generation();
  if (roles.empty() || !std::all_of(roles.begin(), roles.end(), [&](const auto& role) {
        return members_.at(role).step_ready.has_value();
      }))
    return;
  if (!agree(roles, now)) return;
  auto record = make_record(roles, now);
  const auto& first = *members_.at(roles.front()).step_ready;
  if (!first.finite()) {
    const std::string what =
        "step " + std::to_string(record.step()) + " has a loss or gradient that is not finite";
    if (spec_.failure.non_finite == NonFinitePolicy::stop) {
      event(pb::SEVERITY_ERROR, "non_finite", job_, what + "; failure.non_finite is stop");
      leave(pb::JOB_FAILED, {Errc::non_finite, what}, now);
      return;
    }
    record.set_skipped(true);
    event(pb::SEVERITY_WARNING, "non_finite", job_, what + "; its update is skipped");
  }
  committing_roles_ = {roles.begin(), roles.end()};
  committing_ = record;
  actions_.push_back(WriteCommit{std::move(record)});
}

// Every member computed the same sum from the same parameters; anything else is corruption.
bool JobMachine::agree(const std::vector<std::string>& roles, TimePoint now) {
  const auto& first = *members_.at(roles.front()).step_ready;
  for (const auto& role : roles) {
    const auto& other = *members_.at(role).step_ready;
    if (other.gradient_checksum() == first.gradient_checksum() &&
        other.parameter_checksum() == first.parameter_checksum() &&
        other.finite() == first.finite())
      continue;
    const std::string what =
        role + " and " + roles.front() + " disagree about step " + std::to_string(first.step()) +
        (other.parameter_checksum() != first.parameter_checksum() ? " (parameters)"
                                                                  : " (gradient)");
    event(pb::SEVERITY_ERROR, "disagreement", role, what);
    if (restarts_used_ >= spec_.failure.restarts) {
      leave(pb::JOB_FAILED, {Errc::corrupt, what + "; the restart budget is used up"}, now);
      return false;
    }
    ++restarts_used_;
    // Who of them is wrong cannot be told here; none of their states is trusted: all load the
    // newest checkpoint.
    for (const auto& r : roles) members_.at(r).holds.reset();
    generation_reason_ = "members disagreed";
    drop_generation();
    open_generation_when_possible(now);
    return false;
  }
  return true;
}

pb::CommitRecord JobMachine::make_record(const std::vector<std::string>& roles,
                                         TimePoint now) const {
  pb::CommitRecord record;
  record.set_step(last_commit_ + 1);
  record.set_generation(generation_);
  record.set_members(static_cast<std::uint32_t>(roles.size()));
  record.set_seconds(seconds(now - last_commit_at_));
  std::map<std::uint32_t, const pb::LaneReport*> lanes;
  for (const auto& role : roles) {
    const auto& ready = *members_.at(role).step_ready;
    for (const auto& lane : ready.lanes()) lanes[lane.lane()] = &lane;
    add_stages(*record.mutable_stages(), ready.stages(), 1.0 / static_cast<double>(roles.size()));
  }
  std::map<std::string, pb::TaskLoss> losses;
  for (const auto& [number, lane] : lanes) {
    for (const auto& sample : lane->samples()) *record.add_samples() = sample;
    for (const auto& substitution : lane->substitutions())
      *record.add_substitutions() = substitution;
    for (const auto& loss : lane->losses()) add_loss(losses[loss.task()], loss);
  }
  for (const auto& [task, loss] : losses) *record.add_losses() = loss;
  const auto& first = *members_.at(roles.front()).step_ready;
  record.set_gradient_norm(first.gradient_norm());
  record.set_gradient_checksum(first.gradient_checksum());
  record.set_parameter_checksum(first.parameter_checksum());
  record.set_learning_rate(first.learning_rate());
  return record;
}

bool JobMachine::save_due(std::uint64_t step) const {
  if (step == total_steps() || stop_asked_) return true;
  return step % spec_.checkpoint.every_steps == 0 &&
         checkpoints_in_flight_.size() < kCheckpointsInFlight;
}

void JobMachine::on_commit_durable(std::uint64_t step, TimePoint now) {
  if (!committing_ || committing_->step() != step) return;
  const auto record = std::move(*committing_);
  committing_.reset();
  last_commit_ = step;

  std::string saver;
  for (const auto& role : eligible_workers())
    if (saver.empty() && committing_roles_.contains(role)) saver = role;
  for (const auto& role : committing_roles_) {
    auto found = members_.find(role);
    if (found == members_.end() || !found->second.registered) continue;
    found->second.step_ready.reset();
    found->second.holds = step;
    found->second.last_progress = now;
    if (record.skipped()) {
      pb::SkipStep skip;
      skip.set_generation(record.generation());
      skip.set_step(step);
      skip.set_reason("not finite");
      send(role, skip);
    }
    pb::Commit commit;
    commit.set_generation(record.generation());
    commit.set_step(step);
    if (role == saver && save_due(step)) {
      commit.set_checkpoint(step);
      saver_ = role;
      checkpoints_in_flight_.insert(step);
    }
    if (!record.skipped() || commit.checkpoint() != 0) send(role, commit);
  }
  committing_roles_.clear();
  for (const auto& substitution : record.substitutions())
    event(pb::SEVERITY_WARNING, "sample_replaced",
          std::to_string(substitution.planned().dataset()) + ":" +
              std::to_string(substitution.planned().index()),
          substitution.reason());
  account(record, now);
  settle_incidents(now);

  if (last_commit_ == total_steps() && phase_ == Phase::running) {
    phase_ = Phase::finishing;
    finish_when_done(now);
  } else if (phase_ == Phase::gathering) {
    open_generation_when_possible(now);  // it waited for this commit
  } else if (regroup_ && phase_ == Phase::running && !stop_asked_) {
    drop_generation();
    open_generation_when_possible(now);
  }
  refresh_status();
}

void JobMachine::on_commit_failed(std::uint64_t step, const Error& error, TimePoint now) {
  if (!committing_ || committing_->step() != step) return;
  committing_.reset();
  committing_roles_.clear();
  leave(pb::JOB_FAILED,
        error.within("step " + std::to_string(step) + " could not be written to the ledger"), now);
}

void JobMachine::account(const pb::CommitRecord& record, TimePoint now) {
  last_commit_at_ = now;
  recent_commits_.emplace_back(now, record.samples_size());
  while (recent_commits_.size() > kRecentCommits) recent_commits_.pop_front();
  for (const auto& loss : record.losses()) {
    auto& recent = recent_losses_[loss.task()];
    recent.push_back(loss);
    while (recent.size() > kRecentCommits) recent.pop_front();
  }
  add_stages(*status_.mutable_stages(), record.stages(), 1.0);
}

// An incident is repaired when its member is back, or, if it was in a generation, when the next
// generation has committed a step.
void JobMachine::settle_incidents(TimePoint now) {
  for (auto it = incidents_.begin(); it != incidents_.end();) {
    const std::string role = it->event.subject();
    const bool repaired = it->members_changed
                              ? it->formed && last_commit_ >= first_step_ && !committing_
                              : members_.contains(role) && members_.at(role).registered;
    if (!repaired) {
      ++it;
      continue;
    }
    auto& detail = *it->event.mutable_incident();
    double load = 0;
    for (const auto& worker : in_generation())
      load = std::max(load, members_.at(worker).load_seconds);
    if (it->members_changed) {
      detail.set_decide_seconds(seconds(*it->opened - it->detected));
      detail.set_reform_seconds(seconds(*it->formed - *it->opened));
      detail.set_load_seconds(load);
      detail.set_redo_seconds(seconds(now - *it->formed));
    } else {
      detail.set_load_seconds(seconds(now - it->detected));
    }
    it->event.set_message(detail.evidence() + "; repaired after " +
                          std::to_string(seconds(now - it->detected)).substr(0, 5) + " s");
    it->event.set_step(last_commit_);
    it->event.set_generation(generation_);
    actions_.push_back(RecordEvent{std::move(it->event)});
    it = incidents_.erase(it);
  }
}

// ---- checkpoints ------------------------------------------------------------------------------

void JobMachine::on_checkpoint_stored(std::uint64_t checkpoint, TimePoint now) {
  checkpoints_in_flight_.erase(checkpoint);
  checkpoints_.insert(checkpoint);
  event(pb::SEVERITY_INFO, "checkpoint_stored", std::to_string(checkpoint),
        "the state after step " + std::to_string(checkpoint) + " is durable");
  if (checkpoint % spec_.evaluate.every_steps == 0 || checkpoint == total_steps())
    queue_evaluation(checkpoint);
  std::set<std::uint64_t> in_use(to_evaluate_.begin(), to_evaluate_.end());
  for (const auto& [role, member] : members_)
    if (member.evaluating) in_use.insert(*member.evaluating);
  actions_.push_back(ApplyRetention{std::move(in_use)});
  start_evaluations(now);
  if (stop_asked_ && checkpoint == last_commit_ && phase_ != Phase::leaving) {
    leave(pb::JOB_STOPPED, {Errc::ok, ""}, now);
  } else {
    finish_when_done(now);
  }
  refresh_status();
}

void JobMachine::on_checkpoint_failed(std::uint64_t checkpoint, const Error& error, TimePoint now) {
  if (checkpoints_in_flight_.erase(checkpoint) == 0) return;
  event(pb::SEVERITY_WARNING, "checkpoint_failed", std::to_string(checkpoint),
        error.message + "; the job goes on, older checkpoints stay");
  if (stop_asked_ && phase_ != Phase::leaving) {
    leave(pb::JOB_STOPPED,
          {Errc::ok, "stopped; its last checkpoint could not be stored: " + error.message}, now);
    return;
  }
  if (checkpoint != total_steps() || phase_ == Phase::leaving) return;
  if (++final_save_tries_ > kFinalSaveTries) {
    leave(pb::JOB_FAILED,
          error.within("the final checkpoint could not be stored; mend the cause and run it again"),
          now);
    return;
  }
  final_save_at_ = now + std::chrono::seconds(1LL << std::min(final_save_tries_, 5U));
}

void JobMachine::save_final_again(TimePoint) {
  final_save_at_.reset();
  for (const auto& role : eligible_workers()) {
    if (members_.at(role).holds != last_commit_) continue;
    pb::Commit commit;
    commit.set_generation(generation_);
    commit.set_step(last_commit_);
    commit.set_checkpoint(last_commit_);
    saver_ = role;
    checkpoints_in_flight_.insert(last_commit_);
    send(role, commit);
    return;
  }
}

// ---- evaluations ------------------------------------------------------------------------------

void JobMachine::queue_evaluation(std::uint64_t checkpoint) {
  if (spec_.resources.evaluators == 0 || evaluated_.contains(checkpoint)) return;
  to_evaluate_.push_back(checkpoint);
  while (to_evaluate_.size() > kEvaluationsWaiting) {
    event(pb::SEVERITY_WARNING, "evaluation_skipped", std::to_string(to_evaluate_.front()),
          "the evaluators are slower than evaluate.every; a newer checkpoint waits");
    to_evaluate_.pop_front();
  }
}

void JobMachine::start_evaluations(TimePoint now) {
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

void JobMachine::on_evaluation(const std::string& role, const pb::EvaluationDone& done,
                               TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || !found->second.evaluating) return;
  const auto checkpoint = *std::exchange(found->second.evaluating, std::nullopt);
  if (done.has_failure()) {
    event(pb::SEVERITY_WARNING, "evaluation_failed", std::to_string(checkpoint),
          done.failure().message());
    if (++evaluation_tries_[checkpoint] < kEvaluationTries) to_evaluate_.push_front(checkpoint);
  } else {
    evaluated_.insert(checkpoint);
    *status_.mutable_evaluation() = done.record();
    event(pb::SEVERITY_INFO, "evaluated", std::to_string(checkpoint),
          "mean score " + std::to_string(done.record().mean()).substr(0, 6));
  }
  start_evaluations(now);
  finish_when_done(now);
  refresh_status();
}

// ---- the end ----------------------------------------------------------------------------------

void JobMachine::on_stop(bool keep, const std::string& reason, TimePoint now) {
  if (finished_ || phase_ == Phase::leaving) return;
  event(pb::SEVERITY_INFO, "stop_asked", job_, reason);
  if (!keep) {
    leave(pb::JOB_CANCELLED, {Errc::ok, reason}, now);
    return;
  }
  status_.set_state(pb::JOB_STOPPING);
  stop_asked_ = true;
  const bool trains = phase_ == Phase::running || phase_ == Phase::forming;
  const bool holder = std::any_of(members_.begin(), members_.end(), [&](const auto& entry) {
    return entry.second.registered && entry.second.holds == last_commit_;
  });
  if (checkpoints_.contains(last_commit_) || !holder || last_commit_ == 0) {
    leave(pb::JOB_STOPPED, {Errc::ok, reason}, now);  // nothing newer to save
  } else if (!trains) {
    save_final_again(now);
  }
  // Otherwise the next commit brings a checkpoint, and that one ends the job.
}

void JobMachine::finish_when_done(TimePoint now) {
  if (phase_ != Phase::finishing || stop_asked_) return;
  if (!checkpoints_.contains(last_commit_)) {
    if (checkpoints_in_flight_.empty() && !final_save_at_) save_final_again(now);
    return;
  }
  const bool evaluating = std::any_of(members_.begin(), members_.end(), [](const auto& e) {
    return e.second.evaluating.has_value();
  });
  if (!to_evaluate_.empty() || evaluating || !checkpoints_in_flight_.empty()) return;
  leave(pb::JOB_SUCCEEDED, {Errc::ok, ""}, now);
}

void JobMachine::leave(pb::JobState state, Error error, TimePoint now) {
  if (phase_ == Phase::leaving) return;
  phase_ = Phase::leaving;
  leave_state_ = state;
  leave_error_ = std::move(error);
  leaving_since_ = now;
  for (auto& incident : incidents_) {  // never repaired, but never forgotten
    incident.event.set_message(incident.event.incident().evidence() + "; not repaired");
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
    else if (member.process_up)
      actions_.push_back(StopProcess{role, Duration::zero()});
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
    for (auto& [role, member] : members_)
      if (member.process_up) actions_.push_back(StopProcess{role, Duration::zero()});
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
  status_.clear_losses();
  double loss_sum = 0;
  double tokens = 0;
  for (const auto& [task, recent] : recent_losses_) {
    auto& sum = *status_.add_losses();
    for (const auto& loss : recent) add_loss(sum, loss);
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
    if (member.slot.kind() != pb::ROLE_WORKER) continue;
    ++wanted;
    if (member.registered) ++alive;
  }
  status_.set_workers_alive(alive);
  status_.set_workers_wanted(wanted);
}

}  // namespace crabcast::actors

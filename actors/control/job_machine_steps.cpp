// Steps of a job: when one is committed (T-1).
#include <algorithm>
#include <map>

#include "actors/control/job_machine.h"
#include "protocol/sums.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kRecentCommits = 20;  // window of samples/s and of the shown losses
constexpr std::size_t kCheckpointsInFlight = 2;

}  // namespace

// ---- steps ------------------------------------------------------------------------------------

void JobMachine::on_step_ready(const std::string& role, const pb::StepReady& ready, TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end() || !found->second.in_generation) return;
  if (ready.generation() != generation_ || ready.step() != last_commit_ + 1) return;
  found->second.step_ready = ready;
  found->second.last_progress = now;
  found->second.doing = "step " + std::to_string(ready.step()) + ": wait for commit";
  commit_when_all_ready(now);
}

void JobMachine::commit_when_all_ready(TimePoint now) {
  if (phase_ != Phase::running || committing_ || stops_here()) return;
  const auto roles = in_generation();
  if (roles.empty() || !std::all_of(roles.begin(), roles.end(), [&](const auto& role) {
        return members_.at(role).step_ready.has_value();
      }))
    return;
  if (!agree(roles, now)) return;
  auto record = make_record(roles, now);
  if (!follows_quarantine(record, now)) return;
  if (!accept_numbers(record, members_.at(roles.front()).step_ready->finite(), now)) return;
  watch_pace(roles, now);
  committing_roles_ = {roles.begin(), roles.end()};
  committing_ = record;
  actions_.push_back(WriteCommit{std::move(record)});
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
    add_to(*record.mutable_stages(), ready.stages(), 1.0 / static_cast<double>(roles.size()));
  }
  std::map<std::string, pb::TaskLoss> losses;
  for (const auto& [number, lane] : lanes) {
    for (const auto& sample : lane->samples()) *record.add_samples() = sample;
    for (const auto& substitution : lane->substitutions())
      *record.add_substitutions() = substitution;
    add_to(*record.mutable_work(), lane->work());
    quarantine_into(record, *lane);
    for (const auto& loss : lane->losses()) add_to(losses[loss.task()], loss);
  }
  for (const auto& [task, loss] : losses) *record.add_losses() = loss;
  if (record.step() == 1 && corpus_) *record.mutable_corpus() = *corpus_;
  const auto& first = *members_.at(roles.front()).step_ready;
  record.set_gradient_norm(first.gradient_norm());
  record.set_gradient_checksum(first.gradient_checksum());
  record.set_parameter_checksum(first.parameter_checksum());
  record.set_learning_rate(first.learning_rate());
  if (mixture_)
    if (auto change = mixture_->change_after(record)) *record.mutable_mixture() = *change;
  return record;
}

bool JobMachine::save_due(const pb::CommitRecord& record) {
  if (record.step() == total_steps() || stop_asked_ || everybody_leaves()) return true;
  if (record.step() % spec_.checkpoint.every_steps == 0) save_owed_ = true;
  // A skip takes no time, so the member may be in its next step before a Commit that follows can
  // ask for the state: the next step brings the checkpoint.
  if (!save_owed_ || record.skipped() || saving_.size() >= kCheckpointsInFlight) return false;
  save_owed_ = false;
  return true;
}

void JobMachine::on_commit_durable(std::uint64_t step, TimePoint now) {
  if (!committing_ || committing_->step() != step || finished_) return;
  const auto record = *std::exchange(committing_, std::nullopt);
  last_commit_ = step;
  last_skipped_ = record.skipped();
  last_commit_generation_ = record.generation();
  for (auto& [role, member] : members_) {
    member.step_ready.reset();
    member.losses = 0;  // the job makes progress
  }
  account(record, now);
  learn_from(record, now);
  if (phase_ == Phase::leaving) return refresh_status();
  send_verdicts(record, now);
  settle_incidents(now);
  release_leavers(now, true);

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

void JobMachine::send_verdicts(const pb::CommitRecord& record, TimePoint now) {
  const auto step = record.step();
  bool saver_wanted = save_due(record);
  for (const auto& role : eligible_workers()) {
    if (!committing_roles_.contains(role)) continue;
    Member& member = members_.at(role);
    member.holds = step;
    member.trained = true;
    member.faults = member.loaders_blamed = 0;
    member.last_progress = now;
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
    if (std::exchange(saver_wanted, false)) {
      commit.set_checkpoint(step);
      saving_[step] = {role, now};
    }
    if (!record.skipped() || commit.checkpoint() != 0) send(role, commit);
  }
  committing_roles_.clear();
  save_owed_ = save_owed_ || saver_wanted;  // there was nobody to do it
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
  step_seconds_.push_back(record.seconds());
  while (step_seconds_.size() > kRecentCommits) step_seconds_.pop_front();
  if (!record.skipped()) loss_watch_.add(mean_loss(record.losses()));
  recent_commits_.emplace_back(now, record.samples_size());
  while (recent_commits_.size() > kRecentCommits) recent_commits_.pop_front();
  for (const auto& loss : record.losses()) {
    auto& recent = recent_losses_[loss.task()];
    recent.push_back(loss);
    while (recent.size() > kRecentCommits) recent.pop_front();
  }
  add_to(*status_.mutable_stages(), record.stages());
}

}  // namespace crabcast::actors

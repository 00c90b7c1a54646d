// Numbers of a job that go wrong: losses and gradients that are not finite or jump, and members
// that disagree about a sum that all of them should have (silent corruption).
#include <algorithm>
#include <cstdio>
#include <map>

#include "actors/control/job_machine.h"
#include "protocol/sums.h"

namespace crabcast::actors {
namespace {

constexpr int kSamplesNamed = 64;  // of a bad step, in its event

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string join(const std::vector<std::string>& names) {
  std::string all;
  for (const auto& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

// "ave:17, avqa_thu:3", in the order of their slots.
std::string samples_text(const pb::CommitRecord& record) {
  std::string text;
  for (int i = 0; i < std::min(record.samples_size(), kSamplesNamed); ++i)
    text += (i == 0 ? "" : ", ") + sample_name(record.samples(i));
  if (record.samples_size() > kSamplesNamed)
    text += " and " + std::to_string(record.samples_size() - kSamplesNamed) + " more";
  return text;
}

}  // namespace

// ---- members that disagree --------------------------------------------------------------------

// Every member computed the same sum from the same parameters; anything else is corruption.
bool JobMachine::agree(const std::vector<std::string>& roles, TimePoint now) {
  std::map<Vote, std::size_t> counts;
  for (const auto& role : roles) ++counts[vote_of(role)];
  if (counts.size() == 1) return settle_dispute(roles, now);
  const auto most =
      std::max_element(counts.begin(), counts.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most->second * 2 > roles.size())
    outvote(roles, most->first, now);
  else
    dispute(roles, now);
  return false;
}

JobMachine::Vote JobMachine::vote_of(const std::string& role) const {
  const auto& ready = *members_.at(role).step_ready;
  return {ready.gradient_checksum(), ready.parameter_checksum(), ready.finite()};
}

// Those that said something else than most are replaced; the others keep their state.
void JobMachine::outvote(const std::vector<std::string>& roles, const Vote& vote, TimePoint now) {
  std::vector<std::string> outvoted;
  for (const auto& role : roles)
    if (vote_of(role) != vote) outvoted.push_back(role);
  const std::string step = std::to_string(last_commit_ + 1);
  for (const auto& role : outvoted) {
    event(pb::SEVERITY_ERROR, "corruption", role,
          "its numbers of step " + step + " are not those of the other " +
              std::to_string(roles.size() - outvoted.size()) +
              " workers; look at the memory of node " + members_.at(role).slot.node());
    lose_member(role, "silent corruption: it disagreed with the majority about step " + step, false,
                now);
  }
}

// Nobody has a majority. The step is computed again, from states that are beyond doubt.
void JobMachine::dispute(const std::vector<std::string>& roles, TimePoint now) {
  Dispute open{last_commit_ + 1, {}};
  bool about_parameters = false;
  for (const auto& role : roles) open.votes[role] = vote_of(role);
  for (const auto& [role, vote] : open.votes)
    about_parameters = about_parameters || vote.parameters != open.votes.begin()->second.parameters;
  const std::string what = join(roles) + " disagree about step " + std::to_string(open.step) +
                           (about_parameters ? " (parameters)" : " (gradient)");
  event(pb::SEVERITY_ERROR, "disagreement", job_, what + "; it is computed again");
  dispute_ = std::move(open);
  if (!spend_restart(what, Errc::corrupt, now)) return;
  if (about_parameters)
    for (const auto& role : roles) members_.at(role).holds.reset();
  const auto last_sure = about_parameters && last_commit_ > 0 ? last_commit_ - 1 : last_commit_;
  distrust_states_after(last_sure, "members disagreed", now);
}

// They agree now. Who had said something else about the same step before is known by that; true
// when nobody had, and the step can be committed.
bool JobMachine::settle_dispute(const std::vector<std::string>& roles, TimePoint now) {
  if (!dispute_ || dispute_->step != last_commit_ + 1) return true;
  const auto votes = std::exchange(dispute_, std::nullopt)->votes;
  const Vote truth = vote_of(roles.front());
  const bool decided = std::any_of(votes.begin(), votes.end(),
                                   [&](const auto& entry) { return entry.second == truth; });
  const std::string step = std::to_string(last_commit_ + 1);
  if (!decided) {
    event(pb::SEVERITY_ERROR, "corruption", job_,
          "step " + step + " came out a third way when it was computed again; no worker is named");
    return true;
  }
  bool any = false;
  for (const auto& [role, vote] : votes) {
    if (vote == truth) continue;
    const auto found = members_.find(role);
    if (found == members_.end()) continue;
    event(pb::SEVERITY_ERROR, "corruption", role,
          "its numbers of step " + step + " were wrong: computed again, they are those of the " +
              "others; look at the memory of node " + found->second.slot.node());
    if (!found->second.registered) continue;  // it is gone already
    any = any || found->second.in_generation;
    lose_member(role, "silent corruption: step " + step + " computed again gave other numbers",
                false, now);
  }
  return !any;
}

// ---- numbers that are not finite, or jump -----------------------------------------------------

// What is to be done about the step's numbers; false when it is not to be committed like this.
bool JobMachine::accept_numbers(pb::CommitRecord& record, bool finite, TimePoint now) {
  if (undone(record.step())) {
    record.set_skipped(true);
    event(pb::SEVERITY_WARNING, "skipped", job_,
          "step " + std::to_string(record.step()) + " was rolled back; its update is left out");
    return true;
  }
  std::string flaw;
  if (!finite) {
    flaw = "a loss or gradient that is not finite";
  } else if (spec_.failure.loss_spike) {
    const double loss = mean_loss(record.losses());
    if (const auto usual = loss_watch_.spike(loss, *spec_.failure.loss_spike))
      flaw = "a mean loss of " + number_text(loss) + " where " + number_text(*usual) +
             " is usual (failure.loss_spike)";
  }
  if (flaw.empty()) return true;
  const std::string what = "step " + std::to_string(record.step()) + " has " + flaw;
  const std::string samples = "; its samples: " + samples_text(record);
  switch (spec_.failure.non_finite) {
    case NonFinitePolicy::stop:
      event(pb::SEVERITY_ERROR, "non_finite", job_,
            what + "; failure.non_finite is stop" + samples);
      leave(pb::JOB_FAILED, {Errc::non_finite, what}, now);
      return false;
    case NonFinitePolicy::skip:
      record.set_skipped(true);
      event(pb::SEVERITY_WARNING, "non_finite", job_, what + "; its update is skipped" + samples);
      return true;
    case NonFinitePolicy::rollback:
      event(pb::SEVERITY_WARNING, "non_finite", job_, what + samples);
      roll_back(record, what, now);
      return false;
  }
  return false;
}

// The updates of the step and of those before it are undone: training goes back to a state before
// them, and when they come again they are history without an update.
void JobMachine::roll_back(const pb::CommitRecord& record, const std::string& what, TimePoint now) {
  const auto back = std::min(spec_.failure.rollback_steps, record.step());
  const auto before = record.step() - back;
  if (!spend_restart(what, Errc::non_finite, now)) return;
  auto& range = *rollbacks_.add_ranges();
  range.set_first_step(before + 1);
  range.set_last_step(record.step());
  rollbacks_.set_trusted_up_to(before);
  rollbacks_.set_under_way(true);
  actions_.push_back(RecordRollbacks{rollbacks_});
  event(pb::SEVERITY_WARNING, "rollback", job_,
        "the updates of steps " + std::to_string(before + 1) + " to " +
            std::to_string(record.step()) + " are undone");
  distrust_states_after(before, "numbers were rolled back", now);
}

bool JobMachine::undone(std::uint64_t step) const {
  return std::any_of(
      rollbacks_.ranges().begin(), rollbacks_.ranges().end(),
      [&](const auto& range) { return range.first_step() <= step && step <= range.last_step(); });
}

// Wrong numbers draw on the budget of restarts: a job whose numbers never come right ends.
bool JobMachine::spend_restart(const std::string& why, Errc code, TimePoint now) {
  if (restarts_used_ < spec_.failure.restarts) {
    ++restarts_used_;
    return true;
  }
  leave(pb::JOB_FAILED, {code, why + "; the budget failure.restarts is used up"}, now);
  return false;
}

// Whoever holds a state after a later step loads an older one.
void JobMachine::distrust_states_after(std::uint64_t step, const std::string& reason,
                                       TimePoint now) {
  if (step < last_commit_) {
    trusted_up_to_ = std::min(step, trusted_up_to_.value_or(step));
    for (auto save = saving_.upper_bound(step); save != saving_.end(); save = saving_.erase(save))
      void_saves_.insert(save->first);
    checkpoints_.erase(checkpoints_.upper_bound(step), checkpoints_.end());
    actions_.push_back(VoidCheckpoints{step});
  }
  generation_reason_ = reason;
  drop_generation();
  open_generation_when_possible(now);
}

}  // namespace crabcast::actors

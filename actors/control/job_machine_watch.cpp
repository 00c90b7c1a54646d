// Members of a job that stand still, and workers that are slower than the others.
#include <algorithm>
#include <cstdio>

#include "actors/control/job_machine.h"

namespace crabcast::actors {
namespace {

constexpr std::string_view kWaitingForOthers[] = {"reduce", "wait for commit", "form"};
constexpr std::string_view kWaitingForBatch = "wait for batch";
// All members wait for one another so often without a commit between: then they start anew.
constexpr std::uint32_t kStandstillsBeforeRestart = 3;
// A step may take so many times as long as the slowest of the last ones.
constexpr double kPatience = 3;
constexpr std::size_t kStepsNeeded = 3;  // the first ones of a generation say little
// A tick that comes so late was late because this process, or the machine, stood still.
constexpr auto kOwnStandstill = std::chrono::seconds(1);

bool waits_for_others(const std::string& doing) {
  return std::any_of(std::begin(kWaitingForOthers), std::end(kWaitingForOthers),
                     [&](std::string_view wait) { return doing.find(wait) != std::string::npos; });
}
bool waits_for_batch(const std::string& doing) {
  return doing.find(kWaitingForBatch) != std::string::npos;
}

}  // namespace

// What members said while this process stood still lies in its mailbox: nobody is late by that.
void JobMachine::forgive_own_standstill(TimePoint now) {
  const auto gap = own_standstill_.tick(now);
  if (gap < kOwnStandstill) return;
  for (auto& [role, member] : members_)
    for (TimePoint* at : {&member.last_progress, &member.last_sign, &member.since})
      if (*at != TimePoint{}) *at = std::min(now, *at + gap);
  if (phase_ == Phase::forming) forming_since_ = std::min(now, forming_since_ + gap);
}

// How long a step may take before a member that makes no progress is taken for stuck. Learned from
// the last steps, within failure.hang_after.
Duration JobMachine::stuck_after() const {
  const auto most = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(spec_.failure.hang_after_seconds));
  if (phase_ != Phase::running || step_seconds_.size() < kStepsNeeded) return most;
  const double slowest = *std::max_element(step_seconds_.begin(), step_seconds_.end());
  const auto learned =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(kPatience * slowest));
  return std::clamp(learned, std::min(timeouts_.stuck_least, most), most);
}

void JobMachine::check_hang(TimePoint now) {
  const bool saves_the_end = phase_ == Phase::finishing && !result_is_safe();
  if ((phase_ != Phase::running && !saves_the_end) || committing_) return;
  const auto most = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(spec_.failure.hang_after_seconds));
  const auto stuck = stuck_after();
  const auto roles = in_generation();
  const auto stands_for = [&](const std::string& role) {
    return now - members_.at(role).last_progress;
  };
  for (const auto& role : roles) {
    const Member& member = members_.at(role);
    if (member.step_ready || waits_for_others(member.doing)) continue;
    // A sample may take its decoder's whole deadline: a batch is waited for as long as the spec
    // says.
    const bool batch = waits_for_batch(member.doing);
    if (stands_for(role) <= (batch ? most : stuck)) continue;
    if (batch) {
      blame_for_batch(role, now);
    } else {
      const std::string limit = stuck == most
                                    ? "failure.hang_after"
                                    : "three times the slowest of the last steps (" +
                                          std::to_string(seconds(stuck)).substr(0, 5) + " s)";
      lose_member(role, "made no progress for longer than " + limit, false, now,
                  member.last_progress);
    }
    return;
  }
  if (phase_ != Phase::running || stops_here()) return;  // who waits for a checkpoint may
  if (roles.empty() || !std::all_of(roles.begin(), roles.end(),
                                    [&](const auto& role) { return stands_for(role) > most; }))
    return;
  generation_reason_ = "all members waited for one another";
  event(pb::SEVERITY_WARNING, "standstill", job_, generation_reason_);
  drop_generation();
  for (const auto& role : roles)
    if (++members_.at(role).faults >= kStandstillsBeforeRestart)
      lose_member(role, "waited with all the others, again and again", false, now);
}

// A worker waits for a batch: the loader that has stood still for the longest owes it. Who got
// nothing from any of them, one after the other, is the culprit itself.
void JobMachine::blame_for_batch(const std::string& role, TimePoint now) {
  Member& member = members_.at(role);
  const auto waits_since = member.last_progress;
  std::string culprit;
  std::uint32_t loaders = 0;
  for (const auto& [name, loader] : members_) {
    if (loader.slot.kind() != pb::ROLE_LOADER || !loader.registered) continue;
    ++loaders;
    if (culprit.empty() || loader.last_progress < members_.at(culprit).last_progress)
      culprit = name;
  }
  if (culprit.empty()) return;  // all are lost, or starting
  if (member.loaders_blamed >= loaders)
    return lose_member(role, "got no batch from any loader for longer than failure.hang_after",
                       false, now, waits_since);
  ++member.loaders_blamed;
  lose_member(culprit, "gave no batch for longer than failure.hang_after", false, now, waits_since);
}

// A loader came: those that wait for a batch have new patience.
void JobMachine::renew_patience(TimePoint now) {
  for (auto& [role, member] : members_)
    if (waits_for_batch(member.doing)) member.last_progress = now;
}

// A worker that takes much longer for its lanes than the others holds all of them up: it is named,
// and somebody may look at its node. It is not stopped, since it loses nothing.
void JobMachine::watch_pace(const std::vector<std::string>& roles, TimePoint now) {
  if (roles.size() < 2) return;
  const auto pace_of = [&](const std::string& role) {
    const auto& ready = *members_.at(role).step_ready;
    const auto& stages = ready.stages();
    return (stages.forward() + stages.backward()) / std::max(1, ready.lanes_size());
  };
  for (const auto& role : roles) {
    std::vector<double> others;
    for (const auto& other : roles)
      if (other != role) others.push_back(pace_of(other));
    Member& member = members_.at(role);
    if (leaves(member)) continue;  // that is what its state says
    const double mine = pace_of(role), usual = median(others);
    const auto change = member.pace.see(mine, usual);
    if (change == SlowWatch::Change::became_slow) {
      char text[160];
      std::snprintf(
          text, sizeof text,
          "takes %.3f s for a lane, the others %.3f s, in %u steps in a row; look at node ", mine,
          usual, SlowWatch::kSteps);
      set_state(member, pb::ACTOR_SUSPECT, "slower than the others", now);
      event(pb::SEVERITY_WARNING, "slow_worker", role, text + member.slot.node());
    } else if (change == SlowWatch::Change::recovered) {
      set_state(member, pb::ACTOR_HEALTHY, "", now);
      event(pb::SEVERITY_INFO, "slow_worker", role, "is as fast as the others again");
    }
  }
}

}  // namespace crabcast::actors

// Members of a job that are lost: incidents (H-1) and restarts.
#include <algorithm>
#include <iterator>
#include <utility>

#include "actors/control/job_machine.h"
#include "protocol/format.h"

namespace crabcast::actors {
namespace {

std::string plural(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// "worker" of "worker-3".
std::string kind_of(const std::string& role) {
  return role.substr(0, role.find('-'));
}

bool ends_with_loss(const std::string& kind) {
  return kind == "worker_lost" || kind == "loader_lost" || kind == "evaluator_lost" ||
         kind == "node_lost" || kind == "coordinator_lost" || kind == "coordinator_stalled";
}

constexpr std::string_view kLastSeen = ", last seen in: ";

}  // namespace

bool ends_a_run(const std::string& kind) {
  return kind == "job_stopped" || kind == "job_failed" || kind == "job_cancelled" ||
         kind == "job_succeeded";
}

void note_losses(std::vector<OpenLoss>& open, const pb::Event& event) {
  const auto& subject = event.subject();
  const auto is_of = [&](const OpenLoss& loss) { return loss.event.subject() == subject; };
  if (ends_a_run(event.kind())) open.clear();
  if (event.kind() == "restart")
    for (auto& loss : open) loss.replaced |= is_of(loss);
  if (event.has_incident())
    if (const auto told = std::find_if(open.begin(), open.end(), is_of); told != open.end())
      open.erase(told);
  if (!ends_with_loss(event.kind()) || event.severity() == pb::SEVERITY_INFO) return;
  if (event.kind() == "node_lost")  // as take_over_lost_connections
    std::erase_if(open, [&](const OpenLoss& loss) {
      return !loss.replaced && loss.event.message().starts_with(kConnectionLost) &&
             event.message().find(loss.event.subject()) != std::string::npos;
    });
  open.push_back({event});
}

// ---- what ends a process ----------------------------------------------------------------------

void JobMachine::on_start_failed(const std::string& role, const Error& error, TimePoint now) {
  if (error.code == Errc::already_exists) return;  // it runs, and will register
  if (auto found = members_.find(role); found == members_.end() || found->second.registered) return;
  on_gone(role, "could not be started: " + error.message, true, now);
}

void JobMachine::on_gone(const std::string& role, const std::string& evidence, bool exited,
                         TimePoint now, int pid) {
  auto found = members_.find(role);
  if (found == members_.end() || finished_) return;
  Member& member = found->second;
  if (is_another(member, pid)) return;  // an earlier process
  if (phase_ == Phase::leaving) {
    if (exited) member.process_up = false;
    set_state(member, exited ? pb::ACTOR_GONE : pb::ACTOR_DRAINING, "", now);
    finish_when_all_left(now);
    refresh_status();
    return;
  }
  if (!exited && !member.registered) return;  // known already
  if (exited && !member.process_up) return;
  const bool known = member.state == pb::ACTOR_FAILED;
  if (exited) {
    member.process_up = false;
    member.condemned = false;
    member.lost_pid = std::max(pid, std::exchange(member.pid, 0));
  }
  if (member.released) {
    left_in_good_order(role, now);
    refresh_status();
    return;
  }
  if (!known)
    lose_member(role, evidence, exited, now);
  else if (exited && !member.restart_at)
    schedule_restart(role, now);
  refresh_status();
}

void JobMachine::on_node_gone(const std::string& node, TimePoint now) {
  const std::string evidence = "the agent of node " + node + " is gone";
  OpenIncident incident;
  incident.detected = now;
  for (const auto& role : roles_on(node)) {
    const Member& member = members_.at(role);
    if (!member.process_up || member.released || member.state == pb::ACTOR_FAILED) continue;
    incident.lost.push_back(role);
    incident.members_changed |= member.in_generation && !result_is_safe();
  }
  const bool trains_on = phase_ != Phase::leaving && !finished_;
  if (trains_on) take_over_lost_connections(node, incident);
  if (trains_on && own_standstill_.is_heard_of(now)) {
    if (!incident.lost.empty()) blame_own_standstill(incident.lost, incident.members_changed, now);
  } else if (trains_on && !incident.lost.empty()) {
    const std::string culprit = "agent@" + node;
    event(pb::SEVERITY_WARNING, "node_lost", culprit,
          evidence + ", and with it " + join_names(incident.lost));
    open_incident(std::move(incident), culprit, "running " + join_names(roles_on(node)), evidence);
  }
  told_of_losses_ = true;
  for (const auto& role : roles_on(node)) on_gone(role, evidence, true, now);
  told_of_losses_ = false;
}

void JobMachine::reopen_incidents(const std::vector<OpenLoss>& losses, TimePoint now) {
  for (const auto& [loss, replaced] : losses) {
    OpenIncident incident;
    incident.detected = now;
    incident.members_changed = !result_is_safe();
    const auto cut = loss.message().find(kLastSeen);
    open_incident(
        std::move(incident), loss.subject(),
        cut == std::string::npos ? "not known" : loss.message().substr(cut + kLastSeen.size()),
        loss.message().substr(0, cut) + "; the coordinator was lost before it was repaired");
  }
}

void JobMachine::blame_own_standstill(const std::vector<std::string>& lost, bool members_changed,
                                      TimePoint now) {
  auto known = std::find_if(incidents_.begin(), incidents_.end(),
                            [](const OpenIncident& one) { return one.own_standstill; });
  if (known == incidents_.end()) {
    OpenIncident incident;
    incident.detected = now;
    incident.own_standstill = true;
    incident.event.mutable_incident()->set_detect_seconds(seconds(own_standstill_.length()));
    const std::string evidence = "stood still for " +
                                 std::to_string(seconds(own_standstill_.length())).substr(0, 4) +
                                 " s, and its peers gave it up";
    event(pb::SEVERITY_WARNING, "coordinator_stalled", "coordinator", evidence);
    open_incident(std::move(incident), "coordinator", "standing still", evidence);
    known = std::prev(incidents_.end());
  }
  known->lost.insert(known->lost.end(), lost.begin(), lost.end());
  known->members_changed |= members_changed;
}

// Those whose connections broke first were its victims; not those who had been replaced since.
void JobMachine::take_over_lost_connections(const std::string& node, OpenIncident& incident) {
  for (const auto& role : roles_on(node)) {
    // Whose end was heard, its agent was still there.
    if (!members_.at(role).condemned) continue;
    const auto newest =
        std::find_if(incidents_.rbegin(), incidents_.rend(),
                     [&](const OpenIncident& one) { return one.event.subject() == role; });
    if (newest == incidents_.rend() || newest->event.incident().evidence() != kConnectionLost)
      continue;
    incident.detected = std::min(incident.detected, newest->detected);
    incident.members_changed |= newest->members_changed;
    if (newest->opened)
      incident.opened = std::min(incident.opened.value_or(*newest->opened), *newest->opened);
    incident.lost.push_back(role);
    incidents_.erase(std::next(newest).base());
    status_.set_incidents(status_.incidents() - 1);
  }
}

void JobMachine::on_restarted(const std::string& evidence, double seconds_ago, TimePoint now) {
  if (finished_ || phase_ == Phase::leaving) return;
  OpenIncident incident;
  incident.detected = now;
  incident.decided_before = seconds_ago;
  incident.members_changed = !result_is_safe();
  event(pb::SEVERITY_WARNING, "coordinator_lost", "coordinator", evidence);
  open_incident(std::move(incident), "coordinator",
                last_commit_ == 0 ? "before the first commit"
                                  : "after the commit of step " + std::to_string(last_commit_),
                evidence);
  settle_incidents(now);
}

void JobMachine::on_nothing_to_stop(const std::string& role, TimePoint now) {
  auto found = members_.find(role);
  if (found == members_.end()) return;
  if (found->second.condemned || found->second.released || phase_ == Phase::leaving)
    on_gone(role, "its process is gone", true, now);
}

void JobMachine::lose_member(const std::string& role, const std::string& evidence, bool exited,
                             TimePoint now, std::optional<TimePoint> fine_until) {
  if (phase_ == Phase::leaving) return;
  Member& member = members_.at(role);
  open_incident(role, evidence, fine_until.value_or(member.last_sign), now);
  const bool was_in_generation = member.in_generation;
  member.registered = false;
  member.in_generation = false;
  member.ready = false;
  member.faults = member.loaders_blamed = 0;
  member.pace = {};
  member.draining = false;
  member.holds.reset();
  member.step_ready.reset();
  committing_roles_.erase(role);
  set_state(member, pb::ACTOR_FAILED, evidence, now);
  if (member.slot.kind() == pb::ROLE_LOADER) send_loader_directory();
  forget_saves_of(role, "was lost while it saved it");
  give_back_evaluation(role);
  start_evaluations(now);
  if (++member.losses >= timeouts_.losses_without_progress &&
      give_up_for_lack_of_progress(role, evidence, now))
    return;
  // Whatever cannot be reached must not act any more either.
  if (exited)
    schedule_restart(role, now);
  else
    condemn(role, now);

  if (was_in_generation && !result_is_safe()) {
    generation_reason_ = role + " was lost";
    drop_generation();
  }
  open_generation_when_possible(now);
  finish_when_done(now);
}

void JobMachine::condemn(const std::string& role, TimePoint now) {
  Member& member = members_.at(role);
  member.condemned = true;
  member.condemned_at = now;
  stop_process(role);
}

// A StopProcess may get lost with its agent's connection.
void JobMachine::stop_condemned(TimePoint now) {
  for (auto& [role, member] : members_)
    if (member.condemned && now - member.condemned_at > timeouts_.leave) condemn(role, now);
}

void JobMachine::open_incident(const std::string& role, const std::string& evidence,
                               TimePoint fine_until, TimePoint now) {
  const Member& member = members_.at(role);
  const bool changed = member.in_generation && !result_is_safe();
  const bool own =
      !told_of_losses_ && evidence == kConnectionLost && own_standstill_.is_heard_of(now);
  if (own) blame_own_standstill({role}, changed, now);
  event(told_of_losses_ || own ? pb::SEVERITY_INFO : pb::SEVERITY_WARNING, kind_of(role) + "_lost",
        role, evidence + (member.doing.empty() ? "" : std::string(kLastSeen) + member.doing));
  if (told_of_losses_ || own) return;
  OpenIncident incident;
  incident.lost = {role};
  incident.detected = now;
  incident.members_changed = changed;
  if (fine_until != TimePoint{})
    incident.event.mutable_incident()->set_detect_seconds(seconds(now - fine_until));
  open_incident(std::move(incident), role, member.doing.empty() ? "starting" : member.doing,
                evidence);
}

void JobMachine::open_incident(OpenIncident incident, const std::string& culprit,
                               const std::string& doing, const std::string& evidence) {
  incident.event.set_kind("incident");
  incident.event.set_severity(pb::SEVERITY_WARNING);
  incident.event.set_subject(culprit);
  auto& detail = *incident.event.mutable_incident();
  detail.set_culprit(culprit);
  detail.set_last_operation(doing);
  detail.set_evidence(evidence);
  incidents_.push_back(std::move(incident));
  status_.set_incidents(status_.incidents() + 1);
}

// A process that is lost again and again while no step is committed will be lost the next time,
// too. Whether the job ended for it.
bool JobMachine::give_up_for_lack_of_progress(const std::string& role, const std::string& evidence,
                                              TimePoint now) {
  if (members_.at(role).slot.kind() == pb::ROLE_EVALUATOR || result_is_safe()) return false;
  const std::string reason = role + " was lost " + std::to_string(members_.at(role).losses) +
                             " times without a step committed between; the last time it " +
                             evidence;
  event(pb::SEVERITY_ERROR, "no_progress", role, reason);
  leave(pb::JOB_FAILED, {Errc::budget_exhausted, reason}, now);
  return true;
}

// ---- restart ----------------------------------------------------------------------------------

void JobMachine::schedule_restart(const std::string& role, TimePoint now) {
  if (phase_ == Phase::leaving) return;
  Member& member = members_.at(role);
  if (member.unwanted) {
    set_state(member, pb::ACTOR_GONE, "the job has fewer workers", now);
    return;
  }
  if (result_is_safe() && member.slot.kind() != pb::ROLE_EVALUATOR) {
    set_state(member, pb::ACTOR_GONE, "is not needed any more", now);
    return;
  }
  if (restarts_used_ >= spec_.failure.restarts) return refuse_restart(role, now);
  ++restarts_used_;
  const auto doublings = std::min<std::uint32_t>(member.restarts, 10);
  ++member.restarts;
  const Duration wait =
      std::min<Duration>(timeouts_.back_off_most, timeouts_.back_off_first * (1LL << doublings));
  member.restart_at = now + wait;
}

// The job ends when it cannot go on with those that are left. Whoever holds the state after its
// last step can.
void JobMachine::refuse_restart(const std::string& role, TimePoint now) {
  Member& member = members_.at(role);
  const std::string reason = "the budget of " + plural(spec_.failure.restarts, "restart") +
                             " (failure.restarts) is used up";
  set_state(member, pb::ACTOR_FAILED, reason, now);
  event(pb::SEVERITY_ERROR, "restart_refused", role, reason);
  const auto kind = member.slot.kind();
  if (kind == pb::ROLE_EVALUATOR) {
    if (left(kind) == 0) to_evaluate_.clear();
    finish_when_done(now);
    return;
  }
  if (trained_to_the_end()) return;
  const std::size_t needed = kind == pb::ROLE_WORKER ? spec_.resources.workers_min : 1;
  const std::size_t still = left(kind);
  if (still >= needed) return;
  if (stop_asked_) {
    drop_generation();
    save_and_stop(now);
    return;
  }
  const std::string who = still == 0 ? "no " + kind_of(role) + " is left"
                                     : "only " + plural(still, kind_of(role)) + " of at least " +
                                           std::to_string(needed) +
                                           (still == 1 ? " is left" : " are left");
  leave(pb::JOB_FAILED, {Errc::budget_exhausted, who + " and " + reason}, now);
}

void JobMachine::restart_due(TimePoint now) {
  for (auto& [role, member] : members_) {
    if (!member.restart_at || *member.restart_at > now || member.condemned) continue;
    member.restart_at.reset();
    if (member.moved) move(member, *std::exchange(member.moved, std::nullopt));
    const std::string reason = "restart " + std::to_string(member.restarts);
    event(pb::SEVERITY_INFO, "restart", role, reason);
    start_process(role, reason, now);
  }
}

// ---- repair -----------------------------------------------------------------------------------

// An incident is repaired when its member is back, or, if it was in a generation, when the next
// generation has committed a step.
void JobMachine::settle_incidents(TimePoint now) {
  for (auto it = incidents_.begin(); it != incidents_.end();) {
    const bool repaired =
        it->members_changed
            ? it->formed && last_commit_ >= first_step_ && !committing_
            : std::all_of(it->lost.begin(), it->lost.end(), [&](const std::string& role) {
                return members_.contains(role) && members_.at(role).registered;
              });
    if (!repaired) {
      ++it;
      continue;
    }
    auto& detail = *it->event.mutable_incident();
    double load = 0;
    for (const auto& worker : in_generation())
      load = std::max(load, members_.at(worker).load_seconds);
    if (it->members_changed) {
      detail.set_decide_seconds(it->decided_before + seconds(*it->opened - it->detected));
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

}  // namespace crabcast::actors

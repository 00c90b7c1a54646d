// The controller's decisions: coordinators that register, report and end, and what they are told.
#include <algorithm>
#include <utility>

#include "actors/control/cluster_machine.h"

namespace crabcast::actors {
namespace {

// After the grace of the policy, for the coordinator to end by itself.
constexpr auto kLeaveMargin = std::chrono::seconds(30);
constexpr double kEndGrace = 5;  // seconds, from SIGTERM to SIGKILL

bool has_role(const pb::JobRecord& record, const std::string& role) {
  return std::any_of(record.placement().begin(), record.placement().end(),
                     [&](const auto& slot) { return slot.role() == role; });
}

}  // namespace

// Two coordinators of one job: only the one that was started last may act (T-1).
Status ClusterMachine::check_fence(const Job& job, std::uint64_t fence) {
  const auto& id = job.record.job();
  if (fence != job.record.attempts())
    return fail(Errc::stale_generation,
                "job " + id + " was started again: its coordinator has fence " +
                    std::to_string(job.record.attempts()) + ", not " + std::to_string(fence));
  if (is_over(job.record.state()) || job.record.state() == pb::JOB_STOPPED)
    return fail(Errc::stale_generation, "job " + id + " is over");
  return {};
}

void ClusterMachine::coordinator_joined(PeerNumber peer, RequestNumber request,
                                        const pb::RegisterCoordinator& body, Moment now) {
  Job* const found = find(body.job(), request);
  if (!found) return;
  Job& job = *found;
  if (const Status current = check_fence(job, body.fence()); !current)
    return refuse(request, current.error());
  const bool waits = job.record.state() == pb::JOB_PENDING;  // for a start that it does not need
  if (waits && !nodes_.contains(node_of_coordinator(job)))
    return refuse(request, {Errc::unavailable, "its node has not joined again yet"});
  answer(request, pb::Done{});
  job.coordinator = peer;
  job.status = body.status();
  if (waits) {
    job.record.set_placed_unix_ms(now.unix_ms);
    adopt(job);
  }
  tell_newer_placement(job, body.status());
  tell(peer, nodes_for_replicas(job));
  if (job.record.state() == pb::JOB_STOPPING) return tell_to_stop(job);
  if (job.leaving != Leaving::no) tell_to_leave(job);
  if (job.record.state() == pb::JOB_RUNNING) return;
  job.record.set_state(pb::JOB_RUNNING);
  if (job.record.started_unix_ms() == 0) job.record.set_started_unix_ms(now.unix_ms);
  store(job);
}

void ClusterMachine::job_reported(RequestNumber request, const pb::JobReport& body, Moment now) {
  Job* const found = find(body.status().job(), request);
  if (!found) return;
  Job& job = *found;
  if (const Status current = check_fence(job, body.fence()); !current)
    return refuse(request, current.error());
  if (job.status && body.status().newest_checkpoint() > job.status->newest_checkpoint())
    scheduler_.checkpointed(JobId{job.record.job()}, now.time);
  job.status = body.status();
  release_left(job);
  if (body.events_size() > 0)
    actions.push_back(StoreEvents{{body.events().begin(), body.events().end()}});
  if (body.ended()) ended(job, body.status(), now);
  answer(request, pb::Done{});
}

// Stopped without having been asked to by a client, it has made room, and goes on later; whether
// this controller sent it away or one before.
void ClusterMachine::ended(Job& job, const pb::JobStatus& status, Moment now) {
  if (status.state() != pb::JOB_STOPPED)
    return finish(job, status.state(), status.reason(),
                  errc_from_number(static_cast<std::uint32_t>(status.error_code())), now);
  if (job.record.stop_asked())
    return finish(job, job.record.stop_keep() ? pb::JOB_STOPPED : pb::JOB_CANCELLED,
                  status.reason(), Errc::ok, now);
  if (job.leaving == Leaving::preempted) job.record.set_preemptions(job.record.preemptions() + 1);
  enqueue(job, now);
  const auto limit = job.spec.schedule.time_limit_seconds;
  if (limit && static_cast<double>(job.record.ran_ms()) >= *limit * 1000)
    return finish(job, pb::JOB_FAILED,
                  "it ran for its schedule.time_limit; raise it, and resume the job to go on",
                  Errc::timeout, now);
  store(job);
}

// The end of an earlier one says nothing about the job.
void ClusterMachine::coordinator_exited(RequestNumber request, const pb::RoleExited& exit,
                                        Moment now) {
  answer(request, pb::Done{});
  const auto found = jobs_.find(exit.job());
  if (found == jobs_.end()) return;
  Job& job = found->second;
  if (exit.fence() != job.record.attempts()) return;
  job.coordinator = 0;
  if (!is_active(job.record.state())) return;       // it had reported its end
  if (job.leave_by && now.time >= *job.leave_by) {  // it was ended, having not left in time
    pb::JobStatus status;
    status.set_state(pb::JOB_STOPPED);
    return ended(job, status, now);
  }
  if (exit.exit_code() != 0)
    return finish(job, pb::JOB_FAILED,
                  "its coordinator ended unexpectedly (exit code " +
                      std::to_string(exit.exit_code()) + ", signal " +
                      std::to_string(exit.signal()) + "): " + exit.last_lines(),
                  Errc::process_died, now);
  // It did what it had to do while no controller was there to be told; its store knows.
  event(job, pb::SEVERITY_INFO, "requeued",
        "its coordinator ended while the controller was away, and is asked again how", now);
  enqueue(job, now);
  store(job);
}

// ---- placement ----------------------------------------------------------------------------------

pb::PlacementChanged ClusterMachine::without(const Job& job, const std::set<std::string>& removed) {
  pb::PlacementChanged body;
  body.set_job(job.record.job());
  for (const auto& role : removed) body.add_removed(role);
  if (job.record.workers() > 0)
    body.set_workers_min(std::min(job.spec.resources.workers_min, job.record.workers()));
  return body;
}

// They leave between two steps; their room is given back when they have.
void ClusterMachine::take_away(Job& job, const std::set<std::string>& roles) {
  if (roles.empty()) return;
  auto& slots = *job.record.mutable_placement();
  slots.erase(std::remove_if(slots.begin(), slots.end(),
                             [&](const auto& slot) { return roles.contains(slot.role()); }),
              slots.end());
  job.leaving_roles.insert(roles.begin(), roles.end());
  store(job);
  // Without a coordinator: it is told when it registers.
  if (job.coordinator != 0) tell(job.coordinator, without(job, roles));
}

// A coordinator that was started again has the placement of its first start: it is told of roles
// that were added, moved or taken away since.
void ClusterMachine::tell_newer_placement(const Job& job, const pb::JobStatus& known) {
  std::set<std::string> removed = job.leaving_roles;
  for (const auto& actor : known.actors())
    if (!has_role(job.record, actor.name())) removed.insert(actor.name());
  auto body = without(job, removed);
  for (const auto& slot : job.record.placement())
    if (std::none_of(known.actors().begin(), known.actors().end(), [&](const auto& actor) {
          return actor.name() == slot.role() && actor.node() == slot.node();
        }))
      *body.add_placement() = slot;
  tell(job.coordinator, body);
}

// Gives the room of roles back that have left.
void ClusterMachine::release_left(Job& job) {
  const auto& actors = job.status->actors();
  std::erase_if(job.leaving_roles, [&](const std::string& role) {
    const bool runs = std::any_of(actors.begin(), actors.end(), [&](const auto& actor) {
      return actor.name() == role && actor.state() != pb::ACTOR_GONE;
    });
    if (!runs && !has_role(job.record, role))
      scheduler_.release_role(JobId{job.record.job()}, role);
    return !runs;
  });
}

// ---- jobs that are to leave ---------------------------------------------------------------------

// It saves its state, ends, and waits for a place again; or it is over.
void ClusterMachine::send_away(Job& job, Leaving why, const std::string& reason, Moment now) {
  if (job.leaving != Leaving::no || job.record.state() == pb::JOB_STOPPING) return;
  const auto grace = options_.policy.preemption.value_or(scheduler::PreemptionPolicy{}).grace;
  job.leaving = why;
  job.leave_by = now.time + grace + kLeaveMargin;
  const char* kind = why == Leaving::preempted ? "preempted"
                     : why == Leaving::drained ? "drained"
                                               : "out_of_time";
  event(job, pb::SEVERITY_INFO, kind, reason, now);
  if (job.coordinator != 0) tell_to_leave(job);
}

void ClusterMachine::tell_to_leave(const Job& job) {
  pb::StopJob stop;
  stop.set_job(job.record.job());
  stop.set_keep(true);
  stop.set_reason(job.leaving == Leaving::preempted ? "preempted"
                  : job.leaving == Leaving::drained ? "its node is drained"
                                                    : "its time is over");
  tell(job.coordinator, stop);
}

// Those that did not leave in time go on from their last checkpoint.
void ClusterMachine::end_those_out_of_time(Moment now) {
  for (auto& [id, job] : jobs_) {
    if (!job.leave_by || now.time < *job.leave_by) continue;
    const auto node = nodes_.find(node_of_coordinator(job));
    if (node == nodes_.end()) continue;  // then they are lost with it
    pb::StopRole stop;
    stop.set_job(id);
    stop.set_role("coordinator");
    stop.set_grace_seconds(kEndGrace);
    stop.set_fence(job.record.attempts());
    tell(node->second.agent, stop);
  }
}

}  // namespace crabcast::actors

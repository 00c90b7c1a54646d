// The controller: jobs that get more or fewer workers while they run.
#include <caf/all.hpp>

#include "actors/control/controller_state.h"

namespace crabcast::actors {

// What the spec asks for, with the workers that were asked for since, and where its store is.
scheduler::JobRequest ControllerState::request_of(const Job& job) const {
  JobSpec spec = job.spec;
  if (const auto workers = job.record.workers(); workers > 0) {
    spec.resources.workers_max = workers;
    spec.resources.workers_min = std::min(spec.resources.workers_min, workers);
  }
  auto request = scheduler::job_request(JobId{job.record.job()}, spec, job.record.submit_seq());
  for (auto& role : request.fixed)
    if (role.kind == pb::ROLE_COORDINATOR) role.only_on = nodes_with_store(job.record.job());
  request.attempt = job.queued;
  return request;
}

void ControllerState::scale(const DeliveryPtr& message) {
  const auto& body = message->envelope->scale_job();
  auto found = jobs.find(body.job());
  if (found == jobs.end())
    return answer(*message,
                  Error{Errc::not_found, "no job is named '" + body.job() + "'; see crabcast ps"});
  Job& job = found->second;
  if (ended(job.record.state()))
    return answer(*message,
                  Error{Errc::invalid_argument, "job " + body.job() + " has ended already"});
  const auto lanes = job.spec.train.lanes;
  if (body.workers() < 1 || body.workers() > lanes)
    return answer(*message,
                  Error{Errc::invalid_argument,
                        "job " + body.job() + " can have from 1 to " + std::to_string(lanes) +
                            " workers (train.lanes), not " + std::to_string(body.workers())});
  job.record.set_workers(body.workers());
  // J-1: what was asked for is durable before it is acknowledged.
  store(
      job,
      [this, message, id = body.job()] {
        if (auto known = jobs.find(id); known != jobs.end()) resize(known->second, message);
      },
      [message](const Error& error) { answer(*message, error); });
}

void ControllerState::resize(Job& job, const DeliveryPtr& message) {
  const auto id = job.record.job();
  event(id, pb::SEVERITY_INFO, "scaled", "to " + std::to_string(job.record.workers()) + " workers");
  if (job.record.state() == pb::JOB_STOPPED)  // it has them when it goes on
    return answer(*message, pb::Done{});
  self->request(scheduler, kRegistryTimeout, JobResized{request_of(job)})
      .then(
          [this, message, id](const std::vector<std::string>& surplus) {
            answer(*message, pb::Done{});
            auto known = jobs.find(id);
            if (known == jobs.end()) return;
            Job& job = known->second;
            const std::set<std::string> removed(surplus.begin(), surplus.end());
            auto& slots = *job.record.mutable_placement();
            slots.erase(
                std::remove_if(slots.begin(), slots.end(),
                               [&](const auto& slot) { return removed.contains(slot.role()); }),
                slots.end());
            job.leaving.insert(removed.begin(), removed.end());
            store(job);
            // Without a coordinator: it is told when it registers.
            if (job.coordinator) self->send(job.coordinator, outbound(without(job, removed)));
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

pb::PlacementChanged ControllerState::without(const Job& job,
                                              const std::set<std::string>& removed) {
  pb::PlacementChanged body;
  body.set_job(job.record.job());
  for (const auto& role : removed) body.add_removed(role);
  if (job.record.workers() > 0)
    body.set_workers_min(std::min(job.spec.resources.workers_min, job.record.workers()));
  return body;
}

// A coordinator that was started again has the placement of its first start: it is told of roles
// that were added, moved or taken away since.
void ControllerState::tell_newer_placement(const Job& job, const pb::JobStatus& known) {
  std::set<std::string> removed = job.leaving;
  for (const auto& actor : known.actors())
    if (!has_role(job.record, actor.name())) removed.insert(actor.name());
  auto body = without(job, removed);
  for (const auto& slot : job.record.placement())
    if (std::none_of(known.actors().begin(), known.actors().end(), [&](const auto& actor) {
          return actor.name() == slot.role() && actor.node() == slot.node();
        }))
      *body.add_placement() = slot;
  self->send(job.coordinator, outbound(body));
}

// Gives the room of roles back that have left.
void ControllerState::release_left(Job& job) {
  const auto& actors = job.status->actors();
  std::erase_if(job.leaving, [&](const std::string& role) {
    const bool runs = std::any_of(actors.begin(), actors.end(), [&](const auto& actor) {
      return actor.name() == role && actor.state() != pb::ACTOR_GONE;
    });
    if (!runs && !has_role(job.record, role))
      self->send(scheduler, RoleGone{JobId{job.record.job()}, role});
    return !runs;
  });
}

}  // namespace crabcast::actors

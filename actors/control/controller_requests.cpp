// The controller: what clients ask of it about jobs and nodes.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/controller_state.h"
#include "protocol/spec_changes.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kEventsLimit = 1000;

}  // namespace

void ControllerState::submit(const DeliveryPtr& message) {
  const auto& body = message->envelope->submit_job();
  auto spec = parse_job_spec(body.spec_yaml(), "spec");
  if (!spec) return answer(*message, spec.error().error());
  const auto accept = [message](const std::string& job, bool resumed, std::uint64_t step) {
    pb::JobAccepted accepted;
    accepted.set_job(job);
    accepted.set_resumed(resumed);
    accepted.set_resumed_from_step(step);
    answer(*message, accepted);
  };
  for (const auto& [id, job] : jobs)  // the same submit once more
    if (!body.client_key().empty() && job.record.client_key() == body.client_key())
      return accept(id, false, 0);
  if (Job* job = body.resume() ? resumable(spec->name) : nullptr) {
    if (const Status same = check_resumable(job->spec, *spec); !same) {
      Error error = same.error().within(job->record.job() + " cannot go on with this spec");
      error.message +=
          "; undo this, or begin a new job (crabcast run --fresh, crabcast submit "
          "without --resume)";
      return answer(*message, error);
    }
    job->spec = *spec;
    job->record.set_spec_yaml(to_yaml(*spec));
    job->record.set_spec_hash(spec_hash(*spec));
    job->record.clear_error_code();
    job->record.clear_ended_unix_ms();
    enqueue(*job);
    store(
        *job, [accept, id = job->record.job()] { accept(id, true, 0); },
        [message](const Error& error) { answer(*message, error); });
    return;
  }
  self->request(registry, kRegistryTimeout, NewSequence{})
      .then(
          [this, message, accept, spec = *spec](std::uint64_t seq) {
            const auto& body = message->envelope->submit_job();
            const std::string id = spec.name + "-" + std::to_string(seq);
            auto& job = jobs[id];
            job.spec = spec;
            job.record.set_job(id);
            job.record.set_name(spec.name);
            job.record.set_spec_yaml(to_yaml(spec));
            job.record.set_spec_hash(spec_hash(spec));
            job.record.set_submit_seq(seq);
            job.record.set_submitted_unix_ms(unix_ms_now());
            job.record.set_client_key(body.client_key());
            job.record.set_state(pb::JOB_PENDING);
            store(
                job,
                [this, id, accept] {
                  accept(id, false, 0);
                  event(id, pb::SEVERITY_INFO, "submitted", "waits to be placed");
                  enqueue(jobs.at(id));
                },
                [this, id, message](const Error& error) {
                  jobs.erase(id);
                  answer(*message, error);
                });
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

ControllerState::Job* ControllerState::resumable(const std::string& spec_name) {
  Job* newest = nullptr;
  for (auto& [id, job] : jobs) {
    if (job.record.name() != spec_name || job.coordinator) continue;
    if (ended(job.record.state()) && job.record.state() != pb::JOB_FAILED) continue;
    if (!newest || job.record.submit_seq() > newest->record.submit_seq()) newest = &job;
  }
  return newest;
}

void ControllerState::enqueue(Job& job) {
  job.record.set_state(pb::JOB_PENDING);
  job.record.set_reason("");
  job.record.clear_error_code();
  job.status.reset();
  const auto id = job.record.job();
  job.held_to = nodes_with_store(id);
  ++job.queued;
  self->request(scheduler, kRegistryTimeout, JobQueued{request_of(job)})
      .then([] {},
            [id](const caf::error& error) {
              spdlog::error("job {} was not queued: {}", id, from_caf(error).message);
            });
}

void ControllerState::cancel(const Delivery& message) {
  const auto& body = message.envelope->cancel_job();
  auto found = jobs.find(body.job());
  if (found == jobs.end())
    return answer(message, Error{Errc::not_found, "no job is named '" + body.job() + "'"});
  Job& job = found->second;
  if (ended(job.record.state()))
    return answer(message,
                  Error{Errc::invalid_argument, "job " + body.job() + " has ended already"});
  if (job.coordinator) {
    pb::StopJob stop;
    stop.set_job(body.job());
    stop.set_keep(body.keep());
    stop.set_reason("asked by a client");
    self->send(job.coordinator, outbound(stop));
  } else {
    finish(job, body.keep() ? pb::JOB_STOPPED : pb::JOB_CANCELLED, "asked by a client", Errc::ok);
  }
  answer(message, pb::Done{});
}

void ControllerState::pin(const DeliveryPtr& message) {
  const auto& body = message->envelope->pin_checkpoint();
  const auto found = jobs.find(body.job());
  if (found == jobs.end())
    return answer(*message, Error{Errc::not_found, "no job is named '" + body.job() + "'"});
  if (!found->second.coordinator)
    return answer(*message, Error{Errc::unavailable, "job " + body.job() + " does not run"});
  self->request(found->second.coordinator, kRegistryTimeout, outbound(body))
      .then([message](const DeliveryPtr&) { answer(*message, pb::Done{}); },
            [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

void ControllerState::send_events(const DeliveryPtr& message) {
  const auto& query = message->envelope->get_events();
  if (!query.job().empty() && !jobs.contains(query.job()))
    return answer(*message, Error{Errc::not_found, "no job is named '" + query.job() + "'"});
  const auto limit =
      query.limit() == 0 ? kEventsLimit : std::min<std::size_t>(query.limit(), kEventsLimit);
  self->request(registry, kRegistryTimeout, ReadEvents{query.job(), query.after_seq(), limit})
      .then(
          [message](const EventsRead& read) {
            pb::EventList list;
            for (const auto& one : *read.events) *list.add_events() = one;
            answer(*message, list);
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

void ControllerState::forward_log(const DeliveryPtr& message) {
  const auto& query = message->envelope->get_log();
  auto found = jobs.find(query.job());
  if (found == jobs.end())
    return answer(*message, Error{Errc::not_found, "no job is named '" + query.job() + "'"});
  for (const auto& slot : found->second.record.placement()) {
    if (slot.role() != query.role()) continue;
    auto agent = agents.find(slot.node());
    if (agent == agents.end())
      return answer(*message, Error{Errc::unavailable, "node " + slot.node() + " is not here"});
    auto request = std::make_shared<Outbound>();
    *request->envelope.mutable_get_log() = query;
    self->request(agent->second.handle, kAgentTimeout, OutboundPtr(std::move(request)))
        .then(
            [message](const DeliveryPtr& piece) { answer(*message, piece->envelope->log_piece()); },
            [message](const caf::error& error) { answer(*message, from_caf(error)); });
    return;
  }
  answer(*message, Error{Errc::not_found, "job " + query.job() + " has no role '" + query.role() +
                                              "'; see crabcast ps " + query.job()});
}

void ControllerState::list_actors(const Delivery& message) const {
  const auto& wanted = message.envelope->list_actors().job();
  if (!wanted.empty() && !jobs.contains(wanted))
    return answer(message, Error{Errc::not_found, "no job is named '" + wanted + "'"});
  pb::ActorList list;
  for (const auto& [id, job] : jobs) {
    if (!wanted.empty() && id != wanted) continue;
    if (job.status)
      for (const auto& actor : job.status->actors()) *list.add_actors() = actor;
  }
  answer(message, list);
}

void ControllerState::list_nodes(const Delivery& message) const {
  pb::NodeList list;
  for (const auto& [node, agent] : agents) {
    auto& status = *list.add_nodes();
    status.set_node(node);
    *status.mutable_total() = agent.total;
    status.set_state(pb::ACTOR_HEALTHY);
    status.set_roles(static_cast<std::uint32_t>(agent.running.size()));
    status.set_agent_endpoint(agent.endpoint);
    auto& free = *status.mutable_free();
    free = agent.total;
    for (const auto& role : agent.running) {
      free.set_cpus(free.cpus() - role.resources().cpus());
      free.set_gpus(free.gpus() - std::min(free.gpus(), role.resources().gpus()));
      free.set_memory_bytes(free.memory_bytes() -
                            std::min(free.memory_bytes(), role.resources().memory_bytes()));
    }
  }
  answer(message, list);
}

}  // namespace crabcast::actors

// The controller's decisions: what it tells of jobs, nodes and queues.
#include <algorithm>
#include <utility>

#include "actors/control/cluster_machine.h"

namespace crabcast::actors {
namespace {

std::int64_t unix_ms_of(TimePoint time, Moment now) {
  return now.unix_ms +
         std::chrono::duration_cast<std::chrono::milliseconds>(time - now.time).count();
}

pb::Resources resources_of(const scheduler::Amount& amount) {
  pb::Resources resources;
  resources.set_cpus(static_cast<double>(amount.cpu_millis) / 1000);
  resources.set_gpus(static_cast<std::uint32_t>(std::max<std::int64_t>(0, amount.gpus)));
  resources.set_memory_bytes(
      static_cast<std::uint64_t>(std::max<std::int64_t>(0, amount.memory_bytes)));
  return resources;
}

// Of the dimensions that a quota names.
pb::Resources resources_of(const scheduler::Quota& quota) {
  return resources_of(scheduler::Amount{quota.cpu_millis.value_or(0), quota.gpus.value_or(0),
                                        quota.memory_bytes.value_or(0)});
}

}  // namespace

pb::JobStatus ClusterMachine::status_of(const Job& job, Moment now) const {
  const pb::JobRecord& record = job.record;
  pb::JobStatus status;
  if (job.status) status = *job.status;
  status.set_job(record.job());
  status.set_name(record.name());
  // The coordinator knows more of a job that runs; the record, of every other.
  if (!job.status || !is_active(record.state()) || job.coordinator == 0) {
    status.set_state(record.state());
    status.set_reason(record.reason());
  }
  status.set_priority(std::string(to_string(job.spec.priority)));
  status.set_error_code(record.error_code());
  status.set_submitted_unix_ms(record.submitted_unix_ms());
  status.set_started_unix_ms(record.started_unix_ms());
  status.set_ended_unix_ms(record.ended_unix_ms());
  status.set_submit_seq(record.submit_seq());
  status.set_owner(record.owner());
  status.set_queue(job.spec.queue);
  status.set_array(record.array());
  status.set_array_index(record.array_index());
  status.set_held(record.held());
  status.set_preemptions(record.preemptions());
  if (record.state() == pb::JOB_PENDING) {
    const auto why = scheduler_.why(JobId{record.job()}, now.time);
    status.set_reason(why.text);
    status.set_pending_reason(std::string(to_string(why.reason)));
    status.set_would_help(why.would_help);
    if (why.estimated_start)
      status.set_estimated_start_unix_ms(unix_ms_of(*why.estimated_start, now));
  }
  return status;
}

void ClusterMachine::list_jobs(RequestNumber request, const pb::ListJobs& query, Moment now) {
  const auto wanted = [&](const Job& job) {
    const auto& record = job.record;
    const auto& states = query.states();
    if (states.empty() ? !query.all() && is_over(record.state())
                       : std::find(states.begin(), states.end(), record.state()) == states.end())
      return false;
    return (query.before() == 0 || record.submit_seq() < query.before()) &&
           (query.owner().empty() || record.owner() == query.owner()) &&
           (query.queue().empty() || job.spec.queue == query.queue()) &&
           (query.name().empty() || record.name() == query.name());
  };
  std::vector<const Job*> found;
  for (const auto& [id, job] : jobs_)
    if (wanted(job)) found.push_back(&job);
  const auto newest_first = [](const Job* a, const Job* b) {
    return a->record.submit_seq() > b->record.submit_seq();
  };
  pb::JobList list;
  list.set_total(found.size());
  if (query.limit() > 0 && found.size() > query.limit()) {
    std::nth_element(found.begin(), found.begin() + query.limit(), found.end(), newest_first);
    found.resize(query.limit());
    list.set_next(
        (*std::max_element(found.begin(), found.end(), newest_first))->record.submit_seq());
  }
  std::sort(found.begin(), found.end(),
            [&](const Job* a, const Job* b) { return newest_first(b, a); });
  for (const Job* job : found) *list.add_jobs() = status_of(*job, now);
  answer(request, list);
}

void ClusterMachine::list_actors(RequestNumber request, const pb::ListActors& query) {
  if (!query.job().empty() && !find(query.job(), request)) return;
  pb::ActorList list;
  for (const auto& [id, job] : jobs_) {
    if (!query.job().empty() && id != query.job()) continue;
    if (job.status)
      for (const auto& actor : job.status->actors()) *list.add_actors() = actor;
  }
  answer(request, list);
}

void ClusterMachine::list_nodes(RequestNumber request) {
  pb::NodeList list;
  for (const auto& [name, record] : known_) {
    const auto here = nodes_.find(name);
    if (here == nodes_.end() && !record.draining()) continue;  // one that is gone is forgotten
    auto& status = *list.add_nodes();
    status.set_node(name);
    *status.mutable_total() = record.total();
    *status.mutable_labels() = record.labels();
    status.set_draining(record.draining());
    status.set_drain_reason(record.drain_reason());
    status.set_version(record.version());
    status.set_last_seen_unix_ms(record.last_seen_unix_ms());
    status.set_agent_endpoint(record.agent_endpoint());
    if (here == nodes_.end()) {
      status.set_state(pb::ACTOR_GONE);
      continue;
    }
    const Node& node = here->second;
    status.set_state(record.draining()        ? pb::ACTOR_DRAINING
                     : !node.problems.empty() ? pb::ACTOR_SUSPECT
                                              : pb::ACTOR_HEALTHY);
    status.set_last_seen_unix_ms(node.last_seen_unix_ms);
    status.set_roles(static_cast<std::uint32_t>(node.running.size()));
    for (const auto& taint : node.taints) status.add_taints(taint);
    for (const auto& problem : node.problems) status.add_taints("sick: " + problem);
    *status.mutable_free() = resources_of(scheduler_.free_on(NodeId{name}));
  }
  answer(request, list);
}

void ClusterMachine::list_queues(RequestNumber request) {
  pb::QueueList list;
  for (const auto& queue : scheduler_.queues()) {
    auto& status = *list.add_queues();
    status.set_queue(queue.path);
    status.set_weight(queue.weight);
    *status.mutable_guaranteed() = resources_of(queue.guaranteed);
    if (!queue.limit.empty()) *status.mutable_limit() = resources_of(queue.limit);
    *status.mutable_used() = resources_of(queue.used);
    *status.mutable_borrowed() = resources_of(queue.borrowed);
    status.set_fair_share(queue.fair_share);
    status.set_share(queue.share);
    status.set_running(queue.running);
    status.set_pending(queue.pending);
  }
  answer(request, list);
}

void ClusterMachine::explain(RequestNumber request, const pb::ExplainJob& query, Moment now) {
  const Job* job = find(query.job(), request);
  if (!job) return;
  pb::Explanation explanation;
  explanation.set_job(query.job());
  const auto state = job->record.state();
  if (is_over(state) || state == pb::JOB_STOPPED) {
    explanation.set_text("The job is over: " + job->record.reason());
    return answer(request, explanation);
  }
  const JobId id{query.job()};
  const auto why = scheduler_.why(id, now.time);
  explanation.set_reason(std::string(to_string(why.reason)));
  explanation.set_text(state == pb::JOB_PENDING ? why.text
                                                : "It has its place, with its coordinator on " +
                                                      node_of_coordinator(*job) + ".");
  explanation.set_would_help(why.would_help);
  if (why.estimated_start)
    explanation.set_estimated_start_unix_ms(unix_ms_of(*why.estimated_start, now));
  if (const auto lines = scheduler_.explain(id, now.time))
    for (const std::string& line : *lines) explanation.add_arithmetic(line);
  answer(request, explanation);
}

void ClusterMachine::forward_log(RequestNumber request, const pb::GetLog& query) {
  const Job* job = find(query.job(), request);
  if (!job) return;
  for (const auto& slot : job->record.placement()) {
    if (slot.role() != query.role()) continue;
    const auto node = nodes_.find(slot.node());
    if (node == nodes_.end())
      return refuse(request, {Errc::unavailable, "node " + slot.node() + " is not here"});
    Forward forward{request, node->second.agent, {}};
    *forward.body.mutable_get_log() = query;
    actions.push_back(std::move(forward));
    return;
  }
  refuse(request, {Errc::not_found, "job " + query.job() + " has no role '" + query.role() +
                                        "'; see crabcast ps " + query.job()});
}

}  // namespace crabcast::actors

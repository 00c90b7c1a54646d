#include "actors/control/gateway/cluster_metrics.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "actors/control/gateway/json.h"

namespace crabcast::gateway {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

std::string state_name(pb::JobState state) {
  const auto* value = pb::JobState_descriptor()->FindValueByNumber(state);
  return value ? short_name(*value) : "unknown";
}
std::string state_name(pb::ActorState state) {
  const auto* value = pb::ActorState_descriptor()->FindValueByNumber(state);
  return value ? short_name(*value) : "unknown";
}
std::string kind_name(pb::RoleKind kind) {
  const auto* value = pb::RoleKind_descriptor()->FindValueByNumber(kind);
  return value ? short_name(*value) : "unknown";
}

class Families {
 public:
  // A number that is not finite is left out: it is not known.
  void gauge(const std::string& name, const std::string& help, Labels labels, double value) {
    add(MetricType::Gauge, name, help, std::move(labels), value);
  }
  void counter(const std::string& name, const std::string& help, Labels labels, double value) {
    add(MetricType::Counter, name, help, std::move(labels), value);
  }
  std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  void add(MetricType type, const std::string& name, const std::string& help, Labels labels,
           double value) {
    if (!std::isfinite(value)) return;
    const auto [at, fresh] = places_.emplace(name, families_.size());
    if (fresh) families_.push_back({"crabcast_" + name, help, type, {}});
    ClientMetric metric;
    metric.label = std::move(labels);
    if (type == MetricType::Gauge)
      metric.gauge.value = value;
    else
      metric.counter.value = value;
    families_[at->second].metric.push_back(std::move(metric));
  }

  std::vector<MetricFamily> families_;
  std::map<std::string, std::size_t> places_;
};

using Amounts = std::vector<std::pair<std::string, double>>;

Amounts amounts(const pb::Resources& resources) {
  return {{"cpus", resources.cpus()},
          {"gpus", resources.gpus()},
          {"memory_bytes", static_cast<double>(resources.memory_bytes())}};
}

Amounts stages(const pb::StageSeconds& stages) {
  return {{"data", stages.data()},         {"forward", stages.forward()},
          {"backward", stages.backward()}, {"reduce", stages.reduce()},
          {"commit", stages.commit()},     {"optimizer", stages.optimizer()}};
}

void add_training(Families& all, const pb::JobStatus& job) {
  const Labels label = {{"job", job.job()}};
  all.gauge("job_step", "Last committed step.", label, static_cast<double>(job.step()));
  if (job.steps() > 0)
    all.gauge("job_steps", "Steps that the job has.", label, static_cast<double>(job.steps()));
  all.gauge("job_generation", "Number of the job's membership; it rises with each change.", label,
            static_cast<double>(job.generation()));
  if (job.losses_size() > 0)
    all.gauge("job_loss", "Mean loss of an answer token over the last steps, in nats.", label,
              job.loss());
  for (const auto& loss : job.losses())
    if (loss.tokens() > 0)
      all.gauge("job_task_loss", "The same, by task.", {{"job", job.job()}, {"task", loss.task()}},
                loss.loss_sum() / static_cast<double>(loss.tokens()));
  all.gauge("job_samples_per_second", "Samples trained in a second, over the last steps.", label,
            job.samples_per_second());
  all.gauge("job_eta_seconds", "Time until the job's last step at this speed.", label,
            job.eta_seconds());
  for (const auto& [stage, seconds] : stages(job.stages()))
    all.counter("job_stage_seconds_total",
                "Wall time of a worker by stage, summed over the steps of the job's run.",
                {{"job", job.job()}, {"stage", stage}}, seconds);
  for (const auto& score : job.evaluation().scores())
    all.gauge("job_evaluation_score", "Score of the newest evaluation, from 0 to 1.",
              {{"job", job.job()}, {"task", score.task()}}, score.score());
}

void add_health(Families& all, const pb::JobStatus& job,
                const std::map<std::string, double>& checkpoint_ages) {
  const Labels label = {{"job", job.job()}};
  all.gauge("job_workers", "Workers that are alive.", label, job.workers_alive());
  all.gauge("job_workers_wanted", "Workers that it is to have.", label, job.workers_wanted());
  all.counter("job_incidents_total", "Incidents of the job.", label, job.incidents());
  all.counter("job_preemptions_total", "How often the job was put back for others.", label,
              job.preemptions());
  all.gauge("job_quarantined_samples", "Training samples that cannot be read.", label,
            job.quarantined());
  all.gauge("job_checkpoint_step", "Step of the newest checkpoint; 0: none.", label,
            static_cast<double>(job.newest_checkpoint()));
  all.gauge("job_replicated_step", "Step of the newest checkpoint that a quorum holds; 0: none.",
            label, static_cast<double>(job.replicated_checkpoint()));
  if (const auto age = checkpoint_ages.find(job.job()); age != checkpoint_ages.end())
    all.gauge("job_checkpoint_age_seconds",
              "Time since the newest checkpoint changed, or since the gateway first saw the job.",
              label, age->second);
  std::map<std::string, std::uint32_t> mailboxes;
  for (const auto& actor : job.actors()) {
    auto& deepest = mailboxes[kind_name(actor.kind())];
    deepest = std::max(deepest, actor.mailbox());
  }
  for (const auto& [kind, depth] : mailboxes)
    all.gauge("actor_mailbox_depth", "Messages that wait in the fullest mailbox of a kind.",
              {{"job", job.job()}, {"kind", kind}}, depth);
}

void add_queue(Families& all, const pb::QueueStatus& queue) {
  const auto each = [&](const char* name, const char* help, const pb::Resources& resources) {
    for (const auto& [resource, amount] : amounts(resources))
      all.gauge(name, help, {{"queue", queue.queue()}, {"resource", resource}}, amount);
  };
  each("queue_used", "What jobs of the queue hold.", queue.used());
  each("queue_guaranteed", "What the queue can always have.", queue.guaranteed());
  each("queue_borrowed", "What it holds beyond that.", queue.borrowed());
  if (queue.has_limit()) each("queue_limit", "What it can have at most.", queue.limit());
  const Labels label = {{"queue", queue.queue()}};
  all.gauge("queue_share", "Dominant share of the cluster that the queue has.", label,
            queue.share());
  all.gauge("queue_fair_share", "Dominant share of the cluster that is its due.", label,
            queue.fair_share());
  all.gauge("queue_running_jobs", "Jobs of the queue that run.", label, queue.running());
  all.gauge("queue_pending_jobs", "Jobs of the queue that wait.", label, queue.pending());
}

}  // namespace

std::vector<MetricFamily> cluster_metrics(const ClusterState& state,
                                          const std::map<std::string, double>& checkpoint_ages) {
  Families all;
  std::map<std::pair<std::string, std::string>, std::size_t> jobs;
  std::map<std::pair<std::string, std::string>, std::size_t> actors;
  for (const auto& job : state.jobs) {
    ++jobs[{job.queue(), state_name(job.state())}];
    for (const auto& actor : job.actors())
      ++actors[{kind_name(actor.kind()), state_name(actor.state())}];
  }
  for (const auto& [key, count] : jobs)
    all.gauge("jobs", "Jobs that are not over, and those that ended within ten minutes.",
              {{"queue", key.first}, {"state", key.second}}, static_cast<double>(count));
  for (const auto& [key, count] : actors)
    all.gauge("actors", "Processes of jobs.", {{"kind", key.first}, {"state", key.second}},
              static_cast<double>(count));
  std::vector<const pb::JobStatus*> shown;
  for (const auto& job : state.jobs) shown.push_back(&job);
  std::sort(shown.begin(), shown.end(), [](const auto* a, const auto* b) {
    return a->submitted_unix_ms() > b->submitted_unix_ms();
  });
  if (shown.size() > Metrics::kMostJobs) shown.resize(Metrics::kMostJobs);
  for (const auto* job : shown) {
    add_training(all, *job);
    add_health(all, *job, checkpoint_ages);
  }
  for (const auto& queue : state.queues) add_queue(all, queue);
  std::map<std::string, std::size_t> nodes;
  for (const auto& node : state.nodes) {
    ++nodes[node.draining() ? "draining" : state_name(node.state())];
    for (const auto& [resource, amount] : amounts(node.total()))
      all.gauge("node_capacity", "What the node offers.",
                {{"node", node.node()}, {"resource", resource}}, amount);
    for (const auto& [resource, amount] : amounts(node.free()))
      all.gauge("node_free", "What is free on it.", {{"node", node.node()}, {"resource", resource}},
                amount);
    all.gauge("node_tainted", "1 while the node has taints.", {{"node", node.node()}},
              node.taints_size() > 0 ? 1 : 0);
  }
  for (const auto& [name, count] : nodes)
    all.gauge("nodes", "Nodes that have joined.", {{"state", name}}, static_cast<double>(count));
  return all.take();
}

}  // namespace crabcast::gateway

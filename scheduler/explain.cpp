// What the scheduler tells of itself: reasons, shares, reservations, and the arithmetic behind.
#include <algorithm>
#include <array>
#include <tuple>

#include "protocol/format.h"
#include "scheduler/backfill.h"
#include "scheduler/pending.h"
#include "scheduler/scheduler.h"

namespace crabcast::scheduler {
namespace {

constexpr std::size_t kBestNodes = 5;

std::string percent(double share) {
  return exact_number(static_cast<double>(static_cast<std::int64_t>(share * 1000 + 0.5)) / 10) +
         "%";
}

// Walks along a line and knows who is ahead.
class LineWalk {
 public:
  [[nodiscard]] Ahead ahead_of(const Job& job) const {
    Ahead ahead{jobs_, first_, nullptr};
    for (std::size_t p = first_of_.size(); p-- > static_cast<std::size_t>(job.priority()) + 1;)
      if (ahead.higher == nullptr) ahead.higher = first_of_.at(p);
    return ahead;
  }
  void pass(const Job& job) {
    if (first_ == nullptr) first_ = &job;
    const Job*& first = first_of_.at(static_cast<std::size_t>(job.priority()));
    if (first == nullptr) first = &job;
    ++jobs_;
  }

 private:
  std::size_t jobs_ = 0;
  const Job* first_ = nullptr;
  std::array<const Job*, 4> first_of_ = {};  // by priority
};

Ahead ahead_of(const ClusterState& state, const Job& job) {
  if (!job.in_line) return {};
  LineWalk walk;
  for (const Job* other : state.queues.queue(job.queue).line) {
    if (other == &job) break;
    walk.pass(*other);
  }
  return walk.ahead_of(job);
}

std::string in_time(const ClusterState& state, std::optional<TimePoint> at) {
  if (!at) return "at a time that nobody knows";
  return "in " + format_duration(std::max(0.0, seconds(*at - state.now)));
}

std::string queue_line(const ClusterState& state, QueueIndex at) {
  const Queue& queue = state.queues.queue(at);
  std::string line = "queue " + queue.policy.path + ": uses " + to_string(queue.used) + " = " +
                     percent(state.queues.share(at)) + " of the cluster, due " +
                     percent(state.queues.fair_share(at)) + " at weight " +
                     exact_number(queue.policy.weight);
  if (!queue.policy.guaranteed.empty())
    line += "; guaranteed " + to_string(queue.policy.guaranteed);
  if (!queue.policy.limit.empty()) line += "; at most " + to_string(queue.policy.limit);
  return line;
}

// The nodes with the most room for it, by GPUs, then CPUs.
std::vector<std::string> node_lines(const ClusterState& state, const Job& job) {
  std::vector<Slot> nodes = state.nodes.usable(job.demand);
  const auto& free = state.nodes.free();
  const std::size_t count = std::min(kBestNodes, nodes.size());
  std::partial_sort(nodes.begin(), nodes.begin() + static_cast<std::ptrdiff_t>(count), nodes.end(),
                    [&](Slot a, Slot b) {
                      const auto key = [&](Slot node) {
                        return std::tuple(-free[node].gpus, -free[node].cpu_millis,
                                          state.nodes.node(node).id);
                      };
                      return key(a) < key(b);
                    });
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < count; ++i)
    lines.push_back("node " + state.nodes.node(nodes[i]).id.value() + ": " +
                    to_string(most(free[nodes[i]], {})) + " free of " +
                    to_string(state.nodes.node(nodes[i]).total));
  return lines;
}

std::string reservation_line(const ClusterState& state, const Job& job) {
  if (!state.kept) return "no job has a reservation";
  const Kept& kept = *state.kept;
  std::vector<std::string> nodes;
  for (const auto& [node, need] : kept.need) nodes.push_back(state.nodes.node(node).id.value());
  if (nodes.size() > kBestNodes) {
    nodes.resize(kBestNodes);
    nodes.emplace_back("others");
  }
  return std::string("the reservation is ") +
         (kept.job == &job ? "its own" : "that of " + kept.job->id().value()) + ": " +
         to_string(kept.job->wanted) + " " + in_time(state, kept.start) +
         (nodes.empty() ? "" : " on " + join_names(nodes));
}

Amount beyond(const Amount& used, const Quota& quota) {
  return most({used.cpu_millis - quota.cpu_millis.value_or(0), used.gpus - quota.gpus.value_or(0),
               used.memory_bytes - quota.memory_bytes.value_or(0)},
              {});
}

}  // namespace

Pending Scheduler::why(const JobId& id, TimePoint now) const {
  const ClusterState& s = *state_;
  const Job* job = s.find(id);
  if (job == nullptr) return {id, PendingReason::none, "", "", {}};
  Pending pending = why_waiting(s, *job, ahead_of(s, *job));
  if (s.kept && s.kept->job == job)
    pending.estimated_start = s.kept->start;
  else if (job->in_line && pending.reason > PendingReason::queue_limit)
    pending.estimated_start = estimate_start(s, *job);
  if (pending.estimated_start) pending.estimated_start = std::max(now, *pending.estimated_start);
  return pending;
}

std::vector<Pending> Scheduler::pending(TimePoint now) const {
  const ClusterState& s = *state_;
  std::vector<Pending> all;
  for (QueueIndex at = 1; at < s.queues.size(); ++at) {
    LineWalk walk;
    for (const Job* job : s.queues.queue(at).line) {
      if (!job->running) {
        all.push_back(why_waiting(s, *job, walk.ahead_of(*job)));
        if (s.kept && s.kept->job == job && s.kept->start)
          all.back().estimated_start = std::max(now, *s.kept->start);
      }
      walk.pass(*job);
    }
  }
  std::vector<const Job*> aside;
  for (const auto& [id, job] : s.jobs)
    if (!job->running && !job->in_line) aside.push_back(job.get());
  std::sort(aside.begin(), aside.end(), HeardBefore());
  for (const Job* job : aside) all.push_back(why_waiting(s, *job, {}));
  return all;
}

Result<std::vector<std::string>> Scheduler::explain(const JobId& id, TimePoint now) const {
  const ClusterState& s = *state_;
  const Job* job = s.find(id);
  if (job == nullptr)
    return fail(Errc::not_found, "job " + id.value() + " is not known to the scheduler");
  const Pending pending = why(id, now);
  std::vector<std::string> lines;
  if (job->running)
    lines.push_back("it uses " + to_string(job->used) + " in " +
                    counted(static_cast<double>(job->roles.size()), "role") +
                    (job->backfill ? ", begun in a gap" : "") + "; it ends " +
                    in_time(s, job->expected_end));
  else
    lines.push_back("its minimum is " +
                    counted(static_cast<double>(minimum_roles(job->request).size()), "role") +
                    ", together " + to_string(job->wanted));
  for (QueueIndex at = job->queue; at != QueueTree::kRoot; at = s.queues.queue(at).parent)
    lines.push_back(queue_line(s, at));
  const User& user = *job->user;
  if (!user.policy.limit.empty() || user.policy.running)
    lines.push_back("user " + user.name + ": " + std::to_string(user.running) + " running" +
                    (user.policy.running ? " of " + std::to_string(*user.policy.running) : "") +
                    ", " + to_string(user.used) + " used" +
                    (user.policy.limit.empty() ? "" : " of " + to_string(user.policy.limit)));
  if (job->running) return lines;
  const Ahead ahead = ahead_of(s, *job);
  if (job->in_line)
    lines.push_back(counted(static_cast<double>(ahead.jobs), "job") + " ahead in queue " +
                    job->request.queue + (job->aged ? ", it has waited past the bound" : ""));
  const auto nodes = node_lines(s, *job);
  lines.insert(lines.end(), nodes.begin(), nodes.end());
  lines.push_back(std::to_string(s.nodes.usable(job->demand).size()) + " of " +
                  std::to_string(s.nodes.count()) + " nodes take it, with " +
                  to_string(s.nodes.free_sum()) + " free in sum");
  lines.push_back(reservation_line(s, *job));
  lines.push_back("it starts " + in_time(s, pending.estimated_start));
  return lines;
}

std::vector<QueueState> Scheduler::queues() const {
  const ClusterState& s = *state_;
  std::vector<QueueState> all;
  for (QueueIndex at = 1; at < s.queues.size(); ++at) {
    const Queue& queue = s.queues.queue(at);
    all.push_back({queue.policy.path, queue.policy.weight, queue.policy.guaranteed,
                   queue.policy.limit, queue.used, beyond(queue.used, queue.policy.guaranteed),
                   s.queues.fair_share(at), s.queues.share(at), queue.running, queue.pending});
  }
  return all;
}

std::optional<Reservation> Scheduler::reservation() const {
  const ClusterState& s = *state_;
  if (!s.kept) return std::nullopt;
  Reservation reservation{s.kept->job->id(), s.kept->start, {}};
  for (const Seat& seat : s.kept->seats)
    reservation.roles.push_back(
        {seat.role->role, seat.role->kind, s.nodes.node(seat.node).id, seat.role->need});
  return reservation;
}

std::optional<TimePoint> Scheduler::next_wake(TimePoint now) const {
  const ClusterState& s = *state_;
  std::optional<TimePoint> next;
  const auto sooner = [&](std::optional<TimePoint> at) {
    if (at && *at > now && (!next || *at < *next)) next = at;
  };
  if (!s.deadlines.empty()) sooner(s.deadlines.begin()->first);
  if (!s.ends.empty() && s.kept) sooner(s.ends.begin()->first);  // an estimate may be wrong
  if (s.policy.starvation && !s.aging.empty())
    sooner(s.aging.begin()->first + *s.policy.starvation);
  if (s.kept) sooner(s.ask_again);
  return next;
}

}  // namespace crabcast::scheduler

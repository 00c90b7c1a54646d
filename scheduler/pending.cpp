#include "scheduler/pending.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "protocol/format.h"
#include "scheduler/backfill.h"

namespace crabcast::scheduler {
namespace {

// In the order of the enumeration.
constexpr std::array kNames = {"none",
                               "held",
                               "dependency",
                               "no_such_queue",
                               "not_permitted",
                               "no_nodes",
                               "larger_than_quota",
                               "no_matching_node",
                               "larger_than_cluster",
                               "store_node_too_small",
                               "user_limit",
                               "queue_limit",
                               "room_is_coming",
                               "behind_priority",
                               "behind_queue",
                               "behind_share",
                               "not_enough_cpus",
                               "not_enough_gpus",
                               "not_enough_memory",
                               "fragmented",
                               "no_room_at_store"};
static_assert(kNames.size() == static_cast<std::size_t>(PendingReason::no_room_at_store) + 1);

std::string cpus(std::int64_t millis) {
  return counted(static_cast<double>(millis) / 1000, "CPU");
}

std::string memory(std::int64_t bytes) {
  return format_bytes(static_cast<std::uint64_t>(bytes));
}

std::string on_nodes(std::size_t count) {
  return "on " + counted(static_cast<double>(count), "healthy node");
}

std::string percent(double share) {
  return exact_number(static_cast<double>(static_cast<std::int64_t>(share * 1000)) / 10) + "%";
}

const RoleRequest& largest(const std::vector<const RoleRequest*>& roles) {
  return **std::max_element(roles.begin(), roles.end(), [](const auto* a, const auto* b) {
    return std::tuple(a->need.gpus, a->need.cpu_millis, a->need.memory_bytes) <
           std::tuple(b->need.gpus, b->need.cpu_millis, b->need.memory_bytes);
  });
}

std::string gang_text(const std::vector<const RoleRequest*>& roles) {
  return counted(static_cast<double>(roles.size()), "role");
}

Amount sum_on(const std::vector<Amount>& room, const std::vector<Slot>& nodes) {
  Amount sum;
  for (const Slot node : nodes) sum += most(room[node], {});
  return sum;
}

using Reason = PendingReason;

// The parts of an answer for one job.
class Answer {
 public:
  Answer(const ClusterState& state, const Job& job, const Ahead& ahead)
      : state_(state), job_(job), ahead_(ahead) {}

  Pending give() {
    if (job_.running && !job_.in_line) return {job_.id(), Reason::none, "It runs.", "", {}};
    if (job_.aside != Reason::none && job_.aside < Reason::no_nodes)
      return say(job_.aside, job_.aside_text, job_.aside_help);
    if (state_.nodes.healthy() == 0) return no_nodes();
    if (job_.aside != Reason::none) return say(job_.aside, job_.aside_text, job_.aside_help);
    const Job* reserved = state_.kept ? state_.kept->job : nullptr;
    if (const auto at = state_.queues.limit_of(job_, job_.wanted)) return queue_limit(*at);
    if (const auto at = state_.queues.would_borrow(job_, job_.wanted)) return would_borrow(*at);
    if (reserved == &job_) {
      if (std::any_of(state_.coming.begin(), state_.coming.end(),
                      [&](const Job* other) { return other->makes_room_for == job_.id(); }))
        return room_is_coming();
      return no_room();
    }
    if (ahead_.higher != nullptr) return behind_priority();
    if (ahead_.jobs > 0) return behind_queue();
    if (reserved != nullptr && job_.tried != 0) return behind_share(*reserved);
    return say(Reason::none, "It is looked at in the next round of placement.", "");
  }

 private:
  [[nodiscard]] Pending say(Reason reason, std::string text, std::string help) const {
    return {job_.id(), reason, std::move(text), std::move(help), {}};
  }

  [[nodiscard]] Pending no_nodes() const {
    const std::string sick =
        state_.nodes.count() == 0
            ? "No node has joined"
            : "No node is healthy, of " + std::to_string(state_.nodes.count()) + " that joined";
    return say(Reason::no_nodes, sick + ".", "Start one with `crabcast agent --join HOST:PORT`.");
  }

  [[nodiscard]] Pending queue_limit(QueueIndex at) const {
    const Queue& queue = state_.queues.queue(at);
    return say(Reason::queue_limit,
               "It needs " + to_string(job_.wanted) + "; queue " + queue.policy.path + " uses " +
                   to_string(queue.used) + " of at most " + to_string(queue.policy.limit) + ".",
               "Jobs of that queue must end, or the policy allow more.");
  }

  [[nodiscard]] Pending would_borrow(QueueIndex at) const {
    const Queue& queue = state_.queues.queue(at);
    return say(Reason::queue_limit,
               "It needs " + to_string(job_.wanted) + ", and as it is never preempted it may not " +
                   "borrow: such jobs use " + to_string(queue.firm) + " of the " +
                   to_string(queue.policy.guaranteed) + " that queue " + queue.policy.path +
                   " is guaranteed.",
               "Such jobs must end; or set schedule.preemption: allowed.");
  }

  [[nodiscard]] Pending room_is_coming() const {
    std::vector<std::string> names;
    for (const Job* other : state_.coming)
      if (other->makes_room_for == job_.id()) names.push_back(other->id().value());
    if (names.size() > 5) names.resize(5), names.emplace_back("others");
    return say(
        Reason::room_is_coming,
        join_names(names) + (names.size() == 1 ? " was" : " were") + " asked to make room for it.",
        "Nothing: it starts when they have saved their work and left.");
  }

  [[nodiscard]] Pending behind_priority() const {
    return say(Reason::behind_priority,
               counted(static_cast<double>(ahead_.jobs), "job") + " ahead in line; " +
                   ahead_.higher->id().value() + " has priority " +
                   std::string(crabcast::to_string(ahead_.higher->priority())) + ", this one " +
                   std::string(crabcast::to_string(job_.priority())) + ".",
               "Wait, or raise priority. " + gap_help());
  }

  [[nodiscard]] Pending behind_queue() const {
    return say(Reason::behind_queue,
               counted(static_cast<double>(ahead_.jobs), "job") +
                   " ahead in line with the same priority, " + ahead_.first->id().value() +
                   " first.",
               "Wait. " + gap_help());
  }

  [[nodiscard]] Pending behind_share(const Job& reserved) const {
    return say(Reason::behind_share,
               "It is the turn of " + reserved.id().value() + " of queue " +
                   reserved.request.queue + " (" + share_text(reserved.queue) + "; " +
                   job_.request.queue + " has " + share_text(job_.queue) + ").",
               "Wait. " + gap_help());
  }

  [[nodiscard]] std::string share_text(QueueIndex at) const {
    return percent(state_.queues.share(at)) + " of the cluster at weight " +
           exact_number(state_.queues.queue(at).policy.weight);
  }

  [[nodiscard]] std::string gap_help() const {
    if (state_.policy.backfill_depth == 0) return "Nobody overtakes a job that waits.";
    return remaining(job_.request) ? "It starts earlier where it fits in a gap."
                                   : "With schedule.expected or schedule.time_limit it could start "
                                     "earlier in a gap.";
  }

  [[nodiscard]] Pending shortage(Reason reason, const std::string& need, const std::string& free,
                                 const std::string& missing) const {
    const std::size_t nodes = state_.nodes.usable(job_.demand).size();
    return say(reason, "Needs " + need + " at once; " + free + " free " + on_nodes(nodes) + ".",
               missing + " more would let it start.");
  }

  // It is the first: what is missing decides.
  [[nodiscard]] Pending no_room() const {
    const auto roles = wanted_roles(job_);
    Gang gang =
        make_gang(roles, job_.demand, job_.request.schedule.place == Spread::spread, state_.nodes);
    const std::vector<Slot>& usable = state_.nodes.usable(job_.demand);
    const Amount free = sum_on(state_.nodes.free(), usable);
    const Amount& need = job_.wanted;
    for (RoleGroup& group : gang.groups) group.only_on.clear();
    if (place(gang, state_.nodes, state_.nodes.free()))
      return say(Reason::no_room_at_store, no_room_at_store(job_),
                 "Free some room on such a node.");
    if (need.cpu_millis > free.cpu_millis)
      return shortage(Reason::not_enough_cpus, cpus(need.cpu_millis),
                      exact_number(static_cast<double>(free.cpu_millis) / 1000),
                      cpus(need.cpu_millis - free.cpu_millis));
    if (need.gpus > free.gpus)
      return shortage(Reason::not_enough_gpus, counted(static_cast<double>(need.gpus), "GPU"),
                      std::to_string(free.gpus),
                      counted(static_cast<double>(need.gpus - free.gpus), "GPU"));
    if (need.memory_bytes > free.memory_bytes)
      return shortage(Reason::not_enough_memory, memory(need.memory_bytes) + " of memory",
                      memory(free.memory_bytes), memory(need.memory_bytes - free.memory_bytes));
    const RoleRequest& big = largest(roles);
    return say(Reason::fragmented,
               "Needs " + to_string(need) + " for " + gang_text(roles) + "; " + to_string(free) +
                   " is free in sum " + on_nodes(usable.size()) +
                   ", but not in pieces that hold them (the largest role, " + big.role +
                   ", needs " + to_string(big.need) + " on one node).",
               "Ask for smaller processes, or add a node that holds the largest one.");
  }

  const ClusterState& state_;
  const Job& job_;
  const Ahead& ahead_;
};

}  // namespace

std::string_view to_string(PendingReason reason) {
  return kNames.at(static_cast<std::size_t>(reason));
}

std::vector<PendingReason> every_pending_reason() {
  std::vector<PendingReason> all;
  for (std::size_t i = 0; i < kNames.size(); ++i) all.push_back(static_cast<PendingReason>(i));
  return all;
}

std::string counted(double value, const std::string& noun) {
  return exact_number(value) + " " + noun + (value == 1 ? "" : "s");
}

std::string no_room_at_store(const Job& job) {
  const auto& roles = job.request.fixed;
  const auto bound = std::find_if(roles.begin(), roles.end(),
                                  [](const RoleRequest& role) { return !role.only_on.empty(); });
  std::vector<std::string> nodes;
  for (const NodeId& node : bound->only_on) nodes.push_back(node.value());
  return "Goes on only where its store is (" + join_names(nodes) + "), and " + bound->role +
         " needs " + to_string(bound->need) + " there.";
}

std::string larger_than_cluster(const Job& job, const std::vector<Amount>& empty,
                                const std::vector<Slot>& usable) {
  const auto roles = minimum_roles(job.request);
  const RoleRequest& big = largest(roles);
  return "Its minimum of " + gang_text(roles) + " needs " + to_string(sum_of(roles)) +
         " (the largest, " + big.role + ", " + to_string(big.need) +
         " on one node); the whole cluster has " + to_string(sum_on(empty, usable)) + " " +
         on_nodes(usable.size()) + ".";
}

Pending why_waiting(const ClusterState& state, const Job& job, const Ahead& ahead) {
  return Answer(state, job, ahead).give();
}

}  // namespace crabcast::scheduler

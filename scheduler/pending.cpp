// Why a job waits, in a sentence with the numbers.
#include <algorithm>
#include <tuple>

#include "protocol/format.h"
#include "scheduler/placement.h"
#include "scheduler/scheduler.h"

namespace crabcast::scheduler {
namespace {

std::string counted(double value, const std::string& noun) {
  return exact_number(value) + " " + noun + (value == 1 ? "" : "s");
}

std::string cpus(std::int64_t millis) {
  return counted(static_cast<double>(millis) / 1000, "CPU");
}

std::string memory(std::int64_t bytes) {
  return format_bytes(static_cast<std::uint64_t>(bytes));
}

std::string on_nodes(std::size_t count) {
  return "on " + counted(static_cast<double>(count), "healthy node");
}

const RoleRequest& largest(const std::vector<RoleRequest>& roles) {
  return *std::max_element(roles.begin(), roles.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.need.gpus, a.need.cpu_millis, a.need.memory_bytes) <
           std::tuple(b.need.gpus, b.need.cpu_millis, b.need.memory_bytes);
  });
}

std::vector<RoleRequest> anywhere(std::vector<RoleRequest> roles) {
  for (RoleRequest& role : roles) role.only_on.clear();
  return roles;
}

// Of the role that is bound to nodes.
std::string no_room_at_store(const std::vector<RoleRequest>& roles) {
  const auto bound = std::find_if(roles.begin(), roles.end(),
                                  [](const RoleRequest& role) { return !role.only_on.empty(); });
  std::string nodes;
  for (const NodeId& node : bound->only_on) nodes += (nodes.empty() ? "" : ", ") + node.value();
  return "Goes on only where its store is (" + nodes + "), and " + bound->role + " needs " +
         to_string(bound->need) + " there. Free some room on such a node.";
}

std::string shortage(const std::string& need, const std::string& free, std::size_t nodes,
                     const std::string& missing) {
  return "Needs " + need + " at once; " + free + " free " + on_nodes(nodes) + ". " + missing +
         " more would let it start.";
}

}  // namespace

std::string to_string(const Amount& amount) {
  std::string text = cpus(amount.cpu_millis);
  if (amount.gpus != 0) text += ", " + counted(static_cast<double>(amount.gpus), "GPU");
  return text + ", " + memory(amount.memory_bytes);
}

std::vector<Pending> Scheduler::pending() const {
  // What the next schedule() would do decides who is only behind, and what room is left.
  Scheduler next = *this;
  (void)next.schedule();
  const Room room = next.free_room();
  const Room empty = empty_room();
  std::vector<Pending> reasons;
  std::vector<const Job*> ahead;
  for (const JobId& id : line()) {
    const Job& after = next.jobs_.at(id);
    if (!jobs_.at(id).running) {
      if (after.running) {
        reasons.push_back({id, PendingReason::none, "Starts with the next round of placement."});
      } else {
        reasons.push_back(why_waiting(after, ahead, room, empty));
      }
    }
    if (holds_its_place(after, empty)) ahead.push_back(&after);
  }
  return reasons;
}

Pending Scheduler::why_waiting(const Job& job, const std::vector<const Job*>& ahead,
                               const Room& room, const Room& empty) const {
  const JobId& id = job.request.id;
  if (empty.empty()) {
    const std::string sick =
        nodes_.empty() ? "No node has joined"
                       : "No node is healthy, of " + std::to_string(nodes_.size()) + " that joined";
    return {id, PendingReason::no_nodes,
            sick + "; start one with `crabcast agent --join HOST:PORT`."};
  }
  const std::vector<RoleRequest> roles = minimum_roles(job.request);
  const Amount need = sum_of(roles);
  const std::string gang = counted(static_cast<double>(roles.size()), "role");
  if (!place(anywhere(roles), empty)) {
    const RoleRequest& big = largest(roles);
    return {id, PendingReason::larger_than_cluster,
            "Its minimum of " + gang + " needs " + to_string(need) + " (the largest, " + big.role +
                ", " + to_string(big.need) + " on one node); the whole cluster has " +
                to_string(sum_of(empty)) + " " + on_nodes(empty.size()) +
                ". Add nodes or lower resources in the spec."};
  }
  if (!place(roles, empty)) return {id, PendingReason::no_room_at_store, no_room_at_store(roles)};
  const auto behind = std::find_if(ahead.begin(), ahead.end(), [&job](const Job* other) {
    return other->request.priority > job.request.priority;
  });
  const std::string count = counted(static_cast<double>(ahead.size()), "job");
  if (behind != ahead.end()) {
    return {id, PendingReason::behind_priority,
            count + " ahead in line; " + (*behind)->request.id.value() + " has priority " +
                std::string(to_string((*behind)->request.priority)) + ", this one " +
                std::string(to_string(job.request.priority)) + "."};
  }
  if (!ahead.empty()) {
    return {id, PendingReason::behind_queue,
            count + " ahead in line with the same priority, " + ahead.front()->request.id.value() +
                " first."};
  }
  if (place(anywhere(roles), room))
    return {id, PendingReason::no_room_at_store, no_room_at_store(roles)};
  const Amount free = sum_of(room);
  if (need.cpu_millis > free.cpu_millis) {
    return {
        id, PendingReason::not_enough_cpus,
        shortage(cpus(need.cpu_millis), exact_number(static_cast<double>(free.cpu_millis) / 1000),
                 room.size(), cpus(need.cpu_millis - free.cpu_millis))};
  }
  if (need.gpus > free.gpus) {
    return {id, PendingReason::not_enough_gpus,
            shortage(counted(static_cast<double>(need.gpus), "GPU"), std::to_string(free.gpus),
                     room.size(), counted(static_cast<double>(need.gpus - free.gpus), "GPU"))};
  }
  if (need.memory_bytes > free.memory_bytes) {
    return {id, PendingReason::not_enough_memory,
            shortage(memory(need.memory_bytes) + " of memory", memory(free.memory_bytes),
                     room.size(), memory(need.memory_bytes - free.memory_bytes))};
  }
  const RoleRequest& big = largest(roles);
  return {id, PendingReason::fragmented,
          "Needs " + to_string(need) + " for " + gang + "; " + to_string(free) +
              " is free in sum " + on_nodes(room.size()) +
              ", but not in pieces that hold them (the largest role, " + big.role + ", needs " +
              to_string(big.need) + " on one node)."};
}

}  // namespace crabcast::scheduler

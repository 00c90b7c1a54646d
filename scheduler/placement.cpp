#include "scheduler/placement.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace crabcast::scheduler {
namespace {

using Room = std::map<NodeId, Amount>;
using Chosen = std::vector<RolePlacement>;

// GPUs first: a role without GPUs should leave them free, and a role with GPUs is the hardest to
// place.
auto weight(const Amount& amount) {
  return std::tuple(amount.gpus, amount.cpu_millis, amount.memory_bytes);
}

// Those that are bound to nodes come before those that leave a choice.
std::vector<const RoleRequest*> hardest_first(const std::vector<RoleRequest>& roles) {
  std::vector<const RoleRequest*> order;
  order.reserve(roles.size());
  for (const RoleRequest& role : roles) order.push_back(&role);
  std::stable_sort(order.begin(), order.end(), [](const RoleRequest* a, const RoleRequest* b) {
    if (a->only_on.empty() != b->only_on.empty()) return b->only_on.empty();
    return weight(a->need) > weight(b->need);
  });
  return order;
}

bool fits(const RoleRequest& role, const NodeId& node, const Amount& room) {
  return role.need.fits_in(room) && (role.only_on.empty() || role.only_on.contains(node));
}

RolePlacement on(const NodeId& node, const RoleRequest& role) {
  return {role.role, role.kind, node, role.need};
}

// Which of `roles` one node takes, in their order.
struct Filling {
  std::vector<const RoleRequest*> taken;
  std::vector<const RoleRequest*> left;
  Amount room_after;
};

Filling fill(const std::vector<const RoleRequest*>& roles, const NodeId& node, Amount room) {
  Filling filling;
  for (const RoleRequest* role : roles) {
    if (fits(*role, node, room)) {
      room -= role->need;
      filling.taken.push_back(role);
    } else {
      filling.left.push_back(role);
    }
  }
  filling.room_after = room;
  return filling;
}

// Again and again the node that takes the most of what is left; the tightest of equal ones.
std::optional<Chosen> on_few_nodes(std::vector<const RoleRequest*> left, Room room) {
  Chosen chosen;
  while (!left.empty()) {
    const NodeId* best = nullptr;
    Filling best_filling;
    for (const auto& [id, free] : room) {
      Filling filling = fill(left, id, free);
      if (filling.taken.empty()) continue;
      const bool more = filling.taken.size() > best_filling.taken.size();
      const bool tighter = filling.taken.size() == best_filling.taken.size() &&
                           weight(filling.room_after) < weight(best_filling.room_after);
      if (best != nullptr && !more && !tighter) continue;
      best = &id;
      best_filling = std::move(filling);
    }
    if (best == nullptr) return std::nullopt;
    for (const RoleRequest* role : best_filling.taken) chosen.push_back(on(*best, *role));
    room[*best] = best_filling.room_after;
    left = std::move(best_filling.left);
  }
  return chosen;
}

// Each role on the node that it fills most tightly: finds packings that the greedy filling misses.
std::optional<Chosen> on_tightest_nodes(const std::vector<const RoleRequest*>& roles, Room room) {
  Chosen chosen;
  for (const RoleRequest* role : roles) {
    Room::value_type* best = nullptr;
    for (auto& node : room) {
      if (!fits(*role, node.first, node.second)) continue;
      if (best == nullptr || weight(node.second) < weight(best->second)) best = &node;
    }
    if (best == nullptr) return std::nullopt;
    best->second -= role->need;
    chosen.push_back(on(best->first, *role));
  }
  return chosen;
}

}  // namespace

std::optional<std::vector<RolePlacement>> place(const std::vector<RoleRequest>& roles,
                                                const Room& room) {
  const auto order = hardest_first(roles);
  auto chosen = on_few_nodes(order, room);
  if (!chosen) chosen = on_tightest_nodes(order, room);
  if (!chosen) return std::nullopt;
  // In the order of the request: coordinator first, then loaders, evaluators and workers.
  std::map<std::string, std::size_t> position;
  for (const RoleRequest& role : roles) position.emplace(role.role, position.size());
  std::sort(chosen->begin(), chosen->end(),
            [&position](const RolePlacement& a, const RolePlacement& b) {
              return position.at(a.role) < position.at(b.role);
            });
  return chosen;
}

std::vector<RoleRequest> minimum_roles(const JobRequest& request) {
  std::vector<RoleRequest> roles = request.fixed;
  roles.insert(roles.end(), request.workers.begin(),
               request.workers.begin() + static_cast<std::ptrdiff_t>(request.workers_min));
  return roles;
}

Amount sum_of(const std::vector<RoleRequest>& roles) {
  return std::accumulate(roles.begin(), roles.end(), Amount{},
                         [](Amount sum, const RoleRequest& role) { return sum += role.need; });
}

Amount sum_of(const Room& room) {
  Amount sum;
  for (const auto& [id, free] : room) {
    sum += Amount{std::max<std::int64_t>(free.cpu_millis, 0), std::max<std::int64_t>(free.gpus, 0),
                  std::max<std::int64_t>(free.memory_bytes, 0)};
  }
  return sum;
}

}  // namespace crabcast::scheduler

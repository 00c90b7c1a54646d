#include "scheduler/placement.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "protocol/common.pb.h"

namespace crabcast::scheduler {
namespace {

constexpr Slot kNoNode = UINT32_MAX;  // one that nobody has heard of

using Room = std::vector<Amount>;
using Seats = std::vector<Seat>;
using Left = std::vector<std::size_t>;  // roles of each group that have no seat yet

// GPUs first: a role without GPUs should leave them free, and a role with GPUs is the hardest to
// place.
auto weight(const Amount& amount) {
  return std::tuple(amount.gpus, amount.cpu_millis, amount.memory_bytes);
}

bool may_run_on(const RoleGroup& group, Slot node) {
  return group.only_on.empty() ||
         std::binary_search(group.only_on.begin(), group.only_on.end(), node);
}

std::int64_t times(std::int64_t need, std::int64_t room, std::int64_t most) {
  return need <= 0 ? most : std::min(most, room / need);
}

// How many of `left` equal roles fit in the room.
std::size_t fitting(const Amount& need, const Amount& room, std::size_t left) {
  if (left == 0 || !need.fits_in(room)) return 0;
  auto most = static_cast<std::int64_t>(left);
  if (most == 1) return 1;
  most = times(need.gpus, room.gpus, most);
  most = times(need.cpu_millis, room.cpu_millis, most);
  return static_cast<std::size_t>(times(need.memory_bytes, room.memory_bytes, most));
}

// How many roles one node takes, group by group, and what room that leaves.
struct Filling {
  std::size_t taken = 0;
  Amount after;
};

Filling fill(const Gang& gang, const Left& left, Slot node, Amount room) {
  Filling filling;
  for (std::size_t g = 0; g < left.size(); ++g) {
    const RoleGroup& group = gang.groups[g];
    if (!may_run_on(group, node)) continue;
    const std::size_t count = fitting(group.need, room, left[g]);
    if (count == 0) continue;
    filling.taken += count;
    room -= group.need * static_cast<std::int64_t>(count);
  }
  filling.after = room;
  return filling;
}

// The same, and its roles get their seats.
void take(const Gang& gang, Left& left, Slot node, Amount room, Seats& seats) {
  for (std::size_t g = 0; g < left.size(); ++g) {
    const RoleGroup& group = gang.groups[g];
    if (!may_run_on(group, node)) continue;
    for (std::size_t count = fitting(group.need, room, left[g]); count > 0; --count, --left[g]) {
      seats.push_back({group.roles[group.roles.size() - left[g]], node});
      room -= group.need;
    }
  }
}

Left all_of(const Gang& gang) {
  Left left;
  for (const RoleGroup& group : gang.groups) left.push_back(group.roles.size());
  return left;
}

// The nodes that take most of what is left; of these the ones that it fills most tightly.
struct Best {
  Filling filling;
  std::vector<Slot> nodes;
};

Best best_nodes(const Gang& gang, const Left& left, std::vector<Slot>& nodes, const Room& room) {
  Best best;
  std::size_t kept = 0;
  for (const Slot node : nodes) {
    const Filling filling = fill(gang, left, node, room[node]);
    if (filling.taken == 0) continue;
    nodes[kept++] = node;
    if (filling.taken < best.filling.taken) continue;
    if (filling.taken == best.filling.taken) {
      if (weight(filling.after) > weight(best.filling.after)) continue;
      if (filling.after == best.filling.after) {
        best.nodes.push_back(node);
        continue;
      }
    }
    best.filling = filling;
    best.nodes.assign(1, node);
  }
  nodes.resize(kept);
  return best;
}

std::size_t sum(const Left& left) {
  std::size_t all = 0;
  for (const std::size_t count : left) all += count;
  return all;
}

// Again and again the node that takes the most of what is left; the tightest of equal ones.
std::optional<Seats> on_few_nodes(const Gang& gang, std::vector<Slot> nodes, const Room& room) {
  Seats seats;
  Left left = all_of(gang);
  while (sum(left) > 0) {
    const Best best = best_nodes(gang, left, nodes, room);
    if (best.nodes.empty()) return std::nullopt;
    // Equal nodes are filled without another look at all of them, as long as they stay the best.
    for (const Slot node : best.nodes) {
      if (fill(gang, left, node, room[node]).taken != best.filling.taken) break;
      take(gang, left, node, room[node], seats);
      nodes.erase(std::find(nodes.begin(), nodes.end(), node));
    }
  }
  return seats;
}

// All of it in the node that it fills most tightly.
std::optional<Seats> on_one_node(const Gang& gang, const std::vector<Slot>& nodes,
                                 const Room& room) {
  const Slot* best = nullptr;
  for (const Slot& node : nodes) {
    if (!gang.total.fits_in(room[node])) continue;
    if (best != nullptr && weight(room[node]) >= weight(room[*best])) continue;
    if (std::all_of(gang.groups.begin(), gang.groups.end(),
                    [&](const RoleGroup& group) { return may_run_on(group, node); }))
      best = &node;
  }
  if (best == nullptr) return std::nullopt;
  Seats seats;
  for (const RoleGroup& group : gang.groups)
    for (const RoleRequest* role : group.roles) seats.push_back({role, *best});
  return seats;
}

// One look at the nodes: whether each group alone would find seats.
bool may_fit(const Gang& gang, const std::vector<Slot>& nodes, const Room& room) {
  return std::all_of(gang.groups.begin(), gang.groups.end(), [&](const RoleGroup& group) {
    std::size_t left = group.roles.size();
    for (const Slot node : nodes) {
      if (may_run_on(group, node)) left -= fitting(group.need, room[node], left);
      if (left == 0) return true;
    }
    return false;
  });
}

// In one rack, of several that have enough the one with the least.
std::optional<Seats> in_one_rack(const Gang& gang, const std::vector<Slot>& nodes, const Nodes& all,
                                 const Room& room) {
  if (all.racks() < 2) return std::nullopt;
  struct Rack {
    Amount free;
    std::uint32_t number = 0;
  };
  std::vector<Rack> racks(all.racks() + 1);
  for (const Slot node : nodes) {
    Rack& rack = racks[all.rack(node)];
    rack.number = all.rack(node);
    rack.free += most(room[node], {});
  }
  std::erase_if(
      racks, [&](const Rack& rack) { return rack.number == 0 || !gang.total.fits_in(rack.free); });
  std::stable_sort(racks.begin(), racks.end(),
                   [](const Rack& a, const Rack& b) { return weight(a.free) < weight(b.free); });
  std::vector<Slot> own;
  for (const Rack& rack : racks) {
    own.clear();
    for (const Slot node : nodes)
      if (all.rack(node) == rack.number) own.push_back(node);
    if (!may_fit(gang, own, room)) continue;
    if (auto seats = on_few_nodes(gang, own, room)) return seats;
  }
  return std::nullopt;
}

// Each role on the node that it fills most tightly: finds packings that the greedy filling misses.
std::optional<Seats> on_tightest_nodes(const Gang& gang, const std::vector<Slot>& nodes,
                                       Room room) {
  Seats seats;
  for (const RoleGroup& group : gang.groups) {
    for (const RoleRequest* role : group.roles) {
      const Slot* best = nullptr;
      for (const Slot& node : nodes) {
        if (!may_run_on(group, node) || !group.need.fits_in(room[node])) continue;
        if (best == nullptr || weight(room[node]) < weight(room[*best])) best = &node;
      }
      if (best == nullptr) return std::nullopt;
      room[*best] -= group.need;
      seats.push_back({role, *best});
    }
  }
  return seats;
}

// Other roles packed; then each worker on the node with the fewest, the emptiest of these.
std::optional<Seats> spread_out(const Gang& gang, const std::vector<Slot>& nodes, Room room) {
  Gang others = gang;
  std::erase_if(others.groups, [](const RoleGroup& group) { return group.workers; });
  auto seats = on_few_nodes(others, nodes, room);
  if (!seats) return std::nullopt;
  for (const Seat& seat : *seats) room[seat.node] -= seat.role->need;
  std::vector<std::size_t> workers(room.size());
  for (const RoleGroup& group : gang.groups) {
    if (!group.workers) continue;
    for (const RoleRequest* role : group.roles) {
      const Slot* best = nullptr;
      for (const Slot& node : nodes) {
        if (!may_run_on(group, node) || !group.need.fits_in(room[node])) continue;
        if (best == nullptr || workers[node] < workers[*best] ||
            (workers[node] == workers[*best] && weight(room[node]) > weight(room[*best])))
          best = &node;
      }
      if (best == nullptr) return std::nullopt;
      room[*best] -= group.need;
      ++workers[*best];
      seats->push_back({role, *best});
    }
  }
  return seats;
}

}  // namespace

Gang make_gang(const std::vector<const RoleRequest*>& roles, Demand demand, bool spread,
               const Nodes& nodes) {
  Gang gang;
  gang.roles = roles.size();
  gang.demand = demand;
  gang.spread = spread;
  for (const RoleRequest* role : roles) {
    const bool is_worker = role->kind == pb::ROLE_WORKER;
    gang.total += role->need;
    const auto same = std::find_if(gang.groups.begin(), gang.groups.end(), [&](const auto& group) {
      return group.need == role->need && group.workers == is_worker &&
             group.roles.front()->only_on == role->only_on;
    });
    if (same != gang.groups.end()) {
      same->roles.push_back(role);
      continue;
    }
    RoleGroup group{role->need, {role}, {}, is_worker};
    for (const NodeId& id : role->only_on)
      group.only_on.push_back(nodes.find(id).value_or(kNoNode));
    std::sort(group.only_on.begin(), group.only_on.end());
    gang.groups.push_back(std::move(group));
  }
  std::stable_sort(gang.groups.begin(), gang.groups.end(), [](const auto& a, const auto& b) {
    if (a.only_on.empty() != b.only_on.empty()) return b.only_on.empty();
    return weight(a.need) > weight(b.need);
  });
  return gang;
}

std::optional<std::vector<Seat>> place(const Gang& gang, const Nodes& nodes, const Room& room) {
  const std::vector<Slot>& usable = nodes.usable(gang.demand);
  if (!may_fit(gang, usable, room)) return std::nullopt;
  std::optional<Seats> seats;
  if (gang.spread) {
    seats = spread_out(gang, usable, room);
  } else {
    seats = on_one_node(gang, usable, room);
    if (!seats && gang.roles > 1) seats = in_one_rack(gang, usable, nodes, room);
    if (!seats && gang.roles > 1) seats = on_few_nodes(gang, usable, room);
  }
  if (!seats && gang.roles > 1) seats = on_tightest_nodes(gang, usable, room);
  return seats;
}

std::optional<Slot> place_beside(const RoleRequest& role, Demand demand, bool spread,
                                 const std::vector<Slot>& nodes_of_job, const Nodes& nodes,
                                 const Room& room) {
  const std::vector<Slot>& usable = nodes.usable(demand);
  const auto tightest = [&](const auto& may_be) {
    std::optional<Slot> best;
    for (const Slot node : usable)
      if (role.need.fits_in(room[node]) && may_be(node) &&
          (role.only_on.empty() || role.only_on.contains(nodes.node(node).id)) &&
          (!best || weight(room[node]) < weight(room[*best])))
        best = node;
    return best;
  };
  const auto is_in = [](const auto& range, const auto& value) {
    return std::find(range.begin(), range.end(), value) != range.end();
  };
  const auto own = [&](Slot node) { return is_in(nodes_of_job, node); };
  if (spread) {
    const auto elsewhere = tightest([&](Slot node) { return !own(node); });
    return elsewhere ? elsewhere : tightest(own);
  }
  if (std::any_of(nodes_of_job.begin(), nodes_of_job.end(),
                  [&](Slot node) { return role.need.fits_in(room[node]); }))
    if (const auto beside = tightest(own)) return beside;
  std::set<std::uint32_t> racks;
  for (const Slot node : nodes_of_job)
    if (nodes.rack(node) != 0) racks.insert(nodes.rack(node));
  const auto near = tightest([&](Slot node) { return is_in(racks, nodes.rack(node)); });
  return near ? near : tightest([](Slot) { return true; });
}

}  // namespace crabcast::scheduler

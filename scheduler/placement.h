// Packing a gang onto nodes: the part of the scheduler that looks at room only.
#pragma once

#include <optional>
#include <vector>

#include "scheduler/nodes.h"

namespace crabcast::scheduler {

// Equal roles of a gang.
struct RoleGroup {
  Amount need;
  std::vector<const RoleRequest*> roles;
  std::vector<Slot> only_on;  // sorted; empty: anywhere
  bool workers = false;
};
struct Gang {
  std::vector<RoleGroup> groups;  // hardest to place first
  Amount total;
  std::size_t roles = 0;
  Demand demand = 0;
  bool spread = false;
};
Gang make_gang(const std::vector<const RoleRequest*>& roles, Demand demand, bool spread,
               const Nodes& nodes);

struct Seat {
  const RoleRequest* role = nullptr;
  Slot node = 0;
};

// Seats all roles in `room` (by slot), or none. In one node where it fits, else in one rack, else
// on few nodes, each filled as tightly as possible; with `spread` workers on as many nodes as
// possible. Roles that are bound to nodes come before others, GPUs are spared by roles that need
// none, and equal choices go to the smaller name. A heuristic: it may miss a packing that an
// exhaustive search would find, but it finds the same one each time.
std::optional<std::vector<Seat>> place(const Gang& gang, const Nodes& nodes,
                                       const std::vector<Amount>& room);
// One more worker of a running job: on one of its nodes, else in their racks, else anywhere.
std::optional<Slot> place_beside(const RoleRequest& role, Demand demand, bool spread,
                                 const std::vector<Slot>& nodes_of_job, const Nodes& nodes,
                                 const std::vector<Amount>& room);

}  // namespace crabcast::scheduler

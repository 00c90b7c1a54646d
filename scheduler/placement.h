// Packing roles onto nodes: the part of the scheduler that looks at room only.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "scheduler/scheduler.h"

namespace crabcast::scheduler {

// Puts all roles into `room`, or none: few nodes first, each filled as tightly as possible, roles
// that are bound to nodes before others, GPUs spared by roles that need none; equal choices go to
// the smaller node id. A heuristic: it may miss a packing that an exhaustive search would find, but
// it finds the same one each time.
std::optional<std::vector<RolePlacement>> place(const std::vector<RoleRequest>& roles,
                                                const std::map<NodeId, Amount>& room);

// The roles of a job that must run: the fixed ones and workers_min workers.
std::vector<RoleRequest> minimum_roles(const JobRequest& request);

Amount sum_of(const std::vector<RoleRequest>& roles);
// Sum over the nodes; a node that is over-committed counts as empty of room.
Amount sum_of(const std::map<NodeId, Amount>& room);

}  // namespace crabcast::scheduler

#include "scheduler/scheduler.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "protocol/common.pb.h"
#include "scheduler/placement.h"

namespace crabcast::scheduler {
namespace {

// The coordinator holds no tensors: its store's buffers and one commit at a time.
constexpr Amount kCoordinatorNeed{100, 0, 256LL << 20};

bool has_role(const Placement& placement, const std::string& role) {
  return std::any_of(placement.roles.begin(), placement.roles.end(),
                     [&role](const RolePlacement& placed) { return placed.role == role; });
}

std::vector<RoleRequest> missing_of(const std::vector<RoleRequest>& roles,
                                    const Placement& placement) {
  std::vector<RoleRequest> missing;
  for (const RoleRequest& role : roles)
    if (!has_role(placement, role.role)) missing.push_back(role);
  return missing;
}

// What a running job has lost and cannot do without.
std::vector<RoleRequest> lost_roles(const JobRequest& request, const Placement& placement) {
  std::vector<RoleRequest> lost = missing_of(request.fixed, placement);
  std::vector<RoleRequest> workers = missing_of(request.workers, placement);
  const std::size_t running = request.workers.size() - workers.size();
  const std::size_t needed = request.workers_min > running ? request.workers_min - running : 0;
  workers.resize(std::min(needed, workers.size()));
  lost.insert(lost.end(), workers.begin(), workers.end());
  return lost;
}

Status validate(const JobRequest& request) {
  if (request.workers_min > request.workers.size()) {
    return fail(Errc::invalid_argument,
                "job " + request.id.value() + " asks for at least " +
                    std::to_string(request.workers_min) + " workers but names only " +
                    std::to_string(request.workers.size()) + "; raise resources.workers.max");
  }
  std::set<std::string> names;
  for (const auto* roles : {&request.fixed, &request.workers}) {
    for (const RoleRequest& role : *roles) {
      if (names.insert(role.role).second) continue;
      return fail(Errc::invalid_argument,
                  "job " + request.id.value() + " names the role " + role.role + " twice");
    }
  }
  return {};
}

void add_roles(std::vector<RoleRequest>& to, const std::string& name, std::uint32_t count, int kind,
               const ProcessResources& resources) {
  for (std::uint32_t i = 0; i < count; ++i)
    to.push_back({name + "-" + std::to_string(i), kind, amount(resources)});
}

}  // namespace

Amount& Amount::operator+=(const Amount& o) {
  cpu_millis += o.cpu_millis;
  gpus += o.gpus;
  memory_bytes += o.memory_bytes;
  return *this;
}

Amount& Amount::operator-=(const Amount& o) {
  cpu_millis -= o.cpu_millis;
  gpus -= o.gpus;
  memory_bytes -= o.memory_bytes;
  return *this;
}

bool Amount::fits_in(const Amount& room) const {
  return cpu_millis <= room.cpu_millis && gpus <= room.gpus && memory_bytes <= room.memory_bytes;
}

Amount amount(const ProcessResources& resources) {
  return {std::llround(resources.cpus * 1000), resources.gpus,
          static_cast<std::int64_t>(resources.memory_bytes)};
}

JobRequest job_request(const JobId& id, const JobSpec& spec, std::uint64_t submit_seq) {
  JobRequest request;
  request.id = id;
  request.queue = spec.queue;
  request.priority = spec.priority;
  request.submit_seq = submit_seq;
  request.workers_min = spec.resources.workers_min;
  request.fixed.push_back({"coordinator", pb::ROLE_COORDINATOR, kCoordinatorNeed});
  add_roles(request.fixed, "loader", spec.resources.loaders, pb::ROLE_LOADER,
            spec.resources.loader);
  add_roles(request.fixed, "evaluator", spec.resources.evaluators, pb::ROLE_EVALUATOR,
            spec.resources.evaluator);
  add_roles(request.workers, "worker", spec.resources.workers_max, pb::ROLE_WORKER,
            spec.resources.worker);
  return request;
}

void Scheduler::upsert_node(Node node) {
  const NodeId id = node.id;
  nodes_[id] = std::move(node);
}

void Scheduler::remove_node(const NodeId& id) {
  nodes_.erase(id);
  used_.erase(id);
  for (auto& [job_id, job] : jobs_) {
    std::erase_if(job.placement.roles,
                  [&id](const RolePlacement& role) { return role.node == id; });
    // Nothing of it is left: it starts again as a whole gang.
    if (job.placement.roles.empty()) job.running = false;
  }
}

Status Scheduler::submit(JobRequest request) {
  CRABCAST_TRY(validate(request));
  const JobId id = request.id;
  if (jobs_.contains(id)) {
    return fail(Errc::already_exists, "job " + id.value() + " is known to the scheduler already");
  }
  jobs_[id].request = std::move(request);
  return {};
}

void Scheduler::remove_job(const JobId& id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  for (const RolePlacement& role : found->second.placement.roles) free_role(role);
  jobs_.erase(found);
}

void Scheduler::adopt(const JobRequest& request, const Placement& placement) {
  remove_job(request.id);
  Job& job = jobs_[request.id];
  job.request = request;
  job.placement = placement;
  job.running = !placement.roles.empty();
  for (const RolePlacement& role : placement.roles) used_[role.node] += role.need;
}

Result<std::vector<std::string>> Scheduler::resize(const JobRequest& request) {
  CRABCAST_TRY(validate(request));
  const auto found = jobs_.find(request.id);
  if (found == jobs_.end())
    return fail(Errc::not_found, "job " + request.id.value() + " is not known to the scheduler");
  Job& job = found->second;
  job.request = request;
  std::vector<std::string> surplus;
  for (const RolePlacement& placed : job.placement.roles) {
    const auto named = [&](const RoleRequest& role) { return role.role == placed.role; };
    if (std::none_of(request.fixed.begin(), request.fixed.end(), named) &&
        std::none_of(request.workers.begin(), request.workers.end(), named))
      surplus.push_back(placed.role);
  }
  return surplus;
}

void Scheduler::hold_to(const JobId& id, std::set<NodeId> nodes) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  for (RoleRequest& role : found->second.request.fixed)
    if (role.kind == pb::ROLE_COORDINATOR) role.only_on = nodes;
}

void Scheduler::release_role(const JobId& id, const std::string& role) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  std::erase_if(job.placement.roles, [&](const RolePlacement& placed) {
    if (placed.role != role) return false;
    free_role(placed);
    return true;
  });
  if (job.placement.roles.empty()) job.running = false;
}

std::vector<Placement> Scheduler::schedule() {
  Room room = free_room();
  const Room empty = empty_room();
  const std::vector<JobId> order = line();
  std::vector<Placement> started;
  std::vector<Placement> added;
  bool someone_waits = false;
  for (const JobId& id : order) {
    Job& job = jobs_.at(id);
    if (job.running) {
      std::vector<RolePlacement> roles = replace_lost(job, room);
      if (!roles.empty()) added.push_back({id, std::move(roles)});
    } else if (auto roles = place(minimum_roles(job.request), room)) {
      start(job, *roles, room);
      started.push_back(job.placement);
    }
    someone_waits = holds_its_place(job, empty);
    if (someone_waits) break;
  }
  std::vector<Placement> grown;
  if (!someone_waits) grown = grow(order, room);
  started.insert(started.end(), added.begin(), added.end());
  started.insert(started.end(), grown.begin(), grown.end());
  for (auto& placement : started) placement.attempt = jobs_.at(placement.job).request.attempt;
  return started;
}

Amount Scheduler::free_on(const NodeId& id) const {
  const auto node = nodes_.find(id);
  if (node == nodes_.end()) return {};
  Amount free = node->second.total;
  if (const auto used = used_.find(id); used != used_.end()) free -= used->second;
  return free;
}

std::vector<Node> Scheduler::nodes() const {
  std::vector<Node> all;
  all.reserve(nodes_.size());
  for (const auto& [id, node] : nodes_) all.push_back(node);
  return all;
}

Scheduler::Room Scheduler::free_room() const {
  Room room;
  for (const auto& [id, node] : nodes_)
    if (node.healthy) room[id] = free_on(id);
  return room;
}

Scheduler::Room Scheduler::empty_room() const {
  Room room;
  for (const auto& [id, node] : nodes_)
    if (node.healthy) room[id] = node.total;
  return room;
}

std::vector<JobId> Scheduler::line() const {
  std::vector<const Job*> jobs;
  jobs.reserve(jobs_.size());
  for (const auto& [id, job] : jobs_) jobs.push_back(&job);
  // Stable over a map in order of ids: equal submit numbers go by id.
  std::stable_sort(jobs.begin(), jobs.end(), [](const Job* a, const Job* b) {
    if (a->request.priority != b->request.priority)
      return a->request.priority > b->request.priority;
    return a->request.submit_seq < b->request.submit_seq;
  });
  std::vector<JobId> order;
  order.reserve(jobs.size());
  for (const Job* job : jobs) order.push_back(job->request.id);
  return order;
}

// True for a job that still needs roles and could have them on the empty cluster.
bool Scheduler::holds_its_place(const Job& job, const Room& empty) const {
  if (job.running && lost_roles(job.request, job.placement).empty()) return false;
  return place(minimum_roles(job.request), empty).has_value();
}

void Scheduler::start(Job& job, const std::vector<RolePlacement>& roles, Room& room) {
  job.running = true;
  job.placement.job = job.request.id;
  for (const RolePlacement& role : roles) {
    job.placement.roles.push_back(role);
    used_[role.node] += role.need;
    room.at(role.node) -= role.need;
  }
}

// The gang stands already, so each lost role that comes back helps: one by one.
std::vector<RolePlacement> Scheduler::replace_lost(Job& job, Room& room) {
  std::vector<RolePlacement> added;
  for (const RoleRequest& role : lost_roles(job.request, job.placement)) {
    const auto roles = place({role}, room);
    if (!roles) continue;
    start(job, *roles, room);
    added.push_back(roles->front());
  }
  return added;
}

// One worker for each job in turn, so that the first in line does not take all the room.
std::vector<Placement> Scheduler::grow(const std::vector<JobId>& order, Room& room) {
  std::vector<Placement> grown;
  std::map<JobId, std::size_t> position;
  for (bool any = true; any;) {
    any = false;
    for (const JobId& id : order) {
      Job& job = jobs_.at(id);
      if (!job.running) continue;
      const auto missing = missing_of(job.request.workers, job.placement);
      if (missing.empty()) continue;
      const auto roles = place({missing.front()}, room);
      if (!roles) continue;
      start(job, *roles, room);
      const auto [slot, first] = position.emplace(id, grown.size());
      if (first) grown.push_back({id, {}});
      grown[slot->second].roles.push_back(roles->front());
      any = true;
    }
  }
  return grown;
}

void Scheduler::free_role(const RolePlacement& role) {
  const auto used = used_.find(role.node);
  if (used == used_.end()) return;
  used->second -= role.need;
  if (used->second == Amount{}) used_.erase(used);
}

}  // namespace crabcast::scheduler

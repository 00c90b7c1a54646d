#include "scheduler/scheduler.h"

#include <algorithm>

#include "protocol/common.pb.h"
#include "scheduler/round.h"
#include "scheduler/state.h"

namespace crabcast::scheduler {

Scheduler::Scheduler(ClusterPolicy policy) : state_(std::make_unique<ClusterState>()) {
  state_->set_policy(std::move(policy));
}
Scheduler::~Scheduler() = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;
Scheduler& Scheduler::operator=(Scheduler&&) noexcept = default;

void Scheduler::set_policy(ClusterPolicy policy) {
  state_->set_policy(std::move(policy));
}

const ClusterPolicy& Scheduler::policy() const {
  return state_->policy;
}

// ---- Nodes -------------------------------------------------------------------------------------

void Scheduler::upsert_node(Node node) {
  ClusterState& s = *state_;
  s.nodes.upsert(std::move(node));
  s.nodes_changed();
}

void Scheduler::remove_node(const NodeId& id) {
  ClusterState& s = *state_;
  const auto slot = s.nodes.find(id);
  if (!slot) return;
  std::set<Job*, HeardBefore> losers;
  for (const RoleOnNode& role : s.nodes.roles_on(*slot)) losers.insert(role.job);
  for (Job* job : losers) {
    for (std::size_t i = job->roles.size(); i-- > 0;)
      if (job->roles[i].node == *slot) s.unseat(*job, i);
    s.lost_some(*job);
  }
  s.nodes.remove(*slot);
  s.nodes_changed();
}

// ---- Jobs --------------------------------------------------------------------------------------

Status Scheduler::submit(JobRequest request) {
  CRABCAST_TRY(validate(request));
  if (state_->find(request.id) != nullptr)
    return fail(Errc::already_exists,
                "job " + request.id.value() + " is known to the scheduler already");
  if (state_->policy.backfill_depth > 0) ++state_->tries_left;
  state_->settle(state_->add(std::move(request)));
  return {};
}

void Scheduler::remove_job(const JobId& id) {
  if (Job* job = state_->find(id)) state_->erase(*job);
}

void Scheduler::adopt(const JobRequest& request, const Placement& placement) {
  remove_job(request.id);
  ClusterState& s = *state_;
  Job& job = s.add(request);
  if (!placement.roles.empty()) {
    for (const RolePlacement& role : placement.roles)
      s.seat(job, {role.role, role.kind, role.need}, s.nodes.slot_of(role.node));
    s.start_running(job);
    s.queues.charge(job, job.used);
    s.unstamped.insert(&job);
    s.roles_changed(job);
  }
  s.settle(job);
}

Status Scheduler::requeue(JobRequest request) {
  CRABCAST_TRY(validate(request));
  remove_job(request.id);
  return submit(std::move(request));
}

Result<std::vector<std::string>> Scheduler::resize(const JobRequest& request) {
  CRABCAST_TRY(validate(request));
  Job* job = state_->find(request.id);
  if (job == nullptr)
    return fail(Errc::not_found, "job " + request.id.value() + " is not known to the scheduler");
  ClusterState& s = *state_;
  s.leave_line(*job);
  s.growable.erase(job);
  job->request.fixed = request.fixed;
  job->request.workers = request.workers;
  job->request.workers_min = request.workers_min;
  std::vector<std::string> surplus;
  for (Held& held : job->roles) {
    const auto named = [&](const RoleRequest& role) { return role.role == held.role; };
    held.leaving = std::none_of(request.fixed.begin(), request.fixed.end(), named) &&
                   std::none_of(request.workers.begin(), request.workers.end(), named);
    if (held.leaving) surplus.push_back(held.role);
  }
  s.demands_changed(*job);
  return surplus;
}

void Scheduler::hold_to(const JobId& id, std::set<NodeId> nodes) {
  Job* job = state_->find(id);
  if (job == nullptr) return;
  state_->leave_line(*job);
  for (RoleRequest& role : job->request.fixed)
    if (role.kind == pb::ROLE_COORDINATOR) role.only_on = nodes;
  state_->demands_changed(*job);
}

void Scheduler::release_role(const JobId& id, const std::string& role) {
  Job* job = state_->find(id);
  if (job == nullptr) return;
  for (std::size_t i = job->roles.size(); i-- > 0;)
    if (job->roles[i].role == role) state_->unseat(*job, i);
  state_->lost_some(*job);
}

void Scheduler::hold(const JobId& id, bool held) {
  Job* job = state_->find(id);
  if (job == nullptr || job->request.held == held) return;
  job->request.held = held;
  state_->judge_anew(*job);
}

void Scheduler::block(const JobId& id, std::string text) {
  Job* job = state_->find(id);
  if (job == nullptr || job->blocked == text) return;
  job->blocked = std::move(text);
  state_->judge_anew(*job);
}

void Scheduler::unblock(const JobId& id) {
  block(id, "");
}

void Scheduler::checkpointed(const JobId& id, TimePoint when) {
  if (Job* job = state_->find(id)) job->checkpoint = std::max(job->checkpoint, when);
}

// ---- Decisions ---------------------------------------------------------------------------------

Decisions Scheduler::schedule(TimePoint now) {
  return Round(*state_, now).run();
}

Amount Scheduler::free_on(const NodeId& id) const {
  const auto slot = state_->nodes.find(id);
  return slot && state_->nodes.joined(*slot) ? state_->nodes.free()[*slot] : Amount{};
}

std::vector<Node> Scheduler::nodes() const {
  std::vector<Node> all;
  for (const Slot slot : state_->nodes.in_order()) all.push_back(state_->nodes.node(slot));
  return all;
}

}  // namespace crabcast::scheduler

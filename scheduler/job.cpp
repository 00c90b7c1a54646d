#include "scheduler/job.h"

#include <algorithm>

#include "protocol/common.pb.h"

namespace crabcast::scheduler {
namespace {

// The coordinator holds no tensors: its store's buffers and one commit at a time.
constexpr Amount kCoordinatorNeed{100, 0, 256LL << 20};

bool has_role(const Job& job, const std::string& name) {
  return std::any_of(job.roles.begin(), job.roles.end(),
                     [&](const Held& held) { return held.role == name; });
}

std::vector<const RoleRequest*> missing_of(const std::vector<RoleRequest>& roles, const Job& job) {
  std::vector<const RoleRequest*> missing;
  for (const RoleRequest& role : roles)
    if (!has_role(job, role.role)) missing.push_back(&role);
  return missing;
}

void add_roles(std::vector<RoleRequest>& to, const std::string& name, std::uint32_t count, int kind,
               const ProcessResources& resources) {
  for (std::uint32_t i = 0; i < count; ++i)
    to.push_back({name + "-" + std::to_string(i), kind, amount(resources)});
}

Duration duration_of(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

JobRequest job_request(const JobId& id, const JobSpec& spec, std::uint64_t submit_seq) {
  JobRequest request;
  request.id = id;
  request.queue = spec.queue;
  request.priority = spec.priority;
  request.submit_seq = submit_seq;
  request.schedule = spec.schedule;
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

std::vector<const RoleRequest*> minimum_roles(const JobRequest& request) {
  std::vector<const RoleRequest*> roles;
  roles.reserve(request.fixed.size() + request.workers_min);
  for (const RoleRequest& role : request.fixed) roles.push_back(&role);
  for (std::uint32_t i = 0; i < request.workers_min; ++i) roles.push_back(&request.workers[i]);
  return roles;
}

std::vector<const RoleRequest*> lost_roles(const Job& job) {
  std::size_t fixed = 0, staying = 0;
  for (const Held& held : job.roles)
    if (!held.leaving) ++(held.kind == pb::ROLE_WORKER ? staying : fixed);
  if (fixed == job.request.fixed.size() && staying >= job.request.workers_min) return {};
  auto lost = missing_of(job.request.fixed, job);
  auto workers = missing_of(job.request.workers, job);
  const std::size_t running = job.request.workers.size() - workers.size();
  const std::size_t least = job.request.workers_min;
  workers.resize(std::min(least > running ? least - running : 0, workers.size()));
  lost.insert(lost.end(), workers.begin(), workers.end());
  return lost;
}

std::vector<const RoleRequest*> missing_workers(const Job& job) {
  return missing_of(job.request.workers, job);
}

std::vector<const RoleRequest*> wanted_roles(const Job& job) {
  return job.running ? lost_roles(job) : minimum_roles(job.request);
}

Amount sum_of(const std::vector<const RoleRequest*>& roles) {
  Amount sum;
  for (const RoleRequest* role : roles) sum += role->need;
  return sum;
}

std::optional<Duration> remaining(const JobRequest& request) {
  const auto left_of = [&](std::optional<double> whole) -> std::optional<Duration> {
    if (!whole || duration_of(*whole) <= request.ran) return std::nullopt;
    return duration_of(*whole) - request.ran;
  };
  const auto expected = left_of(request.schedule.expected_seconds);
  return expected ? expected : left_of(request.schedule.time_limit_seconds);
}

}  // namespace crabcast::scheduler

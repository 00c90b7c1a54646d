#include "scheduler/state.h"

#include <algorithm>

#include "protocol/common.pb.h"

namespace crabcast::scheduler {
namespace {

void append(std::string& key, std::int64_t value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof value);
}

bool depends_on_cluster(PendingReason reason) {
  return reason == PendingReason::larger_than_quota || reason == PendingReason::no_matching_node ||
         reason == PendingReason::larger_than_cluster ||
         reason == PendingReason::store_node_too_small;
}

}  // namespace

bool is_preemptible(const Job& job) {
  return job.request.schedule.preemption == Preemption::allowed;
}

std::size_t workers_of(const Job& job) {
  return static_cast<std::size_t>(std::count_if(
      job.roles.begin(), job.roles.end(),
      [](const Held& held) { return held.kind == pb::ROLE_WORKER && !held.leaving; }));
}

Job* ClusterState::find(const JobId& id) {
  const auto found = jobs.find(id);
  return found == jobs.end() ? nullptr : found->second.get();
}

const Job* ClusterState::find(const JobId& id) const {
  const auto found = jobs.find(id);
  return found == jobs.end() ? nullptr : found->second.get();
}

Job& ClusterState::add(JobRequest request) {
  const JobId id = request.id;
  Job& job = *jobs.emplace(id, std::make_unique<Job>()).first->second;
  job.serial = ++heard;
  take_request(job, std::move(request));
  queues.count_pending(job.queue, 1);
  changed = true;
  return job;
}

void ClusterState::take_request(Job& job, JobRequest request) {
  job.request = std::move(request);
  job.demand = nodes.demand(job.request.schedule.nodes, job.request.schedule.tolerates);
  auto& user = users[job.request.owner];
  if (!user) {
    user = std::make_unique<User>();
    user->name = job.request.owner;
    if (const UserPolicy* limits = policy.user(user->name)) user->policy = *limits;
  }
  job.user = user.get();
  find_queue(job);
  count_demands(job);
  count_worker(job);
}

void ClusterState::count_demands(Job& job) {
  const auto wanted = wanted_roles(job);
  job.wanted = sum_of(wanted);
  if (job.running && wanted.empty()) return;  // its shape counts when it waits
  job.shape = shape_of(job, wanted);
}

void ClusterState::count_worker(Job& job) {
  if (job.request.workers.empty()) return;
  job.worker_shape = shape_of(job, {&job.request.workers.front()});
}

void ClusterState::find_queue(Job& job) {
  const auto leaf = queues.leaf(job.request.queue);
  job.queue = leaf.value_or(QueueTree::kRoot);
  job.admitted =
      leaf && (queues.open_to_all(*leaf) ||
               policy.admits(job.request.queue, job.request.owner, job.request.priority));
}

void ClusterState::erase(Job& job) {
  stop_running(job);
  leave_line(job);
  queues.count_pending(job.queue, -1);
  job.user->parked.erase(&job);
  unstamped.erase(&job);
  impossible.erase(&job);
  const JobId id = job.id();
  changed = true;
  jobs.erase(id);
}

void ClusterState::set_policy(ClusterPolicy to) {
  kept.reset();
  std::vector<Job*> all;
  for (const auto& [id, job] : jobs) all.push_back(job.get());
  std::sort(all.begin(), all.end(), HeardBefore());
  for (Job* job : all) leave_line(*job);
  policy = std::move(to);
  queues.build(policy, nodes.total());
  for (auto& [name, user] : users) {
    const UserPolicy* limits = policy.user(name);
    user->policy = limits == nullptr ? UserPolicy{} : *limits;
    user->parked.clear();
  }
  impossible.clear();
  for (Job* job : all) {
    find_queue(*job);
    job->aside = PendingReason::none;
    if (job->running) {
      queues.charge(*job, job->used);
      queues.count_running(*job, true);
    } else {
      queues.count_pending(job->queue, 1);
    }
    settle(*job);
  }
  room_freed();
}

// ---- Lines -------------------------------------------------------------------------------------

void ClusterState::settle(Job& job) {
  changed = true;
  const bool waits = !job.running || (job.wanted != Amount{} && !job.leaving);
  if (!waits || job.aside != PendingReason::none) return leave_line(job);
  if (!job.running && job.request.held)
    return put_aside(job, PendingReason::held, "It is held back.",
                     "`crabcast release " + job.id().value() + "` lets it go on.");
  if (!job.running && !job.blocked.empty())
    return put_aside(job, PendingReason::dependency, job.blocked,
                     "The jobs that it waits for must succeed.");
  if (!job.admitted) {
    const Status admitted =
        policy.admits(job.request.queue, job.request.owner, job.request.priority);
    const bool known = admitted || admitted.error().code != Errc::not_found;
    return put_aside(job, known ? PendingReason::not_permitted : PendingReason::no_such_queue,
                     "It cannot wait here: " + (admitted ? "" : admitted.error().message) + ".",
                     "Submit it to another queue, or change the policy.");
  }
  if (job.in_line) return;
  queues.join(job);
  if (!job.counts)
    unstamped.insert(&job);
  else if (!job.aged)
    aging.insert({job.waiting_since, &job});
}

void ClusterState::leave_line(Job& job) {
  drop_reservation_of(job);
  aging.erase({job.waiting_since, &job});
  queues.leave(job);
}

void ClusterState::put_aside(Job& job, PendingReason reason, std::string text, std::string help) {
  leave_line(job);
  job.aside = reason;
  job.aside_text = std::move(text);
  job.aside_help = std::move(help);
  // Time in which it could not start does not count towards the starvation bound.
  job.aged = job.counts = false;
  if (reason == PendingReason::user_limit) job.user->parked.insert(&job);
  if (depends_on_cluster(reason)) impossible.insert(&job);
}

void ClusterState::reconsider_impossible() {
  for (Job* job : std::exchange(impossible, {})) {
    job->aside = PendingReason::none;
    settle(*job);
  }
}

// ---- Roles -------------------------------------------------------------------------------------

void ClusterState::seat(Job& job, const RoleRequest& role, Slot node) {
  job.roles.push_back({role.role, role.kind, node, role.need});
  nodes.use(node, &job, role.need);
  job.used += role.need;
  job.user->used += role.need;
}

void ClusterState::unseat(Job& job, std::size_t index) {
  const Held held = job.roles[index];
  job.roles.erase(job.roles.begin() + static_cast<std::ptrdiff_t>(index));
  nodes.release(held.node, &job, held.need);
  job.used -= held.need;
  job.user->used -= held.need;
  queues.refund(job, held.need);
  room_freed();
  User& user = *job.user;
  for (Job* parked : std::exchange(user.parked, {})) {
    parked->aside = PendingReason::none;
    settle(*parked);
  }
}

void ClusterState::lost_some(Job& job) {
  if (!job.running) return;
  if (!job.roles.empty()) return roles_changed(job);
  stop_running(job);
  settle(job);
}

void ClusterState::start_running(Job& job) {
  leave_line(job);
  job.running = true;
  job.aged = job.counts = false;
  ++job.user->running;
  queues.count_pending(job.queue, -1);
  queues.count_running(job, true);
}

void ClusterState::stop_running(Job& job) {
  if (!job.running) return;
  while (!job.roles.empty()) unseat(job, job.roles.size() - 1);
  leave_line(job);
  job.running = job.leaving = job.backfill = false;
  if (job.expected_end) ends.erase({*job.expected_end, &job});
  if (job.deadline) deadlines.erase({*job.deadline, &job});
  job.expected_end.reset();
  job.deadline.reset();
  endless.erase(&job);
  coming.erase(&job);
  growable.erase(&job);
  elastic.erase(&job);
  lacking.erase(&job);
  --job.user->running;
  queues.count_running(job, false);
  queues.count_pending(job.queue, 1);
  job.aged = job.counts = job.clocked = false;
  count_demands(job);
}

void ClusterState::roles_changed(Job& job) {
  leave_line(job);
  growable.erase(&job);
  count_demands(job);
  if (job.wanted == Amount{}) job.aged = job.counts = false;
  const bool leaves = job.leaving || std::any_of(job.roles.begin(), job.roles.end(),
                                                 [](const Held& held) { return held.leaving; });
  leaves ? (void)coming.insert(&job) : (void)coming.erase(&job);
  const bool grows =
      !leaves && job.wanted == Amount{} && workers_of(job) < job.request.workers.size();
  if (grows) growable.insert(&job);
  const bool lacks = !job.leaving && job.wanted != Amount{};
  lacks ? (void)lacking.insert(&job) : (void)lacking.erase(&job);
  const bool can_shrink = !job.leaving && workers_of(job) > job.request.workers_min;
  can_shrink ? (void)elastic.insert(&job) : (void)elastic.erase(&job);
  settle(job);
}

void ClusterState::start_clock(Job& job) {
  job.started = job.checkpoint = now;
  job.clocked = true;
  if (const auto left = remaining(job.request)) {
    job.expected_end = now + *left;
    ends.insert({*job.expected_end, &job});
  } else {
    endless.insert(&job);
  }
  if (const auto limit = job.request.schedule.time_limit_seconds) {
    job.deadline = now - job.request.ran +
                   std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*limit));
    deadlines.insert({*job.deadline, &job});
  }
}

void ClusterState::nodes_changed() {
  queues.set_total(nodes.total());
  reconsider_impossible();
  room_freed();
}

void ClusterState::judge_anew(Job& job) {
  job.user->parked.erase(&job);
  impossible.erase(&job);
  job.aside = PendingReason::none;
  settle(job);
}

void ClusterState::demands_changed(Job& job) {
  count_worker(job);
  if (job.running) return roles_changed(job);
  count_demands(job);
  judge_anew(job);
}

void ClusterState::room_freed() {
  freed = changed = true;
}

void ClusterState::drop_reservation_of(const Job& job) {
  if (!kept || kept->job != &job) return;
  kept.reset();
  room_freed();
}

std::uint32_t ClusterState::shape_of(const Job& job, const std::vector<const RoleRequest*>& roles) {
  std::string key;
  append(key, job.demand);
  append(key, job.request.schedule.place == Spread::spread ? 1 : 0);
  const RoleRequest* last = nullptr;
  std::int64_t count = 0;
  const auto close_run = [&] {
    append(key, count);
    count = 0;
  };
  for (const RoleRequest* role : roles) {
    if (last != nullptr && last->need == role->need && last->kind == role->kind &&
        last->only_on == role->only_on) {
      ++count;
      continue;
    }
    close_run();
    last = role;
    append(key, role->kind);
    append(key, role->need.cpu_millis);
    append(key, role->need.gpus);
    append(key, role->need.memory_bytes);
    for (const NodeId& id : role->only_on) key += id.value() + '\n';
  }
  close_run();
  return shape_number(key);
}

std::uint32_t ClusterState::shape_number(const std::string& key) {
  const auto [found, is_new] = shapes.emplace(key, static_cast<std::uint32_t>(failed_free.size()));
  if (is_new) {
    failed_free.push_back(0);
    failed_gap.push_back(0);
  }
  return found->second;
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

}  // namespace crabcast::scheduler

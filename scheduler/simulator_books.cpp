#include "scheduler/simulator_books.h"

#include <algorithm>

#include "protocol/common.pb.h"

namespace crabcast::scheduler {
namespace {

Duration duration_of(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

std::string text_of(Duration time) {
  return std::to_string(static_cast<std::int64_t>(seconds(time))) + " s";
}

const RoleRequest* request_for(const JobRequest& request, const std::string& role) {
  for (const auto* roles : {&request.fixed, &request.workers})
    for (const RoleRequest& asked : *roles)
      if (asked.role == role) return &asked;
  return nullptr;
}

}  // namespace

Books::Books(const Workload& workload, bool check) : workload_(workload), check_(check) {
  for (const Node& node : workload.nodes) {
    node_numbers_[node.id] = nodes_.size();
    nodes_.push_back({node.total, {}, true, {}});
    healthy_ += node.total;
  }
  jobs_.resize(workload.jobs.size());
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    jobs_[i].job = &workload.jobs[i];
    by_id_[workload.jobs[i].request.id] = &jobs_[i];
    longest_ = std::max(longest_, duration_of(workload.jobs[i].duration));
  }
  for (const QueuePolicy& queue : workload.policy.queues) queue_policies_[queue.path] = &queue;
}

BookedJob* Books::find(const JobId& id) {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

void Books::wait(BookedJob& job, TimePoint now) {
  job.state = BookedJob::State::waiting;
  job.waiting_since = now;
  job.aged_at.reset();
  ++waiting_;
  const JobRequest& request = job.job->request;
  lines_[request.queue][static_cast<std::size_t>(request.priority)].insert(&job);
}

void Books::grow_old(BookedJob& job, TimePoint now) {
  job.aged_at = now;
  job.aged_ahead = aged_waiting_++;
}

void Books::leave_line(BookedJob& job) {
  if (job.state != BookedJob::State::waiting) return;
  --waiting_;
  if (job.aged_at) --aged_waiting_;
  const JobRequest& request = job.job->request;
  lines_[request.queue][static_cast<std::size_t>(request.priority)].erase(&job);
}

void Books::count_use(const BookedJob& job, const Amount& need, std::int64_t sign) {
  const JobRequest& request = job.job->request;
  used_ += need * sign;
  user_use_[request.owner] += need * sign;
  for (std::string path = request.queue; !path.empty(); path = parent_queue(path))
    queue_use_[path] += need * sign;
}

Books::Broken Books::place(BookedJob& job, const Placement& placement, bool starts,
                           const Scheduler& scheduler, TimePoint now) {
  Broken broken;
  if (!placement.backfill) excused_ = true;  // the reservation may have gone to it and back
  if (starts) {
    if (job.state != BookedJob::State::waiting) return "it starts, and does not wait";
    if (check_) broken = check_gang(job, placement);
    if (!broken && check_ && !placement.backfill) broken = check_priority(job, scheduler, now);
    if (!broken && check_) broken = check_start_in_time(job, now);
    leave_line(job);
    job.state = BookedJob::State::running;
    job.started = now;
    ++running_;
    ++user_running_[job.job->request.owner];
  } else if (job.state != BookedJob::State::running) {
    return "roles are added, and it does not run";
  }
  Amount placed;
  for (const RolePlacement& role : placement.roles) {
    const std::size_t number = node_numbers_.at(role.node);
    BookedNode& node = nodes_[number];
    const RoleRequest* asked = request_for(job.job->request, role.role);
    if (asked == nullptr || asked->need != role.need) return "role " + role.role + " is not asked";
    for (const BookedRole& held : job.roles)
      if (held.role == role.role) return "role " + role.role + " is placed twice";
    if (!node.up) return "role " + role.role + " is placed on lost node " + role.node.value();
    node.used += role.need;
    if (!node.used.fits_in(node.total))
      return "node " + role.node.value() + " is given twice: " + to_string(node.used) + " of " +
             to_string(node.total);
    node.roles.emplace_back(&job, role.need);
    job.roles.push_back({role.role, number, role.need, false});
    placed += role.need;
  }
  count_use(job, placed, 1);
  if (!broken && check_) broken = check_quotas(job);
  return broken;
}

Books::Broken Books::check_gang(const BookedJob& job, const Placement& placement) const {
  const JobRequest& request = job.job->request;
  std::size_t workers = 0;
  for (const RolePlacement& role : placement.roles) workers += role.kind == pb::ROLE_WORKER;
  if (workers >= request.workers_min && placement.roles.size() - workers == request.fixed.size())
    return std::nullopt;
  return "a partial gang starts: " + std::to_string(placement.roles.size()) + " roles";
}

Books::Broken Books::check_quotas(const BookedJob& job) const {
  const JobRequest& request = job.job->request;
  for (std::string path = request.queue; !path.empty(); path = parent_queue(path))
    if (const QueuePolicy& queue = *queue_policies_.at(path);
        !queue.limit.covers(queue_use_.at(path)))
      return "queue " + path + " uses " + to_string(queue_use_.at(path)) + " of at most " +
             to_string(queue.limit);
  const UserPolicy* user = workload_.policy.user(request.owner);
  if (user == nullptr) return std::nullopt;
  if (!user->limit.covers(user_use_.at(request.owner)) ||
      (user->running && user_running_.at(request.owner) > *user->running))
    return "user " + request.owner + " has more than one user may have";
  return std::nullopt;
}

// Those of a higher priority in the same queue went first, unless they cannot run at all now.
Books::Broken Books::check_priority(const BookedJob& job, const Scheduler& scheduler,
                                    TimePoint now) const {
  const JobRequest& request = job.job->request;
  if (job.aged_at) return std::nullopt;
  const Line& line = lines_.at(request.queue);
  for (std::size_t p = static_cast<std::size_t>(request.priority) + 1; p < line.size(); ++p)
    for (const BookedJob* other : line.at(p)) {
      // It may not borrow, and others may.
      if (other->job->request.schedule.preemption == Preemption::never) continue;
      const JobId& id = other->job->request.id;
      const PendingReason reason = scheduler.why(id, now).reason;
      if (reason == PendingReason::none || reason >= PendingReason::queue_limit)
        return "it starts before " + id.value() + ", which waits in the same queue with a higher " +
               "priority (" + std::string(to_string(reason)) + ")";
    }
  return std::nullopt;
}

// docs/scheduling.md: once past the bound, at most two of the longest runs for each job that was
// past it before, and for itself.
Books::Broken Books::check_start_in_time(const BookedJob& job, TimePoint now) const {
  if (!job.aged_at || workload_.policy.user(job.job->request.owner) != nullptr) return std::nullopt;
  const Duration allowed = 2 * static_cast<int>(job.aged_ahead + 1) * longest_ + 2 * time_broken_;
  const Duration waited = now - *job.aged_at;
  if (waited <= allowed) return std::nullopt;
  return "it starved: " + text_of(waited) + " past the bound, with " +
         std::to_string(job.aged_ahead) + " ahead, where " + text_of(allowed) + " are the most";
}

// Whatever runs into the reserved time leaves the reserved room alone, and its start never moves
// back while everybody keeps what they said.
Books::Broken Books::check_reservation(const Scheduler& scheduler, TimePoint now) {
  if (!check_) return std::nullopt;
  const auto reservation = scheduler.reservation();
  if (!reservation || !reservation->start || *reservation->start < now) {
    reserved_start_.reset();
    return std::nullopt;
  }
  std::map<std::size_t, Amount> needs;
  for (const RolePlacement& role : reservation->roles)
    needs[node_numbers_.at(role.node)] += role.need;
  for (const auto& [number, need] : needs) {
    Amount use = need;
    for (const auto& [job, amount] : nodes_[number].roles) {
      const bool goes = job->state == BookedJob::State::leaving ||
                        (job->expected_end && *job->expected_end <= *reservation->start);
      if (!goes) use += amount;
    }
    for (const auto& [job, amount] : nodes_[number].roles)
      if (job->state == BookedJob::State::running &&
          !(job->expected_end && *job->expected_end <= *reservation->start))
        for (const BookedRole& role : job->roles)
          if (role.leaving && role.node == number && role.need == amount) {
            use -= amount;
            break;
          }
    if (!use.fits_in(nodes_[number].total))
      return "the room reserved for " + reservation->job.value() + " on " +
             workload_.nodes[number].id.value() + " is taken";
  }
  if (!excused_ && reserved_ == reservation->job && reserved_start_ &&
      *reservation->start > *reserved_start_ && *reserved_start_ > now)
    return "the reservation of " + reservation->job.value() + " moved back by " +
           text_of(*reservation->start - *reserved_start_);
  reserved_ = reservation->job;
  reserved_start_ = reservation->start;
  excused_ = false;
  return std::nullopt;
}

void Books::take_back(BookedJob& job, const std::string& name) {
  const auto role = std::find_if(job.roles.begin(), job.roles.end(),
                                 [&](const BookedRole& held) { return held.role == name; });
  if (role == job.roles.end()) return;
  leave_node(job, *role);
  count_use(job, role->need, -1);
  job.roles.erase(role);
}

void Books::leave_node(BookedJob& job, const BookedRole& role) {
  BookedNode& node = nodes_[role.node];
  const auto on_node = std::find(node.roles.begin(), node.roles.end(),
                                 std::pair<BookedJob*, Amount>(&job, role.need));
  node.roles.erase(on_node);
  node.used -= role.need;
}

void Books::take_back_all(BookedJob& job) {
  Amount all;
  for (const BookedRole& role : job.roles) {
    leave_node(job, role);
    all += role.need;
  }
  job.roles.clear();
  count_use(job, all, -1);
  if (job.state == BookedJob::State::running || job.state == BookedJob::State::leaving) {
    --running_;
    --user_running_[job.job->request.owner];
  }
}

void Books::end(BookedJob& job) {
  take_back_all(job);
  leave_line(job);
  job.state = BookedJob::State::over;
}

std::set<BookedJob*> Books::on_node(std::size_t node) const {
  std::set<BookedJob*> jobs;
  for (const auto& [job, need] : nodes_[node].roles) jobs.insert(job);
  return jobs;
}

void Books::node_down(std::size_t node) {
  nodes_[node].up = false;
  healthy_ -= nodes_[node].total;
  excused_ = true;
}

void Books::node_up(std::size_t node, TimePoint since, TimePoint now) {
  nodes_[node].up = true;
  healthy_ += nodes_[node].total;
  time_broken_ += now - since;
  excused_ = true;
}

}  // namespace crabcast::scheduler

#include "scheduler/round.h"

#include <algorithm>

#include "protocol/format.h"
#include "scheduler/backfill.h"
#include "scheduler/pending.h"
#include "scheduler/preemption.h"

namespace crabcast::scheduler {
namespace {

constexpr Duration kAskAgain = std::chrono::seconds(5);
// Claims at different heights of the tree are no total order: this ends what could go in circles.
constexpr int kMostTakeovers = 16;

Gang gang_of(const Job& job, const Nodes& nodes) {
  return make_gang(wanted_roles(job), job.demand, job.request.schedule.place == Spread::spread,
                   nodes);
}

}  // namespace

Decisions Round::run() {
  look_at_the_clock();
  if (!state_.changed) return std::move(decisions_);
  state_.changed = false;
  if (state_.freed) begin_epoch();
  try_reserved();
  replace_lost_roles();
  Job* job = nullptr;
  do {
    job = state_.queues.next();
  } while (job != nullptr && consider(*job));
  if (state_.kept && ask_for_room(*state_.kept->job)) reserve_for(*state_.kept->job);
  if (!state_.kept) state_.ask_again.reset();
  if (!state_.kept && job == nullptr) grow();
  state_.changed = state_.freed = false;
  return std::move(decisions_);
}

void Round::look_at_the_clock() {
  const TimePoint now = state_.now;
  for (Job* job : std::exchange(state_.unstamped, {})) {
    if (job->running && !job->clocked) state_.start_clock(*job);
    if (!job->in_line || job->counts) continue;
    job->waiting_since = now;
    job->counts = true;
    state_.aging.insert({now, job});
  }
  while (!state_.ends.empty() && state_.ends.begin()->first <= now) {
    Job* job = state_.ends.begin()->second;  // its estimate was wrong, and the reservation with it
    state_.changed = true;
    state_.ends.erase(state_.ends.begin());
    job->expected_end.reset();
    if (job->deadline && *job->deadline > now) {
      job->expected_end = job->deadline;
      state_.ends.insert({*job->deadline, job});
    } else {
      state_.endless.insert(job);
    }
  }
  while (!state_.deadlines.empty() && state_.deadlines.begin()->first <= now) {
    Job* job = state_.deadlines.begin()->second;
    state_.deadlines.erase(state_.deadlines.begin());
    job->deadline.reset();
    decisions_.expired.push_back(job->id());
    job->leaving = true;
    state_.roles_changed(*job);
  }
  if (state_.policy.starvation) {
    while (!state_.aging.empty() &&
           state_.aging.begin()->first + *state_.policy.starvation <= now) {
      Job* job = state_.aging.begin()->second;
      state_.aging.erase(state_.aging.begin());
      state_.queues.leave(*job);
      job->aged = true;
      state_.queues.join(*job);
      state_.changed = true;
    }
  }
  if (state_.ask_again && *state_.ask_again <= now) state_.changed = true;
}

void Round::begin_epoch() {
  ++state_.epoch;
  state_.tries_left = state_.policy.backfill_depth;
  state_.queues.restart();
  state_.freed = false;
}

// The one with the reservation goes first, wherever room became free.
void Round::try_reserved() {
  if (!state_.kept) return;
  Job& job = *state_.kept->job;
  if (*state_.queues.queue(job.queue).line.begin() != &job) {  // another is the first of them now
    state_.kept.reset();
    return begin_epoch();
  }
  if (!state_.queues.limit_of(job, job.wanted) && !state_.queues.would_borrow(job, job.wanted)) {
    if (job.running) {
      if (replace_lost(job)) return begin_epoch();
    } else if (auto seats = find_seats(job)) {
      start(job, *seats);
      return begin_epoch();
    }
  }
  if (holds_good(state_, *state_.kept)) return;
  reserve_for(job);
  begin_epoch();
}

// Those that run already hold room without a use: they come before all that wait.
void Round::replace_lost_roles() {
  const std::vector<Job*> lacking(state_.lacking.begin(), state_.lacking.end());
  for (Job* job : lacking)
    if (!state_.queues.limit_of(*job, job->wanted)) replace_lost(*job);
}

bool Round::consider(Job& job) {
  const Job* reserved = state_.kept ? state_.kept->job : nullptr;
  if (reserved == &job) {
    state_.queues.step_past(job);
    return true;
  }
  if (stopped_by_user(job, reserved)) return true;
  if (const auto at = state_.queues.limit_of(job, job.wanted, reserved)) {
    if (!can_never_run(job)) state_.queues.close(*at, job);
    return true;
  }
  if (state_.queues.would_borrow(job, job.wanted)) {
    if (!can_never_run(job)) state_.queues.step_past(job);
    return true;
  }
  if (reserved != nullptr && takeovers_ < kMostTakeovers &&
      state_.queues.outranks(job, *reserved)) {
    ++takeovers_;
    take_over(job);
    return true;
  }
  if (reserved != nullptr && job.tried != state_.epoch) {
    if (state_.tries_left == 0) return false;
    --state_.tries_left;
  }
  job.tried = state_.epoch;
  if (job.running) {
    if (replace_lost(job)) return true;
  } else if (auto seats = find_seats(job)) {
    start(job, *seats);
    return true;
  }
  if (reserved == nullptr) reserve_for(job);
  if (job.in_line) state_.queues.step_past(job);
  return true;
}

// It has the better claim: it starts, or the reservation is its own now.
void Round::take_over(Job& job) {
  state_.kept.reset();
  begin_epoch();
  job.tried = state_.epoch;
  if (job.running) {
    if (!replace_lost(job)) reserve_for(job);
  } else if (auto seats = find_seats(job)) {
    start(job, *seats);
  } else {
    reserve_for(job);
  }
}

// Of the same user, a job that holds the reservation counts as running.
bool Round::stopped_by_user(Job& job, const Job* reserved) {
  const User& user = *job.user;
  const UserPolicy& limits = user.policy;
  if (!limits.limit.covers(job.wanted)) return can_never_run(job);
  const bool ahead = reserved != nullptr && reserved->user == job.user;
  const std::uint32_t running = user.running + (ahead && !reserved->running ? 1 : 0);
  if (!job.running && limits.running && running >= *limits.running) {
    state_.put_aside(job, PendingReason::user_limit,
                     (user.name.empty() ? "An unnamed user" : user.name) + " runs " +
                         std::to_string(user.running) + " jobs, of at most " +
                         std::to_string(*limits.running) +
                         (ahead ? "; the next one has a reservation." : "."),
                     "One of them must end, or the policy allow more.");
    return true;
  }
  if (limits.limit.covers(user.used + job.wanted + (ahead ? reserved->wanted : Amount{})))
    return false;
  state_.put_aside(job, PendingReason::user_limit,
                   "It needs " + to_string(job.wanted) + "; " +
                       (user.name.empty() ? "an unnamed user" : user.name) + " uses " +
                       to_string(user.used) + " of at most " + to_string(limits.limit) + ".",
                   "Other jobs of the same user must end, or the policy allow more.");
  return true;
}

// Waiting cannot help it: nobody waits behind it.
bool Round::can_never_run(Job& job) {
  const std::string need = to_string(job.wanted);
  if (!job.user->policy.limit.covers(job.wanted)) {
    state_.put_aside(job, PendingReason::larger_than_quota,
                     "Its minimum needs " + need + "; its user may have " +
                         to_string(job.user->policy.limit) + ".",
                     "Lower resources in the spec, or raise the user's limit in the policy.");
    return true;
  }
  if (const auto at = state_.queues.smallest_limit(job, job.wanted)) {
    const QueuePolicy& queue = state_.queues.queue(*at).policy;
    state_.put_aside(job, PendingReason::larger_than_quota,
                     "Its minimum needs " + need + "; queue " + queue.path + " may have " +
                         to_string(queue.limit) + ".",
                     "Lower resources in the spec, or raise the queue's limit in the policy.");
    return true;
  }
  if (const auto at = state_.queues.would_borrow(job, job.wanted, true)) {
    const QueuePolicy& queue = state_.queues.queue(*at).policy;
    state_.put_aside(job, PendingReason::larger_than_quota,
                     "Its minimum needs " + need + "; queue " + queue.path + " is guaranteed " +
                         to_string(queue.guaranteed) +
                         ", and a job that is never preempted may not borrow.",
                     "Set schedule.preemption: allowed, or raise the queue's guarantee.");
    return true;
  }
  if (state_.nodes.healthy() == 0) return false;
  const auto& usable = state_.nodes.usable(job.demand);
  const ScheduleSpec& where = job.request.schedule;
  if (usable.empty()) {
    std::string text =
        "None of the " + std::to_string(state_.nodes.healthy()) + " healthy nodes takes it";
    if (!where.nodes.empty()) text += ": it needs " + join_names(where.nodes);
    state_.put_aside(job, PendingReason::no_matching_node, text + ".",
                     "A node with these labels, without taints that it does not tolerate and not "
                     "draining, must join.");
    return true;
  }
  const std::vector<Amount> empty = state_.nodes.empty_room();
  Gang gang = gang_of(job, state_.nodes);
  if (place(gang, state_.nodes, empty)) return false;
  for (RoleGroup& group : gang.groups) group.only_on.clear();
  if (place(gang, state_.nodes, empty)) {
    state_.put_aside(job, PendingReason::store_node_too_small, no_room_at_store(job),
                     "Such a node must be larger, or another one get a copy of the store.");
    return true;
  }
  state_.put_aside(job, PendingReason::larger_than_cluster, larger_than_cluster(job, empty, usable),
                   "Add nodes or lower resources in the spec.");
  return true;
}

bool Round::must_spare_reserved(const Job& job) const {
  return state_.kept && state_.kept->job != &job &&
         (job.running || !ends_before(state_, job, *state_.kept));
}

std::vector<Amount> Round::room_for(const Job& job) const {
  return must_spare_reserved(job) ? room_beside(state_, *state_.kept) : state_.nodes.free();
}

std::optional<std::vector<Seat>> Round::find_seats(Job& job) {
  const bool in_gap = must_spare_reserved(job);
  auto& failed_free = state_.failed_free[job.shape];
  auto& failed_gap = state_.failed_gap[job.shape];
  if (failed_free == state_.epoch || (in_gap && failed_gap == state_.epoch)) return std::nullopt;
  std::optional<std::vector<Seat>> seats;
  if (job.wanted.fits_in(state_.nodes.free_sum()))
    seats = place(gang_of(job, state_.nodes), state_.nodes, room_for(job));
  if (!seats) (in_gap ? failed_gap : failed_free) = state_.epoch;
  return seats;
}

void Round::start(Job& job, const std::vector<Seat>& seats) {
  const bool reserved = state_.kept && state_.kept->job == &job;
  const bool backfill = state_.kept && !reserved;
  if (reserved) state_.kept.reset();
  state_.start_running(job);
  job.backfill = backfill;
  Placement placement{job.id(), {}, backfill};
  for (const Seat& seat : seats) {
    state_.seat(job, *seat.role, seat.node);
    placement.roles.push_back(placed(*seat.role, seat.node));
  }
  state_.queues.charge(job, job.used);
  state_.start_clock(job);
  state_.roles_changed(job);
  // In the order of the request: coordinator first, then loaders, evaluators and workers.
  std::map<std::string, std::size_t> position;
  for (const RoleRequest* role : minimum_roles(job.request))
    position.emplace(role->role, position.size());
  std::sort(placement.roles.begin(), placement.roles.end(),
            [&](const RolePlacement& a, const RolePlacement& b) {
              return position.at(a.role) < position.at(b.role);
            });
  decisions_.start.push_back(std::move(placement));
}

// The gang stands already, so each lost role that comes back helps: one by one. True when it lacks
// nothing any more.
bool Round::replace_lost(Job& job) {
  bool any = false;
  for (const RoleRequest* role : lost_roles(job)) {
    const Gang gang = make_gang({role}, job.demand, false, state_.nodes);
    const auto seats = place(gang, state_.nodes, room_for(job));
    if (!seats) continue;
    state_.seat(job, *role, seats->front().node);
    state_.queues.charge(job, role->need);
    added_to(job).roles.push_back(placed(*role, seats->front().node));
    any = true;
  }
  if (!any) return false;
  const bool reserved = state_.kept && state_.kept->job == &job;
  state_.roles_changed(job);
  if (job.wanted == Amount{}) return true;
  // It lost its place in line with its old demand.
  if (reserved) reserve_for(job);
  return false;
}

void Round::reserve_for(Job& job) {
  ask_for_room(job);
  auto room = earliest_room(state_, job);
  if (!room && can_never_run(job)) return;
  state_.kept = room.value_or(Kept{&job, {}, {}, {}});
}

// What is due to the first that waits and others can spare. Looking for it costs more than the rest
// of a round, so a second look for the same job waits a little.
bool Round::ask_for_room(Job& head) {
  if (head.id() == state_.asked_for && state_.ask_again && state_.now < *state_.ask_again)
    return false;
  RoomMade made = make_room_for(state_, head);
  state_.asked_for = head.id();
  state_.ask_again = std::max(made.retry.value_or(state_.now), state_.now + kAskAgain);
  const bool any = !made.shrink.empty() || !made.preempt.empty();
  std::move(made.shrink.begin(), made.shrink.end(), std::back_inserter(decisions_.shrink));
  std::move(made.preempt.begin(), made.preempt.end(), std::back_inserter(decisions_.preempt));
  return any;
}

// One worker for each job in turn, so that the first does not take all the room.
void Round::grow() {
  std::vector<Job*> growing(state_.growable.begin(), state_.growable.end());
  while (!growing.empty()) std::erase_if(growing, [&](Job* job) { return !grow_by_one(*job); });
}

bool Round::grow_by_one(Job& job) {
  auto& failed = state_.failed_free[job.worker_shape];
  if (failed == state_.epoch) return false;
  const auto missing = missing_workers(job);
  if (missing.empty()) return false;
  const RoleRequest& role = *missing.front();
  if (!role.need.fits_in(state_.nodes.free_sum()) ||
      !job.user->policy.limit.covers(job.user->used + role.need) ||
      state_.queues.limit_of(job, role.need) || state_.queues.would_borrow(job, role.need))
    return false;
  std::vector<Slot> own;  // beside which it is best placed
  for (const Held& held : job.roles) own.push_back(held.node);
  const auto node = place_beside(role, job.demand, job.request.schedule.place == Spread::spread,
                                 own, state_.nodes, state_.nodes.free());
  if (!node) {
    failed = state_.epoch;
    return false;
  }
  state_.seat(job, role, *node);
  state_.queues.charge(job, role.need);
  added_to(job).roles.push_back(placed(role, *node));
  state_.roles_changed(job);
  return true;
}

RolePlacement Round::placed(const RoleRequest& role, Slot node) const {
  return {role.role, role.kind, state_.nodes.node(node).id, role.need};
}

Placement& Round::added_to(const Job& job) {
  for (Placement& placement : decisions_.add)
    if (placement.job == job.id()) return placement;
  return decisions_.add.emplace_back(Placement{job.id(), {}, false});
}

}  // namespace crabcast::scheduler

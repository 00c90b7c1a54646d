#include "scheduler/preemption.h"

#include <algorithm>
#include <tuple>

#include "protocol/common.pb.h"
#include "protocol/format.h"
#include "scheduler/backfill.h"

namespace crabcast::scheduler {
namespace {

using Room = std::vector<Amount>;

// One thing that can be asked for: a gang, or one worker of an elastic one.
struct Asked {
  Job* job = nullptr;
  std::size_t role = SIZE_MAX;  // of job->roles; SIZE_MAX: all of them
  std::string why;
};

void give(Room& room, const Asked& asked, std::int64_t times = 1) {
  for (std::size_t i = 0; i < asked.job->roles.size(); ++i) {
    const Held& held = asked.job->roles[i];
    if (!is_leaving(*asked.job, held) && (asked.role == SIZE_MAX || asked.role == i))
      room[held.node] += held.need * times;
  }
}

class RoomSeeker {
 public:
  RoomSeeker(ClusterState& state, Job& head)
      : state_(state),
        head_(head),
        guarantor_(state.queues.guarantor(head.queue, head.wanted)),
        gang_(make_gang(wanted_roles(head), head.demand,
                        head.request.schedule.place == Spread::spread, state.nodes)) {}

  RoomMade run() {
    if (state_.queues.limit_of(head_, head_.wanted)) return {};
    Room room = coming_room(state_);
    if (place(gang_, state_.nodes, room)) return {};  // it has been asked for already
    std::vector<Asked> asked = surplus_workers();
    for (const Asked& worker : asked) give(room, worker);
    auto seats = place(gang_, state_.nodes, room);
    if (!seats) {
      std::vector<Asked> gangs = victims();
      const std::size_t needed = fits_with(room, gangs);
      if (needed > gangs.size()) return std::move(made_);
      gangs.resize(needed);
      for (const Asked& gang : gangs) give(room, gang);
      asked.insert(asked.end(), gangs.begin(), gangs.end());
      seats = place(gang_, state_.nodes, room);
      made_.retry.reset();
    }
    leave_out_needless(asked, *seats, room);
    ask(asked);
    return std::move(made_);
  }

 private:
  // Workers that were only lent while nobody waited, of those that have no better claim.
  std::vector<Asked> surplus_workers() const {
    std::vector<Asked> workers;
    for (Job* job : state_.elastic) {
      if (job == &head_ || !is_due_from(*job)) continue;
      std::size_t spare = workers_of(*job) - job->request.workers_min;
      for (std::size_t i = job->roles.size(); i-- > 0 && spare > 0;) {
        if (job->roles[i].kind != pb::ROLE_WORKER || job->roles[i].leaving) continue;
        workers.push_back({job, i, ""});
        --spare;
      }
    }
    return workers;
  }

  // The same queue, a guaranteed part, or a queue with the smaller share than the other's.
  [[nodiscard]] bool is_due_from(const Job& job) const {
    if (job.queue == head_.queue || guarantor_) return true;
    const auto [ours, theirs] = state_.queues.branches(head_.queue, job.queue);
    return state_.queues.weighted_share(ours) <= state_.queues.weighted_share(theirs);
  }

  std::vector<Asked> victims() {
    if (!state_.policy.preemption) return {};
    std::vector<Job*> eligible;
    for (Job* job : guarantor_ ? all_running() : running_in_queue()) {
      if (job->leaving || job == &head_ || !is_preemptible(*job) || why(*job).empty()) continue;
      const TimePoint may_go = job->started + state_.policy.preemption->min_runtime;
      if (may_go <= state_.now)
        eligible.push_back(job);
      else if (!made_.retry || may_go < *made_.retry)
        made_.retry = may_go;
    }
    sort_by_cost(eligible);
    std::vector<Asked> gangs;
    for (Job* job : eligible)
      // A branch gives back what it has borrowed, and no more.
      if (const std::string reason = why(*job); !reason.empty()) {
        gangs.push_back({job, SIZE_MAX, reason});
        if (job->queue != head_.queue)
          for (QueueIndex at = job->queue; at != QueueTree::kRoot; at = parent_of(at))
            given_back_[at] += job->used;
      }
    return gangs;
  }

  // Why the head may have the room of this job; empty: it may not.
  [[nodiscard]] std::string why(const Job& job) const {
    if (job.queue == head_.queue && job.priority() < head_.priority())
      return "priority " + std::string(crabcast::to_string(head_.priority())) + " of " +
             head_.id().value() + " is above " + std::string(crabcast::to_string(job.priority())) +
             " in queue " + head_.request.queue;
    if (!guarantor_ || state_.queues.is_within(job.queue, *guarantor_)) return "";
    const auto [ours, theirs] = state_.queues.branches(head_.queue, job.queue);
    for (QueueIndex at = job.queue; at != QueueTree::kRoot; at = parent_of(at)) {
      const Queue& queue = state_.queues.queue(at);
      const auto given = given_back_.find(at);
      const Amount used = given == given_back_.end() ? queue.used : queue.used - given->second;
      if (!queue.policy.guaranteed.empty() && queue.policy.guaranteed.covers(used)) return "";
      if (at == theirs) break;
    }
    return head_.id().value() + " is within the guarantee of queue " +
           state_.queues.queue(*guarantor_).policy.path + ", and queue " + job.request.queue +
           " has borrowed";
  }

  // Lower priority first, then the least work lost, then the most over its share.
  void sort_by_cost(std::vector<Job*>& jobs) const {
    using Cost = std::tuple<Priority, double, double, std::uint64_t>;
    std::vector<std::pair<Cost, Job*>> costs;
    for (Job* job : jobs) {
      const Duration lost = state_.now - std::max(job->started, job->checkpoint);
      costs.emplace_back(
          Cost{job->priority(), seconds(lost) * dominant_share(job->used, state_.nodes.total()),
               -state_.queues.weighted_share(job->queue), job->serial},
          job);
    }
    std::sort(costs.begin(), costs.end());
    std::transform(costs.begin(), costs.end(), jobs.begin(),
                   [](const auto& entry) { return entry.second; });
  }

  // The fewest of the first of `asked` that let the head fit; more than there are when all do not.
  std::size_t fits_with(const Room& room, const std::vector<Asked>& asked) const {
    const auto fits = [&](std::size_t count) {
      Room with = room;
      for (std::size_t i = 0; i < count; ++i) give(with, asked[i]);
      return place(gang_, state_.nodes, with).has_value();
    };
    if (asked.empty() || !fits(asked.size())) return asked.size() + 1;
    std::size_t low = 0, high = asked.size();
    while (high - low > 1) {
      const std::size_t middle = low + (high - low) / 2;
      (fits(middle) ? high : low) = middle;
    }
    return high;
  }

  // Whatever the head's seats do not need stays: gangs before workers, and the dearest first.
  static void leave_out_needless(std::vector<Asked>& asked, const std::vector<Seat>& seats,
                                 Room& room) {
    for (const Seat& seat : seats) room[seat.node] -= seat.role->need;
    for (std::size_t i = asked.size(); i-- > 0;) {
      give(room, asked[i], -1);
      const auto& roles = asked[i].job->roles;
      const bool needless = std::all_of(roles.begin(), roles.end(), [&](const Held& held) {
        return !is_seat(seats, held.node) || Amount{}.fits_in(room[held.node]);
      });
      if (needless)
        asked.erase(asked.begin() + static_cast<std::ptrdiff_t>(i));
      else
        give(room, asked[i]);
    }
  }
  static bool is_seat(const std::vector<Seat>& seats, Slot node) {
    return std::any_of(seats.begin(), seats.end(),
                       [&](const Seat& seat) { return seat.node == node; });
  }

  void ask(const std::vector<Asked>& asked) {
    std::set<Job*, HeardBefore> touched;
    for (const Asked& one : asked) {
      touched.insert(one.job);
      one.job->makes_room_for = head_.id();
      if (one.role == SIZE_MAX) {
        one.job->leaving = true;
        made_.preempt.push_back({one.job->id(), head_.id(), one.why});
        continue;
      }
      Held& held = one.job->roles[one.role];
      held.leaving = true;
      if (made_.shrink.empty() || made_.shrink.back().job != one.job->id())
        made_.shrink.push_back({one.job->id(), {}, head_.id()});
      made_.shrink.back().roles.push_back(held.role);
    }
    for (Job* job : touched) state_.roles_changed(*job);
  }

  [[nodiscard]] QueueIndex parent_of(QueueIndex at) const { return state_.queues.queue(at).parent; }

  [[nodiscard]] std::vector<Job*> all_running() const {
    std::vector<Job*> jobs;
    for (const auto& [end, job] : state_.ends) jobs.push_back(job);
    jobs.insert(jobs.end(), state_.endless.begin(), state_.endless.end());
    return jobs;
  }
  [[nodiscard]] std::vector<Job*> running_in_queue() const {
    const auto& active = state_.queues.queue(head_.queue).active;
    return {active.begin(), active.end()};
  }

  ClusterState& state_;
  Job& head_;
  std::optional<QueueIndex> guarantor_;  // whose guarantee covers the head
  Gang gang_;
  std::map<QueueIndex, Amount> given_back_;  // by victims so far
  RoomMade made_;
};

}  // namespace

RoomMade make_room_for(ClusterState& state, Job& head) {
  return RoomSeeker(state, head).run();
}

}  // namespace crabcast::scheduler

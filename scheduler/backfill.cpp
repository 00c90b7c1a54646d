#include "scheduler/backfill.h"

#include <algorithm>
#include <queue>

namespace crabcast::scheduler {
namespace {

// Estimates are for people: one that would cost more than this is not made.
constexpr int kMostTries = 400;
constexpr std::size_t kMostAhead = 50;

using Room = std::vector<Amount>;

// Running jobs in the order in which they end, first those that are known to.
class Endings {
 public:
  struct Ending {
    std::optional<TimePoint> at;
    const Job* job = nullptr;
  };
  explicit Endings(const ClusterState& state)
      : state_(state), known_(state.ends.begin()), unknown_(state.endless.begin()) {}
  // The next one; no job: there is none.
  Ending next() {
    if (known_ != state_.ends.end()) {
      const auto& [at, job] = *known_++;
      return {at, job};
    }
    if (unknown_ != state_.endless.end()) return {std::nullopt, *unknown_++};
    return {};
  }

 private:
  const ClusterState& state_;
  Agenda::const_iterator known_;
  std::set<Job*, HeardBefore>::const_iterator unknown_;
};

void give_back(Room& room, const Job& job) {
  for (const Held& held : job.roles)
    if (!is_leaving(job, held)) room[held.node] += held.need;
}

Amount positive_sum(const Room& room, const std::vector<Slot>& nodes) {
  Amount sum;
  for (const Slot node : nodes) sum += most(room[node], {});
  return sum;
}

Gang gang_of(const ClusterState& state, const Job& job) {
  return make_gang(wanted_roles(job), job.demand, job.request.schedule.place == Spread::spread,
                   state.nodes);
}

Kept keep(Job& job, std::optional<TimePoint> start, std::vector<Seat> seats) {
  Kept kept{&job, start, std::move(seats), {}};
  for (const Seat& seat : kept.seats) kept.need[seat.node] += seat.role->need;
  return kept;
}

}  // namespace

bool is_leaving(const Job& job, const Held& held) {
  return held.leaving || job.leaving;
}

std::vector<Amount> coming_room(const ClusterState& state) {
  Room room = state.nodes.free();
  for (const Job* job : state.coming)
    for (const Held& held : job->roles)
      if (is_leaving(*job, held)) room[held.node] += held.need;
  return room;
}

// Placement is tried first when enough has ended in sum, then after twice as many ends and so on;
// the last step is halved until it is exact. So it is tried a few times, whatever the number of
// running jobs.
std::optional<Kept> earliest_room(const ClusterState& state, Job& job) {
  const Gang gang = gang_of(state, job);
  Room room = coming_room(state);
  if (auto seats = place(gang, state.nodes, room)) return keep(job, state.now, std::move(*seats));
  Amount sum = positive_sum(room, state.nodes.usable(gang.demand));
  std::vector<Endings::Ending> since;  // the last try
  Room then = room;                    // at the last try
  std::optional<std::vector<Seat>> seats;
  Endings endings(state);
  for (std::size_t step = 1; !seats;) {
    const Endings::Ending ending = endings.next();
    if (ending.job != nullptr) {
      since.push_back(ending);
      give_back(room, *ending.job);
      sum += ending.job->used;
      if (!gang.total.fits_in(sum) || since.size() < step) continue;
    } else if (since.empty()) {
      return std::nullopt;
    }
    seats = place(gang, state.nodes, room);
    if (seats) break;
    if (ending.job == nullptr) return std::nullopt;
    step *= 2;
    then = room;
    since.clear();
  }
  std::size_t low = 0, high = since.size();
  while (high - low > 1) {
    const std::size_t middle = low + (high - low) / 2;
    Room sooner = then;
    for (std::size_t i = 0; i < middle; ++i) give_back(sooner, *since[i].job);
    if (auto found = place(gang, state.nodes, sooner)) {
      seats = std::move(found);
      high = middle;
    } else {
      low = middle;
    }
  }
  return keep(job, since[high - 1].at, std::move(*seats));
}

// The reservation of an aged job is not lent on an estimate: it may be wrong, and the bound on
// waiting must hold.
bool ends_before(const ClusterState& state, const Job& job, const Kept& kept) {
  if (!kept.start || kept.job->aged) return false;
  const auto left = remaining(job.request);
  return left && state.now + *left <= *kept.start;
}

std::vector<Amount> room_beside(const ClusterState& state, const Kept& kept) {
  Room room = state.nodes.free();
  for (const auto& [node, need] : kept.need) {
    Amount spare = state.nodes.node(node).total - need;
    for (const RoleOnNode& role : state.nodes.roles_on(node)) {
      const Job& other = *role.job;
      const bool gone =
          other.leaving || (kept.start && other.expected_end && *other.expected_end <= *kept.start);
      if (!gone) spare -= role.need;
    }
    for (const Job* other : state.coming)
      if (!other->leaving)
        for (const Held& held : other->roles)
          if (held.leaving && held.node == node) spare += held.need;
    room[node] = least(room[node], spare);
  }
  return room;
}

bool holds_good(const ClusterState& state, const Kept& kept) {
  if (kept.seats.empty() || (kept.start && *kept.start < state.now)) return false;
  const Room room = room_beside(state, kept);
  const auto& usable = state.nodes.usable(kept.job->demand);
  return std::all_of(kept.need.begin(), kept.need.end(), [&](const auto& entry) {
    // An unknown start waits for ends of unknown times: only its nodes must be there.
    return std::find(usable.begin(), usable.end(), entry.first) != usable.end() &&
           (!kept.start || Amount{}.fits_in(room[entry.first]));
  });
}

std::optional<TimePoint> estimate_start(const ClusterState& state, const Job& job) {
  std::vector<const Job*> ahead;
  if (state.kept && state.kept->job != &job) ahead.push_back(state.kept->job);
  for (const Job* other : state.queues.queue(job.queue).line) {
    if (other == &job) break;
    if (ahead.size() == kMostAhead) return std::nullopt;
    if (!state.kept || other != state.kept->job) ahead.push_back(other);
  }
  ahead.push_back(&job);

  struct End {
    TimePoint at;
    std::vector<std::pair<Slot, Amount>> room;
    bool operator<(const End& other) const { return at > other.at; }
  };
  std::priority_queue<End> ends;
  for (const auto& [at, running] : state.ends) {
    End end{at, {}};
    for (const Held& held : running->roles)
      if (!is_leaving(*running, held)) end.room.emplace_back(held.node, held.need);
    ends.push(std::move(end));
  }
  Room room = coming_room(state);
  TimePoint at = state.now;
  int tries = 0;
  for (const Job* next : ahead) {
    const Gang gang = gang_of(state, *next);
    const auto& usable = state.nodes.usable(gang.demand);
    std::optional<std::vector<Seat>> seats;
    while (!(seats = gang.total.fits_in(positive_sum(room, usable)) ? place(gang, state.nodes, room)
                                                                    : std::nullopt)) {
      if (ends.empty() || ++tries == kMostTries) return std::nullopt;
      at = std::max(at, ends.top().at);
      for (const auto& [node, need] : ends.top().room) room[node] += need;
      ends.pop();
    }
    if (next == &job) return at;
    End end{at, {}};
    for (const Seat& seat : *seats) {
      room[seat.node] -= seat.role->need;
      end.room.emplace_back(seat.node, seat.role->need);
    }
    const auto left = remaining(next->request);
    if (!left) continue;  // nobody knows when it gives its room back
    end.at = at + *left;
    ends.push(std::move(end));
  }
  return std::nullopt;
}

}  // namespace crabcast::scheduler

// The simulator's own books: what every decision so far adds up to, kept from the decisions alone,
// and what must hold after each.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/simulator.h"

namespace crabcast::scheduler {

struct BookedRole {
  std::string role;
  std::size_t node = 0;
  Amount need;
  bool leaving = false;
};

struct BookedJob {
  const SimulatedJob* job = nullptr;
  enum class State { to_come, waiting, running, leaving, over } state = State::to_come;
  std::vector<BookedRole> roles;
  TimePoint waiting_since, started;
  std::optional<TimePoint> expected_end;
  std::optional<TimePoint> aged_at;
  std::size_t aged_ahead = 0;  // jobs past the bound when it passed it
};

class Books {
 public:
  Books(const Workload& workload, bool check);

  // Each returns the promise that was broken, in words; nothing: none.
  using Broken = std::optional<std::string>;
  Broken place(BookedJob& job, const Placement& placement, bool starts, const Scheduler& scheduler,
               TimePoint now);
  // After all decisions of a moment.
  Broken check_reservation(const Scheduler& scheduler, TimePoint now);
  Broken check_start_in_time(const BookedJob& job, TimePoint now) const;

  void wait(BookedJob& job, TimePoint now);
  void grow_old(BookedJob& job, TimePoint now);
  void take_back(BookedJob& job, const std::string& role);
  void take_back_all(BookedJob& job);
  void end(BookedJob& job);
  void node_down(std::size_t node);
  void node_up(std::size_t node, TimePoint since, TimePoint now);
  void estimate_was_wrong() { excused_ = true; }

  BookedJob* find(const JobId& id);
  std::vector<BookedJob>& jobs() { return jobs_; }
  [[nodiscard]] std::size_t node_number(const NodeId& id) const { return node_numbers_.at(id); }
  // Jobs that have roles on a node.
  [[nodiscard]] std::set<BookedJob*> on_node(std::size_t node) const;
  [[nodiscard]] const Amount& used() const { return used_; }
  [[nodiscard]] const Amount& healthy() const { return healthy_; }
  [[nodiscard]] std::uint32_t waiting() const { return waiting_; }
  [[nodiscard]] std::uint32_t running() const { return running_; }

 private:
  struct BookedNode {
    Amount total, used;
    bool up = true;
    std::vector<std::pair<BookedJob*, Amount>> roles;
  };
  using Line = std::array<std::set<BookedJob*>, 4>;  // waiting jobs of a queue by priority

  void count_use(const BookedJob& job, const Amount& need, std::int64_t sign);
  void leave_line(BookedJob& job);
  void leave_node(BookedJob& job, const BookedRole& role);
  [[nodiscard]] Broken check_gang(const BookedJob& job, const Placement& placement) const;
  [[nodiscard]] Broken check_quotas(const BookedJob& job) const;
  [[nodiscard]] Broken check_priority(const BookedJob& job, const Scheduler& scheduler,
                                      TimePoint now) const;

  const Workload& workload_;
  bool check_;
  std::vector<BookedJob> jobs_;
  std::unordered_map<JobId, BookedJob*> by_id_;
  std::vector<BookedNode> nodes_;
  std::unordered_map<NodeId, std::size_t> node_numbers_;
  std::unordered_map<std::string, Amount> queue_use_, user_use_;
  std::unordered_map<std::string, std::uint32_t> user_running_;
  std::unordered_map<std::string, const QueuePolicy*> queue_policies_;
  std::unordered_map<std::string, Line> lines_;
  Amount used_, healthy_;
  std::uint32_t waiting_ = 0, running_ = 0;
  std::size_t aged_waiting_ = 0;
  Duration longest_{};      // run of any job
  Duration time_broken_{};  // all outages so far
  // The reservation of the round before, and whether something since then may have moved it.
  JobId reserved_;
  std::optional<TimePoint> reserved_start_;
  bool excused_ = false;
};

}  // namespace crabcast::scheduler

// The tree of queues: who has how much, whose turn it is.
//
// Each queue ranks among its siblings by the first job of its line: one past the starvation bound,
// then one that its guarantee covers, then one that may preempt in its own queue, then the rest;
// within these by dominant share over weight (dominant resource fairness, Ghodsi et al. 2011, down
// the tree). Ranks are kept up to date along the path of what changes, so the next job is at hand.
#pragma once

#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/job.h"

namespace crabcast::scheduler {

// How pressing a claim is; a lower one takes the reservation from a higher one.
enum class Claim { aged, guaranteed, urgent, fair };

struct Rank {
  Claim claim = Claim::fair;
  double value = 0;  // time of waiting for `aged`, else share over weight
  QueueIndex queue = 0;
  auto operator<=>(const Rank&) const = default;
};

struct Queue {
  QueuePolicy policy;
  QueueIndex parent = 0;
  std::vector<QueueIndex> children;
  Amount used;
  Amount firm;  // of it, by jobs that are never preempted
  std::uint32_t running = 0;
  std::uint32_t pending = 0;
  // Leaves
  std::set<Job*, InLineBefore> line;
  std::set<Job*, InLineBefore>::iterator next;  // the first that was not tried in this epoch
  std::set<Job*, HeardBefore> active;           // its running jobs
  std::uint32_t preemptible[4] = {};            // of them, by priority
  // A job that its limit stops: nobody below it goes before.
  const Job* closed_by = nullptr;
  // Those children that have a job to try.
  std::set<Rank> asking;
  Job* candidate = nullptr;
  Rank rank;
  bool listed = false;  // with the parent
};

class QueueTree {
 public:
  static constexpr QueueIndex kRoot = 0;

  // Empty of jobs. Shares are measured by `total`.
  void build(const ClusterPolicy& policy, const Amount& total);
  void set_total(const Amount& total);

  [[nodiscard]] const Queue& queue(QueueIndex index) const { return queues_[index]; }
  [[nodiscard]] std::size_t size() const { return queues_.size(); }
  [[nodiscard]] std::optional<QueueIndex> leaf(const std::string& path) const;
  [[nodiscard]] bool open_to_all(QueueIndex queue) const;  // every user, every priority

  // Its line. A job that joins before those that were tried is tried next.
  void join(Job& job);
  void leave(Job& job);
  void step_past(Job& job);  // it was tried; the next of its line is
  void close(QueueIndex at, const Job& job);
  void restart();  // everybody may be tried again
  // The job whose turn it is; null: nobody's.
  [[nodiscard]] Job* next() const { return queues_[kRoot].candidate; }

  void charge(const Job& job, const Amount& amount);
  void refund(const Job& job, const Amount& amount);
  void count_running(Job& job, bool runs);
  void count_pending(QueueIndex queue, int change);

  // The first queue on its way up whose limit does not allow `need` more. What `reserved` waits for
  // counts as used.
  [[nodiscard]] std::optional<QueueIndex> limit_of(const Job& job, const Amount& need,
                                                   const Job* reserved = nullptr) const;
  // The first whose limit is below `need`, whatever is used.
  [[nodiscard]] std::optional<QueueIndex> smallest_limit(const Job& job, const Amount& need) const;
  // Jobs that are never preempted must fit in a guarantee together, at some height of the tree: the
  // lowest queue with a guarantee when `need` more does not; with `ever`, when it does not even
  // alone.
  [[nodiscard]] std::optional<QueueIndex> would_borrow(const Job& job, const Amount& need,
                                                       bool ever = false) const;
  // The lowest queue, not above `top`, whose guarantee covers `need` more.
  [[nodiscard]] std::optional<QueueIndex> guarantor(QueueIndex leaf, const Amount& need,
                                                    QueueIndex top = kRoot) const;
  // That of a waiting job as it counts between `top` and its siblings.
  [[nodiscard]] Claim claim(const Job& job, QueueIndex top = kRoot) const;
  // The better claim where their ways part, of the first in its line only; in one queue, the place
  // in its line.
  [[nodiscard]] bool outranks(const Job& job, const Job& other) const;
  [[nodiscard]] double share(QueueIndex queue) const;           // dominant
  [[nodiscard]] double weighted_share(QueueIndex queue) const;  // over its weight
  // Part of the cluster that is its due among those that use or ask now.
  [[nodiscard]] double fair_share(QueueIndex queue) const;
  [[nodiscard]] bool is_within(QueueIndex queue, QueueIndex ancestor) const;
  // Of two leaves, the queues on the ways to them just below where the ways part; the same leaf
  // twice for one.
  [[nodiscard]] std::pair<QueueIndex, QueueIndex> branches(QueueIndex a, QueueIndex b) const;
  [[nodiscard]] bool preempts() const { return preempts_; }

 private:
  void refresh(QueueIndex index);
  void refresh_up(QueueIndex index);
  void reopen_for(const Job& job);
  [[nodiscard]] bool is_urgent(const Job& job) const;

  std::vector<Queue> queues_;  // parents first; [0] is the root
  std::unordered_map<std::string, QueueIndex> by_path_;
  std::vector<QueueIndex> moved_;  // leaves whose `next` is not their first
  std::vector<QueueIndex> closed_;
  Amount total_;
  bool preempts_ = false;
  bool guarantees_ = false;  // some queue has a guarantee
};

}  // namespace crabcast::scheduler

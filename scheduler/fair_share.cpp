#include "scheduler/fair_share.h"

#include <algorithm>

namespace crabcast::scheduler {
namespace {

bool is_preemptible(const Job& job) {
  return job.request.schedule.preemption == Preemption::allowed;
}

}  // namespace

void QueueTree::build(const ClusterPolicy& policy, const Amount& total) {
  *this = QueueTree();
  total_ = total;
  preempts_ = policy.preemption.has_value();
  queues_.resize(policy.queues.size() + 1);
  for (std::size_t i = 0; i < policy.queues.size(); ++i) {
    const auto index = static_cast<QueueIndex>(i + 1);
    Queue& queue = queues_[index];
    queue.policy = policy.queues[i];
    guarantees_ = guarantees_ || !queue.policy.guaranteed.empty();
    by_path_[queue.policy.path] = index;
    const auto parent = by_path_.find(parent_queue(queue.policy.path));
    queue.parent = parent == by_path_.end() ? kRoot : parent->second;
    queues_[queue.parent].children.push_back(index);
  }
  for (Queue& queue : queues_) queue.next = queue.line.end();
}

void QueueTree::set_total(const Amount& total) {
  if (total == total_) return;
  total_ = total;
  for (std::size_t i = queues_.size(); i-- > 0;) refresh(static_cast<QueueIndex>(i));
}

std::optional<QueueIndex> QueueTree::leaf(const std::string& path) const {
  const auto found = by_path_.find(path);
  if (found == by_path_.end() || !queues_[found->second].children.empty()) return std::nullopt;
  return found->second;
}

bool QueueTree::open_to_all(QueueIndex queue) const {
  for (QueueIndex at = queue; at != kRoot; at = queues_[at].parent)
    if (!queues_[at].policy.users.empty() || !queues_[at].policy.priorities.empty()) return false;
  return true;
}

// ---- Lines -------------------------------------------------------------------------------------

void QueueTree::join(Job& job) {
  Queue& queue = queues_[job.queue];
  const auto [place, is_new] = queue.line.insert(&job);
  if (!is_new) return;
  job.in_line = true;
  if (queue.next == queue.line.end() || InLineBefore()(&job, *queue.next)) queue.next = place;
  // Smaller than the job that closed the way, it may fit.
  for (QueueIndex at = job.queue; at != kRoot; at = queues_[at].parent)
    queues_[at].closed_by = nullptr;
  refresh_up(job.queue);
}

void QueueTree::leave(Job& job) {
  Queue& queue = queues_[job.queue];
  const auto place = queue.line.find(&job);
  if (place == queue.line.end()) return;
  if (queue.next == place) ++queue.next;
  queue.line.erase(place);
  job.in_line = false;
  reopen_for(job);
  refresh_up(job.queue);
}

void QueueTree::reopen_for(const Job& job) {
  for (QueueIndex at = job.queue; at != kRoot; at = queues_[at].parent)
    if (queues_[at].closed_by == &job) queues_[at].closed_by = nullptr;
}

void QueueTree::step_past(Job& job) {
  Queue& queue = queues_[job.queue];
  const auto place = queue.line.find(&job);
  if (place == queue.line.end()) return;
  queue.next = std::next(place);
  moved_.push_back(job.queue);
  refresh_up(job.queue);
}

void QueueTree::close(QueueIndex at, const Job& job) {
  queues_[at].closed_by = &job;
  closed_.push_back(at);
  refresh_up(at);
}

void QueueTree::restart() {
  for (const QueueIndex index : closed_) queues_[index].closed_by = nullptr;
  for (const QueueIndex index : moved_) queues_[index].next = queues_[index].line.begin();
  for (const QueueIndex index : moved_) refresh_up(index);
  for (const QueueIndex index : closed_) refresh_up(index);
  moved_.clear();
  closed_.clear();
}

void QueueTree::refresh(QueueIndex index) {
  Queue& queue = queues_[index];
  queue.candidate = nullptr;
  Claim claim = Claim::fair;
  if (queue.closed_by == nullptr) {
    if (queue.children.empty()) {
      if (queue.next != queue.line.end()) queue.candidate = *queue.next;
    } else if (!queue.asking.empty()) {
      queue.candidate = queues_[queue.asking.begin()->queue].candidate;
      claim = queue.asking.begin()->claim;
    }
  }
  if (index == kRoot) return;
  Queue& parent = queues_[queue.parent];
  if (queue.listed) parent.asking.erase(queue.rank);
  queue.listed = queue.candidate != nullptr;
  if (!queue.listed) return;
  const Job& job = *queue.candidate;
  if (queue.children.empty() && job.aged) claim = Claim::aged;
  if (claim > Claim::guaranteed && !queue.policy.guaranteed.empty() &&
      queue.policy.guaranteed.covers(queue.used + job.wanted))
    claim = Claim::guaranteed;
  if (claim == Claim::fair && queue.children.empty() && is_urgent(job)) claim = Claim::urgent;
  queue.rank = {
      claim,
      claim == Claim::aged ? seconds(job.waiting_since.time_since_epoch()) : weighted_share(index),
      index};
  parent.asking.insert(queue.rank);
}

void QueueTree::refresh_up(QueueIndex index) {
  for (;; index = queues_[index].parent) {
    refresh(index);
    if (index == kRoot) return;
  }
}

// ---- Use and claims ----------------------------------------------------------------------------

void QueueTree::charge(const Job& job, const Amount& amount) {
  const bool firm = !is_preemptible(job);
  for (QueueIndex at = job.queue;; at = queues_[at].parent) {
    queues_[at].used += amount;
    if (firm) queues_[at].firm += amount;
    refresh(at);
    if (at == kRoot) return;
  }
}

void QueueTree::refund(const Job& job, const Amount& amount) {
  charge(job, Amount{} - amount);
}

void QueueTree::count_running(Job& job, bool runs) {
  Queue& leaf = queues_[job.queue];
  if (runs ? !leaf.active.insert(&job).second : leaf.active.erase(&job) == 0) return;
  const int change = runs ? 1 : -1;
  if (is_preemptible(job))
    leaf.preemptible[static_cast<std::size_t>(job.priority())] += static_cast<unsigned>(change);
  for (QueueIndex at = job.queue;; at = queues_[at].parent) {
    queues_[at].running += static_cast<unsigned>(change);
    refresh(at);  // there may be somebody to preempt now, or nobody any more
    if (at == kRoot) return;
  }
}

void QueueTree::count_pending(QueueIndex queue, int change) {
  for (QueueIndex at = queue;; at = queues_[at].parent) {
    queues_[at].pending += static_cast<unsigned>(change);
    if (at == kRoot) return;
  }
}

std::optional<QueueIndex> QueueTree::limit_of(const Job& job, const Amount& need,
                                              const Job* reserved) const {
  for (QueueIndex at = job.queue; at != kRoot; at = queues_[at].parent) {
    const Queue& queue = queues_[at];
    Amount used = queue.used + need;
    if (reserved != nullptr && is_within(reserved->queue, at)) used += reserved->wanted;
    if (!queue.policy.limit.covers(used)) return at;
  }
  return std::nullopt;
}

std::optional<QueueIndex> QueueTree::smallest_limit(const Job& job, const Amount& need) const {
  for (QueueIndex at = job.queue; at != kRoot; at = queues_[at].parent)
    if (!queues_[at].policy.limit.covers(need)) return at;
  return std::nullopt;
}

std::optional<QueueIndex> QueueTree::would_borrow(const Job& job, const Amount& need,
                                                  bool ever) const {
  if (!preempts_ || !guarantees_ || is_preemptible(job)) return std::nullopt;
  QueueIndex lowest = job.queue;
  bool any = false;
  for (QueueIndex at = job.queue; at != kRoot; at = queues_[at].parent) {
    const Queue& queue = queues_[at];
    if (queue.policy.guaranteed.empty()) continue;
    if (queue.policy.guaranteed.covers(ever ? need : queue.firm + need)) return std::nullopt;
    if (!any) lowest = at;
    any = true;
  }
  return lowest;
}

std::optional<QueueIndex> QueueTree::guarantor(QueueIndex leaf, const Amount& need,
                                               QueueIndex top) const {
  for (QueueIndex at = leaf; at != kRoot; at = queues_[at].parent) {
    const Queue& queue = queues_[at];
    if (!queue.policy.guaranteed.empty() && queue.policy.guaranteed.covers(queue.used + need))
      return at;
    if (at == top) break;
  }
  return std::nullopt;
}

Claim QueueTree::claim(const Job& job, QueueIndex top) const {
  if (job.aged) return Claim::aged;
  if (guarantor(job.queue, job.wanted, top)) return Claim::guaranteed;
  return is_urgent(job) ? Claim::urgent : Claim::fair;
}

bool QueueTree::is_urgent(const Job& job) const {
  const auto* preemptible = queues_[job.queue].preemptible;
  return preempts_ &&
         std::any_of(preemptible, preemptible + static_cast<std::size_t>(job.priority()),
                     [](auto count) { return count > 0; });
}

bool QueueTree::outranks(const Job& job, const Job& other) const {
  if (job.queue == other.queue) return InLineBefore()(&job, &other);
  if (*queues_[job.queue].line.begin() != &job) return false;
  const auto [ours, theirs] = branches(job.queue, other.queue);
  return claim(job, ours) < claim(other, theirs);
}

double QueueTree::share(QueueIndex queue) const {
  return dominant_share(queues_[queue].used, total_);
}

double QueueTree::weighted_share(QueueIndex queue) const {
  return share(queue) / queues_[queue].policy.weight;
}

double QueueTree::fair_share(QueueIndex index) const {
  if (index == kRoot) return 1;
  const Queue& queue = queues_[index];
  double weights = 0;
  for (const QueueIndex sibling : queues_[queue.parent].children) {
    const Queue& other = queues_[sibling];
    if (sibling == index || other.running > 0 || other.pending > 0) weights += other.policy.weight;
  }
  return fair_share(queue.parent) * queue.policy.weight / weights;
}

bool QueueTree::is_within(QueueIndex queue, QueueIndex ancestor) const {
  for (QueueIndex at = queue;; at = queues_[at].parent) {
    if (at == ancestor) return true;
    if (at == kRoot) return false;
  }
}

std::pair<QueueIndex, QueueIndex> QueueTree::branches(QueueIndex a, QueueIndex b) const {
  if (a == b) return {a, b};
  for (QueueIndex at = a; at != kRoot; at = queues_[at].parent)
    if (is_within(b, queues_[at].parent)) {
      QueueIndex other = b;
      while (queues_[other].parent != queues_[at].parent) other = queues_[other].parent;
      return {at, other};
    }
  return {a, b};
}

}  // namespace crabcast::scheduler

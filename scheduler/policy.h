// Who may use how much of the cluster, and in which order: one YAML file (docs/scheduling.md).
//
// Queues form a tree. Jobs wait in its leaves; quotas hold at every level. Pure: the caller reads
// the file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "protocol/clock.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"
#include "scheduler/amount.h"

namespace crabcast::scheduler {

struct QueuePolicy {
  std::string path;  // research/vision
  double weight = 1;
  // Its due whenever it asks for it, whoever has borrowed it meanwhile. A parent's covers the sum
  // of its children's.
  Quota guaranteed = {};
  Quota limit = {};  // of what it may use, borrowed room included
  // Who may submit, and with which priorities; none: as its parent says, and at the top everybody
  // and all.
  std::vector<std::string> users = {};
  std::vector<Priority> priorities = {};
  friend bool operator==(const QueuePolicy&, const QueuePolicy&) = default;
};

struct UserPolicy {
  std::optional<std::uint32_t> running = {};  // jobs at the same time
  Quota limit = {};
  friend bool operator==(const UserPolicy&, const UserPolicy&) = default;
};

struct PreemptionPolicy {
  Duration min_runtime = std::chrono::minutes(10);  // before a gang may be preempted
  Duration grace = std::chrono::minutes(2);         // for its checkpoint, then it is stopped
  friend bool operator==(const PreemptionPolicy&, const PreemptionPolicy&) = default;
};

struct ClusterPolicy {
  std::vector<QueuePolicy> queues;  // a parent before its children
  // Limits by user; the key "*" is for everybody who is not named.
  std::map<std::string, UserPolicy> users = {};
  std::optional<PreemptionPolicy> preemption = {};
  // How many jobs behind the first that waits are tried in the gaps before it; 0: none.
  std::uint32_t backfill_depth = 0;
  // A job that has waited for so long goes before all others (docs/scheduling.md says what that
  // bounds); nothing: it never does.
  std::optional<Duration> starvation = {};

  // Without a file: one queue `default` without limits, strictly in order of priority and
  // submission, no preemption.
  static ClusterPolicy standard();
  [[nodiscard]] const QueuePolicy* find(const std::string& path) const;
  [[nodiscard]] bool has_children(const std::string& path) const;
  [[nodiscard]] std::vector<std::string> leaves() const;                // where jobs may wait
  [[nodiscard]] const UserPolicy* user(const std::string& name) const;  // null: no limits
  // Whether such a job may be submitted: not_found for a queue that is not there or has children,
  // permission_denied for a user or a priority that the queue does not take.
  [[nodiscard]] Status admits(const std::string& queue, const std::string& user,
                              Priority priority) const;
  friend bool operator==(const ClusterPolicy&, const ClusterPolicy&) = default;
};

// Parses and validates; all mistakes are reported, each with line, column, field, what was expected
// and the nearest known name.
tl::expected<ClusterPolicy, SpecProblems> parse_policy(const std::string& yaml,
                                                       const std::string& file);
// The path of a queue's parent; empty for one at the top.
std::string parent_queue(const std::string& path);

}  // namespace crabcast::scheduler

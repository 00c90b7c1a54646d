// Which job runs where, and when it must go. Pure: no I/O, no clock, no threads, no randomness;
// time is passed in, equal calls give equal answers, so the very same code runs in the controller,
// in tests and in the simulator. docs/scheduling.md describes the model; in short:
//
// - Jobs wait in the leaves of a tree of queues: those past the starvation bound first, then by
//   priority, then in order of submission. Among queues the guaranteed part of a quota goes first,
//   then the least dominant share by weight.
// - The first job that finds no room gets a reservation: nodes and, where ends of running jobs are
//   known, a time. Others start before it only in gaps that do not touch either (backfill).
// - Its due is made free by shrinking elastic jobs, then by preempting whole gangs.
// - Gangs are placed whole or not at all: in one node, else one rack, else on few nodes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/clock.h"
#include "protocol/error.h"
#include "protocol/ids.h"
#include "protocol/job_spec.h"
#include "scheduler/amount.h"
#include "scheduler/policy.h"

namespace crabcast::scheduler {

struct Node {
  NodeId id;
  Amount total;
  bool healthy = true;
  std::vector<std::string> labels = {};  // name=value; rack=NAME is its place
  // Only jobs that tolerate them come here; what stands after ": " is a reason for people.
  std::vector<std::string> taints = {};
  bool draining = false;  // nothing new is placed here
};

// Roles that a job needs: first the fixed ones (coordinator, loaders, evaluators), then workers
// between min and max. All of the fixed ones and `workers_min` are placed together or not at all.
struct RoleRequest {
  std::string role;
  int kind = 0;  // pb::RoleKind
  Amount need;
  std::set<NodeId> only_on = {};  // nodes that it may run on; empty: any
};
struct JobRequest {
  JobId id;
  std::string queue = "default";
  Priority priority = Priority::normal;
  std::uint64_t submit_seq = 0;
  std::vector<RoleRequest> fixed;
  std::vector<RoleRequest> workers;  // workers_max of them
  std::uint32_t workers_min = 1;
  std::string owner = {};
  ScheduleSpec schedule = {};  // `after` is the owner's business: see block
  Duration ran = {};           // all its runs before the present one
  bool held = false;
};
// Roles coordinator, loader-0.., evaluator-0.. and worker-0.. with what the spec asks for them.
JobRequest job_request(const JobId& id, const JobSpec& spec, std::uint64_t submit_seq);

struct RolePlacement {
  std::string role;
  int kind = 0;
  NodeId node;
  Amount need;
};
struct Placement {
  JobId job;
  std::vector<RolePlacement> roles;
  bool backfill = false;  // it started in a gap before a job that waits ahead of it
};

struct Shrink {
  JobId job;
  std::vector<std::string> roles;  // workers that are to leave; release_role when each is gone
  JobId for_job;
};
struct Preempt {
  JobId victim;
  JobId for_job;
  std::string why;
};
struct Decisions {
  std::vector<Placement> start;  // whole gangs
  std::vector<Placement> add;    // roles for running jobs: replacements, then growth
  std::vector<Shrink> shrink;    // by workers beyond workers_min
  std::vector<Preempt> preempt;  // to be asked for a checkpoint; then requeue
  std::vector<JobId> expired;    // over their time limit, each told once
  [[nodiscard]] bool empty() const {
    return start.empty() && add.empty() && shrink.empty() && preempt.empty() && expired.empty();
  }
};

// Why a job waits: the first that applies, in this order (docs/scheduling.md).
enum class PendingReason {
  none,                  // it runs, or nobody looked at it yet: the next schedule() does
  held,                  // somebody holds it back
  dependency,            // it waits for other jobs
  no_such_queue,         // its queue is not in the policy, or has children
  not_permitted,         // the queue takes no jobs of this user or priority
  no_nodes,              // no healthy node has joined
  larger_than_quota,     // its minimum is more than a queue or its user may ever use
  no_matching_node,      // no node has its labels and only taints that it tolerates
  larger_than_cluster,   // its minimum does not fit even when all its nodes are empty
  store_node_too_small,  // the same, only because its coordinator must go where its store is
  user_limit,            // its user has as much as one user may have
  queue_limit,           // its queue, or one above it, has as much as it may have
  room_is_coming,        // gangs were asked to leave for it
  behind_priority,       // a job of higher priority waits ahead in its queue
  behind_queue,          // an earlier one of the same priority does
  behind_share,          // it is another queue's turn
  not_enough_cpus,
  not_enough_gpus,
  not_enough_memory,
  fragmented,        // enough in sum, but not on single nodes
  no_room_at_store,  // it would fit, but not with its coordinator where its store is
};
std::string_view to_string(PendingReason reason);  // its name: "behind_priority"
std::vector<PendingReason> every_pending_reason();

struct Pending {
  JobId job;
  PendingReason reason = PendingReason::none;
  std::string text;                               // one sentence with the numbers
  std::string would_help;                         // what would have to change
  std::optional<TimePoint> estimated_start = {};  // nothing: not known
};

struct QueueState {
  std::string path;
  double weight = 1;
  Quota guaranteed, limit;
  Amount used;
  Amount borrowed;        // beyond what is guaranteed
  double fair_share = 0;  // dominant share of the cluster that is its due among those that ask now
  double share = 0;       // that it has
  std::uint32_t running = 0, pending = 0;
};

// The room that is kept for the first job that waits.
struct Reservation {
  JobId job;
  std::optional<TimePoint> start;    // nothing: an end that it waits for is not known
  std::vector<RolePlacement> roles;  // where
};

struct ClusterState;  // scheduler/state.h

// State of the cluster as the scheduler sees it. One owner thread. Times must not go back.
class Scheduler {
 public:
  explicit Scheduler(ClusterPolicy policy = ClusterPolicy::standard());
  ~Scheduler();
  Scheduler(Scheduler&&) noexcept;
  Scheduler& operator=(Scheduler&&) noexcept;

  // Running jobs go on under the new policy; waiting ones are judged anew.
  void set_policy(ClusterPolicy policy);
  [[nodiscard]] const ClusterPolicy& policy() const;

  // An unhealthy or draining node keeps its roles and gets no new ones.
  void upsert_node(Node node);
  void remove_node(const NodeId& id);  // its roles count as gone
  // already_exists; invalid_argument for a request that names a role twice or has fewer workers
  // than workers_min. One that the policy does not admit is taken and waits with the reason.
  Status submit(JobRequest request);
  void remove_job(const JobId& id);  // ended, cancelled: frees everything
  // A running job recovered from the registry or from agents; its nodes may join later. It runs
  // since the next schedule(); what it ran before is in request.ran.
  void adopt(const JobRequest& request, const Placement& placement);
  // A job that ran waits again, in its old place: its gang has left. For one that is not known:
  // submit.
  Status requeue(JobRequest request);
  // The job is to have other workers from now on. Returns the roles that it has and should not have
  // any more: they keep their room until release_role. not_found; invalid_argument as in submit.
  Result<std::vector<std::string>> resize(const JobRequest& request);
  // Nothing happens in the following for a job that is not known.
  // From now on the waiting job's coordinator goes to one of these nodes: only they have its store.
  // Empty: to any.
  void hold_to(const JobId& id, std::set<NodeId> nodes);
  // One role of a running job is gone for good; its room is free again.
  void release_role(const JobId& id, const std::string& role);
  void hold(const JobId& id, bool held);
  // It waits for other jobs; `text` is the sentence that says for which.
  void block(const JobId& id, std::string text);
  void unblock(const JobId& id);
  // It has saved its work: preempting it now costs only what comes after.
  void checkpointed(const JobId& id, TimePoint when);

  // Everything that can be decided now. A second call with the same time finds nothing.
  Decisions schedule(TimePoint now);
  // When schedule() should be called again though nothing happens: time limits, minimum run times,
  // the starvation bound. Nothing: never.
  [[nodiscard]] std::optional<TimePoint> next_wake(TimePoint now) const;

  // Why a job waits, as of the last schedule(). Reason none for one that runs or is not known.
  [[nodiscard]] Pending why(const JobId& id, TimePoint now) const;
  // The same of every waiting job, in the order of queues and within each in the order of its line;
  // estimated_start only for the first of all.
  [[nodiscard]] std::vector<Pending> pending(TimePoint now) const;
  // The arithmetic behind it, a line each: shares and quota of each queue above it, the best nodes,
  // the reservation ahead. not_found.
  [[nodiscard]] Result<std::vector<std::string>> explain(const JobId& id, TimePoint now) const;
  [[nodiscard]] std::vector<QueueState> queues() const;
  [[nodiscard]] std::optional<Reservation> reservation() const;
  [[nodiscard]] Amount free_on(const NodeId& id) const;
  [[nodiscard]] std::vector<Node> nodes() const;

 private:
  std::unique_ptr<ClusterState> state_;
};

}  // namespace crabcast::scheduler

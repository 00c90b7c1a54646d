// Which job runs where. Pure: no I/O, no clock, no threads, no randomness; equal calls give equal
// answers, so it runs unchanged in tests, in the controller and in a simulator.
//
// Waiting jobs stand in one line: highest priority first, then submit order. The first that cannot
// be placed stops the line, so nobody overtakes it. Only a job that would not fit on the empty
// cluster of healthy nodes (larger_than_cluster) is passed over, because waiting cannot help it.
// A running job that lost a role it needs (a fixed one, or workers below min) stands in the same
// line for that role. Running jobs grow towards workers_max only while nobody else stands in line.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "protocol/error.h"
#include "protocol/ids.h"
#include "protocol/job_spec.h"

namespace crabcast::scheduler {

// CPU in thousandths, so that sums are exact.
struct Amount {
  std::int64_t cpu_millis = 0;
  std::int64_t gpus = 0;
  std::int64_t memory_bytes = 0;
  friend bool operator==(const Amount&, const Amount&) = default;
  Amount& operator+=(const Amount& o);
  Amount& operator-=(const Amount& o);
  [[nodiscard]] bool fits_in(const Amount& room) const;
};
Amount amount(const ProcessResources& resources);
// "2.5 CPUs, 1 GPU, 4.0 GiB", without the GPUs when there are none.
std::string to_string(const Amount& amount);

struct Node {
  NodeId id;
  Amount total;
  bool healthy = true;
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
  std::string queue;
  Priority priority = Priority::normal;
  std::uint64_t submit_seq = 0;
  std::vector<RoleRequest> fixed;
  std::vector<RoleRequest> workers;  // workers_max of them
  std::uint32_t workers_min = 1;
  // The owner's own number: each placement brings back that of the request that it was made for.
  std::uint64_t attempt = 0;
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
  std::uint64_t attempt = 0;  // of the request
};

// Why a job waits. The first that applies, in this order (docs/operations.md).
enum class PendingReason {
  none = 0,                 // it runs or can be placed now
  no_nodes = 1,             // no healthy node has joined
  larger_than_cluster = 2,  // its minimum does not fit even on an empty cluster
  behind_priority = 3,      // a job of higher priority waits ahead
  behind_queue = 4,         // an earlier job of the same priority waits ahead
  not_enough_cpus = 5,
  not_enough_gpus = 6,
  not_enough_memory = 7,
  fragmented = 8,        // enough in sum, but not on single nodes
  no_room_at_store = 9,  // it would fit, but not with its coordinator where its store is
};
struct Pending {
  JobId job;
  PendingReason reason = PendingReason::none;
  std::string text;  // one sentence with the numbers: what is missing, what would help
};

// State of the cluster as the scheduler sees it. One owner thread.
class Scheduler {
 public:
  // An unhealthy node keeps its roles and gets no new ones.
  void upsert_node(Node node);
  void remove_node(const NodeId& id);  // its roles count as gone
  // already_exists; invalid_argument for a request that names a role twice or has fewer workers
  // than workers_min.
  Status submit(JobRequest request);
  void remove_job(const JobId& id);  // ended, cancelled: frees everything
  // A running job recovered from the registry or from agents; its nodes may join later.
  void adopt(const JobRequest& request, const Placement& placement);
  // The job is to have other workers from now on. Returns the roles that it has and should not have
  // any more: they keep their room until release_role. not_found; invalid_argument as in submit.
  Result<std::vector<std::string>> resize(const JobRequest& request);
  // From now on the waiting job's coordinator goes to one of these nodes: only they have its store.
  // Empty: to any. Nothing happens for a job that is not known.
  void hold_to(const JobId& id, std::set<NodeId> nodes);
  // One role of a running job is gone for good (its node died); its room is free again.
  void release_role(const JobId& id, const std::string& role);

  // Places what fits. Returns the roles to start now: first whole gangs of jobs that start, then
  // roles added to running jobs (replacements, then growth), which name only the added roles.
  std::vector<Placement> schedule();
  // Reason of every waiting job, in the order in which they wait; `none` for a job that the next
  // schedule() places.
  [[nodiscard]] std::vector<Pending> pending() const;
  [[nodiscard]] Amount free_on(const NodeId& id) const;
  [[nodiscard]] std::vector<Node> nodes() const;

 private:
  struct Job {
    JobRequest request;
    bool running = false;
    Placement placement;
  };
  // Free room of each healthy node.
  using Room = std::map<NodeId, Amount>;

  [[nodiscard]] Room free_room() const;
  [[nodiscard]] Room empty_room() const;
  [[nodiscard]] std::vector<JobId> line() const;
  [[nodiscard]] bool holds_its_place(const Job& job, const Room& empty) const;
  [[nodiscard]] Pending why_waiting(const Job& job, const std::vector<const Job*>& ahead,
                                    const Room& room, const Room& empty) const;
  void start(Job& job, const std::vector<RolePlacement>& roles, Room& room);
  std::vector<RolePlacement> replace_lost(Job& job, Room& room);
  std::vector<Placement> grow(const std::vector<JobId>& order, Room& room);
  void free_role(const RolePlacement& role);

  std::map<NodeId, Node> nodes_;
  std::map<NodeId, Amount> used_;
  std::map<JobId, Job> jobs_;
};

}  // namespace crabcast::scheduler

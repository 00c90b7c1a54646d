// Which job runs where. Pure: no I/O, no clock, no threads, no randomness; equal calls give equal
// answers, so it runs unchanged in tests, in the controller and in a simulator.
#pragma once

#include <cstdint>
#include <map>
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

struct Node {
  NodeId id;
  Amount total;
  bool healthy = true;
};

// Roles that a job needs: first the fixed ones (coordinator, loaders, evaluators), then workers
// between min and max. All of the fixed ones and `workers_min` are placed together or not at all.
struct RoleRequest {
  std::string role;
  int kind = 0;               // pb::RoleKind
  Amount need;
};
struct JobRequest {
  JobId id;
  std::string queue;
  Priority priority = Priority::normal;
  std::uint64_t submit_seq = 0;
  std::vector<RoleRequest> fixed;
  std::vector<RoleRequest> workers;      // workers_max of them
  std::uint32_t workers_min = 1;
};
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
  fragmented = 8,           // enough in sum, but not on single nodes
};
struct Pending {
  JobId job;
  PendingReason reason = PendingReason::none;
  std::string text;         // one sentence with the numbers: what is missing, what would help
};

// State of the cluster as the scheduler sees it.
class Scheduler {
 public:
  void upsert_node(Node node);
  void remove_node(const NodeId& id);             // its roles count as gone
  Status submit(JobRequest request);              // already_exists
  void remove_job(const JobId& id);               // ended, cancelled: frees everything
  // A running job recovered from the registry or from agents.
  void adopt(const JobRequest& request, const Placement& placement);
  // One role of a running job is gone for good (its node died); its room is free again.
  void release_role(const JobId& id, const std::string& role);

  // Places what fits: highest priority first, then submit order; nobody overtakes a waiting job of
  // the same or higher priority. Returns new placements, and grown ones (running below max) last.
  std::vector<Placement> schedule();
  // Reason of every waiting job, in the order in which they wait.
  [[nodiscard]] std::vector<Pending> pending() const;
  [[nodiscard]] Amount free_on(const NodeId& id) const;
  [[nodiscard]] std::vector<Node> nodes() const;

 private:
  struct Job {
    JobRequest request;
    bool running = false;
    Placement placement;
  };
  std::map<NodeId, Node> nodes_;
  std::map<NodeId, Amount> used_;
  std::map<JobId, Job> jobs_;
};

}  // namespace crabcast::scheduler

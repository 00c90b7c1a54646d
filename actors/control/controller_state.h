// The state of the controller actor. Only controller*.cpp include this; others see controller.h.
#pragma once

#include <algorithm>
#include <caf/event_based_actor.hpp>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/control/controller.h"
#include "actors/control/controller_actors.h"
#include "actors/control/own_standstill.h"
#include "actors/control/series_keeper.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

// How long the controller waits for its registry before it takes the request for failed.
inline constexpr auto kRegistryTimeout = std::chrono::seconds(30);
// An agent may wait for processes to end and for its disk before it starts a coordinator.
inline constexpr auto kAgentTimeout = std::chrono::seconds(60);

inline bool ended(pb::JobState state) {
  return state == pb::JOB_SUCCEEDED || state == pb::JOB_FAILED || state == pb::JOB_CANCELLED;
}
inline bool active(pb::JobState state) {
  return state == pb::JOB_STARTING || state == pb::JOB_RUNNING || state == pb::JOB_STOPPING;
}
inline bool has_role(const pb::JobRecord& record, const std::string& role) {
  return std::any_of(record.placement().begin(), record.placement().end(),
                     [&](const auto& slot) { return slot.role() == role; });
}

struct ControllerState {
  static inline const char* name = "controller";
  explicit ControllerState(caf::event_based_actor* s) : self(s) {}

  struct Job {
    pb::JobRecord record;
    JobSpec spec;
    std::optional<pb::JobStatus> status;  // the coordinator's last report
    caf::actor coordinator;
    std::int32_t coordinator_pid = 0;  // 0: not known yet
    std::set<NodeId> held_to;          // nodes that the waiting job is bound to
    // How often the scheduler was told of it anew: what it decided before is void.
    std::uint64_t queued = 0;
    std::string pending;            // why it waits
    std::set<std::string> leaving;  // roles that it was scaled down by, and that may run yet
  };
  struct Agent {
    caf::actor handle;
    pb::Resources total;
    std::string endpoint, bulk_endpoint;
    std::vector<pb::RoleStarted> running;
    std::map<std::string, pb::HeldReplica> stores;  // that it holds, by job
  };

  caf::event_based_actor* self;
  ControllerOptions options;
  caf::actor registry, scheduler;
  std::optional<SeriesKeeper> charts;
  std::map<std::string, Job> jobs;
  std::map<std::string, Agent> agents;
  bool recovering = false;
  OwnStandstill own_standstill;

  Status load();
  void recovered();
  void deliver(const DeliveryPtr& message);
  void down(const caf::down_msg& message);
  void decided(const Decisions& decisions);

  void submit(const DeliveryPtr& message);
  void cancel(const Delivery& message);
  void scale(const DeliveryPtr& message);
  void forward_log(const DeliveryPtr& message);
  void send_events(const DeliveryPtr& message);
  void list_actors(const Delivery& message) const;
  void list_nodes(const Delivery& message) const;
  void coordinator_joined(const Delivery& message);
  void coordinator_exited(const Delivery& message);
  void coordinator_runs(Job& job, const pb::RoleStarted& started);
  void job_reported(const Delivery& message);
  // stale_generation: another coordinator of the job counts, or none.
  static Status check_fence(const Job& job, std::uint64_t fence);

  // agents, and who holds the stores of jobs (controller_nodes.cpp)
  void agent_joined(const Delivery& message);
  void agent_reported(const pb::AgentReport& report);
  void agent_left(const std::string& node);
  void adopt_again(const std::string& node);
  void adopt(Job& job);
  pb::ReplicaNodes nodes_for_replicas(const Job& job) const;
  void tell_nodes_for_replicas();
  // The nodes that have the newest store of the job; empty: nobody has any.
  std::set<NodeId> nodes_with_store(const std::string& job) const;
  bool fits_its_store(const Job& job, const scheduler::Placement& placement) const;
  void bind_waiting_jobs();
  static std::string node_of_coordinator(const Job& job);
  static scheduler::Placement placement_of(const Job& job);

  scheduler::JobRequest request_of(const Job& job) const;
  void resize(Job& job, const DeliveryPtr& message);
  static pb::PlacementChanged without(const Job& job, const std::set<std::string>& removed);
  void tell_newer_placement(const Job& job, const pb::JobStatus& known);
  void release_left(Job& job);
  // The newest job of this name that is not over, or failed.
  Job* resumable(const std::string& spec_name);
  void pin(const DeliveryPtr& message);
  void enqueue(Job& job);
  void start_coordinator(Job& job);
  void place(const scheduler::Placement& placement);
  void finish(Job& job, pb::JobState state, const std::string& reason, Errc code);
  // Stores the record, then does `then`; an error goes to the log and to `on_error`.
  void store(const Job& job, std::function<void()> then = {},
             std::function<void(const Error&)> on_error = {});
  void event(const std::string& job, pb::Severity severity, const std::string& kind,
             const std::string& message);
  void put_event(pb::Event event);
  void tell_of_lost_node(const Job& job, const std::string& node, const std::string& evidence);
  pb::JobStatus status_of(const Job& job) const;
};

}  // namespace crabcast::actors

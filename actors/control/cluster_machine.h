// The controller's decisions: jobs and their places, nodes, fences of coordinators, queues,
// preemption, draining (docs/architecture.md; invariants J-1, T-1, H-1).
//
// Pure: no I/O, no clock, no threads. Each call takes what happened and when, and appends what is
// to be done to `actions`, in order. The controller actor (controller.h) carries the actions out;
// tests stage any history of messages, deaths and lost writes in virtual time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "actors/control/own_standstill.h"
#include "protocol/clock.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"
#include "scheduler/scheduler.h"

namespace crabcast::actors {

// Wall time is for records and people; decisions take the steady one.
struct Moment {
  TimePoint time;
  std::int64_t unix_ms = 0;
};

using PeerNumber = std::uint64_t;     // of an actor of another process; none is 0
using RequestNumber = std::uint64_t;  // of somebody who waits for an answer

// What is to be done. Each is carried out in order; those that answer do so through a call.
struct Answer {
  RequestNumber request = 0;
  pb::Envelope body;
};
struct Refuse {
  RequestNumber request = 0;
  Error error;
};
struct StoreJob {  // durable before -> on_stored, or on_not_stored
  std::uint64_t write = 0;
  pb::JobRecord record;
};
struct StoreNode {  // the same
  std::uint64_t write = 0;
  pb::NodeRecord record;
};
struct StoreEvents {
  std::vector<pb::Event> events;
};
struct Tell {
  PeerNumber peer = 0;
  pb::Envelope body;
};
struct Forward {  // what the peer answers is the answer
  RequestNumber request = 0;
  PeerNumber peer = 0;
  pb::Envelope body;
};
struct StartCoordinator {  // -> on_start_answered
  PeerNumber agent = 0;
  pb::RoleLaunch launch;
};
using ClusterAction =
    std::variant<Answer, Refuse, StoreJob, StoreNode, StoreEvents, Tell, Forward, StartCoordinator>;

struct ClusterOptions {
  std::string endpoint;  // the controller's own, for coordinators
  // true (daemon): jobs that an earlier controller left unfinished go on. false (`crabcast run`):
  // they wait, stopped, until somebody runs them again; and any queue is the default one.
  bool recover = true;
  scheduler::ClusterPolicy policy = scheduler::ClusterPolicy::standard();
};

// What an earlier controller left in the registry.
struct ClusterHistory {
  std::vector<pb::JobRecord> jobs;
  std::vector<pb::NodeRecord> nodes;
  std::uint64_t next_submit_seq = 1;
};

bool is_over(pb::JobState state);    // for good
bool is_active(pb::JobState state);  // it has its place

class ClusterMachine {
 public:
  explicit ClusterMachine(ClusterOptions options);

  // First, once: what the history asks for. Jobs whose specs this version cannot read are left
  // alone; returns the errors.
  std::vector<Error> start(ClusterHistory history, Moment now);
  // Agents and coordinators that are not back by now are gone.
  void on_recovery_over(Moment now);
  // Any message of a client, agent or coordinator. `request` is 0 when nobody waits.
  void on_message(PeerNumber from, RequestNumber request, const pb::Envelope& message, Moment now);
  void on_down(PeerNumber peer, Moment now);
  void on_stored(std::uint64_t write, Moment now);
  void on_not_stored(std::uint64_t write, const Error& error);
  void on_start_answered(const std::string& job, std::uint64_t fence,
                         const Result<pb::RoleStarted>& answer, Moment now);
  void on_tick(Moment now);  // twice a second

  void set_policy(scheduler::ClusterPolicy policy, Moment now);

  [[nodiscard]] bool knows(const std::string& job) const { return jobs_.contains(job); }
  // The coordinator with this fence is the one of the job that counts.
  [[nodiscard]] bool is_current(const std::string& job, std::uint64_t fence) const;
  [[nodiscard]] const scheduler::Scheduler& scheduler() const { return scheduler_; }

  std::vector<ClusterAction> actions;

 private:
  // Why a running job was told to stop, when it was not its owner who asked.
  enum class Leaving { no, preempted, drained, out_of_time };

  struct Job {
    pb::JobRecord record;
    JobSpec spec;
    bool is_durable = false;                // its record was stored once
    std::vector<RequestNumber> submitters;  // that wait for that
    std::optional<pb::JobStatus> status;    // the coordinator's last report
    PeerNumber coordinator = 0;
    bool placed_here = false;             // by this controller, not by one before it
    std::set<std::string> leaving_roles;  // taken from its placement, and may run yet
    Leaving leaving = Leaving::no;
    std::optional<TimePoint> leave_by;  // then its coordinator is ended
  };
  struct Node {
    PeerNumber agent = 0;
    pb::Resources total;
    std::string endpoint, bulk_endpoint, version;
    std::vector<std::string> labels, taints, problems;
    std::vector<pb::RoleStarted> running;
    std::map<std::string, pb::HeldReplica> stores;  // that it holds, by job
    std::int64_t last_seen_unix_ms = 0;
  };
  // What follows when a record is stored.
  enum class Purpose { none, submit, resume, start, scale, acknowledge };
  struct Write {
    std::string job;
    Purpose purpose = Purpose::none;
    RequestNumber request = 0;
    std::uint64_t fence = 0;  // of the job then
    std::string node;         // of a node's record
  };

  // ---- jobs (cluster_machine_jobs.cpp)
  void submit(RequestNumber request, const pb::SubmitJob& body, Moment now);
  void submit_again(RequestNumber request, Job& job, const JobSpec& spec, Moment now);
  void resume(RequestNumber request, const pb::ResumeJob& body, Moment now);
  void cancel(RequestNumber request, const pb::CancelJob& body, Moment now);
  void tell_to_stop(const Job& job);
  void hold(RequestNumber request, const pb::HoldJob& body);
  void scale(RequestNumber request, const pb::ScaleJob& body);
  void pin(RequestNumber request, const pb::PinCheckpoint& body);
  Status resolve_dependencies(JobSpec& spec) const;
  void check_dependencies(Job& job, Moment now);
  Job* resumable(const std::string& spec_name);
  void enqueue(Job& job, Moment now);
  void finish(Job& job, pb::JobState state, const std::string& reason, Errc code, Moment now);
  [[nodiscard]] scheduler::JobRequest request_of(const Job& job) const;
  void resize(Job& job, Moment now);

  // ---- nodes (cluster_machine_nodes.cpp)
  void agent_joined(PeerNumber peer, RequestNumber request, const pb::RegisterAgent& body,
                    Moment now);
  void agent_reported(const pb::AgentReport& report, Moment now);
  void agent_left(const std::string& node, Moment now);
  void drain(RequestNumber request, const pb::DrainNode& body, Moment now);
  void move_away(const std::string& node, Moment now);
  void tell_scheduler_of(const std::string& node);
  [[nodiscard]] pb::ReplicaNodes nodes_for_replicas(const Job& job) const;
  void tell_nodes_for_replicas();
  [[nodiscard]] std::set<NodeId> nodes_with_store(const std::string& job) const;
  using HeldReplicas = google::protobuf::RepeatedPtrField<pb::HeldReplica>;
  void take_stores(Node& node, const HeldReplicas& stores);
  void adopt(Job& job);
  void adopt_again(const std::string& node, Moment now);
  [[nodiscard]] bool coordinator_lives(const Job& job) const;

  // ---- coordinators (cluster_machine_coordinators.cpp)
  void coordinator_joined(PeerNumber peer, RequestNumber request,
                          const pb::RegisterCoordinator& body, Moment now);
  void coordinator_exited(RequestNumber request, const pb::RoleExited& exit, Moment now);
  void job_reported(RequestNumber request, const pb::JobReport& body, Moment now);
  void ended(Job& job, const pb::JobStatus& status, Moment now);
  // stale_generation: another coordinator of the job counts, or none.
  static Status check_fence(const Job& job, std::uint64_t fence);
  void tell_newer_placement(const Job& job, const pb::JobStatus& known);
  void release_left(Job& job);
  [[nodiscard]] static pb::PlacementChanged without(const Job& job,
                                                    const std::set<std::string>& removed);
  void take_away(Job& job, const std::set<std::string>& roles);
  void send_away(Job& job, Leaving why, const std::string& reason, Moment now);
  void tell_to_leave(const Job& job);
  void end_those_out_of_time(Moment now);

  // ---- placement (cluster_machine.cpp)
  void decide(Moment now);
  void place(const scheduler::Placement& placement, Moment now);
  void add_roles(const scheduler::Placement& placement);
  void start_coordinator(Job& job, Moment now);
  void lose_place(Job& job, Moment now);
  [[nodiscard]] static std::string node_of_coordinator(const Job& job);
  [[nodiscard]] static scheduler::Placement placement_of(const Job& job);

  // ---- answers (cluster_machine_answers.cpp)
  [[nodiscard]] pb::JobStatus status_of(const Job& job, Moment now) const;
  void list_jobs(RequestNumber request, const pb::ListJobs& query, Moment now);
  void list_actors(RequestNumber request, const pb::ListActors& query);
  void list_nodes(RequestNumber request);
  void list_queues(RequestNumber request);
  void explain(RequestNumber request, const pb::ExplainJob& query, Moment now);
  void forward_log(RequestNumber request, const pb::GetLog& query);

  // ---- helpers
  Job* find(const std::string& job, RequestNumber request);
  void answer(RequestNumber request, const google::protobuf::Message& body);
  void refuse(RequestNumber request, Error error);
  void tell(PeerNumber peer, const google::protobuf::Message& body);
  void store(const Job& job);
  void store(const Job& job, Purpose purpose, RequestNumber request = 0);
  void write_again();
  void store_node(const std::string& node, RequestNumber request = 0);
  void event(const Job& job, pb::Severity severity, const std::string& kind,
             const std::string& message, Moment now);
  void incident_of_lost_node(const Job& job, const std::string& node, const std::string& evidence,
                             Moment now);

  ClusterOptions options_;
  std::map<std::string, Job> jobs_;
  std::map<std::string, Node> nodes_;            // that are connected
  std::map<std::string, pb::NodeRecord> known_;  // that ever were
  std::map<std::uint64_t, Write> writes_;        // under way
  std::vector<Write> refused_writes_;            // tried again at every tick
  scheduler::Scheduler scheduler_;
  std::uint64_t next_seq_ = 1, next_write_ = 1;
  bool recovering_ = false;
  OwnStandstill own_standstill_;
};

}  // namespace crabcast::actors

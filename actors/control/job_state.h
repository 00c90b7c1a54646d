// The state of the job actor. Only job*.cpp include this; others see job.h.
#pragma once

#include <caf/event_based_actor.hpp>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/control/job.h"
#include "actors/control/replicator.h"
#include "actors/messages.h"

namespace crabcast::actors {

using give_up_atom = caf::atom_constant<caf::atom("giveup")>;

// How long the job actor waits for its store before it takes the request for failed.
inline constexpr auto kStoreTimeout = std::chrono::seconds(60);
// Members wait for 75 s for the verdict on a step (trainer.cpp).
inline constexpr auto kStorePatience = std::chrono::seconds(60);
inline constexpr auto kStoreRetryEvery = std::chrono::seconds(1);
// Under this key of the store is the newest generation's number that was given away.
inline constexpr const char* kGenerationKey = "generation";
// And under this one the pb::Rollbacks.
inline constexpr const char* kRollbacksKey = "rollbacks";
// The newest checkpoint that a quorum of stores was known to hold.
inline constexpr const char* kReplicatedKey = "replicated";
// For the controller to answer; it may be writing its registry.
inline constexpr auto kControllerTimeout = std::chrono::seconds(20);

// A write that the job waits for.
struct PatientWrite {
  using Done = std::function<void()>;
  using Failed = std::function<void(const Error&)>;
  std::string what;  // "step 57"
  std::function<void(const Done&, const Failed&)> ask;
  Done done;
  Failed failed;
  std::function<bool()> wanted;  // whether it has not been overtaken while it waited
  TimePoint since{};
};

struct JobState {
  static inline const char* name = "job";

  explicit JobState(caf::event_based_actor* s) : self(s) {}

  caf::event_based_actor* self;
  JobOptions options;
  std::optional<JobMachine> machine;
  caf::actor ledger, checkpoints, scrub, replicator;

  struct Agent {
    std::string endpoint;
    caf::actor handle;                 // null while not connected
    std::vector<OutboundPtr> waiting;  // StartRole, StopRole until it is connected
  };
  std::map<std::string, Agent> agents;        // by node
  std::map<std::string, caf::actor> members;  // by role
  caf::actor controller;
  std::deque<pb::Event> unreported;
  bool over = false;
  std::uint64_t newest_generation = 0;  // that was decided
  std::optional<Errc> store_trouble;    // why the ledger cannot be written now
  ReplicationNews replication;          // the newest
  std::optional<Error> displaced_by;    // a later coordinator is at work: nothing is decided here

  // messages (job.cpp)
  void connect_to(const std::string& endpoint);
  void init(const JobOptions& o);
  void deliver(const DeliveryPtr& message);
  void connected(const Connected& result);
  void register_here();
  void down(const caf::down_msg& message);
  void report(bool ended);
  void end();
  // what the machine decided (job_actions.cpp)
  void carry_out();
  void act(const SendTo& action);
  void act(const PublishGeneration& action);
  void act(const WriteCommit& action);
  void act(const WriteQuarantine& action);
  void act(const RewindLedger& action);
  void act(const VoidCheckpoints& action);
  void act(const RecordRollbacks& action);
  void act(const RecordEvent& action);
  void act(const StartProcess& action);
  void act(const StopProcess& action);
  void act(const FindCheckpoint& action);
  void act(const ApplyRetention& action);
  void act(const Finish& action);
  // its store (job_writes.cpp)
  // Asks the ledger, and again while its disk refuses to be written, for kStorePatience at most.
  template <class Question>
  void write(
      const std::string& what, Question question, PatientWrite::Done done,
      PatientWrite::Failed failed, std::function<bool()> wanted = [] { return true; });
  void write(const PatientWrite& write);
  void damage_found(const storage::VerifyReport& report);
  void set_pin(const DeliveryPtr& message);
  // copies on other nodes, and a later coordinator (job_replicas.cpp)
  void start_replicator();
  void tell_restored();
  void drop_copies(std::uint64_t after);
  void replication_news(const ReplicationNews& news);
  void replica_trouble(const ReplicaTrouble& trouble);
  // What an agent, the controller or a node with a copy refused. True when it ends this process.
  bool displaced(const Error& error);
  pb::JobStatus status() const;

  void send(const std::string& role, OutboundPtr message);
  // agents (job_agents.cpp)
  // Node of the agent that sent it; empty when it is no agent of this job.
  std::string node_of(const Delivery& message) const;
  void role_started(const std::string& node, const pb::RoleStarted& started);
  void forget_starts(const std::string& role);
  void to_agent(const std::string& node, OutboundPtr message);
  void give_order(const std::string& node, const OutboundPtr& message);
  TimePoint now() const { return self->clock().now(); }
};

template <class Question>
void JobState::write(const std::string& what, Question question, PatientWrite::Done done,
                     PatientWrite::Failed failed, std::function<bool()> wanted) {
  const auto ask = [this, question = std::move(question)](const PatientWrite::Done& done,
                                                          const PatientWrite::Failed& failed) {
    self->request(ledger, kStoreTimeout, question).then(done, [failed](const caf::error& error) {
      failed(from_caf(error));
    });
  };
  write(PatientWrite{what, ask, std::move(done), std::move(failed), std::move(wanted), now()});
}

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::PatientWrite)

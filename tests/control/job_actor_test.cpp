// The job actor between real transports and a real store: what it makes of the words of agents and
// members. Its decisions are the JobMachine's, and tested with that.
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <caf/all.hpp>

#include "actors/control/job.h"
#include "actors/control/job_state.h"
#include "actors/control/store_actors.h"
#include "storage/open_with_env.h"
#include "tests/control/peer.h"
#include "tests/storage/fault_fs.h"
#include "tests/storage/fixtures.h"

namespace crabcast::actors {
namespace {

using storage::TempFolder;
using testing::HasSubstr;

// worker-0 is on node-a, loader-0 on node-b. Agents start every process at once, as 101.
class JobActorTest : public testing::Test {
 protected:
  JobActorTest() {
    spdlog::set_level(spdlog::level::off);
    store_ = storage::open_job_store(folder_ / "store", disk_.env.get()).value();
    cluster::TransportOptions transport;
    transport.keys = keys();
    transport.process = ProcessId{"coordinator"};
    control_ = Switchboard::start(system_, transport).value();
    transport.process = ProcessId{"coordinator/bulk"};
    bulk_ = Switchboard::start(system_, transport).value();

    JobOptions options;
    options.spec.name = "job";
    options.spec.train.steps = 10;
    options.spec.resources.workers_max = 1;
    options.spec.resources.evaluators = 0;
    options.launch.set_job("job-1");
    options.launch.set_fence(kFence);
    options.launch.set_controller_endpoint(controller_.bind());
    place(options.launch, "worker-0", pb::ROLE_WORKER, "node-a", agent_a_.bind());
    place(options.launch, "loader-0", pb::ROLE_LOADER, "node-b", agent_b_.bind());
    options.control_endpoint = control_->bind("tcp://127.0.0.1:*").value();
    options.bulk_endpoint = bulk_->bind("tcp://127.0.0.1:*").value();
    options.control = control_.get();
    options.bulk = bulk_.get();
    options.store = store_;
    endpoint_ = options.control_endpoint;
    job_ = spawn_job(system_, options);
    const auto watches = [](const auto& envelope) {
      return envelope.has_watch_roles() && envelope.watch_roles().fence() == kFence;
    };
    agent_a_.talk_to_sender_of(agent_a_.next(watches));
    agent_b_.talk_to_sender_of(agent_b_.next(watches));
  }
  ~JobActorTest() override {
    caf::scoped_actor self{system_};
    self->send_exit(job_, caf::exit_reason::user_shutdown);
    self->wait_for(job_);
    control_->stop();
    bulk_->stop();
    spdlog::set_level(spdlog::level::info);
  }

  static void place(pb::RoleLaunch& launch, const std::string& role, pb::RoleKind kind,
                    const std::string& node, const std::string& agent) {
    auto& slot = *launch.add_placement();
    slot.set_role(role);
    slot.set_kind(kind);
    slot.set_node(node);
    slot.set_agent_endpoint(agent);
  }
  void answer_as_agent(const Delivery& message) {
    if (message.envelope->has_start_role()) {
      pb::RoleStarted started;
      started.set_role(message.envelope->start_role().launch().slot().role());
      started.set_pid(101);
      answer(message, started);
    } else if (message.envelope->has_stop_role() && refuses_) {
      answer(message, Error{Errc::stale_generation, "a later one gives the orders"});
    } else if (message.envelope->has_stop_role() && runs_nothing_) {
      answer(message, Error{Errc::not_found, "it does not run here"});
    } else {
      answer(message, pb::Done{});
    }
  }
  bool starts_worker() {
    return agent_a_.next([](const auto& envelope) { return envelope.has_start_role(); }) != nullptr;
  }
  void register_worker(Peer& worker, int pid) {
    worker.connect(endpoint_);
    pb::RegisterMember body;
    body.set_role("worker-0");
    body.set_kind(pb::ROLE_WORKER);
    body.set_pid(pid);
    body.set_bulk_endpoint("bulk of " + std::to_string(pid));
    worker.say_and_wait(body);
  }
  static std::optional<pb::Generation> generation(Peer& worker) {
    auto message = worker.next([](const auto& envelope) { return envelope.has_generation(); });
    if (!message) return {};
    return message->envelope->generation();
  }
  static pb::RoleExited exit_of(int pid, int exit_code, int signal) {
    pb::RoleExited exit;
    exit.set_role("worker-0");
    exit.set_pid(pid);
    exit.set_exit_code(exit_code);
    exit.set_signal(signal);
    return exit;
  }
  std::vector<std::string> losses() {
    std::vector<std::string> messages;
    const auto events = store_->events(0, 1000);
    for (const auto& event : events.value())
      if (event.kind() == "worker_lost") messages.push_back(event.message());
    return messages;
  }

  void answer_as_controller(const Delivery& message) {
    if (replaced_)
      answer(message, Error{Errc::stale_generation, "the job was started again"});
    else
      answer(message, pb::Done{});
  }
  // Waits for the end of the job actor, and why it came.
  Error end() {
    caf::scoped_actor self{system_};
    self->monitor(job_);
    Error why{Errc::timeout, "it goes on"};
    self->receive([&](const caf::down_msg& down) { why = from_caf(down.reason); },
                  caf::after(kPatience) >> [] {});
    return why;
  }

  static constexpr std::uint64_t kFence = 3;
  TempFolder folder_;
  storage::FaultDisk disk_;
  std::shared_ptr<storage::JobStore> store_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::unique_ptr<Switchboard> control_, bulk_;
  std::atomic<bool> runs_nothing_ = false, replaced_ = false, refuses_ = false;
  Peer controller_{"controller", "head",
                   [this](const Delivery& message) { answer_as_controller(message); }};
  Peer agent_a_{"agent", "node-a", [this](const Delivery& message) { answer_as_agent(message); }};
  Peer agent_b_{"agent", "node-b", [this](const Delivery& message) { answer_as_agent(message); }};
  std::string endpoint_;
  caf::actor job_;
};

TEST_F(JobActorTest, AGenerationsNumberIsStoredBeforeAMemberHearsOfIt) {
  Peer worker("member", "node-a");
  register_worker(worker, 101);
  const auto first = generation(worker);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->number(), 1U);
  EXPECT_EQ(store_->value("generation").value(), "1");
  EXPECT_EQ(read_history(*store_, MixtureSpec{}).value().generation, 1U);
}

// A disk that is full, broken or read-only for a while costs a while, and no job.
TEST_F(JobActorTest, WhatCannotBeStoredWaitsForRoom) {
  using Fault = storage::FaultFs::Fault;
  ASSERT_TRUE(starts_worker());
  disk_.fs->arm(Fault::read_only, 0);
  Peer worker("member", "node-a");
  register_worker(worker, 101);
  ASSERT_TRUE(disk_.fs->refuses(2, kPatience)) << "it tries again";
  EXPECT_FALSE(store_->value("generation").value().has_value());
  disk_.fs->disarm();
  ASSERT_TRUE(generation(worker));
  EXPECT_EQ(store_->value("generation").value(), "1");
}

TEST_F(JobActorTest, TheEndOfAnEarlierProcessDoesNotEndTheNewerOnesMembership) {
  ASSERT_TRUE(starts_worker());
  Peer worker("member", "node-a");
  register_worker(worker, 101);
  ASSERT_TRUE(generation(worker));
  agent_a_.say(exit_of(77, 3, 0));
  agent_a_.say(exit_of(101, -1, SIGKILL));
  ASSERT_TRUE(starts_worker()) << "it starts again";
  const auto lost = losses();
  ASSERT_EQ(lost.size(), 1U);
  EXPECT_THAT(lost[0], HasSubstr("SIGKILL"));
}

TEST_F(JobActorTest, WhoIsGoneWithoutANoticeIsReplacedWhenItCannotBeStopped) {
  ASSERT_TRUE(starts_worker());
  runs_nothing_ = true;
  {
    Peer worker("member", "node-a");
    register_worker(worker, 101);
    ASSERT_TRUE(generation(worker));
  }
  EXPECT_TRUE(starts_worker());
}

// A node's next agent listens at another port.
TEST_F(JobActorTest, TheNextAgentOfANodeIsFoundWhereItListens) {
  ASSERT_TRUE(starts_worker());
  agent_a_.leave();
  Peer next("agent", "node-a");
  pb::RoleLaunch moved;
  place(moved, "worker-0", pb::ROLE_WORKER, "node-a", next.bind());
  pb::PlacementChanged changed;
  *changed.mutable_placement() = moved.placement();
  agent_b_.say(changed);
  auto start = next.next([](const auto& envelope) { return envelope.has_start_role(); });
  ASSERT_TRUE(start);
  EXPECT_EQ(start->envelope->start_role().launch().slot().role(), "worker-0");
}

TEST_F(JobActorTest, WhatRunsOnANodeWhereItDoesNotBelongIsStopped) {
  pb::RoleStarted started;
  started.set_role("worker-0");
  started.set_pid(55);
  agent_b_.say(started);
  auto stop = agent_b_.next([](const auto& envelope) { return envelope.has_stop_role(); });
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->envelope->stop_role().role(), "worker-0");
}

TEST_F(JobActorTest, NobodyRegistersFromANodeWhereItDoesNotBelong) {
  Peer stray("member", "node-b"), worker("member", "node-a");
  register_worker(stray, 55);
  register_worker(worker, 101);
  const auto first = generation(worker);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->members(0).bulk_endpoint(), "bulk of 101");
}

// ---- copies on other nodes ----------------------------------------------------------------------

TEST_F(JobActorTest, ACheckpointIsCopiedToANodeThatTheControllerNames) {
  Peer node("replicas", "node-c", [](const Delivery& message) {
    if (message.envelope->has_replica_open()) return answer(message, pb::ReplicaOpened{});
    answer(message, pb::Done{});
  });
  for (std::uint64_t step = 1; step <= 4; ++step)  // nobody else commits here
    ASSERT_TRUE(store_->append_commit(storage::commit_record(step), storage::Sync::no));
  ASSERT_TRUE(storage::write_checkpoint(*store_, 4));
  caf::anon_send(job_, CheckpointOutcome{4, std::nullopt});
  controller_.talk_to_sender_of(
      controller_.next([](const auto& envelope) { return envelope.has_register_coordinator(); }));
  pb::ReplicaNodes nodes;
  nodes.add_nodes()->set_node("node-c");
  nodes.mutable_nodes(0)->set_bulk_endpoint(node.bind());
  controller_.say(nodes);

  const auto open = node.next([](const auto& envelope) { return envelope.has_replica_open(); });
  ASSERT_TRUE(open);
  EXPECT_EQ(open->envelope->replica_open().job(), "job-1");
  EXPECT_EQ(open->envelope->replica_open().fence(), kFence);
  const auto seal = node.next([](const auto& envelope) { return envelope.has_checkpoint_seal(); });
  ASSERT_TRUE(seal);
  EXPECT_EQ(seal->envelope->checkpoint_seal().manifest().id(), 4U);
  pb::Event event;
  const auto report = controller_.next([&](const auto& envelope) {
    for (const auto& one : envelope.job_report().events())
      if (one.kind() == "checkpoint_replicated") event = one;
    return !event.kind().empty();
  });
  ASSERT_TRUE(report);
  EXPECT_EQ(event.subject(), "4");
  EXPECT_THAT(event.message(), HasSubstr("node-c"));
  EXPECT_EQ(report->envelope->job_report().status().replicated_checkpoint(), 4U);
  // It was stored before the next report.
  ASSERT_TRUE(controller_.next([](const auto& envelope) { return envelope.has_job_report(); }));
  EXPECT_EQ(store_->value("replicated").value(), "4") << "the next coordinator knows it";
}

// ---- a later coordinator ------------------------------------------------------------------------

TEST_F(JobActorTest, WhateverItOrdersCarriesItsFence) {
  const auto start = agent_a_.next([](const auto& envelope) { return envelope.has_start_role(); });
  ASSERT_TRUE(start);
  EXPECT_EQ(start->envelope->start_role().launch().fence(), kFence);
  const auto registers =
      controller_.next([](const auto& envelope) { return envelope.has_register_coordinator(); });
  ASSERT_TRUE(registers);
  EXPECT_EQ(registers->envelope->register_coordinator().fence(), kFence);
  const auto reports =
      controller_.next([](const auto& envelope) { return envelope.has_job_report(); });
  ASSERT_TRUE(reports);
  EXPECT_EQ(reports->envelope->job_report().fence(), kFence);
}

TEST_F(JobActorTest, OneThatWasReplacedStopsItsMembersAndEnds) {
  ASSERT_TRUE(starts_worker());
  Peer worker("member", "node-a");
  register_worker(worker, 101);
  ASSERT_TRUE(generation(worker));
  replaced_ = true;
  const auto stop = agent_a_.next([](const auto& envelope) { return envelope.has_stop_role(); });
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->envelope->stop_role().role(), "worker-0");
  EXPECT_EQ(stop->envelope->stop_role().fence(), kFence);
  const Error why = end();
  EXPECT_EQ(why.code, Errc::stale_generation);
  EXPECT_THAT(why.message, HasSubstr("started again"));
  const auto events = store_->events(0, 1000);
  EXPECT_EQ(events.value().back().kind(), "displaced");
}

TEST_F(JobActorTest, AnAgentThatObeysALaterOneEndsIt) {
  pb::RoleStarted stray;  // it is told to stop this one, and refuses
  ASSERT_TRUE(starts_worker());
  refuses_ = true;
  stray.set_role("loader-0");
  stray.set_pid(55);
  agent_a_.say(stray);
  EXPECT_EQ(end().code, Errc::stale_generation);
}

}  // namespace
}  // namespace crabcast::actors

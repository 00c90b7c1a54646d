// The controller between real transports: whose coordinator counts, and where one goes whose node
// is lost.
#include "actors/control/controller.h"

#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include "protocol/job_spec.h"
#include "tests/control/peer.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// An agent that starts every process at once. Each process has the pid of its start.
class Agent {
 public:
  explicit Agent(const std::string& node, double cpus = 4)
      : node_(node), peer_("agent", node, [this](const Delivery& message) { reply(message); }) {
    registration_.set_node(node);
    registration_.set_endpoint(peer_.bind());
    registration_.set_bulk_endpoint("bulk of " + node);
    registration_.mutable_total()->set_cpus(cpus);
    registration_.mutable_total()->set_memory_bytes(64ULL << 30);
  }
  Agent& holds(const std::string& job, std::uint64_t fence, std::uint64_t checkpoint) {
    auto& store = *registration_.add_replicas();
    store.set_job(job);
    store.set_fence(fence);
    store.set_newest_checkpoint(checkpoint);
    return *this;
  }
  Agent& runs(const std::string& job, std::uint64_t fence, int pid) {
    auto& role = *registration_.add_running();
    role.set_job(job);
    role.set_role("coordinator");
    role.set_kind(pb::ROLE_COORDINATOR);
    role.set_fence(fence);
    role.set_pid(pid);
    return *this;
  }
  void join(const std::string& controller) {
    peer_.connect(controller, "controller");
    peer_.say_and_wait(registration_);
  }
  // Holds from now on what `holds` said since.
  void report() {
    pb::AgentReport report;
    report.set_node(node_);
    *report.mutable_replicas() = registration_.replicas();
    peer_.say(report);
  }
  void leave() { peer_.leave(); }
  void exits(const std::string& job, std::uint64_t fence, int exit_code = 1) {
    pb::RoleExited exit;
    exit.set_job(job);
    exit.set_role("coordinator");
    exit.set_pid(pid_of(fence));
    exit.set_fence(fence);
    exit.set_exit_code(exit_code);
    peer_.say(exit);
  }
  // The next coordinator that it was told to start.
  std::optional<pb::RoleLaunch> next_start() {
    const auto message =
        peer_.next([](const pb::Envelope& envelope) { return envelope.has_start_role(); });
    if (!message) return {};
    return message->envelope->start_role().launch();
  }
  // It was told to start nothing up to now.
  bool idle(Peer& client) {
    client.say_and_wait(pb::ListJobs{});  // the controller has decided
    return starts_ == 0;
  }
  [[nodiscard]] int starts() const { return starts_; }
  static int pid_of(std::uint64_t fence) { return 100 + static_cast<int>(fence); }

 private:
  void reply(const Delivery& message) {
    if (!message.envelope->has_start_role()) return;
    ++starts_;
    const auto& launch = message.envelope->start_role().launch();
    pb::RoleStarted started;
    started.set_job(launch.job());
    started.set_role("coordinator");
    started.set_kind(pb::ROLE_COORDINATOR);
    started.set_fence(launch.fence());
    started.set_pid(pid_of(launch.fence()));
    answer(message, started);
  }
  std::string node_;
  pb::RegisterAgent registration_;
  std::atomic<int> starts_ = 0;
  Peer peer_;
};

class ControllerTest : public testing::Test {
 protected:
  // Without `recovery` jobs of the registry wait to be run again.
  explicit ControllerTest(std::optional<Duration> recovery = {}) {
    spdlog::set_level(spdlog::level::off);
    cluster::TransportOptions transport;
    transport.process = ProcessId{"controller"};
    transport.keys = keys();
    board_ = Switchboard::start(system_, std::move(transport)).value();
    endpoint_ = board_->bind("tcp://127.0.0.1:*").value();
    ControllerOptions options;
    options.endpoint = endpoint_;
    options.switchboard = board_.get();
    options.registry = storage::Registry::open(folder_ / "registry").value();
    options.recover = recovery.has_value();
    if (recovery) {
      options.recovery = *recovery;
      EXPECT_TRUE(options.registry->put_job(left_running(), storage::Sync::yes));
    }
    controller_ = spawn_controller(system_, options);
    client_.connect(endpoint_, "controller");
  }
  ~ControllerTest() override {
    caf::scoped_actor self{system_};
    self->send_exit(controller_, caf::exit_reason::user_shutdown);
    self->wait_for(controller_);
    board_->stop();
    spdlog::set_level(spdlog::level::info);
  }

  static std::string spec_yaml() {
    JobSpec spec;
    spec.name = "job";
    spec.model.base = "nano";
    spec.data.corpus.synthetic.emplace();
    return to_yaml(spec);
  }
  // What an earlier controller left: job-1 runs on node a.
  static pb::JobRecord left_running() {
    pb::JobRecord record;
    record.set_job("job-1");
    record.set_name("job");
    record.set_spec_yaml(spec_yaml());
    record.set_state(pb::JOB_RUNNING);
    record.set_submit_seq(1);
    record.set_attempts(1);
    auto& slot = *record.add_placement();
    slot.set_role("coordinator");
    slot.set_kind(pb::ROLE_COORDINATOR);
    slot.set_node("a");
    return record;
  }

  std::string submit() {
    pb::SubmitJob submit;
    submit.set_spec_yaml(spec_yaml());
    return client_.ask(submit)->job_accepted().job();
  }
  pb::JobStatus status() {
    pb::GetJob get;
    get.set_job("job-1");
    return client_.ask(get)->job_status();
  }
  // Waits until it holds of the job.
  template <class Condition>
  bool becomes(Condition condition) {
    const auto until = Clock::now() + kPatience;
    while (!condition(status()))
      if (Clock::now() > until) return false;
    return true;
  }
  bool waits() {
    return becomes([](const auto& job) { return job.state() == pb::JOB_PENDING; });
  }
  static Errc code(const Result<pb::Envelope>& answer) {
    return answer ? Errc::ok : answer.error().code;
  }
  Errc register_coordinator(Peer& coordinator, std::uint64_t fence) {
    coordinator.connect(endpoint_, "controller");
    pb::RegisterCoordinator body;
    body.set_job("job-1");
    body.set_fence(fence);
    body.set_pid(Agent::pid_of(fence));
    return code(coordinator.ask(body));
  }
  Errc report(Peer& coordinator, std::uint64_t fence, std::uint64_t step, bool ended = false) {
    pb::JobReport body;
    body.mutable_status()->set_job("job-1");
    body.mutable_status()->set_state(ended ? pb::JOB_SUCCEEDED : pb::JOB_RUNNING);
    body.mutable_status()->set_step(step);
    body.set_ended(ended);
    body.set_fence(fence);
    return code(coordinator.ask(body));
  }
  static std::vector<std::string> nodes_told(Peer& coordinator) {
    const auto message = coordinator.next([](const auto& e) { return e.has_replica_nodes(); });
    std::vector<std::string> nodes;
    if (!message) return {"nothing was told"};
    for (const auto& node : message->envelope->replica_nodes().nodes()) {
      EXPECT_EQ(node.bulk_endpoint(), "bulk of " + node.node());
      nodes.push_back(node.node());
    }
    return nodes;
  }

  storage::TempFolder folder_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::unique_ptr<Switchboard> board_;
  std::string endpoint_;
  caf::actor controller_;
  Peer client_{"client", "client"};
};

TEST_F(ControllerTest, ACoordinatorHearsOfTheNodesThatMayKeepCopies) {
  Agent a("a"), b("b");
  a.join(endpoint_);
  ASSERT_EQ(submit(), "job-1");
  const auto launch = a.next_start();
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->fence(), 1U);
  Peer coordinator("job", "a");
  EXPECT_EQ(register_coordinator(coordinator, 1), Errc::ok);
  EXPECT_THAT(nodes_told(coordinator), IsEmpty()) << "its own node keeps none";
  b.join(endpoint_);
  EXPECT_THAT(nodes_told(coordinator), ElementsAre("b"));
  b.leave();
  EXPECT_THAT(nodes_told(coordinator), IsEmpty());
}

TEST_F(ControllerTest, OnlyTheCoordinatorOfTheLastStartIsHeard) {
  Agent a("a"), b("b");
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  Peer first("job", "a"), other("job", "c");
  EXPECT_EQ(register_coordinator(other, 2), Errc::stale_generation) << "nobody was given 2";
  ASSERT_EQ(register_coordinator(first, 1), Errc::ok);
  EXPECT_EQ(report(first, 1, 5), Errc::ok);

  b.holds("job-1", 1, 4).join(endpoint_);
  a.leave();
  const auto launch = b.next_start();
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->fence(), 2U);
  EXPECT_EQ(report(first, 1, 6, true), Errc::stale_generation) << "it goes on where it was";
  EXPECT_EQ(register_coordinator(first, 1), Errc::stale_generation);
  Peer second("job", "b");
  ASSERT_EQ(register_coordinator(second, 2), Errc::ok);
  EXPECT_EQ(report(second, 2, 5), Errc::ok);
  EXPECT_EQ(status().state(), pb::JOB_RUNNING);
  EXPECT_EQ(status().step(), 5U);
  EXPECT_EQ(report(second, 2, 9, true), Errc::ok);
  EXPECT_EQ(register_coordinator(second, 2), Errc::stale_generation) << "the job is over";
}

TEST_F(ControllerTest, TheEndOfAnEarlierCoordinatorIsNotTheJobs) {
  Agent a("a"), b("b");
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  b.holds("job-1", 1, 4).join(endpoint_);
  a.leave();
  ASSERT_TRUE(b.next_start());
  Agent again("a");
  again.join(endpoint_);
  again.exits("job-1", 1);
  b.exits("job-1", 1);
  EXPECT_EQ(status().state(), pb::JOB_STARTING);
  b.exits("job-1", 2);
  EXPECT_TRUE(becomes([](const auto& job) { return job.state() == pb::JOB_FAILED; }));
}

// It ended well while no controller was there to be told how.
TEST_F(ControllerTest, ACoordinatorThatEndedUnheardIsAskedAgain) {
  Agent a("a");
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  a.exits("job-1", 1, 0);
  const auto again = a.next_start();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->fence(), 2);
  a.exits("job-1", 1, 0);  // it tells it once more
  EXPECT_EQ(status().state(), pb::JOB_STARTING);
  client_.say_and_wait(pb::ListJobs{});  // the controller has decided
  EXPECT_EQ(a.starts(), 2);
}

// ---- a controller that was started again
// ---------------------------------------------------------

class RecoveredController : public ControllerTest {
 protected:
  RecoveredController() : ControllerTest(std::chrono::milliseconds(200)) {}
  std::vector<std::string> culprits() {
    std::vector<std::string> names;
    const auto answer = client_.ask(pb::GetEvents{});
    for (const auto& event : answer->event_list().events())
      if (event.has_incident()) names.push_back(event.incident().culprit());
    return names;
  }
  void wait_until_it_is_over() {
    while (Clock::now() - began_ < std::chrono::milliseconds(600))
      client_.say_and_wait(pb::ListJobs{});
  }

 private:
  TimePoint began_ = Clock::now();
};

TEST_F(RecoveredController, StartsAJobWhoseCoordinatorIsGone) {
  Agent a("a");
  a.join(endpoint_);
  const auto again = a.next_start();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->fence(), 2);
  EXPECT_EQ(culprits(), std::vector<std::string>{"agent@a"});
}

// It stands still, or cannot reach the controller; its agent knows better.
TEST_F(RecoveredController, WaitsForACoordinatorThatLives) {
  Agent a("a");
  a.runs("job-1", 1, 4711).join(endpoint_);
  wait_until_it_is_over();
  EXPECT_TRUE(a.idle(client_));
  EXPECT_EQ(status().state(), pb::JOB_RUNNING);
  EXPECT_TRUE(culprits().empty());
  a.exits("job-1", 1);
  EXPECT_TRUE(becomes([](const auto& job) { return job.state() == pb::JOB_FAILED; }));
}

TEST_F(RecoveredController, DoesNotWaitForOneOfAnEarlierStart) {
  Agent a("a");
  a.runs("job-1", 0, 4711).join(endpoint_);
  const auto again = a.next_start();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->fence(), 2);
}

// ---- where its store is -------------------------------------------------------------------------

TEST_F(ControllerTest, TheJobGoesOnWhereTheNewestStoreIs) {
  Agent a("a"), b("b"), c("c"), d("d");
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  b.holds("job-1", 1, 96).join(endpoint_);
  c.holds("job-1", 2, 8).join(endpoint_);  // of a later coordinator than b's
  d.holds("job-1", 2, 4).join(endpoint_);
  a.leave();
  const auto launch = c.next_start();
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->fence(), 2U);
  EXPECT_TRUE(b.idle(client_));
  EXPECT_TRUE(d.idle(client_));
}

TEST_F(ControllerTest, ANodeThatComesBackEmptyIsNotWhereTheStoreIs) {
  Agent a("a"), b("b", 0.05);
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  b.holds("job-1", 1, 4).join(endpoint_);
  a.leave();
  ASSERT_TRUE(waits());
  Agent empty("a");
  empty.join(endpoint_);
  EXPECT_TRUE(empty.idle(client_));
  EXPECT_THAT(status().reason(), HasSubstr("where its store is (b)"));
  empty.holds("job-1", 1, 8).report();  // its folder is there after all
  EXPECT_TRUE(empty.next_start());
}

TEST_F(ControllerTest, WhenTheHolderGoesTheJobIsFree) {
  Agent a("a"), b("b", 0.05);
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  b.holds("job-1", 1, 4).join(endpoint_);
  a.leave();
  ASSERT_TRUE(waits());
  Agent c("c");
  c.join(endpoint_);
  EXPECT_TRUE(c.idle(client_));
  b.leave();
  EXPECT_TRUE(c.next_start());
}

// Only the agent's connection broke: its processes live, and the job has lost nothing.
TEST_F(ControllerTest, ANodeThatComesBackWithItsCoordinatorKeepsTheJob) {
  Agent a("a");
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  Peer coordinator("job", "a");
  ASSERT_EQ(register_coordinator(coordinator, 1), Errc::ok);
  a.leave();
  ASSERT_TRUE(waits());
  EXPECT_EQ(register_coordinator(coordinator, 1), Errc::unavailable) << "its node first";
  Agent back("a");
  back.runs("job-1", 1, Agent::pid_of(1)).join(endpoint_);
  EXPECT_EQ(register_coordinator(coordinator, 1), Errc::ok);
  EXPECT_EQ(report(coordinator, 1, 5), Errc::ok);
  EXPECT_EQ(status().state(), pb::JOB_RUNNING);
  EXPECT_EQ(submit(), "job-2");
  EXPECT_TRUE(back.idle(client_)) << "nothing was started again, and its room is taken";
  EXPECT_EQ(report(coordinator, 1, 9, true), Errc::ok);
  const auto next = back.next_start();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->job(), "job-2");
}

TEST_F(ControllerTest, ACoordinatorThatIsStillThereNeedsNoOtherStart) {
  Agent a("a");
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  Peer coordinator("job", "a");
  a.leave();
  ASSERT_TRUE(waits());
  Agent back("a", 1);  // too small for the job, which waits
  back.join(endpoint_);
  EXPECT_EQ(register_coordinator(coordinator, 1), Errc::ok);
  EXPECT_EQ(report(coordinator, 1, 5), Errc::ok);
  EXPECT_EQ(status().state(), pb::JOB_RUNNING);
  EXPECT_TRUE(back.idle(client_));
}

TEST_F(ControllerTest, ANodeThatComesBackTooLateIsDisplaced) {
  Agent a("a"), b("b");
  a.join(endpoint_);
  submit();
  ASSERT_TRUE(a.next_start());
  Peer coordinator("job", "a");
  ASSERT_EQ(register_coordinator(coordinator, 1), Errc::ok);
  b.join(endpoint_);
  a.leave();
  ASSERT_TRUE(b.next_start());
  Agent back("a");
  back.runs("job-1", 1, Agent::pid_of(1)).join(endpoint_);
  EXPECT_EQ(report(coordinator, 1, 9, true), Errc::stale_generation);
  EXPECT_EQ(status().state(), pb::JOB_STARTING);
}

}  // namespace
}  // namespace crabcast::actors

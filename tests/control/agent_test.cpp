// The agent with real processes: whose orders it takes, and what a coordinator's start does with
// the stores of its job.
#include "actors/control/agent.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <fstream>

#include "actors/control/held_stores.h"
#include "storage/fence.h"
#include "tests/control/peer.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;
using storage::JobStore;
using storage::must;
using testing::HasSubstr;

class AgentTest : public testing::Test {
 protected:
  AgentTest() {
    spdlog::set_level(spdlog::level::off);
    const fs::path program = folder_ / "program";
    std::ofstream(program) << "#!/bin/sh\nexec sleep 600\n";
    fs::permissions(program, fs::perms::owner_all);
    options_.node = "node-b";
    options_.total.set_cpus(8);
    options_.state = StateFolder{folder_ / "state"};
    options_.program = options_.compute_program = program;
    options_.controller_endpoint = controller_.bind();
  }
  ~AgentTest() override {
    if (agent_) {
      caf::scoped_actor self{system_};
      self->send_exit(agent_, caf::exit_reason::user_shutdown);
      self->wait_for(agent_);
      agent_ = nullptr;
    }
    for (auto* board : {&board_, &bulk_})
      if (*board) (*board)->stop();
    spdlog::set_level(spdlog::level::info);
  }
  std::unique_ptr<Switchboard> board(const std::string& process) {
    cluster::TransportOptions transport;
    transport.process = ProcessId{process};
    transport.node = "node-b";
    transport.keys = keys();
    return Switchboard::start(system_, std::move(transport)).value();
  }
  pb::RegisterAgent start_agent() {
    board_ = board("agent/node-b");
    bulk_ = board("agent/node-b/bulk");
    options_.endpoint = board_->bind("tcp://127.0.0.1:*").value();
    options_.bulk_endpoint = bulk_->bind("tcp://127.0.0.1:*").value();
    options_.switchboard = board_.get();
    options_.bulk = bulk_.get();
    agent_ = spawn_agent(system_, options_);
    const auto hello = controller_.next(
        [](const pb::Envelope& envelope) { return envelope.has_register_agent(); });
    if (!hello) throw std::runtime_error("the agent does not register");
    coordinator_.connect(options_.endpoint, "agent");
    return hello->envelope->register_agent();
  }
  Result<pb::Envelope> start(const std::string& role, pb::RoleKind kind, std::uint64_t fence) {
    pb::StartRole order;
    auto& launch = *order.mutable_launch();
    launch.set_job("job-1");
    launch.mutable_slot()->set_role(role);
    launch.mutable_slot()->set_kind(kind);
    launch.set_fence(fence);
    return coordinator_.ask(order);
  }
  // Its pid; 0 when it was not started.
  int worker(const std::string& role, std::uint64_t fence) {
    const auto started = start(role, pb::ROLE_WORKER, fence);
    EXPECT_TRUE(started) << started.error().message;
    if (!started) return 0;
    EXPECT_EQ(started->role_started().fence(), fence);
    return started->role_started().pid();
  }
  static bool lives(int pid) { return pid > 0 && ::kill(pid, 0) == 0; }
  static Errc code(const Result<pb::Envelope>& answer) {
    return answer ? Errc::ok : answer.error().code;
  }
  Errc stop(const std::string& role, std::uint64_t fence) {
    pb::StopRole order;
    order.set_job("job-1");
    order.set_role(role);
    order.set_fence(fence);
    return code(coordinator_.ask(order));
  }
  Errc watch(std::uint64_t fence) {
    pb::WatchRoles order;
    order.set_job("job-1");
    order.set_fence(fence);
    return code(coordinator_.ask(order));
  }
  void write_store(const fs::path& folder, std::uint64_t fence, std::uint64_t checkpoint) {
    auto store = must(JobStore::open(folder));
    must(storage::take_fence(*store, fence));
    for (std::uint64_t step = 1; step <= checkpoint; ++step) {
      auto record = storage::commit_record(step);
      record.set_fence(fence);
      must(store->append_commit(record, storage::Sync::no));
    }
    must(storage::write_checkpoint(*store, checkpoint));
  }

  storage::TempFolder folder_;
  AgentOptions options_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::unique_ptr<Switchboard> board_, bulk_;
  Peer controller_{"controller", "head"}, coordinator_{"job", "node-a"};
  caf::actor agent_;
};

TEST_F(AgentTest, AHigherFenceEndsTheProcessesOfALowerOneFirst) {
  start_agent();
  const int first = worker("worker-0", 1), second = worker("worker-1", 1);
  ASSERT_TRUE(lives(first) && lives(second));
  const int later = worker("worker-0", 2);
  EXPECT_NE(later, first);
  EXPECT_TRUE(lives(later));
  EXPECT_FALSE(lives(first)) << "it was gone before the other one started";
  EXPECT_FALSE(lives(second)) << "the whole job's";
  EXPECT_EQ(stop("worker-1", 2), Errc::not_found);
}

TEST_F(AgentTest, NobodyWithALowerFenceGivesOrders) {
  start_agent();
  const int pid = worker("worker-0", 2);
  EXPECT_EQ(watch(2), Errc::ok);
  EXPECT_EQ(watch(1), Errc::stale_generation);
  EXPECT_EQ(stop("worker-0", 1), Errc::stale_generation);
  EXPECT_EQ(code(start("worker-1", pb::ROLE_WORKER, 1)), Errc::stale_generation);
  EXPECT_TRUE(lives(pid));
  EXPECT_EQ(stop("worker-0", 2), Errc::ok);
}

TEST_F(AgentTest, NobodyHearsOfTheEndOfADisplacedCoordinator) {
  start_agent();
  ASSERT_TRUE(start("coordinator", pb::ROLE_COORDINATOR, 1));
  const auto second = start("coordinator", pb::ROLE_COORDINATOR, 2);
  ASSERT_TRUE(second) << second.error().message;
  ASSERT_EQ(stop("coordinator", 2), Errc::ok);
  const auto exit =
      controller_.next([](const pb::Envelope& envelope) { return envelope.has_role_exited(); });
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->envelope->role_exited().pid(), second->role_started().pid())
      << "the first exit that is told is that of the second";
}

TEST_F(AgentTest, ItTellsWhichStoresItHolds) {
  write_store(options_.state.replica("job-1"), 2, 8);
  write_store(StateFolder::store(options_.state.job("job-2")), 1, 4);
  const auto hello = start_agent();
  EXPECT_EQ(hello.bulk_endpoint(), options_.bulk_endpoint);
  ASSERT_EQ(hello.replicas_size(), 2);
  EXPECT_EQ(hello.replicas(0).job(), "job-1");
  EXPECT_EQ(hello.replicas(0).fence(), 2U);
  EXPECT_EQ(hello.replicas(0).newest_checkpoint(), 8U);
  EXPECT_EQ(hello.replicas(1).job(), "job-2");
}

TEST_F(AgentTest, ACoordinatorFindsTheCopyAsItsStore) {
  write_store(options_.state.replica("job-1"), 2, 8);
  const fs::path own = StateFolder::store(options_.state.job("job-1"));
  write_store(own, 1, 12);
  start_agent();
  ASSERT_TRUE(start("coordinator", pb::ROLE_COORDINATOR, 3));
  const auto store = must(JobStore::open(own));
  EXPECT_EQ(storage::ids_of(*store), (std::vector<std::uint64_t>{8}));
  EXPECT_THAT(must(store->value(kRestoredKey)).value(), HasSubstr("node-b"));
  EXPECT_TRUE(fs::exists(own.string() + ".superseded-1"));
  EXPECT_FALSE(fs::exists(options_.state.replica("job-1")));
}

// It was away while the job went on elsewhere: here is its former store, and perhaps its
// coordinator.
TEST_F(AgentTest, ACopyThatOvertakesTheOwnStoreSetsItAside) {
  const fs::path own = StateFolder::store(options_.state.job("job-1"));
  write_store(own, 1, 2);
  start_agent();
  ASSERT_TRUE(start("coordinator", pb::ROLE_COORDINATOR, 1));
  Peer later("replicator", "node-c");
  later.connect(options_.bulk_endpoint, "replicas");
  const std::string bytes = storage::chunk_bytes(4, 0, 512);
  const auto copy = [&] {
    pb::ReplicaOpen open;
    open.set_job("job-1");
    open.set_fence(2);
    JobSpec spec;
    spec.name = "job";
    spec.model.base = "nano";
    spec.data.corpus.synthetic.emplace();
    open.set_spec_yaml(to_yaml(spec));
    const auto opened = later.ask(open);
    ASSERT_TRUE(opened) << opened.error().message;
    pb::ReplicaRewind rewind;
    ASSERT_TRUE(later.ask(rewind));
    pb::ReplicaRecords records;
    for (std::uint64_t step = 1; step <= 4; ++step) {
      *records.add_records()->mutable_commit() = storage::commit_record(step);
      records.mutable_records()->rbegin()->mutable_commit()->set_fence(2);
    }
    ASSERT_TRUE(later.ask(records));
    pb::CheckpointBegin begin;
    begin.set_id(4);
    ASSERT_TRUE(later.ask(begin));
    pb::CheckpointChunk chunk;
    chunk.set_id(4);
    *chunk.mutable_entry() = make_chunk_entry(0, storage::as_span(bytes));
    ASSERT_TRUE(later.ask(chunk, {cluster::Frame::copy_of(bytes.data(), bytes.size())}));
    pb::CheckpointSeal seal;
    *seal.mutable_manifest() = storage::manifest_of(4, {.chunks = 1, .chunk_bytes = bytes.size()});
    ASSERT_TRUE(later.ask(seal));
  };
  copy();
  EXPECT_EQ(watch(1), Errc::stale_generation) << "the copy's coordinator is known by now";
  const auto until = Clock::now() + kPatience;
  while (fs::exists(own) && Clock::now() < until) copy();  // the displaced one may be dying yet
  EXPECT_TRUE(fs::exists(own.string() + ".superseded-1"));
  EXPECT_TRUE(fs::exists(options_.state.replica("job-1")));
}

}  // namespace
}  // namespace crabcast::actors

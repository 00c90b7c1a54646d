// The job actor between real transports and a real store: what it makes of the words of agents and
// members. Its decisions are the JobMachine's, and tested with that.
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <caf/all.hpp>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "actors/control/job.h"
#include "actors/control/job_state.h"
#include "storage/open_with_env.h"
#include "tests/storage/fault_fs.h"
#include "tests/storage/fixtures.h"

namespace crabcast::actors {
namespace {

using storage::TempFolder;
using testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds(20);  // a slow machine is not a failure

const cluster::Keyring& keys() {
  static const cluster::Keyring keyring = cluster::make_keyring().value();
  return keyring;
}

// An agent or a member: a process beside the coordinator that keeps what it is sent, and answers as
// it is told to.
class Peer {
 public:
  using Answer = std::function<void(const Delivery&)>;

  Peer(const std::string& actor, const std::string& node, Answer reply = {}) : actor_(actor) {
    cluster::TransportOptions options;
    static std::atomic<int> number = 0;
    options.process = ProcessId{actor + "@" + node + ":" + std::to_string(++number)};
    options.node = node;
    options.keys = keys();
    board_ = Switchboard::start(system_, std::move(options)).value();
    handle_ = system_.spawn(
        [this](caf::event_based_actor*, const Answer& reply) -> caf::behavior {
          return {[this, reply](const DeliveryPtr& message) {
            if (reply) reply(*message);
            const std::lock_guard lock(mutex_);
            heard_.push_back(message);
            arrived_.notify_all();
          }};
        },
        std::move(reply));
    board_->publish(actor, handle_);
  }
  ~Peer() {
    leave();
    caf::anon_send_exit(handle_, caf::exit_reason::user_shutdown);
  }
  void leave() { board_->stop(); }

  std::string bind() { return board_->bind("tcp://127.0.0.1:*").value(); }
  void connect(const std::string& endpoint) {
    job_ = board_->proxy(board_->connect(endpoint, kPatience).value().process, "job");
  }
  void say(const google::protobuf::Message& body) { caf::anon_send(job_, letter(body)); }
  // Returns when the job actor has heard it.
  void say_and_wait(const google::protobuf::Message& body) {
    caf::scoped_actor self{system_};
    self->request(job_, kPatience, letter(body))
        .receive([](const DeliveryPtr&) {},
                 [](const caf::error& error) { ADD_FAILURE() << from_caf(error).message; });
  }
  // The next message for which `wanted` holds; what came before it is forgotten. Null when none
  // comes.
  DeliveryPtr next(const std::function<bool(const pb::Envelope&)>& wanted) {
    std::unique_lock lock(mutex_);
    DeliveryPtr found;
    arrived_.wait_for(lock, kPatience, [&] {
      while (!found && !heard_.empty()) {
        if (wanted(*heard_.front()->envelope)) found = heard_.front();
        heard_.pop_front();
      }
      return found != nullptr;
    });
    return found;
  }
  // The one to talk to is the one that this came from.
  void talk_to_sender_of(const DeliveryPtr& message) { job_ = message->sender; }

 private:
  OutboundPtr letter(const google::protobuf::Message& body) const {
    auto message = std::make_shared<Outbound>(*outbound(body));
    message->envelope.set_from(actor_);
    return message;
  }

  std::string actor_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::unique_ptr<Switchboard> board_;
  caf::actor handle_, job_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<DeliveryPtr> heard_;
};

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
    place(options.launch, "worker-0", pb::ROLE_WORKER, "node-a", agent_a_.bind());
    place(options.launch, "loader-0", pb::ROLE_LOADER, "node-b", agent_b_.bind());
    options.control_endpoint = control_->bind("tcp://127.0.0.1:*").value();
    options.bulk_endpoint = bulk_->bind("tcp://127.0.0.1:*").value();
    options.control = control_.get();
    options.bulk = bulk_.get();
    options.store = store_;
    endpoint_ = options.control_endpoint;
    job_ = spawn_job(system_, options);
    const auto watches = [](const auto& envelope) { return envelope.has_watch_roles(); };
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

  TempFolder folder_;
  storage::FaultDisk disk_;
  std::shared_ptr<storage::JobStore> store_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::unique_ptr<Switchboard> control_, bulk_;
  std::atomic<bool> runs_nothing_ = false;
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

}  // namespace
}  // namespace crabcast::actors

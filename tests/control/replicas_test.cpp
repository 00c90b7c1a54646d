// The replicator of a coordinator and the replica stores of nodes against each other: over real
// transports and real stores.
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>
#include <stdlib.h>

#include "actors/control/held_stores.h"
#include "actors/control/replica_store.h"
#include "actors/control/replicator.h"
#include "actors/control/store_actors.h"
#include "protocol/fault_points.h"
#include "storage/fence.h"
#include "storage/stored_spec.h"
#include "tests/control/peer.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;
using storage::commit_record;
using storage::ids_of;
using storage::JobStore;
using storage::must;
using storage::Sync;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<std::uint64_t>;

const std::string& spec_yaml() {
  static const std::string yaml = [] {
    JobSpec spec;
    spec.name = "job";
    spec.model.base = "nano";
    spec.data.corpus.synthetic.emplace();
    return to_yaml(spec);
  }();
  return yaml;
}

// An agent's replica store, and its transport.
class Node {
 public:
  explicit Node(const std::string& name, const fs::path& state) : state_{state} {
    cluster::TransportOptions options;
    static std::atomic<int> number = 0;
    options.process = ProcessId{"agent/" + name + ":" + std::to_string(++number)};
    options.node = name;
    options.keys = keys();
    board_ = Switchboard::start(system_, std::move(options)).value();
    store_ = spawn_replica_store(system_, state_, name, caf::actor_cast<caf::actor>(agent_));
    board_->publish("replicas", store_);
    endpoint_ = board_->bind("tcp://127.0.0.1:*").value();
  }
  ~Node() { die(); }
  void die() {
    if (!store_) return;
    board_->stop();
    agent_->send_exit(store_, caf::exit_reason::user_shutdown);
    agent_->wait_for(store_);
    store_ = nullptr;
  }
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] fs::path copy() const { return state_.replica("job-1"); }
  [[nodiscard]] std::unique_ptr<JobStore> read() const {
    return must(JobStore::open_read_only(copy()));
  }
  // What the agent hears of the next seal.
  pb::HeldReplica next_held() {
    pb::HeldReplica held;
    for (bool found = false; !found;) {
      agent_->receive(
          [&](const StoresHeld& stores) {
            found = !stores.stores->empty();
            if (found) held = stores.stores->front();
          },
          [&](const FenceSeen&) {}, caf::after(kPatience) >> [&] { found = true; });
    }
    return held;
  }
  template <class Order>
  void tell(const Order& order) {
    caf::anon_send(store_, order);
  }
  Result<StoreRestored> restore() {
    Result<StoreRestored> result = fail(Errc::timeout, "");
    agent_->request(store_, kPatience, RestoreStore{"job-1"})
        .receive([&](const StoreRestored& restored) { result = restored; },
                 [&](const caf::error& error) { result = fail(from_caf(error)); });
    return result;
  }

 private:
  StateFolder state_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  caf::scoped_actor agent_{system_};
  std::unique_ptr<Switchboard> board_;
  caf::actor store_;
  std::string endpoint_;
};

class Replicas : public testing::Test {
 protected:
  Replicas() {
    spdlog::set_level(spdlog::level::off);
    own_ = must(JobStore::open(folder_ / "own"));
    cluster::TransportOptions options;
    options.process = ProcessId{"coordinator/bulk"};
    options.keys = keys();
    bulk_ = Switchboard::start(system_, std::move(options)).value();
  }
  ~Replicas() override {
    stop();
    bulk_->stop();
    spdlog::set_level(spdlog::level::info);
  }

  void start(std::uint64_t fence = 1) {
    ReplicatorOptions options;
    options.job = "job-1";
    options.fence = fence_ = fence;
    options.spec_yaml = spec_yaml();
    options.store = own_;
    options.bulk = bulk_.get();
    replicator_ = spawn_replicator(system_, options, caf::actor_cast<caf::actor>(job_));
  }
  void stop() {
    if (!replicator_) return;
    job_->send_exit(replicator_, caf::exit_reason::user_shutdown);
    job_->wait_for(replicator_);
    replicator_ = nullptr;
  }
  void tell_nodes(const std::map<std::string, std::string>& endpoints) {
    pb::ReplicaNodes nodes;
    for (const auto& [name, endpoint] : endpoints) {
      auto& node = *nodes.add_nodes();
      node.set_node(name);
      node.set_bulk_endpoint(endpoint);
    }
    caf::anon_send(replicator_, NodesForReplicas{std::make_shared<const pb::ReplicaNodes>(nodes)});
  }
  // Steps up to the checkpoint's, and the checkpoint.
  void train_to(std::uint64_t step, std::int64_t unix_ms = 0) {
    const auto last = must(own_->last_commit());
    for (std::uint64_t next = last ? last->step() + 1 : 1; next <= step; ++next) {
      auto record = commit_record(next);
      record.set_fence(fence_);
      record.set_unix_ms(unix_ms);
      must(own_->append_commit(record, Sync::no));
    }
    save(step, unix_ms);
    if (replicator_) caf::anon_send(replicator_, CheckpointStored{step});
  }
  void save(std::uint64_t id, std::int64_t unix_ms) {
    auto writer = must(own_->begin_checkpoint(CheckpointId{id}));
    auto manifest = storage::manifest_of(id, kShape);
    manifest.set_unix_ms(unix_ms);
    for (std::uint32_t i = 0; i < kShape.chunks; ++i) {
      const auto bytes = storage::chunk_bytes(id, i, kShape.chunk_bytes);
      must(writer->put_chunk(manifest.chunks(static_cast<int>(i)), storage::as_span(bytes)));
    }
    must(writer->commit(manifest));
  }
  void void_after(std::uint64_t step) {
    must(own_->drop_checkpoints_after(CheckpointId{step}));
    must(own_->rewind_ledger(Step{step}));
    caf::anon_send(replicator_, DropCheckpoints{step});
  }
  // The next news for which `wanted` holds; what else the job hears is kept for later looks.
  bool hears_of(std::uint64_t safe) {
    bool found = false;
    for (bool waits = true; waits && !found;) {
      job_->receive([&](const ReplicationNews& news) { found = news.safe == safe; },
                    [&](const ReplicaTrouble& trouble) { troubles_.push_back(trouble); },
                    [&](const Displaced& displaced) { displaced_ = displaced.error; },
                    caf::after(kPatience) >> [&] { waits = false; });
    }
    return found;
  }
  template <class Done>
  bool hears_until(Done done) {
    for (bool waits = true; waits && !done();) {
      job_->receive([&](const ReplicationNews&) {},
                    [&](const ReplicaTrouble& trouble) { troubles_.push_back(trouble); },
                    [&](const Displaced& displaced) { displaced_ = displaced.error; },
                    caf::after(kPatience) >> [&] { waits = false; });
    }
    return done();
  }
  // Everything that is to be copied now was.
  void settle() {
    bool settled = false;
    job_->request(replicator_, kPatience, LastCopies{})
        .receive([&] { settled = true; }, [](const caf::error&) {});
    ASSERT_TRUE(settled);
  }
  // The copy is what the own store is, up to its newest checkpoint.
  void expect_equal(const JobStore& copy) {
    const auto newest = ids_of(*own_).back();
    ASSERT_EQ(ids_of(copy), ids_of(*own_));
    storage::expect_all_verify(copy);
    std::vector<std::string> ours, theirs;
    must(own_->for_each_commit(Step{0}, [&](const pb::CommitRecord& record) {
      if (record.step() <= newest) ours.push_back(record.SerializeAsString());
      return true;
    }));
    must(copy.for_each_commit(Step{0}, [&](const pb::CommitRecord& record) {
      theirs.push_back(record.SerializeAsString());
      return true;
    }));
    EXPECT_EQ(theirs, ours);
    EXPECT_EQ(must(copy.manifest(CheckpointId{newest})).SerializeAsString(),
              must(own_->manifest(CheckpointId{newest})).SerializeAsString());
  }

  static constexpr storage::CheckpointShape kShape{.chunks = 9, .chunk_bytes = 4 << 10};
  storage::TempFolder folder_;
  std::shared_ptr<JobStore> own_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  caf::scoped_actor job_{system_};
  std::unique_ptr<Switchboard> bulk_;
  caf::actor replicator_;
  std::uint64_t fence_ = 1;
  std::vector<ReplicaTrouble> troubles_;
  std::optional<Error> displaced_;
};

TEST_F(Replicas, ACopyHasAllThatAJobNeedsToGoOn) {
  Node b("b", folder_ / "b");
  pb::BadSample bad;
  bad.mutable_sample()->set_index(7);
  bad.set_step(6);  // it was met ahead of its step
  start();
  train_to(4);
  must(own_->put_quarantine({&bad, 1}, Sync::no));
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  expect_equal(*b.read());
  EXPECT_EQ(storage::newest_spec(*b.read()).value(), spec_yaml());
  EXPECT_EQ(must(storage::fence_of(*b.read())), 1U);
  EXPECT_EQ(must(b.read()->quarantine()).size(), 1U);
  const auto held = b.next_held();
  EXPECT_EQ(held.job(), "job-1");
  EXPECT_EQ(held.fence(), 1U);
  EXPECT_EQ(held.newest_checkpoint(), 4U);

  pb::EvaluationRecord scores;
  scores.set_checkpoint(4);
  scores.set_mean(0.5);
  must(own_->put_evaluation(scores, Sync::no));
  train_to(8);
  ASSERT_TRUE(hears_of(8));
  settle();
  expect_equal(*b.read());
  EXPECT_EQ(must(b.read()->evaluations()).size(), 1U);
  EXPECT_EQ(must(b.read()->manifest(CheckpointId{4})).metrics().at("eval/mean"), 0.5);

  b.die();
  fs::rename(b.copy(), folder_ / "restored");
  const auto restored = must(JobStore::open(folder_ / "restored"));
  EXPECT_EQ(must(restored->newest_verified([](const auto&) {}))->id(), 8U);
}

TEST_F(Replicas, TheNodeKeepsWhatIsKeptHere) {
  Node b("b", folder_ / "b");
  start();
  tell_nodes({{"b", b.endpoint()}});
  for (const std::uint64_t step : {4, 8, 12}) {
    train_to(step);
    ASSERT_TRUE(hears_of(step));
    must(own_->apply_retention({.last = 2, .best = 0}, {}));
  }
  settle();
  EXPECT_EQ(ids_of(*own_), (Ids{8, 12}));
  train_to(16);
  ASSERT_TRUE(hears_of(16));
  settle();
  EXPECT_EQ(ids_of(*b.read()), (Ids{8, 12, 16}));
}

// What it had is of no use: the ledger comes once more, from its beginning.
TEST_F(Replicas, ANodeThatLagsBehindAllThatIsKept) {
  Node b("b", folder_ / "b");
  start();
  train_to(4);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  tell_nodes({});
  train_to(8);
  train_to(12);
  must(own_->drop_checkpoints_after(CheckpointId{12}));
  must(own_->apply_retention({.last = 1, .best = 0}, {}));
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(12));
  settle();
  expect_equal(*b.read());
  EXPECT_FALSE(fs::exists(b.copy().string() + ".superseded-1")) << "it was ours, and is no loss";
}

TEST_F(Replicas, ACopyFollowsAHistoryThatWentBack) {
  Node b("b", folder_ / "b");
  start();
  train_to(4, 100);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  train_to(8, 100);
  ASSERT_TRUE(hears_of(8));
  void_after(4);
  ASSERT_TRUE(hears_of(4)) << "8 is void";
  settle();
  EXPECT_EQ(ids_of(*b.read()), (Ids{4})) << "nobody goes on from a void state";
  EXPECT_EQ(must(b.read()->last_commit())->step(), 4U);
  train_to(8, 200);  // the same step, another time
  ASSERT_TRUE(hears_of(8));
  settle();
  expect_equal(*b.read());
}

// The node dies with a part of a copy: commits that no checkpoint needs yet, and half of its
// chunks.
TEST_F(Replicas, ANodeThatDiesInTheMiddleIsBroughtUpToDate) {
  start();
  train_to(4);
  {
    std::atomic<int> chunks = 0;
    std::atomic<bool> broken = false;
    Peer dying("replicas", "b", [&](const Delivery& message) {
      if (message.envelope->has_replica_open()) return answer(message, pb::ReplicaOpened{});
      if (message.envelope->has_checkpoint_chunk() && ++chunks > 3) {
        broken = true;
        return;
      }
      answer(message, pb::Done{});
    });
    tell_nodes({{"b", dying.bind()}});
    ASSERT_TRUE(dying.next([&](const auto&) { return broken.load(); }));
    dying.leave();
    ASSERT_TRUE(hears_until([&] { return !troubles_.empty(); }));
    EXPECT_EQ(troubles_[0].node, "b");
    EXPECT_EQ(troubles_[0].error.code, Errc::unavailable);
  }
  {
    auto left = must(JobStore::open(folder_ / "b" / "replicas" / "job-1" / "store"));
    must(left->append_commit(commit_record(1), Sync::yes));
    must(left->append_commit(commit_record(2), Sync::yes));
  }
  Node b("b", folder_ / "b");
  tell_nodes({});
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  settle();
  expect_equal(*b.read());
  EXPECT_EQ(troubles_.size(), 1U) << "one cause is told once";
}

TEST_F(Replicas, TwoNodesAndAQuorumOfAll) {
  Node b("b", folder_ / "b"), c("c", folder_ / "c");
  ReplicatorOptions options;
  options.job = "job-1";
  options.fence = 1;
  options.spec_yaml = spec_yaml();
  options.checkpoint.replicas = 2;
  options.checkpoint.quorum = 3;
  options.store = own_;
  options.bulk = bulk_.get();
  train_to(4);
  replicator_ = spawn_replicator(system_, options, caf::actor_cast<caf::actor>(job_));
  tell_nodes({{"b", b.endpoint()}});
  settle();
  tell_nodes({{"b", b.endpoint()}, {"c", c.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  settle();
  expect_equal(*b.read());
  expect_equal(*c.read());
}

// ---- fences -------------------------------------------------------------------------------------

TEST_F(Replicas, ALaterCoordinatorTakesTheCopyAndTheEarlierOneHearsOfIt) {
  Node b("b", folder_ / "b");
  start(1);
  train_to(4);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  {
    Peer later("replicator", "c");
    later.connect(b.endpoint(), "replicas");
    pb::ReplicaOpen open;
    open.set_job("job-1");
    open.set_fence(2);
    open.set_spec_yaml(spec_yaml());
    const auto opened = later.ask(open);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->replica_opened().last_step(), 4U);
    ASSERT_EQ(opened->replica_opened().checkpoints_size(), 1);
  }
  train_to(8);
  ASSERT_TRUE(hears_until([&] { return displaced_.has_value(); }));
  EXPECT_EQ(displaced_->code, Errc::stale_generation);
  EXPECT_THAT(displaced_->message, AllOf(HasSubstr("node b"), HasSubstr("fence 2")));
  EXPECT_EQ(ids_of(*b.read()), (Ids{4})) << "nothing of the earlier one's came in any more";
  EXPECT_EQ(must(storage::fence_of(*b.read())), 2U);
}

TEST_F(Replicas, WorkOfAnotherHistoryIsSetAside) {
  Node b("b", folder_ / "b");
  start(1);
  train_to(40);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(40));
  stop();
  // The job begins anew, for nobody knew of the copy.
  own_.reset();
  own_ = must(JobStore::open(folder_ / "anew"));
  start(2);
  train_to(4);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  settle();
  expect_equal(*b.read());
  const auto aside = must(JobStore::open_read_only(b.copy().string() + ".superseded-1"));
  EXPECT_EQ(ids_of(*aside), (Ids{40}));
  storage::expect_all_verify(*aside);
}

TEST_F(Replicas, TheJobsOwnStoreOnTheNodeHasAFenceToo) {
  Node b("b", folder_ / "b");
  const fs::path own = folder_ / "b" / "jobs" / "job-1" / "store";
  must(storage::take_fence(*must(JobStore::open(own)), 3));
  start(2);
  train_to(4);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_until([&] { return displaced_ && !troubles_.empty(); }));
  stop();
  troubles_.clear();
  displaced_.reset();
  start(3);  // one state folder for two nodes
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_until([&] { return !troubles_.empty(); }));
  EXPECT_THAT(troubles_[0].error.message, HasSubstr("checkpoint.replicas: 0"));
  EXPECT_FALSE(displaced_);
}

TEST_F(Replicas, ARestoredCopyIsNotWrittenToAnyMore) {
  Node b("b", folder_ / "b");
  start();
  train_to(4);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  settle();
  const auto restored = b.restore();
  ASSERT_TRUE(restored) << restored.error().message;
  EXPECT_EQ(restored->checkpoint, 4U);
  const fs::path own = folder_ / "b" / "jobs" / "job-1" / "store";
  must(storage::take_fence(*must(JobStore::open(own)), 2));  // its coordinator starts
  train_to(8);
  ASSERT_TRUE(hears_until([&] { return displaced_.has_value(); }));
  EXPECT_EQ(ids_of(*must(JobStore::open_read_only(own))), (Ids{4}));
}

// ---- what goes wrong on the way -----------------------------------------------------------------

class ReplicaMessages : public Replicas {
 protected:
  ReplicaMessages() { sender_.connect(b_.endpoint(), "replicas"); }
  Result<pb::Envelope> open(std::uint64_t fence = 1) {
    pb::ReplicaOpen open;
    open.set_job("job-1");
    open.set_fence(fence);
    open.set_spec_yaml(spec_yaml());
    return sender_.ask(open);
  }
  Errc code(const Result<pb::Envelope>& answer) { return answer ? Errc::ok : answer.error().code; }
  Errc begin(std::uint64_t id) {
    pb::CheckpointBegin begin;
    begin.set_id(id);
    return code(sender_.ask(begin));
  }
  Errc chunk(std::uint64_t id, const std::string& meant, const std::string& came) {
    pb::CheckpointChunk chunk;
    chunk.set_id(id);
    *chunk.mutable_entry() = make_chunk_entry(0, storage::as_span(meant));
    return code(sender_.ask(chunk, {cluster::Frame::copy_of(came.data(), came.size())}));
  }
  Errc seal(std::uint64_t id) {
    pb::CheckpointSeal seal;
    *seal.mutable_manifest() =
        storage::manifest_of(id, {.chunks = 1, .chunk_bytes = kBytes.size()});
    return code(sender_.ask(seal));
  }
  Errc commits(std::uint64_t from, std::uint64_t to) {
    pb::ReplicaRecords records;
    for (auto step = from; step <= to; ++step)
      *records.add_records()->mutable_commit() = commit_record(step);
    return code(sender_.ask(records));
  }
  const std::string kBytes = storage::chunk_bytes(4, 0, 512);
  Node b_{"b", folder_ / "b"};
  Peer sender_{"replicator", "a"};
};

TEST_F(ReplicaMessages, NothingIsTakenFromOneThatHasNotOpenedIt) {
  EXPECT_EQ(commits(1, 4), Errc::invalid_argument);
  EXPECT_EQ(begin(4), Errc::invalid_argument);
  ASSERT_TRUE(open());
  EXPECT_EQ(chunk(4, kBytes, kBytes), Errc::invalid_argument);
  EXPECT_EQ(seal(4), Errc::invalid_argument);
  pb::ReplicaOpen nowhere;
  nowhere.set_job("../job-1");
  EXPECT_EQ(code(sender_.ask(nowhere)), Errc::invalid_argument);
  EXPECT_EQ(code(sender_.ask(pb::CheckpointRead{})), Errc::unsupported);
}

TEST_F(ReplicaMessages, AChunkThatWasDamagedOnTheWayIsRefused) {
  ASSERT_TRUE(open());
  ASSERT_EQ(commits(1, 4), Errc::ok);
  ASSERT_EQ(begin(4), Errc::ok);
  std::string came = kBytes;
  came[100] ^= 1;
  EXPECT_EQ(chunk(4, kBytes, came), Errc::corrupt);
  EXPECT_EQ(seal(4), Errc::invalid_argument) << "it was given up";
  EXPECT_EQ(ids_of(*b_.read()), (Ids{}));
  ASSERT_EQ(begin(4), Errc::ok);
  ASSERT_EQ(chunk(4, kBytes, kBytes), Errc::ok);
  EXPECT_EQ(seal(4), Errc::ok);
  EXPECT_EQ(ids_of(*b_.read()), (Ids{4}));
}

TEST_F(ReplicaMessages, ACheckpointDoesNotComeBeforeItsLedger) {
  ASSERT_TRUE(open());
  EXPECT_NE(commits(2, 3), Errc::ok) << "step 1 is missing";
  ASSERT_EQ(commits(1, 3), Errc::ok);
  ASSERT_EQ(begin(4), Errc::ok);
  ASSERT_EQ(chunk(4, kBytes, kBytes), Errc::ok);
  EXPECT_EQ(seal(4), Errc::invalid_argument);
  EXPECT_EQ(ids_of(*b_.read()), (Ids{}));
}

TEST_F(ReplicaMessages, TheOneWhoOpensItAgainTakesOver) {
  ASSERT_TRUE(open());
  ASSERT_EQ(begin(4), Errc::ok);
  Peer restarted("replicator", "a");
  restarted.connect(b_.endpoint(), "replicas");
  pb::ReplicaOpen again;
  again.set_job("job-1");
  again.set_fence(1);
  again.set_spec_yaml(spec_yaml());
  ASSERT_TRUE(restarted.ask(again));
  EXPECT_EQ(chunk(4, kBytes, kBytes), Errc::invalid_argument) << "the earlier one is out";
  EXPECT_EQ(code(open(0)), Errc::stale_generation);
}

// $CRABCAST_FAULTS, for this process.
class StagedReplicas : public Replicas {
 protected:
  static void stage(const char* orders) {
    ::setenv("CRABCAST_FAULTS", orders, 1);
    ASSERT_TRUE(arm_faults("agent"));
  }
  ~StagedReplicas() override {
    ::setenv("CRABCAST_FAULTS", "nobody@replica.seal=kill", 1);
    EXPECT_TRUE(arm_faults("agent"));
    ::unsetenv("CRABCAST_FAULTS");
  }
};

TEST_F(StagedReplicas, ADiskThatRefusesIsTriedAgain) {
  stage("agent@disk.append#40=error:disk_full;agent@replica.seal#1=error:io_error");
  Node b("b", folder_ / "b");
  start();
  train_to(4);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  settle();
  expect_equal(*b.read());
  ASSERT_FALSE(troubles_.empty());
  for (const auto& trouble : troubles_) EXPECT_EQ(trouble.node, "b");
}

TEST_F(StagedReplicas, ACopyThatCannotBeBegunIsTriedAgain) {
  stage("agent@replica.begin#1=error:unavailable");
  Node b("b", folder_ / "b");
  start();
  train_to(4);
  tell_nodes({{"b", b.endpoint()}});
  ASSERT_TRUE(hears_of(4));
  ASSERT_EQ(troubles_.size(), 1U);
  EXPECT_EQ(troubles_[0].error.code, Errc::unavailable);
}

}  // namespace
}  // namespace crabcast::actors

// The coordinator's ledger and checkpoint store as actors, and what its successor reads of them.
#include "actors/control/store_actors.h"

#include <gmock/gmock.h>

#include <condition_variable>
#include <mutex>

#include "actors/control/job.h"
#include "actors/control/step_watch.h"
#include "tests/control/store_fixture.h"

namespace crabcast::actors {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class JobStoreActorTest : public StoreActorTest {
 protected:
  JobStoreActorTest() {
    store_ = storage::JobStore::open(folder_ / "store").value();
    CheckpointSpec retention;
    retention.keep_last = 1;
    retention.keep_best = 0;
    ledger_ = keep(spawn_ledger(system_, store_, retention));
    job_ = keep(system_.spawn(
        [](caf::event_based_actor*, std::shared_ptr<Outcomes> outcomes) -> caf::behavior {
          return {[outcomes](const CheckpointOutcome& outcome) { outcomes->put(outcome); }};
        },
        outcomes_));
    checkpoints_ = keep(spawn_checkpoints(system_, store_, "spec-hash", job_));
  }

  // What the job actor heard.
  class Outcomes {
   public:
    void put(const CheckpointOutcome& outcome) {
      const std::lock_guard lock(mutex_);
      all_.push_back(outcome);
      arrived_.notify_one();
    }
    std::optional<CheckpointOutcome> next() {
      std::unique_lock lock(mutex_);
      if (!arrived_.wait_for(lock, kPatience, [this] { return !all_.empty(); })) return {};
      auto first = all_.front();
      all_.erase(all_.begin());
      return first;
    }

   private:
    std::mutex mutex_;
    std::condition_variable arrived_;
    std::vector<CheckpointOutcome> all_;
  };

  Status commit(std::uint64_t step) {
    pb::CommitRecord record;
    record.set_step(step);
    return tell(ledger_, AppendCommit{std::make_shared<const pb::CommitRecord>(record)});
  }
  // Asks the checkpoint store as a worker does, whose proxy is `self`.
  Result<pb::Envelope> say(caf::scoped_actor& self, const google::protobuf::Message& body,
                           const std::string& bytes = "") {
    auto delivery = std::make_shared<Delivery>();
    auto message = outbound(body);
    auto envelope = std::make_shared<pb::Envelope>(message->envelope);
    envelope->set_request(1);
    delivery->envelope = envelope;
    if (!bytes.empty()) delivery->frames = {cluster::Frame::copy_of(bytes.data(), bytes.size())};
    delivery->sender = caf::actor_cast<caf::actor>(self);
    self->send(checkpoints_, DeliveryPtr(delivery));
    Result<pb::Envelope> result = fail(Errc::timeout, "no answer");
    self->receive([&](const OutboundPtr& reply) { result = reply->envelope; },
                  caf::after(kPatience) >> [] {});
    return result;
  }
  static pb::CheckpointManifest manifest(std::uint64_t id, const std::string& bytes) {
    pb::CheckpointManifest manifest;
    manifest.set_id(id);
    manifest.set_step(id);
    manifest.set_bytes(bytes.size());
    manifest.set_base_hash("base-hash");
    *manifest.add_chunks() = entry(bytes);
    auto& tensor = *manifest.add_tensors();
    tensor.set_name("adapter/a");
    tensor.set_dtype(pb::DTYPE_UINT8);
    tensor.add_shape(static_cast<std::int64_t>(bytes.size()));
    tensor.set_bytes(bytes.size());
    return manifest;
  }
  static pb::ChunkEntry entry(const std::string& bytes) {
    return make_chunk_entry(0, std::as_bytes(std::span(bytes)));
  }
  // The three steps of a save; each says whether it was accepted.
  bool begin(caf::scoped_actor& worker, std::uint64_t id) {
    pb::CheckpointBegin begin;
    begin.set_id(id);
    return say(worker, begin)->has_done();
  }
  bool put(caf::scoped_actor& worker, std::uint64_t id, const std::string& bytes) {
    pb::CheckpointChunk chunk;
    chunk.set_id(id);
    *chunk.mutable_entry() = entry(bytes);
    return say(worker, chunk, bytes)->has_done();
  }
  bool seal(caf::scoped_actor& worker, std::uint64_t id, const std::string& bytes) {
    pb::CheckpointSeal seal;
    *seal.mutable_manifest() = manifest(id, bytes);
    return say(worker, seal)->has_done();
  }
  void save(std::uint64_t id, const std::string& bytes) {
    caf::scoped_actor worker{system_};
    EXPECT_TRUE(begin(worker, id));
    EXPECT_TRUE(put(worker, id, bytes));
    EXPECT_TRUE(seal(worker, id, bytes));
    const auto outcome = outcomes_->next();
    ASSERT_TRUE(outcome);
    EXPECT_EQ(outcome->id, id);
    EXPECT_FALSE(outcome->error) << outcome->error->message;
  }

  void abandon(caf::scoped_actor& worker, std::uint64_t id, const std::string& reason) {
    pb::CheckpointAbandon abandon;
    abandon.set_id(id);
    abandon.set_reason(reason);
    auto message = std::make_shared<Delivery>();
    message->envelope = std::make_shared<const pb::Envelope>(outbound(abandon)->envelope);
    message->sender = caf::actor_cast<caf::actor>(worker);
    worker->send(checkpoints_, DeliveryPtr(message));
  }

  std::shared_ptr<storage::JobStore> store_;
  std::shared_ptr<Outcomes> outcomes_ = std::make_shared<Outcomes>();
  caf::actor ledger_, job_, checkpoints_;
};

TEST_F(JobStoreActorTest, CommitsAreContiguousAndCanBeRewound) {
  for (std::uint64_t step = 1; step <= 5; ++step) ASSERT_TRUE(commit(step));
  EXPECT_FALSE(commit(7)) << "step 6 is missing";
  ASSERT_TRUE(tell(ledger_, RewindTo{3}));
  EXPECT_EQ((*store_->last_commit())->step(), 3U);
  EXPECT_TRUE(commit(4));
  EXPECT_FALSE(tell(ledger_, RewindTo{9}));
}

TEST_F(JobStoreActorTest, ASavedCheckpointIsFoundReadAndKept) {
  ASSERT_FALSE(ask<FoundCheckpoint>(ledger_, FindNewest{})->id) << "there is none yet";
  save(4, "the state after step four");
  save(8, "the state after step eight");
  auto found = ask<FoundCheckpoint>(ledger_, FindNewest{});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->id, 8U);
  EXPECT_THAT(found->problems, IsEmpty());
  EXPECT_EQ(ask<FoundCheckpoint>(ledger_, FindNewest{7})->id, 4U) << "8 is beyond the ledger";

  caf::scoped_actor reader{system_};
  pb::CheckpointRead read;  // the newest
  auto opened = say(reader, read);
  ASSERT_TRUE(opened && opened->has_checkpoint_opened());
  EXPECT_EQ(opened->checkpoint_opened().manifest().id(), 8U);
  EXPECT_EQ(opened->checkpoint_opened().manifest().spec_hash(), "spec-hash");
  pb::ChunkRead chunk;
  chunk.set_id(8);
  EXPECT_TRUE(say(reader, chunk)->has_chunk_data());
  chunk.set_index(1);
  EXPECT_EQ(error_of(say(reader, chunk)->failure()).code, Errc::invalid_argument);

  ASSERT_TRUE(tell(ledger_, Retain{{4}}));
  EXPECT_EQ(store_->checkpoint_ids()->size(), 2U) << "4 is in use";
  ASSERT_TRUE(tell(ledger_, Retain{{}}));
  EXPECT_THAT(*store_->checkpoint_ids(), ElementsAre(CheckpointId{8}));
}

TEST_F(JobStoreActorTest, AChunkThatDoesNotMatchFailsTheCheckpointAndTheJobHearsOfIt) {
  caf::scoped_actor worker{system_};
  ASSERT_TRUE(begin(worker, 4));
  pb::CheckpointChunk chunk;
  chunk.set_id(4);
  *chunk.mutable_entry() = entry("what was meant");
  auto reply = say(worker, chunk, "what came");
  ASSERT_TRUE(reply && reply->has_failure());
  const auto outcome = outcomes_->next();
  ASSERT_TRUE(outcome && outcome->error);
  EXPECT_EQ(outcome->id, 4U);
  EXPECT_EQ(outcome->error->code, Errc::corrupt);
  EXPECT_THAT(*store_->checkpoint_ids(), IsEmpty());
}

TEST_F(JobStoreActorTest, AnAbandonedCheckpointLeavesNothing) {
  caf::scoped_actor worker{system_};
  ASSERT_TRUE(begin(worker, 4));
  abandon(worker, 4, "the device was lost");
  const auto outcome = outcomes_->next();
  ASSERT_TRUE(outcome && outcome->error);
  EXPECT_THAT(outcome->error->message, HasSubstr("device was lost"));
  EXPECT_FALSE(seal(worker, 4, "x"));
}

TEST_F(JobStoreActorTest, WhatIsVoidIsDeletedAndNotWrittenAnyFurther) {
  save(4, "the state after step four");
  save(8, "the state after step eight");
  caf::scoped_actor worker{system_};
  ASSERT_TRUE(begin(worker, 12));
  caf::anon_send(checkpoints_, DropCheckpoints{4});
  ASSERT_TRUE(tell(ledger_, DropCheckpoints{4}));
  EXPECT_FALSE(put(worker, 12, "a state of a history that was given up"));
  EXPECT_THAT(*store_->checkpoint_ids(), ElementsAre(CheckpointId{4}));
}

TEST_F(JobStoreActorTest, LossesAndRollbacksAreReadBack) {
  for (std::uint64_t step = 1; step <= 130; ++step) {
    auto record = storage::commit_record(step);
    auto& loss = *record.add_losses();
    loss.set_loss_sum(2.0 * static_cast<double>(step));
    loss.set_tokens(2);
    record.set_skipped(step > 70);  // these do not count
    ASSERT_TRUE(tell(ledger_, AppendCommit{std::make_shared<const pb::CommitRecord>(record)}));
  }
  pb::Rollbacks rollbacks;
  auto& range = *rollbacks.add_ranges();
  range.set_first_step(71);
  range.set_last_step(130);
  ASSERT_TRUE(tell(ledger_, StoreValue{"rollbacks", rollbacks.SerializeAsString()}));
  const auto history = read_history(*store_, MixtureSpec{}).value();
  EXPECT_EQ(history.rollbacks.SerializeAsString(), rollbacks.SerializeAsString());
  ASSERT_EQ(history.losses.size(), LossWatch::kWindow);
  EXPECT_EQ(history.losses.front(), 21);
  EXPECT_EQ(history.losses.back(), 70);
  EXPECT_EQ(losses_for_watch(*store_, 3).value(), (std::vector<double>{1, 2, 3}));
}

// A worker that was given up goes on writing while another one was asked for the same checkpoint.
TEST_F(JobStoreActorTest, NobodyWritesIntoSomebodyElsesCheckpoint) {
  caf::scoped_actor lost{system_}, other{system_};
  ASSERT_TRUE(begin(lost, 4));
  ASSERT_TRUE(begin(other, 4));
  EXPECT_FALSE(put(lost, 4, "the lost worker's state"));
  EXPECT_TRUE(put(other, 4, "the other worker's state"));
  abandon(lost, 4, "what it wrote was refused");
  EXPECT_FALSE(seal(lost, 4, "the lost worker's state"));
  EXPECT_TRUE(seal(other, 4, "the other worker's state"));
  const auto outcome = outcomes_->next();
  ASSERT_TRUE(outcome);
  EXPECT_FALSE(outcome->error) << "nobody was told that it failed: " << outcome->error->message;
  EXPECT_EQ(store_->read_chunk(CheckpointId{4}, 0).value(), "the other worker's state");
}

// ---- what the next coordinator reads
// --------------------------------------------------------------

TEST_F(JobStoreActorTest, TheHistoryOfANewJobIsEmpty) {
  const auto history = read_history(*store_, MixtureSpec{});
  ASSERT_TRUE(history) << history.error().message;
  EXPECT_EQ(history->last_commit, 0U);
  EXPECT_EQ(history->generation, 0U);
  EXPECT_EQ(history->restarts, 0U);
  EXPECT_THAT(history->checkpoints, IsEmpty());
}

TEST_F(JobStoreActorTest, TheHistorySaysHowTheLastStepWasDecided) {
  pb::CommitRecord record;
  for (std::uint64_t step = 1; step <= 2; ++step) {
    record.set_step(step);
    record.set_generation(3);
    record.set_skipped(step == 2);
    ASSERT_TRUE(tell(ledger_, AppendCommit{std::make_shared<const pb::CommitRecord>(record)}));
    const auto history = read_history(*store_, MixtureSpec{});
    ASSERT_TRUE(history);
    EXPECT_EQ(history->last_commit, step);
    EXPECT_EQ(history->last_generation, 3U);
    EXPECT_EQ(history->last_skipped, step == 2) << "who missed the verdict is told this";
  }
}

TEST_F(JobStoreActorTest, TheHistoryHasCheckpointsAndEvaluations) {
  save(4, "the state after step four");
  save(8, "the state after step eight");
  pb::EvaluationRecord record;
  record.set_checkpoint(8);
  ASSERT_TRUE(tell(ledger_, StoreEvaluation{std::make_shared<const pb::EvaluationRecord>(record)}));
  const auto history = read_history(*store_, MixtureSpec{});
  ASSERT_TRUE(history);
  EXPECT_THAT(history->checkpoints, ElementsAre(4, 8));
  EXPECT_EQ(history->base_hash, "base-hash");
  EXPECT_THAT(history->evaluated, ElementsAre(8));
}

// The budget is for the whole job, however often its coordinator dies; a new run has a new one.
TEST_F(JobStoreActorTest, TheHistoryCountsTheRestartsOfThisRun) {
  const auto restarts_after = [&](std::initializer_list<const char*> kinds) {
    for (const char* kind : kinds) {
      auto event = std::make_shared<pb::Event>();
      event->set_kind(kind);
      EXPECT_TRUE(tell(ledger_, AppendEvent{std::move(event)}));
    }
    return read_history(*store_, MixtureSpec{}).value().restarts;
  };
  EXPECT_EQ(restarts_after({"job_started", "restart", "generation", "restart"}), 2U);
  EXPECT_EQ(restarts_after({"job_resumed", "disagreement", "restart"}), 4U);
  EXPECT_EQ(restarts_after({"job_stopped", "job_resumed"}), 0U);
  EXPECT_EQ(restarts_after({"restart"}), 1U);
}

TEST_F(JobStoreActorTest, EvaluationsAndValuesAreStored) {
  pb::EvaluationRecord record;
  record.set_checkpoint(8);
  record.set_mean(0.25);
  ASSERT_TRUE(tell(ledger_, StoreEvaluation{std::make_shared<const pb::EvaluationRecord>(record)}));
  ASSERT_TRUE(tell(ledger_, StoreValue{"status", "done"}));
  EXPECT_EQ(store_->evaluations()->at(0).checkpoint(), 8U);
  EXPECT_EQ(store_->value("status")->value(), "done");
}

}  // namespace
}  // namespace crabcast::actors

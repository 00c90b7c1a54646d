// Whose store counts on a node, and how a copy becomes a job's store, whatever happens in between.
#include "actors/control/held_stores.h"

#include <gmock/gmock.h>

#include <fstream>

#include "storage/fence.h"
#include "tests/storage/fixtures.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;
using storage::JobStore;
using storage::must;
using storage::Sync;
using testing::HasSubstr;
using testing::IsEmpty;

class HeldStores : public testing::Test {
 protected:
  // Steps up to the checkpoint, all of the fence.
  void write(const fs::path& folder, std::uint64_t fence, std::uint64_t checkpoint) {
    auto store = must(JobStore::open(folder));
    must(storage::take_fence(*store, fence));
    for (std::uint64_t step = 1; step <= checkpoint; ++step) {
      auto record = storage::commit_record(step);
      record.set_fence(fence);
      must(store->append_commit(record, Sync::no));
    }
    if (checkpoint > 0) must(storage::write_checkpoint(*store, checkpoint));
  }
  void write_own(std::uint64_t fence, std::uint64_t checkpoint) { write(own_, fence, checkpoint); }
  void write_copy(std::uint64_t fence, std::uint64_t checkpoint) {
    write(state_.replica("job-1"), fence, checkpoint);
  }
  // "FENCE/CHECKPOINT" of the store that counts.
  std::string held() {
    const auto store = held_store(state_, "job-1");
    if (!store) return "none";
    EXPECT_EQ(store->job(), "job-1");
    return std::to_string(store->fence()) + "/" + std::to_string(store->newest_checkpoint());
  }
  std::optional<std::uint64_t> restore() { return must(restore_store(state_, "job-1", "node-b")); }
  // The job's own store is the one of this fence, whole, and the copy is gone.
  void expect_restored(std::uint64_t fence, std::uint64_t checkpoint) {
    EXPECT_FALSE(fs::exists(state_.replica("job-1")));
    auto store = must(JobStore::open(own_));
    EXPECT_EQ(must(storage::fence_of(*store)), fence);
    EXPECT_EQ(must(store->last_commit())->fence(), fence);
    EXPECT_EQ(storage::ids_of(*store), (std::vector<std::uint64_t>{checkpoint}));
    storage::expect_all_verify(*store);
    EXPECT_THAT(
        must(store->value(kRestoredKey)).value(),
        HasSubstr("checkpoint " + std::to_string(checkpoint) + " of the copy on node node-b"));
  }

  storage::TempFolder folder_;
  StateFolder state_{folder_.path()};
  fs::path own_ = StateFolder::store(state_.job("job-1"));
};

TEST_F(HeldStores, NothingIsHeldWithoutACheckpoint) {
  EXPECT_EQ(held(), "none");
  write_copy(1, 0);
  EXPECT_EQ(held(), "none");
  EXPECT_FALSE(restore()) << "an empty copy replaces nothing";
  EXPECT_THAT(held_stores(state_), IsEmpty());
}

TEST_F(HeldStores, TheLastCommitOfTheCheckpointDecides) {
  write_own(1, 8);
  EXPECT_EQ(held(), "1/8");
  write_copy(1, 4);
  EXPECT_EQ(held(), "1/8");
  {  // a later coordinator has begun to write the copy, and got nowhere yet
    must(storage::take_fence(*must(JobStore::open(state_.replica("job-1"))), 2));
  }
  EXPECT_EQ(held(), "1/8") << "who opened it last says nothing of what is in it";
  EXPECT_FALSE(restore());
  EXPECT_EQ(held_stores(state_).size(), 1U);
}

TEST_F(HeldStores, ACopyBecomesTheStoreWhereTheOwnIsGone) {
  write_copy(1, 4);
  EXPECT_EQ(held(), "1/4");
  EXPECT_EQ(restore(), 4U);
  expect_restored(1, 4);
  EXPECT_FALSE(restore()) << "it is restored once";
  EXPECT_EQ(held(), "1/4");
}

TEST_F(HeldStores, AnOlderStoreIsSetAsideAndNotDeleted) {
  write_own(1, 12);
  write_copy(2, 8);
  EXPECT_EQ(held(), "2/8") << "its history counts, however far the other one got";
  EXPECT_EQ(restore(), 8U);
  expect_restored(2, 8);
  const auto aside = must(JobStore::open_read_only(own_.string() + ".superseded-1"));
  EXPECT_EQ(must(aside->last_commit())->step(), 12U);
}

TEST_F(HeldStores, AnOlderStoreIsSetAsideWhileTheJobRunsElsewhere) {
  write_own(1, 12);
  write_copy(1, 8);
  EXPECT_FALSE(must(set_older_aside(state_, "job-1")));
  fs::remove_all(state_.replica("job-1"));
  EXPECT_FALSE(must(set_older_aside(state_, "job-1")));
  write_copy(2, 4);
  EXPECT_TRUE(must(set_older_aside(state_, "job-1")));
  EXPECT_FALSE(fs::exists(own_));
  EXPECT_TRUE(fs::exists(own_.string() + ".superseded-1"));
  EXPECT_TRUE(fs::exists(state_.replica("job-1")));
  write_own(1, 2);
  EXPECT_TRUE(must(set_older_aside(state_, "job-1")));
  EXPECT_TRUE(fs::exists(own_.string() + ".superseded-1.2")) << "both stay";
}

// What a crash leaves behind after each step of a restore: the next one does the rest.
TEST_F(HeldStores, ARestoreIsFinishedAfterACrashAtAnyPoint) {
  for (int crashed_after = 0; crashed_after <= 4; ++crashed_after) {
    fs::remove_all(folder_.path());
    write_own(1, 12);
    write_copy(2, 8);
    if (crashed_after >= 1)  // the note is written, for another node's name
      must(must(JobStore::open(state_.replica("job-1")))->put_value(kRestoredKey, "x", Sync::yes));
    if (crashed_after >= 2) must(set_aside(own_, 1));
    if (crashed_after >= 3) fs::rename(state_.replica("job-1"), own_);
    if (crashed_after >= 4) fs::remove(state_.replica("job-1").parent_path());
    EXPECT_EQ(held(), "2/8") << crashed_after;
    const auto restored = restore();
    EXPECT_EQ(restored.has_value(), crashed_after < 3) << crashed_after;
    if (restored) expect_restored(2, 8);
    EXPECT_EQ(held(), "2/8") << crashed_after;
    EXPECT_TRUE(fs::exists(own_.string() + ".superseded-1")) << crashed_after;
    EXPECT_FALSE(fs::exists(own_.string() + ".superseded-2")) << crashed_after;
  }
}

TEST_F(HeldStores, ACopyThatCannotBeOpenedReplacesNothing) {
  write_own(1, 4);
  write_copy(2, 8);
  for (const auto& file : fs::directory_iterator(state_.replica("job-1")))
    if (file.path().filename().string().starts_with("MANIFEST-"))  // RocksDB's list of files
      std::ofstream(file.path(), std::ios::binary) << "not a list";
  EXPECT_EQ(restore_store(state_, "job-1", "node-b").error().code, Errc::corrupt);
  EXPECT_TRUE(fs::exists(own_));
  EXPECT_EQ(held(), "none") << "which of the two counts is not known";
}

}  // namespace
}  // namespace crabcast::actors

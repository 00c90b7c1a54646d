// The scrub finds a flipped byte by itself and says so once.
#include "actors/control/scrub.h"

#include <gmock/gmock.h>

#include <condition_variable>
#include <fstream>
#include <mutex>

#include "actors/control/store_actors.h"
#include "tests/control/store_fixture.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;
using testing::StartsWith;

constexpr std::size_t kChunk = 8000;  // more than a block of RocksDB, so that damage stays in one

class ScrubTest : public StoreActorTest {
 protected:
  ScrubTest() {
    open();
    for (const std::uint64_t id : {10, 20, 30})
      storage::must(storage::write_checkpoint(*store_, id, {.chunks = 20, .chunk_bytes = kChunk}));
    job_ = keep(system_.spawn([this](caf::event_based_actor*) -> caf::behavior {
      return {[this](const DamageFound& damage) {
        const std::lock_guard lock(mutex_);
        found_.push_back(damage.report);
        arrived_.notify_all();
      }};
    }));
  }
  void open() { store_ = storage::JobStore::open(folder_ / "store").value(); }
  void flip_a_byte(std::uint64_t checkpoint, std::uint32_t chunk) {
    store_.reset();
    const std::string needle = storage::chunk_bytes(checkpoint, chunk, kChunk);
    for (const auto& entry : fs::directory_iterator(folder_ / "store")) {
      if (!entry.is_regular_file()) continue;
      std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      const auto at = bytes.find(needle);
      if (at == std::string::npos) continue;
      file.clear();
      file.seekp(static_cast<std::streamoff>(at) + 500);
      file.put(static_cast<char>(bytes[at + 500] ^ 1));
    }
    open();
  }
  std::optional<storage::VerifyReport> next_finding(Duration patience = kPatience) {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, patience, [this] { return !found_.empty(); })) return {};
    auto first = found_.front();
    found_.erase(found_.begin());
    return first;
  }
  void scrub() { keep(spawn_scrub(system_, store_, std::chrono::milliseconds(5), job_)); }

  std::shared_ptr<storage::JobStore> store_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<storage::VerifyReport> found_;
  caf::actor job_;
};

TEST_F(ScrubTest, FindsDamageAndTheNewestGoodOneIsTakenAndKept) {
  flip_a_byte(30, 17);
  scrub();
  const auto found = next_finding();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->id, CheckpointId(30));
  EXPECT_THAT(found->problems.at(0), StartsWith("chunk/00000030/00000017"));

  CheckpointSpec retention;
  retention.keep_last = 1;
  const auto ledger = keep(spawn_ledger(system_, store_, retention));
  ASSERT_TRUE(tell(ledger, MarkDamaged{*found}));
  EXPECT_EQ(store_->damages()->size(), 1U);
  EXPECT_EQ(ask<FoundCheckpoint>(ledger, FindNewest{})->id, 20U);
  ASSERT_TRUE(tell(ledger, Retain{{}}));
  EXPECT_EQ(storage::ids_of(*store_), std::vector<std::uint64_t>({20}))
      << "the damaged one takes no good one's place";
}

TEST_F(ScrubTest, CommitsAndSavesGoOnMeanwhile) {
  scrub();
  for (std::uint64_t step = 1; step <= 50; ++step) {
    storage::must(store_->append_commit(storage::commit_record(step), storage::Sync::yes));
    if (step % 10 == 0) {
      storage::must(storage::write_checkpoint(*store_, 100 + step));
      storage::must(store_->apply_retention({.last = 2, .best = 0}, {}));
    }
  }
  // What retention took while it was read is no damage.
  EXPECT_FALSE(next_finding(std::chrono::milliseconds(50)));
}

TEST_F(ScrubTest, ResumeMarksWhatItFindsDamaged) {
  flip_a_byte(30, 2);
  const auto ledger = keep(spawn_ledger(system_, store_, CheckpointSpec{}));
  auto found = ask<FoundCheckpoint>(ledger, FindNewest{});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->id, 20U);
  EXPECT_EQ(found->problems.size(), 1U);
  EXPECT_EQ(store_->damages()->size(), 1U) << "the next one need not read it";
  EXPECT_EQ(ask<FoundCheckpoint>(ledger, FindNewest{})->problems, found->problems);
}

TEST_F(ScrubTest, PinsGoThroughTheLedger) {
  const auto ledger = keep(spawn_ledger(system_, store_, CheckpointSpec{}));
  ASSERT_TRUE(tell(ledger, SetPin{10, pb::CheckpointPin()}));
  EXPECT_TRUE(store_->pins()->contains(CheckpointId(10)));
  ASSERT_TRUE(tell(ledger, SetPin{10, std::nullopt}));
  EXPECT_EQ(tell(ledger, SetPin{99, pb::CheckpointPin()}).error().code, Errc::not_found);
}

}  // namespace
}  // namespace crabcast::actors

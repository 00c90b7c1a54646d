// Writing, reading, verifying and keeping checkpoints (C-1, C-2).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <fstream>
#include <iterator>
#include <thread>

#include "storage/job_keys.h"
#include "storage/job_store.h"
#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() { reopen(); }
  void reopen() {
    store_.reset();
    store_ = must(JobStore::open(store_folder()));
  }
  fs::path store_folder() const { return folder_ / "store"; }

  // A copy of the closed store, with one byte changed at `offset` after `needle`.
  fs::path damaged_copy(const std::string& needle, std::ptrdiff_t offset) {
    store_.reset();
    const fs::path copy = folder_ / ("copy-" + std::to_string(++copies_));
    fs::copy(store_folder(), copy, fs::copy_options::recursive);
    reopen();
    for (const auto& entry : fs::directory_iterator(copy)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::string bytes((std::istreambuf_iterator<char>(in)), {});
      const std::size_t found = bytes.find(needle);
      if (found == std::string::npos) continue;
      std::fstream out(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
      const auto position = static_cast<std::ptrdiff_t>(found) + offset;
      out.seekp(position);
      out.put(static_cast<char>(bytes.at(static_cast<std::size_t>(position)) ^ 1));
      return copy;
    }
    ADD_FAILURE() << "the bytes are in no file";
    return copy;
  }

  fs::path only_sst(const fs::path& folder) {
    fs::path found;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".sst" && entry.file_size() > 40'000) found = entry.path();
    return found;
  }

  TempFolder folder_;
  std::unique_ptr<JobStore> store_;
  int copies_ = 0;
};

TEST_F(CheckpointTest, ReadsBackWhatWasWritten) {
  const CheckpointShape shape{.chunks = 3, .chunk_bytes = 200'000};
  must(write_checkpoint(*store_, 50, shape));
  reopen();
  EXPECT_THAT(ids_of(*store_), ElementsAre(50));
  const pb::CheckpointManifest manifest = must(store_->manifest(CheckpointId(50)));
  EXPECT_EQ(manifest.SerializeAsString(), manifest_of(50, shape).SerializeAsString());
  for (std::uint32_t i = 0; i < 3; ++i)
    EXPECT_EQ(must(store_->read_chunk(CheckpointId(50), i)), chunk_bytes(50, i, 200'000));
  std::vector<std::uint32_t> seen;
  must(store_->for_each_chunk(CheckpointId(50), [&](const auto& entry, auto bytes) {
    EXPECT_EQ(bytes.size(), entry.bytes());
    seen.push_back(entry.index());
    return seen.size() < 2;
  }));
  EXPECT_THAT(seen, ElementsAre(0, 1));
  const VerifyReport report = must(store_->verify(CheckpointId(50)));
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.chunks, 3U);
  EXPECT_EQ(report.bytes, 600'000U);
  EXPECT_EQ(store_->read_chunk(CheckpointId(50), 3).error().code, Errc::invalid_argument);
  EXPECT_EQ(store_->read_chunk(CheckpointId(51), 0).error().code, Errc::not_found);
  EXPECT_EQ(store_->verify(CheckpointId(51)).error().code, Errc::not_found);
}

TEST_F(CheckpointTest, ListsOldestFirstInOrderOfNumbers) {
  for (const std::uint64_t id : {300, 20, 1000}) must(write_checkpoint(*store_, id));
  EXPECT_THAT(ids_of(*store_), ElementsAre(20, 300, 1000));
  EXPECT_EQ(must(store_->checkpoints()).at(2).id(), 1000U);
}

TEST_F(CheckpointTest, C1InvisibleUntilCommit) {
  auto writer = must(store_->begin_checkpoint(CheckpointId(50)));
  const std::string bytes = chunk_bytes(50, 0, 1000);
  must(writer->put_chunk(make_chunk_entry(0, as_span(bytes)), as_span(bytes)));
  EXPECT_THAT(ids_of(*store_), IsEmpty());
  EXPECT_EQ(files_in(store_folder() / "incoming"), 1U);
  writer.reset();
  EXPECT_EQ(files_in(store_folder() / "incoming"), 0U);
  EXPECT_FALSE(must(store_->newest_verified([](const VerifyReport&) {})).has_value());
}

TEST_F(CheckpointTest, C1RefusesBytesThatAreNotTheirSource) {
  std::string bytes = chunk_bytes(50, 0, 1000);
  const pb::ChunkEntry entry = make_chunk_entry(0, as_span(bytes));
  bytes[999] ^= 4;
  auto writer = must(store_->begin_checkpoint(CheckpointId(50)));
  const Status status = writer->put_chunk(entry, as_span(bytes));
  EXPECT_EQ(status.error().code, Errc::corrupt);
  EXPECT_THAT(status.error().message, StartsWith("chunk/00000050/00000000"));
  EXPECT_EQ(writer->commit(manifest_of(50)).error().code, Errc::corrupt);
  EXPECT_EQ(files_in(store_folder() / "incoming"), 0U);
}

TEST_F(CheckpointTest, C1RefusesAManifestThatIsNotWhatWasWritten) {
  const auto attempt = [this](const auto& change) {
    auto writer = must(store_->begin_checkpoint(CheckpointId(50)));
    pb::CheckpointManifest manifest = manifest_of(50);
    for (std::uint32_t i = 0; i < 3; ++i) {
      const std::string bytes = chunk_bytes(50, i, CheckpointShape().chunk_bytes);
      must(writer->put_chunk(manifest.chunks(static_cast<int>(i)), as_span(bytes)));
    }
    change(manifest);
    const Status status = writer->commit(manifest);
    return status ? Errc::ok : status.error().code;
  };
  EXPECT_EQ(attempt([](auto& m) { m.set_id(51); }), Errc::invalid_argument);
  EXPECT_EQ(attempt([](auto& m) { m.mutable_chunks()->RemoveLast(); }), Errc::invalid_argument);
  EXPECT_EQ(attempt([](auto& m) { m.mutable_chunks(1)->set_xxh3_low(1); }), Errc::invalid_argument);
  EXPECT_EQ(attempt([](auto& m) { m.set_bytes(1); }), Errc::invalid_argument);
  EXPECT_EQ(attempt([](auto& m) { m.mutable_tensors(0)->set_offset(1); }), Errc::invalid_argument);
  EXPECT_THAT(ids_of(*store_), IsEmpty());
  EXPECT_EQ(attempt([](auto&) {}), Errc::ok);
  EXPECT_THAT(ids_of(*store_), ElementsAre(50));
}

TEST_F(CheckpointTest, ChunksComeInOrderAndOfBoundedSize) {
  const std::string bytes = chunk_bytes(50, 0, 10);
  auto writer = must(store_->begin_checkpoint(CheckpointId(50)));
  EXPECT_EQ(writer->put_chunk(make_chunk_entry(1, as_span(bytes)), as_span(bytes)).error().code,
            Errc::invalid_argument);
  writer = must(store_->begin_checkpoint(CheckpointId(50)));
  const std::string large(kChunkBytes + 1, 'x');
  EXPECT_EQ(writer->put_chunk(make_chunk_entry(0, as_span(large)), as_span(large)).error().code,
            Errc::invalid_argument);
  writer = must(store_->begin_checkpoint(CheckpointId(50)));
  pb::CheckpointManifest empty;
  empty.set_id(50);
  EXPECT_EQ(writer->commit(empty).error().code, Errc::invalid_argument);
}

TEST_F(CheckpointTest, AWriterIsDoneAfterItsCommit) {
  auto writer = must(store_->begin_checkpoint(CheckpointId(7)));
  const pb::CheckpointManifest manifest = manifest_of(7, {.chunks = 1, .chunk_bytes = 10});
  const std::string bytes = chunk_bytes(7, 0, 10);
  must(writer->put_chunk(manifest.chunks(0), as_span(bytes)));
  must(writer->commit(manifest));
  EXPECT_EQ(writer->commit(manifest).error().code, Errc::invalid_argument);
  writer.reset();
  expect_all_verify(*store_);
}

TEST_F(CheckpointTest, ASecondWriteOfAnIdReplacesTheFirst) {
  must(write_checkpoint(*store_, 50, {.chunks = 3, .chunk_bytes = 100'000}));
  auto given_up = must(store_->begin_checkpoint(CheckpointId(50)));
  const std::string bytes = chunk_bytes(1, 0, 10);
  must(given_up->put_chunk(make_chunk_entry(0, as_span(bytes)), as_span(bytes)));
  given_up.reset();
  EXPECT_EQ(must(store_->verify(CheckpointId(50))).bytes, 300'000U);
  must(write_checkpoint(*store_, 50, {.chunks = 1, .chunk_bytes = 50'000}));
  EXPECT_EQ(must(store_->verify(CheckpointId(50))).bytes, 50'000U);
  expect_all_verify(*store_);
  EXPECT_LT(bytes_of_sst_files(store_folder()), 100'000U);
}

TEST_F(CheckpointTest, AWriterOutlivesItsStore) {
  auto writer = must(store_->begin_checkpoint(CheckpointId(50)));
  const pb::CheckpointManifest manifest = manifest_of(50, {.chunks = 1, .chunk_bytes = 10});
  const std::string bytes = chunk_bytes(50, 0, 10);
  must(writer->put_chunk(manifest.chunks(0), as_span(bytes)));
  store_.reset();
  must(writer->commit(manifest));
  writer.reset();
  reopen();
  expect_all_verify(*store_);
  EXPECT_THAT(ids_of(*store_), ElementsAre(50));
}

TEST_F(CheckpointTest, AWriterMayBeFedFromAnotherThreadThanTheLedgers) {
  std::thread feeder([this] {
    for (std::uint64_t id = 1; id <= 10; ++id) {
      const Status status = write_checkpoint(*store_, id);
      EXPECT_TRUE(status.has_value());
    }
  });
  for (std::uint64_t step = 1; step <= 200; ++step)
    must(store_->append_commit(commit_record(step), step % 20 == 0 ? Sync::yes : Sync::no));
  feeder.join();
  expect_all_verify(*store_);
  EXPECT_EQ(ids_of(*store_).size(), 10U);
  expect_ledger(*store_, 200);
}

TEST_F(CheckpointTest, VerifyNamesTheChunkOfAChangedByte) {
  must(write_checkpoint(*store_, 50));
  must(write_checkpoint(*store_, 100));
  for (const std::uint32_t index : {0U, 2U}) {
    for (const std::ptrdiff_t offset : {0, 1, 9000, 16383}) {
      const std::string needle = chunk_bytes(100, index, 16 << 10).substr(0, 64);
      const fs::path copy = damaged_copy(needle, offset);
      const auto store = must(JobStore::open_read_only(copy));
      const VerifyReport report = must(store->verify(CheckpointId(100)));
      ASSERT_EQ(report.problems.size(), 1U);
      EXPECT_THAT(report.problems[0], StartsWith(text_of_chunk(CheckpointId(100), index)));
      const auto chunk = store->read_chunk(CheckpointId(100), index);
      ASSERT_FALSE(chunk.has_value());
      EXPECT_EQ(chunk.error().code, Errc::corrupt);
      EXPECT_TRUE(must(store->verify(CheckpointId(50))).ok());
    }
  }
  expect_all_verify(*store_);
}

TEST_F(CheckpointTest, WalksBackToTheNewestThatVerifies) {
  for (const std::uint64_t id : {50, 100, 150}) must(write_checkpoint(*store_, id));
  const fs::path copy = damaged_copy(chunk_bytes(150, 1, 16 << 10).substr(0, 64), 5);
  const auto store = must(JobStore::open(copy));
  std::vector<std::string> problems;
  const auto newest = must(store->newest_verified(
      [&](const VerifyReport& report) { problems.push_back(report.problems.at(0)); }));
  ASSERT_TRUE(newest.has_value());
  EXPECT_EQ(newest->id(), 100U);
  EXPECT_THAT(problems, ElementsAre(StartsWith("chunk/00000150/00000001")));
  const auto older = [&](std::uint64_t at_most) {
    return must(
        store->newest_verified_up_to(CheckpointId(at_most), [](const VerifyReport&) { FAIL(); }));
  };
  EXPECT_EQ(older(100)->id(), 100U) << "newer ones are not looked at";
  EXPECT_EQ(older(99)->id(), 50U);
  EXPECT_FALSE(older(49).has_value());
}

// Damage to what RocksDB reads when it opens a file: the rest of the store stays usable.
TEST_F(CheckpointTest, AnUnreadableFileCostsItsCheckpointOnly) {
  must(store_->append_commit(commit_record(1), Sync::yes));
  must(write_checkpoint(*store_, 50, {.chunks = 2, .chunk_bytes = 1000}));
  must(write_checkpoint(*store_, 100));
  store_.reset();
  const fs::path file = only_sst(store_folder());
  fs::resize_file(file, fs::file_size(file) - 7);
  {
    const auto reader = must(JobStore::open_read_only(store_folder()));
    const VerifyReport report = must(reader->verify(CheckpointId(100)));
    EXPECT_EQ(report.problems.size(), 3U);
    EXPECT_THAT(report.problems.front(), StartsWith("chunk/00000100/00000000"));
    EXPECT_TRUE(must(reader->verify(CheckpointId(50))).ok());
  }
  reopen();
  EXPECT_THAT(ids_of(*store_), ElementsAre(50, 100));
  EXPECT_EQ(must(store_->verify(CheckpointId(100))).problems.size(), 3U);
  EXPECT_EQ(must(store_->newest_verified([](const VerifyReport&) {}))->id(), 50U);
  expect_ledger(*store_, 1);
  must(write_checkpoint(*store_, 100));
  expect_all_verify(*store_);
}

TEST_F(CheckpointTest, ALostFileCostsItsCheckpointOnly) {
  must(write_checkpoint(*store_, 50, {.chunks = 2, .chunk_bytes = 1000}));
  must(write_checkpoint(*store_, 100));
  store_.reset();
  fs::remove(only_sst(store_folder()));
  reopen();
  EXPECT_THAT(must(store_->verify(CheckpointId(100))).problems.at(0),
              HasSubstr("chunk/00000100/00000000: the chunk is missing"));
  EXPECT_EQ(must(store_->newest_verified([](const VerifyReport&) {}))->id(), 50U);
}

// A change that RocksDB's own checksums cannot see, because it was written through RocksDB.
TEST_F(CheckpointTest, VerifyNamesADamagedManifest) {
  must(write_checkpoint(*store_, 50));
  must(write_checkpoint(*store_, 100));
  store_.reset();
  {
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(
        rocksdb::DB::Open({}, store_folder(), {{"default", {}}, {"chunk", {}}}, &handles, &raw)
            .ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    const std::string key = key_of(JobKey::manifest, 100);
    std::string value;
    ASSERT_TRUE(db->Get({}, key, &value).ok());
    value[20] ^= 1;
    ASSERT_TRUE(db->Put({}, key, value).ok());
    for (auto* handle : handles) ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
  }
  reopen();
  EXPECT_THAT(ids_of(*store_), ElementsAre(50, 100));
  EXPECT_THAT(must(store_->verify(CheckpointId(100))).problems,
              ElementsAre(StartsWith("manifest/00000100: ")));
  EXPECT_EQ(store_->checkpoints().error().code, Errc::corrupt);
  must(store_->mark_damaged(must(store_->verify(CheckpointId(100)))));
  EXPECT_EQ(must(store_->damages()).count(CheckpointId(100)), 1U);
  EXPECT_EQ(must(store_->newest_verified([](const VerifyReport&) {}))->id(), 50U);
  must(write_checkpoint(*store_, 100));
  expect_all_verify(*store_);
  EXPECT_THAT(must(store_->damages()), IsEmpty());
}

class RetentionTest : public CheckpointTest {
 protected:
  void score(std::uint64_t checkpoint, double mean) {
    pb::EvaluationRecord record;
    record.set_checkpoint(checkpoint);
    record.set_mean(mean);
    must(store_->put_evaluation(record, Sync::no));
  }
};

TEST_F(RetentionTest, KeepsLastAndBestAndInUse) {
  for (std::uint64_t id = 1; id <= 8; ++id) must(write_checkpoint(*store_, id));
  score(2, 0.9);
  score(3, 0.9);
  score(4, 0.1);
  score(7, 0.5);
  const auto dropped =
      must(store_->apply_retention({.last = 2, .best = 1}, {CheckpointId(5), CheckpointId(99)}));
  EXPECT_THAT(dropped,
              ElementsAre(CheckpointId(1), CheckpointId(2), CheckpointId(4), CheckpointId(6)));
  EXPECT_THAT(ids_of(*store_), ElementsAre(3, 5, 7, 8));
  expect_all_verify(*store_);
  EXPECT_THAT(must(store_->apply_retention({.last = 2, .best = 1}, {CheckpointId(5)})), IsEmpty());
  must(store_->apply_retention({.last = 0, .best = 0}, {}));
  EXPECT_THAT(ids_of(*store_), ElementsAre(8));
  reopen();
  EXPECT_THAT(ids_of(*store_), ElementsAre(8));
}

// A history that was given up leaves nothing that could be found again.
TEST_F(RetentionTest, WhatIsVoidIsDeletedPinnedOrNot) {
  for (std::uint64_t id = 1; id <= 5; ++id) must(write_checkpoint(*store_, id));
  must(store_->pin(CheckpointId(4), pb::CheckpointPin()));
  must(store_->drop_checkpoints_after(CheckpointId(3)));
  EXPECT_THAT(ids_of(*store_), ElementsAre(1, 2, 3));
  EXPECT_THAT(must(store_->pins()), IsEmpty());
  must(store_->drop_checkpoints_after(CheckpointId(3)));
  reopen();
  EXPECT_THAT(ids_of(*store_), ElementsAre(1, 2, 3));
  expect_all_verify(*store_);
}

TEST_F(RetentionTest, GivesTheRoomBack) {
  for (std::uint64_t id = 1; id <= 5; ++id)
    must(write_checkpoint(*store_, id, {.chunks = 2, .chunk_bytes = 200'000}));
  EXPECT_GT(bytes_of_sst_files(store_folder()), 2'000'000U);
  must(store_->apply_retention({.last = 1, .best = 0}, {}));
  EXPECT_LT(bytes_of_sst_files(store_folder()), 420'000U);
}

TEST_F(RetentionTest, C2NeverDropsTheNewestThatVerifies) {
  for (std::uint64_t id = 1; id <= 5; ++id) must(write_checkpoint(*store_, id));
  const fs::path once = damaged_copy(chunk_bytes(5, 0, 16 << 10).substr(0, 64), 1);
  store_ = must(JobStore::open(once));
  EXPECT_THAT(must(store_->apply_retention({.last = 1, .best = 0}, {})),
              ElementsAre(CheckpointId(1), CheckpointId(2), CheckpointId(3)));
  EXPECT_EQ(must(store_->newest_verified([](const VerifyReport&) {}))->id(), 4U);
}

TEST_F(RetentionTest, C2DropsNothingWhenNothingVerifies) {
  must(write_checkpoint(*store_, 1));
  store_.reset();
  fs::remove(only_sst(store_folder()));
  reopen();
  auto writer = must(store_->begin_checkpoint(CheckpointId(2)));
  EXPECT_THAT(must(store_->apply_retention({.last = 1, .best = 0}, {})), IsEmpty());
  EXPECT_THAT(ids_of(*store_), ElementsAre(1));
}

}  // namespace
}  // namespace crabcast::storage

#include <gtest/gtest.h>

#include <set>

#include "storage/job_store.h"
#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    names.insert(fs::relative(entry.path(), folder));
  return names;
}

TEST(ReadOnly, CreatesNothingAndWritesNothing) {
  TempFolder folder;
  {
    auto store = must(JobStore::open(folder / "store"));
    must(store->append_commit(commit_record(1), Sync::yes));
    must(write_checkpoint(*store, 1));
  }
  const auto names = names_in(folder.path());
  {
    auto store = must(JobStore::open_read_only(folder / "store"));
    expect_ledger(*store, 1);
    expect_all_verify(*store);
    EXPECT_EQ(store->append_commit(commit_record(2), Sync::no).error().code,
              Errc::permission_denied);
    EXPECT_EQ(store->append_event({}, Sync::no).error().code, Errc::permission_denied);
    EXPECT_EQ(store->rewind_ledger(Step(0)).error().code, Errc::permission_denied);
    EXPECT_EQ(store->put_value("a", "b", Sync::no).error().code, Errc::permission_denied);
    EXPECT_EQ(store->begin_checkpoint(CheckpointId(2)).error().code, Errc::permission_denied);
    EXPECT_EQ(names_in(folder.path()), names);
  }
  EXPECT_EQ(names_in(folder.path()), names);
}

TEST(ReadOnly, SeesUnflushedRecordsOfALivingWriter) {
  TempFolder folder;
  auto writer = must(JobStore::open(folder / "store"));
  for (std::uint64_t step = 1; step <= 20; ++step)
    must(writer->append_commit(commit_record(step), Sync::no));
  must(write_checkpoint(*writer, 20));
  const auto names = names_in(folder.path());
  const auto reader = must(JobStore::open_read_only(folder / "store"));
  EXPECT_EQ(names_in(folder.path()), names);
  expect_ledger(*reader, 20);
  EXPECT_TRUE(must(reader->verify(CheckpointId(20))).ok());
  // A reader keeps what it opened, even when the writer drops it.
  must(write_checkpoint(*writer, 30));
  must(writer->apply_retention({.last = 1, .best = 0}, {}));
  EXPECT_EQ(ids_of(*writer), std::vector<std::uint64_t>({30}));
  EXPECT_EQ(ids_of(*reader), std::vector<std::uint64_t>({20}));
  EXPECT_TRUE(must(reader->verify(CheckpointId(20))).ok());
}

// Records of many write buffers: the log is switched and files are merged while readers open.
TEST(ReadOnly, SeesAWholeLedgerWhileFilesChange) {
  TempFolder folder;
  auto writer = must(JobStore::open(folder / "store"));
  const std::string filler(64 << 10, 'x');
  for (std::uint64_t step = 1; step <= 300; ++step) {
    must(writer->append_commit(commit_record(step), Sync::no));
    must(writer->put_value("filler", filler + std::to_string(step), Sync::no));
    if (step % 10 != 0) continue;
    const auto reader = must(JobStore::open_read_only(folder / "store"));
    ASSERT_EQ(must(reader->last_commit())->step(), step);
    expect_ledger(*reader, step);
  }
}

}  // namespace
}  // namespace crabcast::storage

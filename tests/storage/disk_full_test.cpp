// A disk that cannot be written: full, read-only or broken at each single operation, and full on a
// real small file system.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>

#include "storage/open_with_env.h"
#include "tests/storage/fault_fs.h"
#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;

// OK, or refused for this reason; anything else is a wrong answer.
template <class T>
bool stored(const Result<T>& result, Errc reason = Errc::disk_full) {
  if (!result) {
    EXPECT_EQ(result.error().code, reason) << result.error().message;
  }
  return result.has_value();
}

class DiskFullTest : public testing::Test {
 protected:
  DiskFullTest() {
    auto store = must(JobStore::open(base_));
    for (std::uint64_t step = 1; step <= 5; ++step)
      must(store->append_commit(commit_record(step), Sync::yes));
    must(write_checkpoint(*store, 5));
  }

  // A fresh copy of a store with 5 commits and one checkpoint.
  fs::path fresh_copy() {
    const fs::path copy = folder_ / "copy";
    fs::remove_all(copy);
    fs::copy(base_, copy, fs::copy_options::recursive);
    return copy;
  }

  TempFolder folder_;
  fs::path base_ = folder_ / "base";
};

struct DiskTrouble {
  const char* name;
  FaultFs::Fault fault;
  Errc code;
};
class DiskTroubleTest : public DiskFullTest, public testing::WithParamInterface<DiskTrouble> {};
INSTANTIATE_TEST_SUITE_P(
    Faults, DiskTroubleTest,
    testing::Values(DiskTrouble{"full", FaultFs::Fault::disk_full, Errc::disk_full},
                    DiskTrouble{"read_only", FaultFs::Fault::read_only, Errc::permission_denied},
                    DiskTrouble{"broken", FaultFs::Fault::io_error, Errc::io_error}),
    [](const auto& info) { return info.param.name; });

TEST_P(DiskTroubleTest, AtEachOperationTheStoreStaysUsable) {
  const Errc code = GetParam().code;
  int operations = 0;
  for (bool struck = true; struck && operations < 500; ++operations) {
    SCOPED_TRACE("the trouble begins after operation " + std::to_string(operations));
    const fs::path copy = fresh_copy();
    std::uint64_t last = 5;
    {
      FaultDisk disk;
      auto store = must(open_job_store(copy, disk.env.get()));
      disk.fs->arm(GetParam().fault, operations);
      const bool second = stored(write_checkpoint(*store, 6), code);
      while (last < 8 && stored(store->append_commit(commit_record(last + 1), Sync::yes), code))
        ++last;
      const bool pinned = stored(store->pin(CheckpointId(5), pb::CheckpointPin()), code);
      struck = disk.fs->struck();

      // A write that failed may be there all the same, whole: nobody could tell.
      const std::uint64_t found = must(store->last_commit())->step();
      EXPECT_TRUE(found == last || found == last + 1) << found << " after " << last;
      const std::vector<std::uint64_t> ids = ids_of(*store);
      EXPECT_EQ(ids.front(), 5U);
      EXPECT_LE(ids.size(), 2U);
      if (second) {
        EXPECT_EQ(ids.back(), 6U);
      }
      expect_all_verify(*store);
      // What cannot be deleted now, the next opening deletes.
      if (GetParam().fault != FaultFs::Fault::read_only) {
        EXPECT_EQ(files_in(copy / "incoming"), 0U);
      }
      if (pinned) {
        EXPECT_EQ(must(store->pins()).size(), 1U);
      }

      disk.fs->disarm();  // there is room again
      ++last;
      must(store->append_commit(commit_record(last), Sync::yes));
      must(write_checkpoint(*store, 9));
      must(store->pin(CheckpointId(9), pb::CheckpointPin()));
      must(store->compact());
      expect_all_verify(*store);
    }
    auto store = must(JobStore::open(copy));
    expect_ledger(*store, last);
    expect_all_verify(*store);
    EXPECT_EQ(ids_of(*store).back(), 9U);
    EXPECT_TRUE(must(store->pins()).contains(CheckpointId(9)));
    EXPECT_EQ(files_in(copy / "incoming"), 0U);
    if (HasFailure()) return;
  }
  EXPECT_GT(operations, 15) << "there was never trouble";
  EXPECT_LT(operations, 500) << "there was always trouble";
}

TEST_F(DiskFullTest, OpeningOnAFullDiskLosesNothing) {
  int operations = 0;
  for (bool opened = false; !opened && operations < 200; ++operations) {
    SCOPED_TRACE("the disk is full after operation " + std::to_string(operations));
    const fs::path copy = fresh_copy();
    {
      FaultDisk disk;
      disk.fs->arm(FaultFs::Fault::disk_full, operations);
      opened = stored(open_job_store(copy, disk.env.get()));
    }
    auto store = must(JobStore::open(copy));
    expect_ledger(*store, 5);
    expect_all_verify(*store);
    EXPECT_EQ(ids_of(*store).size(), 1U);
    if (HasFailure()) return;
  }
  EXPECT_GT(operations, 5);
  EXPECT_LT(operations, 200);
}

TEST_F(DiskFullTest, ACheckpointLeavesRoomForTheLedger) {
  FaultDisk disk;
  auto store = must(open_job_store(base_, disk.env.get()));
  auto writer = must(store->begin_checkpoint(CheckpointId(6)));
  const std::string bytes = chunk_bytes(6, 0, kChunkBytes);
  const pb::ChunkEntry entry = make_chunk_entry(0, as_span(bytes));
  constexpr std::uint64_t kJustEnough = (8ULL << 20) + kChunkBytes;
  disk.fs->set_free_space(kJustEnough);
  must(writer->put_chunk(entry, as_span(bytes)));
  disk.fs->set_free_space(kJustEnough - 1);
  const Status status = writer->put_chunk(make_chunk_entry(1, as_span(bytes)), as_span(bytes));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::disk_full);
  EXPECT_NE(status.error().message.find(std::to_string(kJustEnough - 1) + " bytes are free"),
            std::string::npos)
      << status.error().message;
  EXPECT_EQ(files_in(base_ / "incoming"), 0U) << "its room is given back at once";
  must(store->append_commit(commit_record(6), Sync::yes));
}

// A real file system of 32 MiB.
class Tmpfs {
 public:
  explicit Tmpfs(const fs::path& folder) : folder_(folder) {
    fs::create_directories(folder);
    mounted_ = ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=32m") == 0;
  }
  ~Tmpfs() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  Tmpfs(const Tmpfs&) = delete;
  Tmpfs& operator=(const Tmpfs&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }

  void fill_to_the_last_byte() {
    const int file = ::open((folder_ / "ballast").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const std::string bytes(64 << 10, 'x');
    while (::write(file, bytes.data(), bytes.size()) > 0) {
    }
    ::close(file);
    EXPECT_EQ(fs::space(folder_).available, 0U);
  }
  void make_room() { fs::remove(folder_ / "ballast"); }

 private:
  fs::path folder_;
  bool mounted_ = false;
};

TEST(RealDiskFull, TheLedgerGoesOnAndALaterCheckpointWorks) {
  TempFolder folder;
  Tmpfs disk(folder / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "mounting a tmpfs needs root";
  std::uint64_t step = 0;
  {
    auto store = must(JobStore::open(folder / "disk" / "store"));
    const auto commit = [&] {
      const bool done = stored(store->append_commit(commit_record(step + 1), Sync::yes));
      if (done) ++step;
      return done;
    };
    ASSERT_TRUE(commit());
    must(write_checkpoint(*store, 1, {.chunks = 16, .chunk_bytes = kChunkBytes}));

    // One checkpoint too large: refused before it takes the ledger's room.
    EXPECT_FALSE(stored(write_checkpoint(*store, 2, {.chunks = 120, .chunk_bytes = kChunkBytes})));
    ASSERT_TRUE(commit());
    EXPECT_GT(fs::space(folder / "disk").available, 20ULL << 20);

    // Somebody else fills the disk: the log has room set aside for a while, then it is full.
    disk.fill_to_the_last_byte();
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(commit());
    int more = 0;
    while (more < 200'000 && commit()) ++more;
    EXPECT_LT(more, 200'000) << "the disk was never full";
    EXPECT_FALSE(stored(write_checkpoint(*store, 3)));
    EXPECT_EQ(must(store->last_commit())->step(), step);
    expect_all_verify(*store);

    disk.make_room();
    ASSERT_TRUE(commit());
    must(write_checkpoint(*store, 3, {.chunks = 16, .chunk_bytes = kChunkBytes}));
    EXPECT_EQ(must(store->apply_retention({.last = 1, .best = 0}, {})).size(), 1U);
  }
  auto store = must(JobStore::open(folder / "disk" / "store"));
  expect_ledger(*store, step);
  expect_all_verify(*store);
  EXPECT_EQ(ids_of(*store), std::vector<std::uint64_t>({3}));
}

}  // namespace
}  // namespace crabcast::storage

// J-1 and C-1 across crashes: kill -9 at random moments, and power loss at each single operation.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <random>

#include "storage/open_with_env.h"
#include "tests/storage/fault_fs.h"
#include "tests/storage/fixtures.h"

extern char** environ;

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;

constexpr const char* kChildFolder = "CRABCAST_STORAGE_CRASH_FOLDER";
constexpr const char* kChildCheckpointEvery = "CRABCAST_STORAGE_CRASH_CHECKPOINT_EVERY";
constexpr int kRounds = 25;

constexpr int kAcknowledgements = 3;  // the child's file descriptor

// What the child has acknowledged.
struct Acknowledged {
  char what = 0;  // 'o' open, 'l' ledger, 'c' checkpoint, 's' submit number of a registry
  std::uint64_t number = 0;
};

void acknowledge(char what, std::uint64_t number) {
  const Acknowledged record{what, number};
  if (::write(kAcknowledgements, &record, sizeof record) != sizeof record) _exit(3);
}

// Commits, checkpoints, retention and submits until it is killed.
[[noreturn]] void write_until_killed(const fs::path& folder, std::uint64_t checkpoint_every) {
  auto store = must(JobStore::open(folder / "job"));
  auto registry = must(Registry::open(folder / "registry"));
  const auto last = must(store->last_commit());
  acknowledge('o', 0);
  for (std::uint64_t step = last ? last->step() + 1 : 1;; ++step) {
    must(store->append_commit(commit_record(step), Sync::yes));
    acknowledge('l', step);
    if (step % checkpoint_every == 0) {
      must(write_checkpoint(*store, step));
      acknowledge('c', step);
      must(store->apply_retention({.last = 2, .best = 0}, {}));
    }
    acknowledge('s', must(registry->next_submit_seq()));
  }
}

// This program again, as the child: before any test of it has opened a store.
class ChildMode : public testing::Environment {
 public:
  void SetUp() override {
    const char* folder = std::getenv(kChildFolder);
    if (folder != nullptr)
      write_until_killed(folder, std::stoull(std::getenv(kChildCheckpointEvery)));
  }
};
const auto* const kChildMode = testing::AddGlobalTestEnvironment(new ChildMode);

class Child {
 public:
  Child(const fs::path& folder, std::uint64_t checkpoint_every) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    output_ = ends[0];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], kAcknowledgements);
    const std::string where = std::string(kChildFolder) + "=" + folder.string();
    const std::string every =
        std::string(kChildCheckpointEvery) + "=" + std::to_string(checkpoint_every);
    std::vector<char*> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) environment.push_back(*entry);
    environment.push_back(const_cast<char*>(where.c_str()));
    environment.push_back(const_cast<char*>(every.c_str()));
    environment.push_back(nullptr);
    std::string program = "/proc/self/exe";
    std::string filter = "--gtest_filter=Kill9.*";
    char* arguments[] = {program.data(), filter.data(), nullptr};
    if (::posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environment.data()) !=
        0) {
      throw std::runtime_error("posix_spawn");
    }
    posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
  }
  ~Child() {
    kill_and_drain();
    ::close(output_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // False at the end of the stream or after 30 s.
  bool read(Acknowledged& record) {
    pollfd wait{output_, POLLIN, 0};
    if (::poll(&wait, 1, 30'000) <= 0) return false;
    return ::read(output_, &record, sizeof record) == sizeof record;
  }

  bool opened() {
    Acknowledged record;
    return read(record) && record.what == 'o';
  }

  std::vector<Acknowledged> kill_and_drain() {
    std::vector<Acknowledged> rest;
    if (pid_ == 0) return rest;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
    Acknowledged record;
    while (::read(output_, &record, sizeof record) == sizeof record) rest.push_back(record);
    return rest;
  }

 private:
  pid_t pid_ = 0;
  int output_ = -1;
};

struct Progress {
  std::uint64_t step = 0;
  std::uint64_t checkpoint = 0;
  std::uint64_t submit_seq = 0;
  void note(const Acknowledged& record) {
    if (record.what == 'l') step = record.number;
    if (record.what == 'c') checkpoint = record.number;
    if (record.what == 's') submit_seq = record.number;
  }
};

void expect_consistent(const fs::path& folder, const Progress& progress) {
  auto store = must(JobStore::open(folder / "job"));
  expect_ledger(*store, progress.step);
  expect_all_verify(*store);
  const std::vector<std::uint64_t> ids = ids_of(*store);
  if (progress.checkpoint != 0) {
    ASSERT_FALSE(ids.empty());
    EXPECT_GE(ids.back(), progress.checkpoint);
  }
  EXPECT_EQ(files_in(folder / "job" / "incoming"), 0U);
  // Nothing is left of what was being written: a checkpoint is 3 x 16 KiB.
  std::size_t chunk_files = 0;
  for (const auto& entry : fs::directory_iterator(folder / "job")) {
    std::error_code gone;  // RocksDB may just delete a file of its own
    const auto bytes = entry.file_size(gone);
    if (entry.path().extension() == ".sst" && !gone && bytes > 40'000) ++chunk_files;
  }
  EXPECT_EQ(chunk_files, ids.size());
  auto registry = must(Registry::open(folder / "registry"));
  EXPECT_GT(must(registry->next_submit_seq()), progress.submit_seq);
}

TEST(Kill9, EveryAcknowledgedWriteIsThereAndEveryVisibleCheckpointVerifies) {
  const std::uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  TempFolder folder;
  Progress progress;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    {
      Child child(folder.path(), 3);
      ASSERT_TRUE(child.opened()) << "the child did not open its stores";
      Acknowledged record;
      const std::uint64_t kill_after = random() % 24;
      for (std::uint64_t i = 0; i < kill_after; ++i) {
        ASSERT_TRUE(child.read(record));
        progress.note(record);
      }
      // A little later than the last acknowledgement, so that the kill falls inside a write.
      ::usleep(static_cast<useconds_t>(random() % 3000));
      for (const Acknowledged& late : child.kill_and_drain()) progress.note(late);
    }
    expect_consistent(folder.path(), progress);
    ASSERT_FALSE(testing::Test::HasFailure());
  }
  EXPECT_GT(progress.checkpoint, 0U) << "no round got as far as a checkpoint";
}

TEST(Kill9, AReaderBesideTheWriterSeesWholeStates) {
  TempFolder folder;
  Child child(folder.path(), 20);
  ASSERT_TRUE(child.opened());
  std::uint64_t last_seen = 0;
  for (int i = 0; i < 40; ++i) {
    Progress before;
    for (int records = 0; records < 6; ++records) {
      Acknowledged record;
      ASSERT_TRUE(child.read(record));
      before.note(record);
    }
    const auto store = must(JobStore::open_read_only(folder / "job"));
    expect_ledger(*store, std::max(last_seen, before.step));
    last_seen = must(store->last_commit())->step();
    expect_all_verify(*store);
    const std::vector<std::uint64_t> ids = ids_of(*store);
    ASSERT_TRUE(before.checkpoint == 0 || (!ids.empty() && ids.back() >= before.checkpoint));
    ASSERT_FALSE(testing::Test::HasFailure());
  }
}

// Power loss after each single operation of the disk, with all unsynced bytes forgotten.
TEST(PowerLoss, AtEachOperationAcknowledgedWritesSurvive) {
  TempFolder folder;
  const fs::path base = folder / "base";
  {
    auto store = must(JobStore::open(base));
    must(store->append_commit(commit_record(1), Sync::yes));
    must(write_checkpoint(*store, 1));
  }
  int operations = 0;
  for (bool struck = true; struck && operations < 500; ++operations) {
    SCOPED_TRACE("power loss after operation " + std::to_string(operations));
    const fs::path copy = folder / "copy";
    fs::remove_all(copy);
    fs::copy(base, copy, fs::copy_options::recursive);
    std::uint64_t last = 1;
    bool second = false;
    {
      FaultDisk disk;
      auto store = must(open_job_store(copy, disk.env.get()));
      disk.fs->arm(FaultFs::Fault::power_loss, operations);
      if (store->append_commit(commit_record(2), Sync::yes)) last = 2;
      second = write_checkpoint(*store, 2).has_value();
      if (second && store->append_commit(commit_record(3), Sync::no)) {
        // Not acknowledged as durable, until a later synced write covers it.
        if (store->append_commit(commit_record(4), Sync::yes)) last = 4;
      }
      struck = disk.fs->struck();
      disk.fs->arm(FaultFs::Fault::power_loss, 0);
      store.reset();
      disk.fs->forget_unsynced();
    }
    auto store = must(JobStore::open(copy));
    expect_ledger(*store, last);
    expect_all_verify(*store);
    EXPECT_EQ(ids_of(*store).front(), 1U);
    if (second) {
      EXPECT_EQ(ids_of(*store).back(), 2U);
    }
    EXPECT_EQ(files_in(copy / "incoming"), 0U);
    must(write_checkpoint(*store, 9));
    ASSERT_FALSE(testing::Test::HasFailure());
  }
  EXPECT_GT(operations, 15);
  EXPECT_LT(operations, 500);
}

TEST(PowerLoss, AnUnsyncedCommitMayBeForgottenButNothingBeforeIt) {
  TempFolder folder;
  FaultDisk disk;
  auto store = must(open_job_store(folder / "store", disk.env.get()));
  must(store->append_commit(commit_record(1), Sync::yes));
  must(store->append_commit(commit_record(2), Sync::no));
  disk.fs->arm(FaultFs::Fault::power_loss, 0);
  store.reset();
  disk.fs->forget_unsynced();
  store = must(JobStore::open(folder / "store"));
  EXPECT_EQ(must(store->last_commit())->step(), 1U);
}

}  // namespace
}  // namespace crabcast::storage

// Bad input and bad surroundings: a clear message, a non-zero exit, nothing lost.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "storage/job_store.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

class Refusals : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  fs::path state_ = folder_ / "state";

  Finished run_spec(const std::string& yaml) {
    const auto file = folder_ / "job.yaml";
    write_file(file, yaml);
    return run_program("crabcast", {"--state", state_.string(), "run", file.string()}, 120s);
  }
  static void expect_message(const Finished& done, int code, const std::string& part) {
    EXPECT_EQ(done.code, code) << done.out << done.err;
    EXPECT_NE(done.err.find(part), std::string::npos) << done.err;
  }
};

std::string with(std::string yaml, const std::string& from, const std::string& to) {
  const auto at = yaml.find(from);
  if (at == std::string::npos) throw std::runtime_error("no '" + from + "' in the spec");
  return yaml.replace(at, from.size(), to);
}

TEST_F(Refusals, MisspeltField) {
  expect_message(run_spec(with(SmallJob{}.yaml(), "steps: 10", "stepps: 10")), 3, "stepps");
}

TEST_F(Refusals, WrongType) {
  expect_message(run_spec(with(SmallJob{}.yaml(), "lanes: 4", "lanes: many")), 3, "train.lanes");
}

TEST_F(Refusals, UnknownBase) {
  expect_message(run_spec(with(SmallJob{}.yaml(), "base: nano", "base: nanno")), 4, "nano");
}

TEST_F(Refusals, MissingCorpus) {
  SmallJob job;
  job.corpus = (folder_ / "nowhere").string();
  expect_message(run_spec(job.yaml()), 4, "nowhere");
}

TEST_F(Refusals, EmptyDataset) {
  const auto copy = folder_ / "corpus";
  fs::copy(shared_corpus(), copy, fs::copy_options::recursive);
  write_file(copy / "ks" / "train.json", "[]");
  SmallJob job;
  job.corpus = copy.string();
  expect_message(run_spec(job.yaml()), 3, "ks");
}

TEST_F(Refusals, UnwritableStateFolder) {
  write_file(folder_ / "file", "not a folder");
  state_ = folder_ / "file" / "state";
  const auto done = run_spec(SmallJob{}.yaml());
  EXPECT_NE(done.code, 0);
  EXPECT_NE(done.err.find("file"), std::string::npos) << done.err;
}

TEST_F(Refusals, PortInUse) {
  Program first("crabcast",
                {"--state", state_.string(), "controller", "--bind", "127.0.0.1:17391"});
  ASSERT_TRUE(eventually([&] { return fs::exists(state_ / "controller" / "endpoint"); }, 20s))
      << first.err();
  const auto second = run_program(
      "crabcast",
      {"--state", (folder_ / "other").string(), "controller", "--bind", "127.0.0.1:17391"}, 20s);
  expect_message(second, 7, "17391");
}

TEST_F(Refusals, UnknownKey) {
  Program controller("crabcast",
                     {"--state", state_.string(), "controller", "--bind", "127.0.0.1:17392"});
  ASSERT_TRUE(eventually([&] { return fs::exists(state_ / "controller" / "endpoint"); }, 20s));
  // Another cluster's keyring, but this cluster's server key, so that only authorization can
  // refuse.
  const auto other = folder_ / "stranger";
  Program stranger("crabcast",
                   {"--state", other.string(), "controller", "--bind", "127.0.0.1:17393"});
  ASSERT_TRUE(eventually([&] { return fs::exists(other / "controller" / "endpoint"); }, 20s));
  stranger.signal(SIGTERM);
  ASSERT_TRUE(stranger.wait(20s).has_value());
  for (const char* file : {"server.public", "server.secret"})
    fs::copy_file(state_ / "keys" / file, other / "keys" / file,
                  fs::copy_options::overwrite_existing);
  const auto refused = run_program(
      "crabcast", {"--state", other.string(), "--controller", "127.0.0.1:17392", "ps"}, 30s);
  EXPECT_EQ(refused.code, 5) << refused.out << refused.err;
  EXPECT_TRUE(refused.out.empty()) << refused.out;
}

TEST_F(Refusals, CorruptVideoIsReplacedAndToldInTheLedger) {  // S-2
  const auto copy = folder_ / "corpus";
  fs::copy(shared_corpus(), copy, fs::copy_options::recursive);
  const auto rows = nlohmann::json::parse(read_file(copy / "ks" / "train.json"));
  auto name = fs::path(rows[0]["video_path"].get<std::string>());
  auto victim = copy / "ks" / name;
  if (!fs::exists(victim)) victim = copy / "ks" / "video" / name;
  if (!fs::exists(victim)) victim = copy / name;
  ASSERT_TRUE(fs::exists(victim)) << victim;
  write_file(victim, "this is no video");
  SmallJob job{.name = "corrupt", .steps = 30};
  job.corpus = copy.string();
  job.tasks = "[action_recognition]";
  const auto done = run_spec(job.yaml());
  ASSERT_EQ(done.code, 0) << done.out << done.err;
  auto store = storage::JobStore::open_read_only(state_ / "jobs" / "corrupt-1" / "store");
  ASSERT_TRUE(store.has_value());
  int replaced = 0, named = 0;
  ASSERT_TRUE((*store)
                  ->for_each_commit(
                      Step{0},
                      [&](const pb::CommitRecord& commit) {
                        for (const auto& one : commit.substitutions()) {
                          ++replaced;
                          EXPECT_EQ(one.planned().index(), 0U);
                          const bool found =
                              one.reason().find(victim.filename().string()) != std::string::npos;
                          named += found ? 1 : 0;
                          EXPECT_TRUE(found || one.reason() == "is in quarantine") << one.reason();
                        }
                        return true;
                      })
                  .has_value());
  EXPECT_GT(replaced, 0);
  EXPECT_GT(named, 0) << "who met it first says why";
}

TEST_F(Refusals, FullDiskDuringACheckpointDoesNotEndTheJob) {  // C-2
  const auto disk = folder_ / "disk";
  fs::create_directories(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=48m") != 0)
    GTEST_SKIP() << "a small file system cannot be mounted here: " << std::strerror(errno);
  state_ = disk / "state";
  SmallJob job{.name = "full", .steps = 24, .checkpoint_every = 4};
  const auto file = folder_ / "job.yaml";
  write_file(file, job.yaml());
  {
    Program run("crabcast", {"--state", state_.string(), "run", file.string()});
    EXPECT_TRUE(eventually(
        [&] {
          const auto status = job_status(state_, "full-1");
          return status.contains("newest_checkpoint") && status["newest_checkpoint"] >= 4;
        },
        120s))
        << run.out() << run.err();
    // All but half a MiB of what is left: commits still fit, a checkpoint does not.
    const auto ballast = disk / "ballast";
    {
      std::ofstream fill(ballast, std::ios::binary);
      const auto room = fs::space(disk).available;
      const std::string block(64 << 10, 'x');
      for (std::uintmax_t done = 0; done + (512U << 10) < room; done += block.size()) fill << block;
    }
    EXPECT_TRUE(
        eventually([&] { return run.out().find("checkpoint_failed") != std::string::npos; }, 120s))
        << run.out() << run.err();
    fs::remove(ballast);
    EXPECT_EQ(run.wait(240s), 0) << run.out() << run.err();
  }
  const auto verified =
      run_program("crabcast", {"--state", state_.string(), "ckpt", "verify", "full-1"});
  EXPECT_EQ(verified.code, 0) << verified.out << verified.err;
  ::umount2(disk.c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace crabcast::testing

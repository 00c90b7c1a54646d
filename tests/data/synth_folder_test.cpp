// How a corpus folder comes to be: same bytes, whole or not there, one at a time.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <thread>

#include "data/files.h"
#include "tests/data/synth_fixture.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;
constexpr SyntheticCorpus kTiny{.seed = 3, .samples_per_dataset = 1};

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

TEST(SynthFolder, TheSameSeedGivesTheSameBytes) {
  const testing::TemporaryFolder scratch;
  ASSERT_TRUE(synthesize(kTiny, scratch.path() / "a", 1, {}).has_value());
  ASSERT_TRUE(synthesize(kTiny, scratch.path() / "b", 3, {}).has_value());
  const auto a = all_files(scratch.path() / "a"), b = all_files(scratch.path() / "b"),
             other = all_files(rendered_corpus());
  EXPECT_GT(a.size(), 170U);
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [path, bytes] : a) {
    ASSERT_TRUE(b.contains(path)) << path;
    EXPECT_TRUE(bytes == b.at(path)) << path;
  }
  int compared = 0;
  for (const auto& [path, bytes] : other) {
    if (!a.contains(path) || path.ends_with(".png")) continue;
    EXPECT_FALSE(bytes == a.at(path)) << path << " does not depend on the seed";
    ++compared;
  }
  EXPECT_GT(compared, 50);
}

TEST(SynthFolder, AWholeFolderIsKeptAndSomethingElseIsNotTouched) {
  const testing::TemporaryFolder scratch;
  // An earlier run was killed in the middle; and an empty folder is no obstacle.
  const fs::path left = scratch.path() / "synth-v1-3-1.partial" / "ks";
  ASSERT_TRUE(make_folder(left).has_value());
  ASSERT_TRUE(write_file(left / "half", std::string_view("x")).has_value());
  ASSERT_TRUE(make_folder(scratch.path() / "synth-v1-3-1").has_value());
  std::vector<std::uint64_t> seen;
  std::uint64_t total = 0;
  const auto made = ensure_synthetic(kTiny, scratch.path(), 2, [&](SynthProgress p) {
    seen.push_back(p.done);
    total = p.total;
  });
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ(made->filename(), "synth-v1-3-1");
  EXPECT_EQ(total, 17U * (1 + 4));
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), total);
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  EXPECT_EQ(names_in(scratch.path()),
            (std::vector<std::string>{"synth-v1-3-1", "synth-v1-3-1.lock"}));
  EXPECT_FALSE(fs::exists(*made / "ks" / "half"));

  // Asked again: found, not rendered.
  const auto time = fs::last_write_time(*made / "ks" / "train.json");
  const auto again =
      ensure_synthetic(kTiny, scratch.path(), 2, [](SynthProgress) { FAIL() << "rendered again"; });
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(fs::last_write_time(*made / "ks" / "train.json"), time);

  // Other options, or no corpus at all, are never overwritten.
  const SyntheticCorpus other{.seed = 4, .samples_per_dataset = 1};
  const Status refused = synthesize(other, *made, 1, {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::already_exists);
  const fs::path mine = scratch.path() / "mine";
  ASSERT_TRUE(make_folder(mine).has_value());
  ASSERT_TRUE(write_file(mine / "thesis.txt", std::string_view("mine")).has_value());
  EXPECT_EQ(synthesize(kTiny, mine, 1, {}).error().code, Errc::already_exists);
  EXPECT_EQ(contents(mine / "thesis.txt"), "mine");
  EXPECT_EQ(synthesize(kTiny, mine / "thesis.txt", 1, {}).error().code, Errc::already_exists);
}

TEST(SynthFolder, TwoCallersAtOnceRenderOnce) {
  const testing::TemporaryFolder scratch;
  std::array<int, 2> reports = {};
  std::array<bool, 2> good = {};
  {
    std::vector<std::jthread> callers;
    for (std::size_t i = 0; i < 2; ++i)
      callers.emplace_back([&, i] {
        good[i] = ensure_synthetic(kTiny, scratch.path(), 1, [&reports, i](SynthProgress now) {
                    if (now.total > 0) ++reports[i];  // it renders, and does not wait
                  }).has_value();
      });
  }
  EXPECT_TRUE(good[0] && good[1]);
  EXPECT_TRUE((reports[0] == 0) != (reports[1] == 0)) << reports[0] << " and " << reports[1];
}

TEST(SynthFolder, AHeldLockIsNotWaitedForTooLong) {
  const testing::TemporaryFolder scratch;
  const auto lock = FileLock::acquire(scratch.path() / "corpus.lock", Duration::zero());
  ASSERT_TRUE(lock.has_value());
  const Status status = synthesize(kTiny, scratch.path() / "corpus", 1, {}, Duration::zero());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::timeout);
  EXPECT_NE(status.error().message.find("corpus.lock"), std::string::npos);
}

TEST(SynthFolder, AFailureInTheMiddleLeavesNothing) {
  const testing::TemporaryFolder scratch;
  // Files larger than 20 kB cannot be written: as on a disk that fills up, some files go well.
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* handler = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 20'000, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = synthesize(kTiny, scratch.path() / "corpus", 2, {});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::io_error) << status.error().message;
  EXPECT_NE(status.error().message.find("corpus.partial"), std::string::npos);
  EXPECT_EQ(names_in(scratch.path()), std::vector<std::string>{"corpus.lock"});
}

TEST(SynthFolder, AFolderThatCannotBeMadeIsNamed) {
  const testing::TemporaryFolder scratch;
  ASSERT_TRUE(write_file(scratch.path() / "file", std::string_view("x")).has_value());
  const Status below = synthesize(kTiny, scratch.path() / "file" / "corpus", 1, {});
  ASSERT_FALSE(below.has_value());
  EXPECT_NE(below.error().message.find((scratch.path() / "file").string()), std::string::npos);
  EXPECT_FALSE(synthesize(kTiny, "/proc/crabcast/corpus", 1, {}).has_value());
  EXPECT_EQ(
      synthesize(SyntheticCorpus{.seed = 1, .samples_per_dataset = 0}, scratch.path() / "c", 1, {})
          .error()
          .code,
      Errc::invalid_argument);
}

}  // namespace
}  // namespace crabcast::data

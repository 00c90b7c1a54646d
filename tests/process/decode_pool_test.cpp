// Decoding in child processes: the same bits as in this process, and what a child that crashes or
// hangs costs.
#include "data/decode_pool.h"

#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <thread>

#include "tests/data/broken_media.h"
#include "tests/support/program.h"

namespace crabcast::data {
namespace {

using namespace std::chrono_literals;
using testing::GoodMedia;
using testing::Medium;
using testing::sample_of;

constexpr unsigned kSeed = 78;
constexpr auto kDeadline = 20s;

std::unique_ptr<DecodePool> start(int children, std::uint64_t memory_bytes = 4ULL << 30) {
  DecodePoolOptions options;
  options.children = children;
  options.program = testing::program("crabcast-compute");
  options.memory_bytes = memory_bytes;
  auto pool = DecodePool::start(options);
  EXPECT_TRUE(pool.has_value()) << pool.error().message;
  return pool ? std::move(*pool) : nullptr;
}

void expect_same(const SampleMedia& a, const SampleMedia& b) {
  for (auto field :
       {&SampleMedia::pixel_values, &SampleMedia::grid_thw, &SampleMedia::seconds_per_grid,
        &SampleMedia::audio_features, &SampleMedia::audio_lengths}) {
    ASSERT_EQ((a.*field).defined(), (b.*field).defined());
    if (!(a.*field).defined()) continue;
    EXPECT_EQ((a.*field).scalar_type(), (b.*field).scalar_type());
    EXPECT_TRUE(at::equal(a.*field, b.*field));
  }
  EXPECT_EQ(a.tokens.video, b.tokens.video);
  EXPECT_EQ(a.tokens.image, b.tokens.image);
  EXPECT_EQ(a.tokens.audio, b.tokens.audio);
}

// Waits until a request lies in the child's socket, which a stopped child does not read.
bool has_request(pid_t child) {
  constexpr int kSocket = 3;
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child, 0));
  const int socket = static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, kSocket, 0));
  pollfd waiting{socket, POLLIN, 0};
  const bool came = ::poll(&waiting, 1, 20'000) == 1 && (waiting.revents & POLLIN) != 0;
  ::close(socket);
  ::close(pidfd);
  return came;
}

class DecodePoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const GoodMedia good(kSeed);
    for (const auto& [name, medium] : testing::media_kinds()) {
      const auto& bytes = good.file(name);
      testing::write_file(folder_ / name, {bytes.begin(), bytes.end()});
    }
  }
  Sample whole() const {
    auto sample = sample_of(Medium::video, folder_ / "film.mp4");
    sample.audio = folder_ / "sound.mp3";
    return sample;
  }

  testing::TemporaryFolder folder_;
};

TEST_F(DecodePoolTest, TheSameBitsAsInThisProcess) {
  at::set_num_threads(1);
  const auto pool = start(2);
  ASSERT_NE(pool, nullptr);
  std::vector<Sample> samples = {whole()};
  for (const auto& [name, medium] : testing::media_kinds())
    samples.push_back(sample_of(medium, folder_ / name));
  std::vector<std::future<Result<SampleMedia>>> reads;
  for (int round = 0; round < 3; ++round)
    for (const auto& sample : samples)
      reads.push_back(
          std::async(std::launch::async, [&] { return pool->read(sample, {}, kDeadline); }));
  for (std::size_t i = 0; i < reads.size(); ++i) {
    const auto there = reads[i].get();
    const auto here = read_media(samples[i % samples.size()], {}, kDeadline);
    ASSERT_TRUE(there.has_value()) << there.error().message;
    ASSERT_TRUE(here.has_value()) << here.error().message;
    expect_same(*there, *here);
  }
}

// The tensors stay when the pool is gone; a sample's stages took time.
TEST_F(DecodePoolTest, WhatWasReadOutlivesThePool) {
  auto pool = start(1);
  ASSERT_NE(pool, nullptr);
  auto media = pool->read(whole(), {}, kDeadline);
  pool.reset();
  ASSERT_TRUE(media.has_value()) << media.error().message;
  const auto again = read_media(whole(), {}, kDeadline);
  ASSERT_TRUE(again.has_value());
  media->pixel_values.add_(1).sub_(1);  // it can be written to
  EXPECT_EQ(media->pixel_values.sizes(), again->pixel_values.sizes());
  for (std::size_t stage = 0; stage < kStageNames.size(); ++stage)
    EXPECT_GT(media->times[stage], 0U) << kStageNames[stage];
}

// The child is stopped before the sample comes, so that it surely dies with it.
TEST_F(DecodePoolTest, ACrashCostsOneSample) {
  const auto pool = start(1);
  ASSERT_NE(pool, nullptr);
  for (const int crash : {SIGSEGV, SIGABRT, SIGILL}) {
    const pid_t child = pool->children().front();
    ASSERT_GT(child, 0);
    ASSERT_EQ(::kill(child, SIGSTOP), 0);
    auto read = std::async(std::launch::async, [&] { return pool->read(whole(), {}, kDeadline); });
    ASSERT_TRUE(has_request(child));
    ASSERT_EQ(::kill(child, crash), 0);
    ASSERT_EQ(::kill(child, SIGCONT), 0);
    const auto crashed = read.get();
    ASSERT_FALSE(crashed.has_value());
    EXPECT_EQ(testing::unclear(crashed.error(), folder_ / "film.mp4"), "");
    EXPECT_NE(crashed.error().message.find("crashed"), std::string::npos)
        << crashed.error().message;
    const auto next = pool->read(whole(), {}, kDeadline);
    EXPECT_TRUE(next.has_value()) << next.error().message;
    EXPECT_NE(pool->children().front(), child);
  }
}

TEST_F(DecodePoolTest, AHangEndsAtTheDeadline) {
  const auto pool = start(1);
  ASSERT_NE(pool, nullptr);
  const pid_t child = pool->children().front();
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  const auto start = Clock::now();
  const auto hung = pool->read(whole(), {}, 1s);
  EXPECT_LT(Clock::now() - start, 10s);
  ASSERT_FALSE(hung.has_value());
  EXPECT_EQ(hung.error().code, Errc::timeout);
  EXPECT_EQ(testing::unclear(hung.error(), folder_ / "film.mp4"), "");
  EXPECT_FALSE(testing::process_exists(child));
  EXPECT_TRUE(pool->read(whole(), {}, kDeadline).has_value());
}

// Not the sample's fault: a child that dies idle, or that somebody kills.
TEST_F(DecodePoolTest, AChildThatIsKilledFromOutsideCostsNothing) {
  const auto pool = start(1);
  ASSERT_NE(pool, nullptr);
  pid_t child = pool->children().front();
  ASSERT_GT(child, 0);
  ASSERT_EQ(::kill(child, SIGSEGV), 0);
  siginfo_t info{};  // dead, but not reaped: that is left to the pool
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  const auto idle = pool->read(whole(), {}, kDeadline);
  EXPECT_TRUE(idle.has_value()) << idle.error().message;

  child = pool->children().front();
  ASSERT_GT(child, 0);
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  auto read = std::async(std::launch::async, [&] { return pool->read(whole(), {}, kDeadline); });
  ASSERT_TRUE(has_request(child));
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  const auto killed = read.get();
  EXPECT_TRUE(killed.has_value()) << killed.error().message;
}

TEST_F(DecodePoolTest, MemoryThatRunsOutIsTheSamplesFault) {
  const auto pool = start(1, 600ULL << 20);
  ASSERT_NE(pool, nullptr);
  // 7,000 x 7,000 pixels, all the same.
  constexpr int kSide = 7000;
  const auto png = encode_png(std::vector<std::uint8_t>(kSide * kSide), kSide, kSide);
  ASSERT_TRUE(png.has_value()) << png.error().message;
  testing::write_file(folder_ / "vast.png", {png->begin(), png->end()});
  const auto vast = pool->read(sample_of(Medium::image, folder_ / "vast.png"), {}, kDeadline);
  ASSERT_FALSE(vast.has_value());
  EXPECT_EQ(vast.error().code, Errc::data_error);
  EXPECT_EQ(testing::unclear(vast.error(), folder_ / "vast.png"), "");
  const auto small = pool->read(sample_of(Medium::image, folder_ / "picture.png"), {}, kDeadline);
  EXPECT_TRUE(small.has_value()) << small.error().message;
}

TEST_F(DecodePoolTest, BrokenFilesGiveTheSameReasonsAsInThisProcess) {
  const auto pool = start(2);
  ASSERT_NE(pool, nullptr);
  const testing::BrokenMedia media(folder_ / "broken", kSeed);
  const auto before = pool->children();
  for (const auto& file : media.files()) {
    SCOPED_TRACE(file.path.filename().string());
    const auto sample = sample_of(file.medium, file.path);
    const auto there = pool->read(sample, {}, kDeadline);
    const auto here = read_media(sample, {}, kDeadline);
    ASSERT_EQ(there.has_value(), here.has_value());
    if (there)
      expect_same(*there, *here);
    else
      EXPECT_EQ(there.error().message, here.error().message);
  }
  EXPECT_EQ(pool->children(), before) << "a child was lost";
}

TEST_F(DecodePoolTest, NoChildOutlivesThePool) {
  auto pool = start(3);
  ASSERT_NE(pool, nullptr);
  const auto children = pool->children();
  EXPECT_EQ(children.size(), 3U);
  pool.reset();
  for (const pid_t child : children) EXPECT_FALSE(testing::process_exists(child));
}

TEST_F(DecodePoolTest, AProgramThatCannotDecodeIsAnError) {
  DecodePoolOptions options;
  options.program = folder_ / "nothing";
  EXPECT_EQ(DecodePool::start(options).error().code, Errc::not_found);
  options.program = "/bin/true";
  EXPECT_EQ(DecodePool::start(options).error().code, Errc::process_died);
}

}  // namespace
}  // namespace crabcast::data

// A process that takes long to get ready: it is given time while it gets on, and only then.
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr auto kEvery = seconds(30);
const std::string kStopped = "stop loader-0 on node-a";

struct Preparing : Bench {
  Preparing() {
    reg("worker-0", 10);
    reg("worker-1", 11);
    machine->on_started("loader-0", 9);
    take();
  }
  // It says so every half minute; returns what the machine asked for meanwhile.
  std::vector<std::string> render(Duration time, int pid = 9, bool gets_on = true) {
    std::vector<std::string> lines;
    for (const auto end = now + time; now < end;) {
      pb::MemberProgress progress;
      progress.set_role("loader-0");
      progress.set_pid(pid);
      if (gets_on) ++done;
      progress.set_progress(done);
      progress.set_doing("render the corpus: " + std::to_string(done) + " of 100000");
      machine->on_progress(progress, now);
      for (auto& line : after(kEvery)) lines.push_back(std::move(line));
    }
    return lines;
  }
  std::string evidence() const { return actor("loader-0").reason(); }
  std::uint64_t done = 0;
};

TEST(Preparation, OneThatGetsOnIsGivenTheTime) {
  Preparing bench;
  EXPECT_THAT(bench.render(hours(3)), Not(Contains(kStopped)));
  EXPECT_EQ(bench.actor("loader-0").doing(), "render the corpus: 360 of 100000");
  EXPECT_TRUE(bench.reg("loader-0", 9));
  EXPECT_THAT(bench.after(minutes(5)), Not(Contains(kStopped)));
}

TEST(Preparation, OneThatStandsStillIsReplaced) {
  Preparing bench;
  bench.render(minutes(10));
  EXPECT_THAT(bench.render(seconds(90), 9, false), Not(Contains(kStopped)));
  EXPECT_THAT(bench.render(seconds(90), 9, false), Contains(kStopped)) << "it is alive, and stuck";
  EXPECT_THAT(bench.evidence(), HasSubstr("stood still for 120 s"));
}

TEST(Preparation, OneThatNeverEndsIsReplaced) {
  Preparing bench;
  EXPECT_THAT(bench.render(hours(24)), Not(Contains(kStopped)));
  EXPECT_THAT(bench.render(minutes(2)), Contains(kStopped));
  EXPECT_THAT(bench.evidence(), HasSubstr("did not register within 86400 s"));
}

TEST(Preparation, OneThatSaysNothingHasTwoMinutes) {
  Preparing bench;
  EXPECT_THAT(bench.after(seconds(120)), Not(Contains(kStopped)));
  EXPECT_THAT(bench.after(seconds(1)), Contains(kStopped));
  EXPECT_THAT(bench.evidence(), HasSubstr("did not register within 120 s"));
}

// A late word of an earlier process, and of one that is being killed.
TEST(Preparation, OnlyItsOwnProgressCounts) {
  Preparing bench;
  EXPECT_THAT(bench.render(minutes(3), 8), Contains(kStopped));
  bench.render(minutes(3));
  EXPECT_NE(bench.actor("loader-0").state(), pb::ACTOR_HEALTHY);
  bench.machine->on_gone("loader-0", "killed", true, bench.now, 9);
  EXPECT_THAT(bench.after(seconds(1)), Contains("start loader-0 on node-a"));
  bench.machine->on_started("loader-0", 12);
  EXPECT_THAT(bench.render(minutes(3), 9), Contains(kStopped)) << "9 is gone";
}

}  // namespace
}  // namespace crabcast::actors

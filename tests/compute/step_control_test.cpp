// The meeting point of the worker actor and the training thread.
#include "actors/compute/step_control.h"

#include <gtest/gtest.h>

#include <future>

namespace crabcast::actors {
namespace {

using Verdict = StepControl::Verdict;
constexpr auto kPatience = std::chrono::seconds(20);

pb::Commit commit_of(std::uint64_t step, std::uint64_t checkpoint = 0) {
  pb::Commit commit;
  commit.set_step(step);
  commit.set_checkpoint(checkpoint);
  return commit;
}

TEST(StepControl, AVerdictThatIsThereNeedsNoWait) {
  StepControl control;
  control.commit(commit_of(3, 3));
  EXPECT_EQ(control.wait(1, 3, Duration::zero()), Verdict::commit);
  EXPECT_EQ(control.checkpoint_of(3), 3U);
  EXPECT_EQ(control.checkpoint_of(2), 0U);
}

TEST(StepControl, AVerdictOfAnotherStepDoesNotCount) {
  StepControl control;
  control.commit(commit_of(3));
  EXPECT_EQ(control.wait(1, 4, Duration::zero()), Verdict::timeout);
}

TEST(StepControl, ASkippedStepStaysSkippedWhenItsCommitBringsACheckpoint) {
  StepControl control;
  control.skip(3);
  control.commit(commit_of(3, 3));
  EXPECT_EQ(control.wait(1, 3, Duration::zero()), Verdict::skip);
  EXPECT_EQ(control.checkpoint_of(3), 3U);
}

TEST(StepControl, AVerdictWinsOverANewerGeneration) {  // T-1
  StepControl control;
  control.supersede(2);
  control.commit(commit_of(3));
  EXPECT_EQ(control.wait(1, 3, Duration::zero()), Verdict::commit);
}

TEST(StepControl, ANewerGenerationEndsTheWait) {
  StepControl control;
  auto waiting = std::async(std::launch::async, [&] { return control.wait(1, 3, kPatience); });
  while (control.pending() != 3) std::this_thread::yield();
  control.supersede(2);
  EXPECT_EQ(waiting.get(), Verdict::interrupted);
  EXPECT_EQ(control.pending(), 0U);
}

TEST(StepControl, AReplacedStateVoidsOlderVerdicts) {
  StepControl control;
  control.commit(commit_of(3));
  control.reset_to(2);
  EXPECT_EQ(control.applied(), 2U);
  EXPECT_EQ(control.wait(1, 3, Duration::zero()), Verdict::timeout);
}

TEST(StepControl, AbortsWhatIsUnderWayAndWhatBeginsTooLate) {
  StepControl control;
  int aborted = 0;
  control.on_supersede(1, [&] { ++aborted; });
  EXPECT_EQ(aborted, 0);
  control.supersede(2);
  EXPECT_EQ(aborted, 1);
  control.on_supersede(1, [&] { ++aborted; });
  EXPECT_EQ(aborted, 2) << "generation 1 was over before it began";
  control.on_supersede(UINT64_MAX, {});
  control.stop();
  EXPECT_EQ(aborted, 2);
}

}  // namespace
}  // namespace crabcast::actors

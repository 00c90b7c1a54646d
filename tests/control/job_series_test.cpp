#include "actors/control/job_series.h"

#include <gtest/gtest.h>

namespace crabcast::actors {
namespace {

pb::JobStatus at_step(std::uint64_t step, double forward_sum) {
  pb::JobStatus status;
  status.set_job("job-1");
  status.set_step(step);
  status.set_loss(1.0 / static_cast<double>(step));
  status.add_losses()->set_task("captioning");
  status.mutable_stages()->set_forward(forward_sum);
  return status;
}

TEST(SeriesBook, APointAStepWithTheSecondsOfThatStep) {
  SeriesBook book({});
  book.add(at_step(1, 2), 10);
  book.add(at_step(1, 2), 11);
  book.add(at_step(3, 3), 12);
  const auto& points = book.series().points();
  ASSERT_EQ(points.size(), 2);
  EXPECT_EQ(points[0].unix_ms(), 10);
  EXPECT_EQ(points[0].stages().forward(), 2);
  EXPECT_EQ(points[1].step(), 3U);
  EXPECT_EQ(points[1].stages().forward(), 0.5) << "of one of the two steps";
  EXPECT_EQ(points[1].losses(0).task(), "captioning");
  EXPECT_EQ(book.series().job(), "job-1");
}

TEST(SeriesBook, NothingBeforeTheFirstStep) {
  SeriesBook book({});
  pb::JobStatus status;
  status.set_job("job-1");
  book.add(status, 1);
  EXPECT_EQ(book.series().points_size(), 0);
}

// However long the job: bounded, from its beginning to its end, evenly, and no second is lost.
TEST(SeriesBook, PointsThinOutAsTheJobGrows) {
  for (const std::uint64_t steps : {511U, 512U, 513U, 5000U, 100003U}) {
    SeriesBook book({});
    double sum = 0;
    for (std::uint64_t step = 1; step <= steps; ++step) {
      sum += static_cast<double>(step % 7);
      book.add(at_step(step, sum), static_cast<std::int64_t>(step));
    }
    const auto& points = book.series().points();
    ASSERT_LE(points.size(), SeriesBook::kMostPoints);
    ASSERT_GT(points.size(), SeriesBook::kMostPoints / 2 - 2) << steps;
    EXPECT_EQ(points.rbegin()->step(), steps);
    std::uint64_t before = 0, widest = 0;
    double seconds = 0;
    for (const auto& point : points) {
      ASSERT_GT(point.step(), before);
      widest = std::max(widest, point.step() - before);
      seconds += point.stages().forward() * static_cast<double>(point.step() - before);
      before = point.step();
    }
    EXPECT_NEAR(seconds, sum, 1e-6 * sum) << steps;
    EXPECT_LE(widest, 4 * (steps / static_cast<std::uint64_t>(points.size()) + 1));
  }
}

TEST(SeriesBook, GoesOnAfterARestartOfTheControllerAndOfTheCoordinator) {
  SeriesBook first({});
  for (std::uint64_t step = 1; step <= 20000; ++step)
    first.add(at_step(step, static_cast<double>(step)), 1);
  SeriesBook second(first.series());
  for (std::uint64_t step = 20001; step <= 20100; ++step)
    second.add(at_step(step, static_cast<double>(step - 20000)), 2);
  const auto& points = second.series().points();
  EXPECT_LE(points.size(), SeriesBook::kMostPoints);
  EXPECT_LE(points.size(), first.series().points_size() + 4) << "as far apart as before";
  for (const auto& point : points) EXPECT_NEAR(point.stages().forward(), 1, 1e-9) << point.step();
}

TEST(SeriesBook, AJobThatWentBackForgetsWhatIsVoid) {
  SeriesBook book({});
  for (std::uint64_t step = 1; step <= 10; ++step) {
    auto status = at_step(step, 1);
    if (step == 8) status.mutable_evaluation()->set_checkpoint(8);
    if (step == 9) status.add_mixture()->set_first_step(9);
    book.add(status, 1);
  }
  ASSERT_EQ(book.series().evaluations_size(), 1);
  auto back = at_step(5, 1);
  back.mutable_evaluation()->set_checkpoint(4);
  back.add_mixture()->set_first_step(4);
  book.add(back, 2);
  EXPECT_EQ(book.series().points().rbegin()->step(), 5U);
  ASSERT_EQ(book.series().evaluations_size(), 1);
  EXPECT_EQ(book.series().evaluations(0).checkpoint(), 4U);
  ASSERT_EQ(book.series().mixture_size(), 1);
  EXPECT_EQ(book.series().mixture(0).first_step(), 4U);
}

TEST(SeriesBook, ExamplesAreThoseOfTheNewestEvaluation) {
  SeriesBook book({});
  for (std::uint64_t step = 1; step <= 600; ++step) {
    auto status = at_step(step, 1);
    status.mutable_evaluation()->set_checkpoint(step);
    status.mutable_evaluation()->add_examples()->set_answer("a");
    book.add(status, 1);
  }
  const auto& all = book.series().evaluations();
  EXPECT_LE(all.size(), SeriesBook::kMostOthers);
  EXPECT_EQ(all.rbegin()->checkpoint(), 600U);
  int examples = 0;
  for (const auto& one : all) examples += one.examples_size();
  EXPECT_EQ(examples, 1);
}

}  // namespace
}  // namespace crabcast::actors

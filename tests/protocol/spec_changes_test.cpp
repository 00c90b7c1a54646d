// What a job that goes on may have changed, and what refuses it.
#include "protocol/spec_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace crabcast {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

JobSpec spec(const std::string& more = "", const std::string& steps = "40") {
  const auto parsed = parse_job_spec(
      "name: t\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}}}\n"
      "train:\n  steps: " +
          steps + "\n" + more,
      "spec");
  if (!parsed) throw std::runtime_error(parsed.error().text());
  return *parsed;
}

TEST(SpecChanges, EqualSpecsHaveNone) {
  EXPECT_THAT(spec_changes(spec(), spec()), IsEmpty());
  EXPECT_TRUE(check_resumable(spec(), spec()));
}

TEST(SpecChanges, NamesEachFieldWithBothValues) {
  const auto changes = spec_changes(spec(), spec("  lanes: 8\nresources: {loaders: 2}\n"));
  ASSERT_EQ(changes.size(), 2U);
  EXPECT_EQ(changes[0].text(), "train.lanes: 4 in the checkpoint, 8 in the spec");
  EXPECT_FALSE(changes[0].allowed);
  EXPECT_EQ(changes[1].field, "resources.loaders");
  EXPECT_TRUE(changes[1].allowed);
}

TEST(SpecChanges, RefusalShowsOnlyWhatRefuses) {
  const auto refused =
      check_resumable(spec(), spec("  lanes: 8\n  optimizer: {lr: 0.5}\nqueue: other\n"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::invalid_argument);
  EXPECT_THAT(refused.error().message, HasSubstr("train.lanes: 4"));
  EXPECT_THAT(refused.error().message, HasSubstr("train.optimizer.lr: 0.0001 in the checkpoint"));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("queue")));
}

TEST(SpecChanges, HarmlessOnesGoOn) {
  for (const char* more :
       {"resources: {workers: {max: 2}, worker: {cpus: 2}}\n", "checkpoint: {every: 10 steps}\n",
        "checkpoint: {keep: {last: 9, every: 100 steps, interval: 6h}, scrub: off}\n",
        "checkpoint: {replicas: 2, quorum: 1}\n",
        "evaluate: {every: 100 steps, samples_per_task: 8}\n", "priority: high\n",
        "failure: {restarts: 0, non_finite: stop, bad_samples: 0.5}\n"})
    EXPECT_TRUE(check_resumable(spec(), spec(more))) << more;
}

TEST(SpecChanges, StepsMayGrowOnly) {
  EXPECT_TRUE(check_resumable(spec("", "40"), spec("", "41")));
  EXPECT_FALSE(check_resumable(spec("", "40"), spec("", "39")));
  JobSpec epochs = spec();
  epochs.train.steps.reset();
  epochs.train.epochs = 100;
  EXPECT_THAT(check_resumable(spec(), epochs).error().message,
              HasSubstr("train.steps: 40 in the checkpoint, not given in the spec"));
}

TEST(SpecChanges, WhatIsNamedByAHashMayLieElsewhere) {
  JobSpec here = spec(), there = spec();
  here.data.corpus = {std::nullopt, "/data/a"};
  there.data.corpus = {std::nullopt, "/mnt/b"};
  there.model.base = "/models/nano";
  EXPECT_TRUE(check_resumable(here, there));
  EXPECT_FALSE(check_resumable(spec(), there)) << "a synthetic corpus has a seed";
}

JobSpec small() {
  return parse_job_spec("name: t\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}}}\n", "t")
      .value();
}

TEST(WithChanges, SetsFieldsOfEveryKind) {
  const auto changed =
      with_changes(small(), {"train.optimizer.lr=2e-4", "resources.worker.memory=3GiB",
                             "train.steps=", "train.epochs=2", "schedule.nodes=[gpu=h100]",
                             "data.tasks=[captioning]", "evaluate.tasks=[captioning]",
                             "schedule.time_limit=12h", "name=other"});
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_EQ(changed->train.optimizer.lr, 2e-4);
  EXPECT_EQ(changed->resources.worker.memory_bytes, 3ULL << 30);
  EXPECT_FALSE(changed->train.steps);
  EXPECT_EQ(changed->train.epochs, 2);
  EXPECT_EQ(changed->schedule.nodes, std::vector<std::string>{"gpu=h100"});
  EXPECT_EQ(changed->schedule.time_limit_seconds, 12 * 3600);
  EXPECT_EQ(changed->name, "other");
  EXPECT_EQ(*with_changes(small(), {}), small());
}

TEST(WithChanges, NamesMistakes) {
  const auto mistake = [](const std::string& change) {
    const auto changed = with_changes(small(), {change});
    EXPECT_FALSE(changed) << change;
    return changed ? "" : changed.error().message;
  };
  EXPECT_NE(mistake("train.optimizer.lrr=1").find("did you mean train.optimizer.lr"),
            std::string::npos);
  EXPECT_NE(mistake("train.lanes").find("FIELD=VALUE"), std::string::npos);
  EXPECT_NE(mistake("train=1").find("FIELD=VALUE"), std::string::npos);
  EXPECT_NE(mistake("train.lanes=many").find("whole number"), std::string::npos);
  EXPECT_NE(mistake("train.lanes=[1, ").find("train.lanes"), std::string::npos);
  EXPECT_NE(mistake("train.epochs=1").find("both given"), std::string::npos);
}

}  // namespace
}  // namespace crabcast

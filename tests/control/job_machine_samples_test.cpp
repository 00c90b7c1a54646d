// The quarantine (S-2), and the changes of the mixture as the machine records and tells them.
#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::HasSubstr;

pb::CorpusInfo corpus() {
  pb::CorpusInfo info;
  info.set_fingerprint(1);
  auto& avqa = *info.add_datasets();
  avqa.set_dataset(7);
  avqa.set_name("avqa");
  avqa.set_train(40);
  return info;
}

struct SampleBench : Bench {
  explicit SampleBench(JobHistory history = {}, const MixtureSpec& mixture = {})
      : Bench(std::move(history)) {
    if (mixture.policy != MixturePolicy::task_balanced) {
      auto spec = machine->spec();
      spec.data.mixture = mixture;
      spec.train.steps = 100;
      machine.emplace(
          "job-1", spec,
          std::vector{slot("worker-0", pb::ROLE_WORKER), slot("loader-0", pb::ROLE_LOADER)},
          JobHistory{});
      machine->start(now);
    }
    auto loader = registration("loader-0", 9);
    *loader.mutable_corpus() = corpus();
    machine->on_registered(loader, now);
    told();
  }
  void begin() {
    reg("worker-0", 10);
    reg("worker-1", 11);
    ready("worker-0");
    ready("worker-1");
  }

  // A step in which each worker met these bad rows of avqa. Returns what is written.
  pb::CommitRecord step_with(std::uint64_t step, const std::vector<std::uint64_t>& bad,
                             bool two_workers = true) {
    for (const std::string role : {"worker-0", "worker-1"}) {
      if (role == "worker-1" && !two_workers) continue;
      pb::StepReady body;
      body.set_generation(1);
      body.set_step(step);
      body.set_finite(true);
      auto& lane = *body.add_lanes();
      lane.set_lane(role == "worker-1" ? 1 : 0);
      auto& loss = *lane.add_losses();
      loss.set_task("captioning");
      loss.set_loss_sum(5);
      loss.set_tokens(1);
      for (const auto index : bad) {
        auto& one = *lane.add_bad();
        one.mutable_sample()->set_dataset(7);
        one.mutable_sample()->set_index(index);
        one.set_stage("decode");
        one.set_reason("/c/" + std::to_string(index) + ".mp4: decode: is damaged");
      }
      machine->on_step_ready(role, body, now);
    }
    pb::CommitRecord record;
    for (const auto& action : machine->take_actions())
      if (const auto* write = std::get_if<WriteCommit>(&action)) record = write->record;
    machine->on_commit_durable(step, now);
    return record;
  }

  // A worker's step: its one lane met a bad row of avqa, or trained one.
  void lane(const std::string& role, std::uint64_t generation, std::uint64_t step,
            const std::vector<std::uint64_t>& bad, const std::vector<std::uint64_t>& trained) {
    pb::StepReady body;
    body.set_generation(generation);
    body.set_step(step);
    body.set_finite(true);
    auto& lane = *body.add_lanes();
    lane.set_lane(role == "worker-1" ? 1 : 0);
    for (const auto index : bad) {
      auto& one = *lane.add_bad();
      one.mutable_sample()->set_dataset(7);
      one.mutable_sample()->set_index(index);
      one.set_stage("deadline");
      one.set_reason("/c/" + std::to_string(index) + ".mp4: decode: it took longer than 20 s");
    }
    for (const auto index : trained) {
      auto& sample = *lane.add_samples();
      sample.set_dataset(7);
      sample.set_index(index);
    }
    machine->on_step_ready(role, body, now);
  }

  // What was asked for: commits and quarantines to write, generations, and what loaders were told.
  struct Asked {
    std::vector<pb::CommitRecord> commits;
    std::vector<pb::BadSample> marks;
    std::vector<std::uint64_t> generations;
    std::vector<pb::SamplingHistory> told;
    std::vector<std::string> made_again;
  };
  Asked asked() {
    Asked all;
    for (const auto& action : machine->take_actions()) {
      if (const auto* write = std::get_if<WriteCommit>(&action))
        all.commits.push_back(write->record);
      if (const auto* write = std::get_if<WriteQuarantine>(&action))
        all.marks.insert(all.marks.end(), write->samples.begin(), write->samples.end());
      if (const auto* publish = std::get_if<PublishGeneration>(&action))
        all.generations.push_back(publish->generation.number());
      if (const auto* send = std::get_if<SendTo>(&action);
          send != nullptr && send->envelope.has_sampling_history())
        all.told.push_back(send->envelope.sampling_history());
      if (const auto* event = std::get_if<RecordEvent>(&action);
          event != nullptr && event->event.kind() == "step_made_again")
        all.made_again.push_back(event->event.subject());
    }
    return all;
  }
  void form(std::uint64_t generation, std::uint64_t step) {
    ready("worker-0", generation, step);
    ready("worker-1", generation, step);
  }

  // What loaders were told, and the subjects of quarantine events.
  struct Told {
    std::vector<pb::SamplingHistory> histories;
    std::vector<std::string> subjects, mixtures;
  };
  Told told() {
    Told all;
    for (const auto& action : machine->take_actions()) {
      if (const auto* send = std::get_if<SendTo>(&action);
          send != nullptr && send->envelope.has_sampling_history()) {
        EXPECT_EQ(send->role, "loader-0");
        all.histories.push_back(send->envelope.sampling_history());
      }
      if (const auto* event = std::get_if<RecordEvent>(&action)) {
        if (event->event.kind() == "sample_quarantined")
          all.subjects.push_back(event->event.subject());
        if (event->event.kind() == "mixture") all.mixtures.push_back(event->event.message());
      }
    }
    return all;
  }
};

TEST(JobMachineSamples, ABadSampleIsRecordedOnceWithTheStepThatMetIt) {
  SampleBench bench;
  bench.begin();
  bench.told();
  const auto record = bench.step_with(1, {12});
  ASSERT_EQ(record.quarantined_size(), 1) << "both workers met it";
  EXPECT_EQ(record.quarantined(0).sample().index(), 12U);
  EXPECT_EQ(record.quarantined(0).stage(), "decode");
  EXPECT_EQ(record.quarantined(0).step(), 1U);
  const auto told = bench.told();
  EXPECT_THAT(told.subjects, testing::ElementsAre("avqa:12"));
  ASSERT_EQ(told.histories.size(), 1U);
  ASSERT_EQ(told.histories[0].quarantined_size(), 1);
  EXPECT_EQ(told.histories[0].quarantined(0).step(), 1U);
  EXPECT_EQ(bench.step_with(2, {12, 13}).quarantined_size(), 1) << "12 is known";
  EXPECT_THAT(bench.told().subjects, testing::ElementsAre("avqa:13"));
  EXPECT_EQ(bench.machine->status(bench.now, 0).quarantined(), 2U);
}

TEST(JobMachineSamples, ALoaderIsToldAllThatIsKnown) {
  JobHistory history;
  auto& bad = history.quarantined.emplace_back();
  bad.mutable_sample()->set_dataset(7);
  bad.mutable_sample()->set_index(3);
  bad.set_reason("x");
  bad.set_step(2);
  history.last_commit = 4;
  SampleBench bench(history);
  bench.machine->on_gone("loader-0", "killed", true, bench.now, 9);
  auto loader = Bench::registration("loader-0", 19);
  *loader.mutable_corpus() = corpus();
  bench.machine->on_registered(loader, bench.now);
  const auto told = bench.told();
  ASSERT_EQ(told.histories.size(), 1U);
  ASSERT_EQ(told.histories[0].quarantined_size(), 1);
  EXPECT_EQ(told.histories[0].quarantined(0).sample().index(), 3U);
  EXPECT_EQ(told.histories[0].quarantined(0).step(), 2U);
}

// ---- One loader can read a sample in time, another one cannot (S-2) ---------------------------

TEST(OneAnswerForASample, WhatWasTrainedFirstStaysTrained) {
  SampleBench bench;
  bench.begin();
  bench.asked();
  bench.lane("worker-0", 1, 1, {}, {12});
  bench.lane("worker-1", 1, 1, {}, {13});
  EXPECT_EQ(bench.asked().commits.size(), 1U);
  bench.machine->on_commit_durable(1, bench.now);
  bench.asked();
  // The next epoch's turn of it, and another loader.
  bench.lane("worker-0", 1, 2, {12}, {14});
  bench.lane("worker-1", 1, 2, {}, {15});
  const auto asked = bench.asked();
  ASSERT_EQ(asked.commits.size(), 1U);
  ASSERT_EQ(asked.commits[0].quarantined_size(), 1);
  EXPECT_EQ(asked.commits[0].quarantined(0).step(), 2U) << "step 1 keeps what it drew";
}

// Loaders make batches ahead: one of them before it heard that the sample is in quarantine.
TEST(OneAnswerForASample, ABatchThatWasMadeBeforeTheMarkIsMadeAgain) {
  SampleBench bench;
  bench.begin();
  bench.lane("worker-0", 1, 1, {12}, {13});
  bench.lane("worker-1", 1, 1, {}, {14});
  bench.machine->on_commit_durable(1, bench.now);
  bench.asked();
  bench.lane("worker-0", 1, 2, {}, {15});
  bench.lane("worker-1", 1, 2, {}, {12});
  auto asked = bench.asked();
  EXPECT_TRUE(asked.commits.empty()) << "12 is in quarantine since step 1";
  EXPECT_THAT(asked.made_again, testing::ElementsAre("avqa:12"));
  EXPECT_TRUE(asked.marks.empty()) << "it is on disk already";
  EXPECT_THAT(asked.generations, testing::ElementsAre(2));
  bench.form(2, 1);
  bench.lane("worker-0", 2, 2, {}, {15});
  bench.lane("worker-1", 2, 2, {}, {16});
  asked = bench.asked();
  ASSERT_EQ(asked.commits.size(), 1U);
  EXPECT_EQ(asked.commits[0].step(), 2U);
  EXPECT_EQ(asked.commits[0].samples(1).index(), 16U);
}

// Whatever the step is to follow is on disk before anybody follows it.
TEST(OneAnswerForASample, LanesOfOneStepThatDisagreeFollowWhatIsRecordedFirst) {
  SampleBench bench;
  bench.begin();
  bench.asked();
  bench.lane("worker-0", 1, 1, {12}, {13});  // 12 was its turn
  bench.lane("worker-1", 1, 1, {}, {12});    // instead of another one
  auto asked = bench.asked();
  EXPECT_TRUE(asked.commits.empty());
  ASSERT_EQ(asked.marks.size(), 1U);
  EXPECT_EQ(asked.marks[0].sample().index(), 12U);
  EXPECT_EQ(asked.marks[0].step(), 1U);
  bench.machine->on_tick(bench.now + seconds(1));
  asked = bench.asked();
  EXPECT_TRUE(asked.generations.empty() && asked.told.empty()) << "it is not on disk yet";

  bench.machine->on_quarantine_durable(bench.now);
  asked = bench.asked();
  ASSERT_EQ(asked.told.size(), 1U);
  EXPECT_EQ(asked.told[0].quarantined(0).sample().index(), 12U);
  EXPECT_EQ(asked.told[0].quarantined(0).step(), 1U);
  EXPECT_THAT(asked.generations, testing::ElementsAre(2));
  bench.form(2, 0);
  bench.lane("worker-0", 2, 1, {}, {13});
  bench.lane("worker-1", 2, 1, {}, {14});
  asked = bench.asked();
  ASSERT_EQ(asked.commits.size(), 1U);
  EXPECT_EQ(asked.commits[0].quarantined_size(), 0) << "it is recorded already";
  EXPECT_EQ(bench.machine->status(bench.now, 0).quarantined(), 1U);
}

TEST(OneAnswerForASample, AMarkThatCannotBeStoredEndsTheJob) {
  SampleBench bench;
  bench.begin();
  bench.lane("worker-0", 1, 1, {12}, {13});
  bench.lane("worker-1", 1, 1, {}, {12});
  bench.machine->on_quarantine_failed({Errc::disk_full, "no room"}, bench.now);
  EXPECT_TRUE(bench.machine->leaving());
}

// A step that is done again after a rewind meets it where it could be read the first time.
TEST(OneAnswerForASample, AnEarlierStepTakesTheMarkBack) {
  JobHistory history;
  auto& bad = history.quarantined.emplace_back();
  bad.mutable_sample()->set_dataset(7);
  bad.mutable_sample()->set_index(3);
  bad.set_step(2);
  SampleBench bench(history);
  bench.begin();
  bench.asked();
  bench.lane("worker-0", 1, 1, {3}, {4});
  bench.lane("worker-1", 1, 1, {}, {5});
  auto asked = bench.asked();
  ASSERT_EQ(asked.commits.size(), 1U);
  ASSERT_EQ(asked.commits[0].quarantined_size(), 1);
  EXPECT_EQ(asked.commits[0].quarantined(0).step(), 1U);
  bench.machine->on_commit_durable(1, bench.now);
  asked = bench.asked();
  ASSERT_EQ(asked.told.size(), 1U);
  EXPECT_EQ(asked.told[0].quarantined(0).step(), 1U);
  EXPECT_EQ(bench.machine->status(bench.now, 0).quarantined(), 1U);
}

// failure.bad_samples is 0.05 of 40 rows: two may be bad.
TEST(JobMachineSamples, TooManyBadSamplesOfADataSetEndTheJob) {
  SampleBench bench;
  bench.begin();
  bench.step_with(1, {1, 2});
  EXPECT_FALSE(bench.machine->leaving());
  bench.step_with(2, {3});
  EXPECT_TRUE(bench.machine->leaving());
  for (const std::string role : {"worker-0", "worker-1", "loader-0"})
    bench.machine->on_gone(role, "left", true, bench.now);
  const auto status = bench.machine->status(bench.now, 0);
  EXPECT_EQ(status.state(), pb::JOB_FAILED);
  EXPECT_EQ(status.error_code(), static_cast<int>(Errc::data_error));
  EXPECT_THAT(status.reason(), HasSubstr("avqa: 3 of 40 training samples"));
  EXPECT_THAT(status.reason(), HasSubstr("7.5 %"));
  EXPECT_THAT(status.reason(), HasSubstr("failure.bad_samples allows (5 %)"));
  EXPECT_THAT(status.reason(), HasSubstr("/c/1.mp4: decode: is damaged"));
}

TEST(JobMachineSamples, AChangeOfTheMixtureIsInTheCommitBeforeLoadersHearOfIt) {
  MixtureSpec mixture;
  mixture.policy = MixturePolicy::adaptive;
  mixture.adapt_every_steps = 16;
  SampleBench bench({}, mixture);
  bench.reg("worker-0", 10);
  bench.ready("worker-0");
  bench.told();
  for (std::uint64_t step = 1; step <= 7; ++step)
    EXPECT_FALSE(bench.step_with(step, {}, false).has_mixture());
  bench.told();
  const auto record = bench.step_with(8, {}, false);
  ASSERT_TRUE(record.has_mixture());
  EXPECT_EQ(record.mixture().first_step(), 17U);
  const auto told = bench.told();
  ASSERT_EQ(told.histories.size(), 1U);
  ASSERT_EQ(told.histories[0].changes_size(), 1);
  EXPECT_EQ(told.histories[0].changes(0).SerializeAsString(), record.mixture().SerializeAsString());
  ASSERT_EQ(told.mixtures.size(), 1U);
  EXPECT_THAT(told.mixtures[0], HasSubstr("from step 17"));
}

}  // namespace
}  // namespace crabcast::actors

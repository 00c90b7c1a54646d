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

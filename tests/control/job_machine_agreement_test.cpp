// What members must see alike: the corpus, from the first step of a job to its last (S-1).
#include <functional>

#include "tests/control/machine_bench.h"

namespace crabcast::actors {
namespace {

using testing::HasSubstr;

pb::CorpusInfo corpus() {
  pb::CorpusInfo info;
  info.set_fingerprint(1);
  info.set_folder("/c");
  for (const std::string name : {"ks", "unav"}) {
    auto& set = *info.add_datasets();
    set.set_dataset(name == "ks" ? 0 : 10);
    set.set_name(name);
    set.set_train(40);
    set.set_test(10);
    set.set_train_hash(11);
    if (name == "ks") set.set_test_hash(12);
  }
  return info;
}

pb::CorpusInfo changed(const std::function<void(pb::CorpusInfo&)>& change) {
  auto info = corpus();
  info.set_fingerprint(2);
  change(info);
  return info;
}

struct CorpusBench : Bench {
  using Bench::Bench;
  void see(const std::string& role, int pid, const pb::CorpusInfo& info) {
    auto body = registration(role, pid);
    *body.mutable_corpus() = info;
    machine->on_registered(body, now);
  }
  // What the job ended with; empty: it goes on.
  std::string refusal() {
    if (!machine->leaving()) return "";
    for (const std::string role : {"worker-0", "worker-1", "loader-0", "evaluator-0"})
      machine->on_gone(role, "left", true, now);
    const auto status = machine->status(now, 0);
    EXPECT_EQ(status.state(), pb::JOB_FAILED);
    EXPECT_EQ(status.error_code(), static_cast<int>(Errc::data_error));
    return status.reason();
  }
};

JobHistory trained() {
  JobHistory history;
  history.last_commit = 4;
  history.corpus = corpus();
  return history;
}

std::string refused(const pb::CorpusInfo& info) {
  CorpusBench bench(trained());
  bench.see("loader-0", 9, info);
  return bench.refusal();
}

TEST(SameCorpus, TheFirstCommitSaysWhatItWasTrainedOn) {
  CorpusBench bench;
  bench.see("loader-0", 9, corpus());
  bench.reg("worker-0", 10);
  bench.reg("worker-1", 11);
  bench.ready("worker-0");
  bench.ready("worker-1");
  for (const std::uint64_t step : {1, 2}) {
    bench.machine->take_actions();
    bench.step("worker-0", 1, step);
    bench.step("worker-1", 1, step);
    std::vector<pb::CommitRecord> commits;
    for (const auto& action : bench.machine->take_actions())
      if (const auto* write = std::get_if<WriteCommit>(&action)) commits.push_back(write->record);
    ASSERT_EQ(commits.size(), 1U);
    EXPECT_EQ(commits[0].has_corpus(), step == 1);
    if (step == 1) {
      EXPECT_EQ(commits[0].corpus().SerializeAsString(), corpus().SerializeAsString());
    }
    bench.machine->on_commit_durable(step, bench.now);
  }
}

TEST(SameCorpus, AJobGoesOnWithTheCorpusOfItsLedgerOnly) {
  EXPECT_EQ(refused(corpus()), "");
  const auto reason = refused(changed([](auto& info) {
    info.mutable_datasets(0)->set_train(42);
    info.mutable_datasets(0)->set_train_hash(13);
  }));
  EXPECT_THAT(reason, HasSubstr("loader-0 on node node-a"));
  EXPECT_THAT(reason,
              HasSubstr("trained on up to step 4: /c/ks/train.json has 42 samples, not 40"));
  EXPECT_THAT(reason, HasSubstr("put it back as it was"));
  EXPECT_THAT(reason, HasSubstr("a job of another name"));
}

TEST(SameCorpus, EachKindOfChangeIsNamed) {
  EXPECT_THAT(refused(changed([](auto& info) { info.mutable_datasets(1)->set_train_hash(13); })),
              HasSubstr("/c/unav/train.json has other rows"));
  EXPECT_THAT(refused(changed([](auto& info) { info.mutable_datasets(0)->set_test_hash(0); })),
              HasSubstr("/c/ks/test.json is gone"));
  EXPECT_THAT(refused(changed([](auto& info) { info.mutable_datasets(1)->set_test_hash(5); })),
              HasSubstr("/c/unav/test.json is new"));
  EXPECT_THAT(refused(changed([](auto& info) { info.mutable_datasets()->RemoveLast(); })),
              HasSubstr("the data set unav is gone from /c"));
  EXPECT_THAT(refused(changed([](auto& info) {
                auto& more = *info.add_datasets();
                more.set_dataset(1);
                more.set_name("ucf");
              })),
              HasSubstr("the data set ucf in /c is new"));
}

TEST(SameCorpus, EvaluatorsAreHeldToItToo) {
  CorpusBench bench(trained(), 1);
  bench.see("loader-0", 9, corpus());
  EXPECT_FALSE(bench.machine->leaving());
  bench.see("evaluator-0", 12,
            changed([](auto& info) { info.mutable_datasets(0)->set_test_hash(13); }));
  EXPECT_THAT(bench.refusal(), HasSubstr("/c/ks/test.json has other rows"));
}

// Nothing was trained, so whoever mended the corpus may go on.
TEST(SameCorpus, BeforeTheFirstCommitOnlyTheMembersMustAgree) {
  CorpusBench bench({}, 1);
  bench.see("loader-0", 9, corpus());
  EXPECT_FALSE(bench.machine->leaving());
  bench.see("evaluator-0", 12,
            changed([](auto& info) { info.mutable_datasets(0)->set_train_hash(13); }));
  const auto reason = bench.refusal();
  EXPECT_THAT(reason, HasSubstr("another corpus than the others: /c/ks/train.json has other rows"));
  EXPECT_THAT(reason, HasSubstr("equal on all nodes"));
}

}  // namespace
}  // namespace crabcast::actors

// The report of a ledger that was made by hand, number by number.
#include <cmath>

#include "protocol/envelope.pb.h"
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

using storage::Sync;
using ::testing::HasSubstr;

// Twenty steps of two tasks, so the first and the last two count. Step 2 is skipped, step 11 opens
// a new generation and took long.
class ReportTest : public CliTest {
 protected:
  ReportTest() {
    auto store = open_store("tiny-1");
    must(store->put_value("job", "tiny-1", Sync::no));
    for (std::uint64_t step = 1; step <= 20; ++step) {
      pb::CommitRecord commit;
      commit.set_step(step);
      commit.set_generation(step < 11 ? 1 : 2);
      commit.set_unix_ms(1'700'000'000'000 + static_cast<std::int64_t>(step));
      commit.set_seconds(step == 1 ? 5.0 : step == 11 ? 3.0 : 0.5);
      // Not finite, and so it must not spoil the mean.
      const double first_loss = step == 2 ? std::nan("") : 12.0;
      add_loss(commit, "captioning", step <= 2 ? first_loss : 6.0, step <= 2 ? 3 : 4, 2);
      add_loss(commit, "action_recognition", step <= 2 ? 8.0 : 2.0, 2, 2);
      commit.set_skipped(step == 2);
      if (step == 5) {
        commit.add_substitutions()->set_reason("corrupt video");
        commit.add_quarantined()->set_reason("corrupt video");
      }
      auto& stages = *commit.mutable_stages();
      stages.set_data(0.125);
      stages.set_forward(0.25);
      stages.set_backward(0.5);
      stages.set_reduce(0.0625);
      stages.set_commit(0.03125);
      stages.set_optimizer(0.03125);
      auto& work = *commit.mutable_work();
      work.set_decode(0.003);
      work.set_audio(0.001);
      work.set_samples(4);
      work.set_cached(step > 10 ? 4 : 0);
      work.set_tokens(300);
      work.set_cells(400);
      work.set_batches(2);
      work.set_waited_for(step == 1 ? 2 : 0);
      work.set_at_hand(5);
      must(store->append_commit(commit, Sync::no));
    }
    must(storage::write_checkpoint(*store, 10));
    must(storage::write_checkpoint(*store, 20));
    for (const std::uint64_t checkpoint : {10, 20}) {
      pb::EvaluationRecord record;
      record.set_checkpoint(checkpoint);
      record.set_mean(checkpoint == 10 ? 0.25 : 0.5);
      auto& score = *record.add_scores();
      score.set_task("captioning");
      score.set_metric("token_f1");
      score.set_score(record.mean());
      score.set_samples(8);
      (*score.mutable_details())["untrained"] = 0.125;
      (*score.mutable_details())["constant"] = 0.375;
      for (const char* answer : {"a bell\nrings", "a dog"}) {
        auto& example = *record.add_examples();
        example.set_task("captioning");
        example.set_truth("a red bell rings");
        example.set_answer(answer);
      }
      must(store->put_evaluation(record, Sync::no));
    }
    must(store->append_event(event_of("tiny-1", "job_started", 1000, ""), Sync::no));
    must(store->append_event(incident_of("tiny-1", 2000), Sync::no));
    pb::JobStatus status;
    status.set_job("tiny-1");
    status.set_state(pb::JOB_SUCCEEDED);
    must(store->put_value("status", status.SerializeAsString(), Sync::yes));
  }
};

TEST_F(ReportTest, Numbers) {
  const json report = run_json({"report", "tiny-1"});
  EXPECT_EQ(report.at("job"), "tiny-1");
  EXPECT_EQ(report.at("state"), "succeeded");
  EXPECT_EQ(report.at("steps"), (json{{"committed", 20}, {"skipped", 1}, {"window", 2}}));
  EXPECT_EQ(report.at("samples"), 80);
  EXPECT_EQ(report.at("replaced_samples"), 1);
  EXPECT_EQ(report.at("quarantined_samples"), 1);
  EXPECT_EQ(report.at("wall_seconds"), 5.0 + 3.0 + 18 * 0.5);
  EXPECT_DOUBLE_EQ(report.at("samples_per_second"), 80.0 / 17.0);
  EXPECT_EQ(report.at("steady_samples_per_second"), 72.0 / 9.0);

  // First: step 1 alone, since step 2 was skipped. Last: steps 19 and 20.
  const json& tasks = report.at("tasks");
  ASSERT_EQ(tasks.size(), 2U);
  EXPECT_EQ(tasks[0], (json{{"task", "action_recognition"},
                            {"first_loss", 4.0},
                            {"last_loss", 1.0},
                            {"change_percent", -75.0},
                            {"samples", 40},
                            {"tokens", 40}}));
  EXPECT_EQ(tasks[1], (json{{"task", "captioning"},
                            {"first_loss", 4.0},
                            {"last_loss", 1.5},
                            {"change_percent", -62.5},
                            {"samples", 40},
                            {"tokens", 78}}));
  EXPECT_EQ(report.at("loss").at("first"), 20.0 / 5.0);
  EXPECT_EQ(report.at("loss").at("last"), 16.0 / 12.0);

  const json& stages = report.at("stages");
  ASSERT_EQ(stages.size(), 6U);
  EXPECT_EQ(stages[0], (json{{"stage", "data"}, {"seconds", 2.25}, {"share", 0.125}}));
  EXPECT_EQ(stages[2], (json{{"stage", "backward"}, {"seconds", 9.0}, {"share", 0.5}}));
  EXPECT_EQ(stages[3].at("stage"), "reduce");
  EXPECT_EQ(stages[4].at("share"), 0.03125);

  const json& loader = report.at("loader");
  EXPECT_EQ(loader.at("samples"), 80);
  EXPECT_EQ(loader.at("cached_share"), 0.5);
  EXPECT_EQ(loader.at("padding_left_out"), 0.25);
  EXPECT_EQ(loader.at("waited_share"), 0.05);
  EXPECT_EQ(loader.at("batches_at_hand"), 2.5);
  ASSERT_EQ(loader.at("stages").size(), 6U);
  EXPECT_EQ(loader.at("stages")[1].at("stage"), "decode");
  EXPECT_DOUBLE_EQ(loader.at("stages")[1].at("share"), 0.75);

  ASSERT_EQ(report.at("evaluations").size(), 2U);
  EXPECT_EQ(report.at("evaluations")[1].at("mean"), 0.5);
  EXPECT_EQ(report.at("evaluations")[0].at("scores")[0].at("score"), 0.25);
  EXPECT_EQ(report.at("evaluations")[1].at("examples")[1].at("answer"), "a dog");
  ASSERT_EQ(report.at("checkpoints").size(), 2U);
  EXPECT_EQ(report.at("checkpoints")[1].at("metrics").at("eval/captioning"), 0.5);
  EXPECT_EQ(report.at("events"), (json{{"info", 1}, {"warning", 1}, {"error", 0}}));
  ASSERT_EQ(report.at("incidents").size(), 1U);
  EXPECT_EQ(report.at("incidents")[0].at("incident").at("evidence"), "killed by SIGKILL");
}

TEST_F(ReportTest, Text) {
  const auto done = run({"report", "tiny-1"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("tiny-1: succeeded\n20 steps, 80 samples in 17.0 s: 4.71 "
                                  "samples/s (8.00 without starts and repairs)\n"));
  EXPECT_THAT(done.out, HasSubstr("1 steps were skipped"));
  EXPECT_THAT(done.out, HasSubstr("mean of the first and of the last 2 steps\n"
                                  "TASK                 FIRST    LAST  CHANGE  SAMPLES\n"
                                  "action_recognition  4.0000  1.0000  -75.0%       40\n"
                                  "captioning          4.0000  1.5000  -62.5%       40\n"
                                  "all                 4.0000  1.3333  -66.7%       80\n"));
  EXPECT_THAT(done.out, HasSubstr("TASK        METRIC    AT 10  AT 20\n"
                                  "captioning  token_f1  0.250  0.500\n"
                                  "mean                  0.250  0.500\n"));
  EXPECT_THAT(done.out,
              HasSubstr("the best constant answer, and at 20\n"
                        "TASK        METRIC    SAMPLES  UNTRAINED  CONSTANT  TRAINED  BEATS\n"
                        "captioning  token_f1        8      0.125     0.375    0.500  both\n"
                        "1 of 1 tasks beat both the untrained adapter and the best constant"));
  EXPECT_THAT(done.out, HasSubstr("Answers to held-out samples at 20\n"
                                  "TASK        TRUTH             ANSWER\n"
                                  "captioning  a red bell rings  a bell"));
  EXPECT_EQ(done.out.find("a dog"), std::string::npos) << "one sample of each task is enough";
  EXPECT_THAT(done.out, HasSubstr("data 12.5%, forward 25.0%, backward 50.0%, reduce 6.2%, "
                                  "commit 3.1%, optimizer 3.1%\n"));
  EXPECT_THAT(done.out, HasSubstr("Incidents: 1\n"));
  EXPECT_THAT(done.out, HasSubstr("worker-1     7     3.88  killed by SIGKILL\n"));
  EXPECT_EQ(done.out.find('\x1b'), std::string::npos) << "no colours outside a terminal";
}

TEST_F(ReportTest, AJobWithoutACommitHasAReportToo) {
  (void)open_store("new-1");
  const json report = run_json({"report", "new-1"});
  EXPECT_EQ(report.at("samples"), 0);
  EXPECT_TRUE(report.at("samples_per_second").is_null());
  EXPECT_TRUE(report.at("loss").at("first").is_null());
  EXPECT_FALSE(report.contains("state"));
  const auto text = run({"report", "--store", (job_dir("new-1") / "store").string()});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("0 steps, 0 samples"));
  EXPECT_THAT(text.out, HasSubstr("No checkpoint is stored"));
}

}  // namespace
}  // namespace crabcast::testing

// ps, status, events and logs where no controller runs: from the registry and the jobs' stores.
#include <signal.h>

#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

using storage::Sync;
using ::testing::HasSubstr;
using ::testing::Not;

class StoredStateTest : public CliTest {
 protected:
  StoredStateTest() {
    auto registry = open_registry();
    must(registry->put_job(job_record("done", 1, pb::JOB_SUCCEEDED), Sync::no));
    must(registry->put_job(job_record("waits", 2, pb::JOB_PENDING), Sync::no));
    must(registry->put_job(job_record("broke", 3, pb::JOB_FAILED, "the corpus is missing"),
                           Sync::no));
    auto store = open_store("done-1");
    for (std::uint64_t step = 1; step <= 40; ++step) {
      pb::CommitRecord commit;
      commit.set_step(step);
      commit.set_generation(2);
      add_loss(commit, "captioning", step <= 20 ? 100.0 : 6.0, 4, 1);  // 1.5 in the last 20
      add_loss(commit, "segmentation", 10.0, 4, 1);                    // 2.5
      must(store->append_commit(commit, Sync::no));
    }
    must(storage::write_checkpoint(*store, 20));
    must(storage::write_checkpoint(*store, 40));
    pb::EvaluationRecord evaluation;
    evaluation.set_checkpoint(40);
    evaluation.set_mean(0.5);
    auto& score = *evaluation.add_scores();
    score.set_task("captioning");
    score.set_metric("token_f1");
    score.set_score(0.5);
    score.set_samples(8);
    must(store->put_evaluation(evaluation, Sync::no));
    // The controller heard of the first of these two; the second happened without it.
    const auto started = event_of("done-1", "job_started", 2000, "starts from step 0");
    must(store->append_event(started, Sync::no));
    must(store->append_event(incident_of("done-1", 4000), Sync::no));
    must(registry->append_event(event_of("done-1", "submitted", 1000, "waits to be placed"),
                                Sync::no));
    must(registry->append_event(event_of("waits-2", "submitted", 1500, "waits to be placed"),
                                Sync::no));
    must(registry->append_event(started, Sync::no));
    write_file(job_dir("done-1") / "logs" / "worker-0.log", "first line\nlast line\n");
    write_file(job_dir("done-1") / "logs" / "coordinator.log", "coordinator line\n");
  }
};

TEST_F(StoredStateTest, PsListsWhatHasNotEnded) {
  const auto done = run({"ps"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.err, HasSubstr("no controller runs here; this is the stored state of " +
                                  state().string()));
  EXPECT_THAT(done.out, HasSubstr("waits-2  pending  0/40"));
  EXPECT_THAT(done.out, Not(HasSubstr("done-1")));
  EXPECT_EQ(run({"ps", "--quiet"}).err, "");
}

TEST_F(StoredStateTest, PsAllFillsInFromTheStores) {
  const json jobs = run_json({"ps", "--all"}).at("jobs");
  ASSERT_EQ(jobs.size(), 3U);
  EXPECT_EQ(jobs[0].at("job"), "done-1");
  EXPECT_EQ(jobs[0].at("state"), "succeeded");
  EXPECT_EQ(jobs[0].at("step"), 40);
  EXPECT_EQ(jobs[0].at("steps"), 40);
  EXPECT_EQ(jobs[0].at("losses").at("captioning").at("loss"), 1.5);
  EXPECT_EQ(jobs[0].at("losses").at("segmentation").at("loss"), 2.5);
  EXPECT_EQ(jobs[0].at("loss"), 2.0);
  EXPECT_EQ(jobs[2].at("reason"), "the corpus is missing");
  EXPECT_EQ(jobs[2].at("step"), 0);
  const auto table = run({"ps", "--all"});
  EXPECT_THAT(table.out,
              ::testing::ContainsRegex("JOB +STATE +STEP +LOSS +SAMPLES/S +WORKERS +AGE"));
  EXPECT_THAT(table.out, HasSubstr("done-1   succeeded  40/40  2.000"));
  EXPECT_THAT(table.out, HasSubstr("the corpus is missing\n"));
}

TEST_F(StoredStateTest, StatusShowsLossesScoresAndCheckpoints) {
  const json status = run_json({"status", "done-1"});
  EXPECT_EQ(status.at("newest_checkpoint"), 40);
  EXPECT_EQ(status.at("checkpoints"), 2);
  EXPECT_EQ(status.at("generation"), 2);
  EXPECT_EQ(status.at("incidents"), 1);
  EXPECT_EQ(status.at("evaluation").at("mean"), 0.5);
  EXPECT_EQ(status.at("submitted_unix_ms"), 1'700'000'000'001);
  EXPECT_FALSE(status.contains("started_unix_ms"));
  const auto page = run({"status", "done-1"});
  EXPECT_EQ(page.code, 0);
  EXPECT_THAT(page.out, HasSubstr("done-1: succeeded\n"));
  EXPECT_THAT(page.out, HasSubstr("2.0000, by task"));
  EXPECT_THAT(page.out, HasSubstr("captioning    1.5000       20\n"));
  EXPECT_THAT(page.out, HasSubstr("of checkpoint 40, mean 0.500"));
  EXPECT_EQ(run({"ps", "done-1"}).code, 0);
}

TEST_F(StoredStateTest, EventsComeFromBothStoresAndEachOnce) {
  const auto done = run({"events", "done-1", "--json"});
  EXPECT_EQ(done.code, 0) << done.err;
  std::vector<json> events;
  std::istringstream lines(done.out);
  for (std::string line; std::getline(lines, line);) events.push_back(json::parse(line));
  ASSERT_EQ(events.size(), 3U) << done.out;
  EXPECT_EQ(events[0].at("kind"), "submitted");
  EXPECT_EQ(events[1].at("kind"), "job_started");
  EXPECT_EQ(events[2].at("kind"), "incident");
  EXPECT_EQ(events[2].at("seq"), 3);
  EXPECT_EQ(events[2].at("incident").at("culprit"), "worker-1");
  EXPECT_EQ(events[2].at("incident").at("redo_seconds"), 2.0);
}

TEST_F(StoredStateTest, AnIncidentShowsItsDetail) {
  const auto done = run({"events", "done-1"});
  EXPECT_THAT(done.out, HasSubstr("  info     job_started  done-1  starts from step 0\n"));
  EXPECT_THAT(done.out, HasSubstr("  warning  incident  worker-1  killed by SIGKILL"));
  EXPECT_THAT(done.out, HasSubstr("\n    culprit worker-1; last operation: step 7: backward; "
                                  "evidence: killed by SIGKILL\n"));
  EXPECT_THAT(done.out, HasSubstr("\n    detect 0.25 s, decide 0.50 s, re-form 1.00 s, "
                                  "load 0.12 s, redo 2.00 s\n"));
}

TEST_F(StoredStateTest, EventsWithoutAJobAreThoseOfTheRegistry) {
  const auto done = run({"events"});
  EXPECT_EQ(done.code, 0);
  EXPECT_THAT(done.out, HasSubstr("submitted  waits-2"));
  EXPECT_THAT(done.out, Not(HasSubstr("incident")));
}

TEST_F(StoredStateTest, FollowingAJobThatIsOverEnds) {
  const auto events = run({"events", "-f", "done-1"});
  EXPECT_EQ(events.code, 0) << events.err;
  EXPECT_THAT(events.out, HasSubstr("job_started"));
  EXPECT_EQ(run({"logs", "-f", "done-1"}).code, 0);
}

TEST_F(StoredStateTest, CtrlCEndsFollowing) {
  Program follower("crabcast", {"--state", state().string(), "events", "-f", "waits-2"});
  ASSERT_TRUE(eventually([&] { return !follower.out().empty(); }, 60s)) << follower.err();
  EXPECT_FALSE(follower.wait(0s).has_value()) << "it must go on while the job has not ended";
  follower.signal(SIGINT);
  EXPECT_EQ(follower.wait(30s), 0);
}

TEST_F(StoredStateTest, Logs) {
  EXPECT_EQ(run({"logs", "done-1"}).out, "coordinator line\n");
  EXPECT_EQ(run({"logs", "done-1", "worker-0"}).out, "first line\nlast line\n");
  const json piece = run_json({"logs", "done-1", "worker-0"});
  EXPECT_EQ(piece.at("text"), "first line\nlast line\n");
  const auto missing = run({"logs", "done-1", "worker-9"});
  EXPECT_EQ(missing.code, 4);
  EXPECT_THAT(missing.err, HasSubstr("there are logs of coordinator, worker-0"));
  EXPECT_EQ(run({"logs", "done-1", "../../secret"}).code, 3);
}

TEST_F(StoredStateTest, UnknownJobsAreNotFound) {
  for (const char* verb : {"status", "ps", "events", "logs", "report"}) {
    const auto done = run({verb, "nobody-9"});
    EXPECT_EQ(done.code, 4) << verb;
    EXPECT_THAT(done.err, HasSubstr("nobody-9")) << verb;
  }
}

TEST_F(StoredStateTest, WhatNeedsAControllerSaysSo) {
  write_file(folder_ / "job.yaml", small_spec("tiny"));
  for (const auto& words : {std::vector<std::string>{"submit", folder_ / "job.yaml"},
                            {"cancel", "waits-2"},
                            {"nodes"}}) {
    const auto done = run(words);
    EXPECT_EQ(done.code, 4) << words[0];
    EXPECT_THAT(done.err, HasSubstr("no controller runs with the state folder")) << words[0];
  }
}

// The file that a controller leaves when it is killed.
TEST_F(StoredStateTest, AControllerThatDiedIsNoController) {
  write_file(state() / "controller" / "endpoint", "tcp://127.0.0.1:1\n");
  const auto done = run({"ps"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.err, HasSubstr("no controller runs here"));
  EXPECT_THAT(done.out, HasSubstr("waits-2"));
}

TEST(EmptyState, NothingIsThere) {
  TemporaryFolder folder;
  const auto done = run_program("crabcast", {"ps", "--state", folder / "none"});
  EXPECT_EQ(done.code, 4);
  EXPECT_THAT(done.err, HasSubstr("nothing is stored there either"));
  EXPECT_FALSE(std::filesystem::exists(folder / "none")) << "looking must not make anything";
}

}  // namespace
}  // namespace crabcast::testing

// S-1 over a job's whole life: it goes on with the corpus that it began with, or not at all.
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/process/job_records.h"
#include "tests/process/small_job.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

TEST(ChangedCorpus, AJobIsNotResumedOnItAndGoesOnWhenItIsBack) {
  const TemporaryFolder folder;
  const auto state = folder / "state", corpus = folder / "corpus";
  fs::copy(shared_corpus(), corpus, fs::copy_options::recursive);
  SmallJob job{.name = "faithful", .steps = 12, .checkpoint_every = 1000};
  job.corpus = corpus.string();
  job.tasks = "[action_recognition]";
  const auto spec = folder / "job.yaml";
  write_file(spec, job.yaml());
  const std::vector<std::string> arguments = {"--state", state.string(), "run", spec.string()};
  Program first("crabcast", arguments);
  ASSERT_TRUE(eventually(
      [&] {
        const auto status = job_status(state, "faithful-1");
        return status.contains("step") && status["step"] >= 2;
      },
      120s))
      << first.out() << first.err();
  first.signal(SIGINT);
  ASSERT_EQ(first.wait(60s), 8) << first.out() << first.err();
  const auto before = ledger(state, "faithful-1");
  ASSERT_LT(before.size(), 12U);
  EXPECT_EQ(before.front().corpus().datasets_size(), 2);

  const auto file = corpus / "ks" / "train.json";
  const auto rows = read_file(file);
  auto more = nlohmann::json::parse(rows);
  more.push_back(more[0]);
  write_file(file, more.dump());
  const auto refused = run_program("crabcast", arguments, 120s);
  EXPECT_EQ(refused.code, 3) << refused.out << refused.err;
  for (const auto& part : {file.string() + " has 5 samples, not 4", std::string("put it back"),
                           std::string("a job of another name")})
    EXPECT_NE(refused.err.find(part), std::string::npos) << refused.err;
  EXPECT_EQ(ledger(state, "faithful-1").size(), before.size()) << "nothing was trained";

  write_file(file, rows);
  const auto again = run_program("crabcast", arguments, 240s);
  ASSERT_EQ(again.code, 0) << again.out << again.err;
  EXPECT_EQ(ledger(state, "faithful-1").size(), 12U);
}

}  // namespace
}  // namespace crabcast::testing

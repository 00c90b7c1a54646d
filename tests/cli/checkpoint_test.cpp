// ckpt ls and ckpt verify on real stores, whole and damaged.
#include <fstream>

#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

using storage::Sync;
using ::testing::HasSubstr;
using ::testing::Not;

class CheckpointVerbsTest : public CliTest {
 protected:
  CheckpointVerbsTest() : store_(open_store("tiny-1")) {
    must(storage::write_checkpoint(*store_, 50));
    must(storage::write_checkpoint(*store_, 100));
    pb::EvaluationRecord evaluation;
    evaluation.set_checkpoint(100);
    evaluation.set_mean(0.25);
    must(store_->put_evaluation(evaluation, Sync::yes));
  }

  // A copy of the store in which one byte of a chunk is another.
  fs::path damaged_copy(std::uint64_t checkpoint, std::uint32_t chunk) {
    store_.reset();
    const fs::path copy = folder_ / "copy";
    fs::copy(job_dir("tiny-1") / "store", copy, fs::copy_options::recursive);
    const std::string needle = storage::chunk_bytes(checkpoint, chunk, 16 << 10).substr(0, 64);
    for (const auto& entry : fs::directory_iterator(copy)) {
      if (!entry.is_regular_file()) continue;
      std::string bytes = read_file(entry.path());
      const auto found = bytes.find(needle);
      if (found == std::string::npos) continue;
      bytes[found + 5] = static_cast<char>(bytes[found + 5] ^ 1);
      write_file(entry.path(), bytes);
      return copy;
    }
    ADD_FAILURE() << "the bytes are in no file";
    return copy;
  }

  std::unique_ptr<storage::JobStore> store_;  // open, as while a job runs
};

TEST_F(CheckpointVerbsTest, LsListsThemWhileTheJobRuns) {
  const auto done = run({"ckpt", "ls", "tiny-1"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr(" ID  STEP  GENERATION  TIME"));
  EXPECT_THAT(done.out, HasSubstr("48.0 KiB"));
  const json list = run_json({"ckpt", "ls", "tiny-1"}).at("checkpoints");
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list[0].at("id"), 50);
  EXPECT_EQ(list[0].at("chunks"), 3);
  EXPECT_EQ(list[0].at("bytes"), 3 * 16384);
  EXPECT_EQ(list[1].at("metrics").at("eval/mean"), 0.25);
}

TEST_F(CheckpointVerbsTest, VerifyPassesWhileTheJobRuns) {
  const auto done = run({"ckpt", "verify", "tiny-1"});
  EXPECT_EQ(done.code, 0) << done.out << done.err;
  EXPECT_EQ(done.out,
            "checkpoint 50: ok, 3 chunks, 48.0 KiB\ncheckpoint 100: ok, 3 chunks, 48.0 KiB\n");
  EXPECT_EQ(run({"ckpt", "verify", "tiny-1", "--id", "100"}).out,
            "checkpoint 100: ok, 3 chunks, 48.0 KiB\n");
  EXPECT_EQ(run({"ckpt", "verify", "tiny-1", "--id", "7"}).code, 4);
}

TEST_F(CheckpointVerbsTest, VerifyNamesTheKeyOfADamagedChunk) {
  const auto copy = damaged_copy(100, 2).string();
  const auto done = run({"ckpt", "verify", "--store", copy});
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.out, HasSubstr("checkpoint 50: ok"));
  EXPECT_THAT(done.out, HasSubstr("checkpoint 100: DAMAGED"));
  EXPECT_THAT(done.out, HasSubstr("\n  chunk/00000100/00000002"));
  EXPECT_THAT(done.out, Not(HasSubstr("chunk/00000100/00000001")));
  const json report = run_json({"ckpt", "verify", "--store", copy}, 1);
  EXPECT_EQ(report.at("ok"), false);
  EXPECT_EQ(report.at("checkpoints")[0].at("ok"), true);
  ASSERT_EQ(report.at("checkpoints")[1].at("problems").size(), 1U);
  EXPECT_EQ(run({"ckpt", "verify", "--store", copy, "--id", "50"}).code, 0);
  // The list needs no chunk.
  EXPECT_EQ(run({"ckpt", "ls", "--store", copy}).code, 0);
  EXPECT_EQ(run({"ckpt", "verify", "tiny-1"}).code, 0);
}

TEST_F(CheckpointVerbsTest, StoreMayBeAJobFolder) {
  const auto done = run({"ckpt", "verify", "--store", job_dir("tiny-1").string()});
  EXPECT_EQ(done.code, 0) << done.err;
}

TEST_F(CheckpointVerbsTest, NothingToVerifyIsNotFine) {
  (void)open_store("empty-1");
  const auto none = run({"ckpt", "verify", "empty-1"});
  EXPECT_EQ(none.code, 4);
  EXPECT_THAT(none.err, HasSubstr("there is no checkpoint"));
  EXPECT_EQ(run({"ckpt", "ls", "empty-1"}).code, 0);
  EXPECT_EQ(run({"ckpt", "verify", "--store", folder_.path().string()}).code, 4);
  EXPECT_EQ(run({"ckpt", "verify", "nobody-1"}).code, 4);
  EXPECT_EQ(run({"ckpt", "verify", "../state/jobs/tiny-1"}).code, 3);
}

}  // namespace
}  // namespace crabcast::testing

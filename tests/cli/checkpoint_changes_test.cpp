// The verbs of `crabcast ckpt` that compare, keep and move checkpoints.
#include <google/protobuf/text_format.h>

#include "protocol/envelope.pb.h"
#include "protocol/job_spec.h"
#include "storage/stored_spec.h"
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

using storage::Sync;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class CheckpointChangesTest : public CliTest {
 protected:
  CheckpointChangesTest() {
    auto registry = open_registry();
    must(registry->put_job(job_record("tiny", 1, pb::JOB_STOPPED), Sync::yes));
    auto store = open_store("tiny-1");
    must(storage::put_spec(*store, spec_yaml()));
    must(store->put_value("job", "tiny-1", Sync::yes));
    for (std::uint64_t step = 1; step <= 50; ++step) {
      must(store->append_commit(storage::commit_record(step), Sync::no));
      if (step % 10 == 0) save(*store, step);
    }
    pb::EvaluationRecord evaluation;
    evaluation.set_checkpoint(20);
    evaluation.set_mean(0.25);
    must(store->put_evaluation(evaluation, Sync::yes));
  }
  static std::string spec_yaml() {
    return small_spec("tiny") + "  lanes: 4\ncheckpoint: {every: 10 steps, keep: {last: 2}}\n";
  }
  static void save(storage::JobStore& store, std::uint64_t id) {
    pb::CheckpointManifest manifest = storage::manifest_of(id);
    manifest.set_spec_hash(spec_hash(parse_job_spec(spec_yaml(), "").value()));
    auto writer = must(store.begin_checkpoint(CheckpointId(id)));
    for (const auto& entry : manifest.chunks()) {
      const auto bytes = storage::chunk_bytes(id, entry.index(), entry.bytes());
      must(writer->put_chunk(entry, storage::as_span(bytes)));
    }
    must(writer->commit(manifest));
  }
  std::vector<std::uint64_t> listed() const {
    std::vector<std::uint64_t> ids;
    const json list = run_json({"ckpt", "ls", "tiny-1"});
    for (const auto& one : list.at("checkpoints")) ids.push_back(one.at("id"));
    return ids;
  }
  fs::path out() const { return folder_ / "exported"; }
};

TEST_F(CheckpointChangesTest, ShowSaysWhatItHoldsAndWhyItIsKept) {
  const auto done = run({"ckpt", "show", "tiny-1", "--id", "20"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("after step 20"));
  EXPECT_THAT(done.out, HasSubstr("48.0 KiB in 3 chunks, 1 tensor\n"));
  EXPECT_THAT(done.out, HasSubstr("eval/mean 0.25"));
  EXPECT_THAT(done.out, HasSubstr("best 1 by eval/mean"));
  EXPECT_THAT(done.out, HasSubstr("adapter  UINT8 [49152]  48.0 KiB"));
  const json newest = run_json({"ckpt", "show", "tiny-1"});
  EXPECT_EQ(newest.at("id"), 50);
  EXPECT_EQ(newest.at("ledger_step"), 50);
  EXPECT_EQ(newest.at("kept_for"), json({"last 2", "newest that verifies"}));
  EXPECT_EQ(newest.at("tensors")[0].at("name"), "adapter");
  EXPECT_EQ(run_json({"ckpt", "show", "tiny-1", "--id", "10"}).at("kept_for"), json::array());
  const auto none = run({"ckpt", "show", "tiny-1", "--id", "7"});
  EXPECT_EQ(none.code, 4);
  EXPECT_THAT(none.err, HasSubstr("there are 10, 20, 30, 40, 50"));
}

TEST_F(CheckpointChangesTest, DiffShowsTensorsAndState) {
  const auto done = run({"ckpt", "diff", "tiny-1@10", "tiny-1@20"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("step: 10 -> 20"));
  EXPECT_THAT(done.out, HasSubstr("adapter  changed"));
  EXPECT_THAT(done.out, HasSubstr("0 of 1 tensors are equal, 0 of 3 chunks"));
  const json same =
      run_json({"ckpt", "diff", "tiny-1", (job_dir("tiny-1") / "store").string() + "@50"});
  EXPECT_EQ(same.at("fields"), json::array());
  EXPECT_EQ(same.at("tensors")[0].at("change"), "equal");
  EXPECT_EQ(same.at("equal_chunks"), 3);
  EXPECT_EQ(run({"ckpt", "diff", "tiny-1@x", "tiny-1"}).code, 3);
  EXPECT_EQ(run({"ckpt", "diff", "tiny-1@7", "tiny-1"}).code, 4);
  EXPECT_EQ(run({"ckpt", "diff", "tiny-1"}).code, 2);
}

TEST_F(CheckpointChangesTest, GcFollowsThePolicyAndPins) {
  EXPECT_EQ(run({"ckpt", "pin", "tiny-1", "--id", "10", "--note", "table 2"}).code, 0);
  EXPECT_THAT(run({"ckpt", "ls", "tiny-1"}).out, HasSubstr("pinned"));
  const auto dry = run({"ckpt", "gc", "tiny-1", "--dry-run"});
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("keep    10  pinned"));
  EXPECT_THAT(dry.out, HasSubstr("keep    20  best 1 by eval/mean"));
  EXPECT_THAT(dry.out, HasSubstr("delete  30"));
  EXPECT_THAT(dry.out, HasSubstr("48.0 KiB would be free"));
  EXPECT_THAT(listed(), ElementsAre(10, 20, 30, 40, 50));
  const json done = run_json({"ckpt", "gc", "tiny-1"});
  EXPECT_EQ(done.at("deleted"), json({30}));
  EXPECT_GT(done.at("freed_bytes"), 40'000);
  EXPECT_THAT(listed(), ElementsAre(10, 20, 40, 50));
  EXPECT_EQ(run({"ckpt", "unpin", "tiny-1", "--id", "10"}).code, 0);
  EXPECT_EQ(run({"ckpt", "unpin", "tiny-1", "--id", "10"}).code, 4);
  EXPECT_EQ(run({"ckpt", "gc", "tiny-1", "--keep-last", "1"}).code, 0);
  EXPECT_THAT(listed(), ElementsAre(20, 50));
}

TEST_F(CheckpointChangesTest, AJobThatRunsIsLeftAlone) {
  const auto coordinator = open_store("tiny-1");
  EXPECT_EQ(run({"ckpt", "export", "tiny-1", "--out", out().string()}).code, 0);
  EXPECT_EQ(run({"ckpt", "gc", "tiny-1", "-n"}).code, 0) << "looking is allowed";
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"ckpt", "gc", "tiny-1"},
           {"ckpt", "import", out().string(), "--job", "tiny-1"},
           {"ckpt", "pin", "--store", job_dir("tiny-1").string(), "--id", "10"}}) {
    const auto done = run(words);
    EXPECT_EQ(done.code, 6) << words[1];
    EXPECT_THAT(done.err, HasSubstr("crabcast cancel --keep")) << words[1];
  }
  EXPECT_EQ(run({"ckpt", "pin", "tiny-1", "--id", "10"}).code, 4) << "no controller to ask";
}

TEST_F(CheckpointChangesTest, ExportAndImportMoveAJob) {
  EXPECT_EQ(run({"ckpt", "export", "tiny-1", "--id", "40", "--out", out().string()}).code, 0);
  EXPECT_EQ(run({"ckpt", "export", "tiny-1", "--out", out().string()}).code, 3) << "it is there";
  const auto there = (folder_ / "there").string();
  const auto on_the_other_machine = [&](std::vector<std::string> words) {
    words.insert(words.begin(), {"--state", there});
    return run_program("crabcast", words);
  };
  const auto done = on_the_other_machine({"ckpt", "import", out().string()});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, "checkpoint 40 of tiny-1 is in tiny-1\n");
  EXPECT_THAT(on_the_other_machine({"ps", "--all"}).out, HasSubstr("stopped"));
  EXPECT_THAT(on_the_other_machine({"ckpt", "verify", "tiny-1"}).out, HasSubstr("40: ok"));
  EXPECT_THAT(on_the_other_machine({"status", "tiny-1", "--json"}).out, HasSubstr("\"step\": 40"));
  // The job it came from has it already.
  EXPECT_EQ(run({"ckpt", "import", out().string(), "--job", "tiny-1"}).code, 0);
}

TEST_F(CheckpointChangesTest, ImportRefusesWhatDoesNotFit) {
  EXPECT_EQ(run({"ckpt", "export", "tiny-1", "--out", out().string()}).code, 0);
  {
    auto other = open_store("other-2");
    std::string yaml = spec_yaml();
    yaml.replace(yaml.find("lanes: 4"), 8, "lanes: 8");
    must(storage::put_spec(*other, yaml));
  }
  const auto done = run({"ckpt", "import", out().string(), "--job", "other-2"});
  EXPECT_EQ(done.code, 3);
  EXPECT_THAT(done.err, HasSubstr("train.lanes: 4 in the checkpoint, 8 in the spec"));
  EXPECT_THAT(done.err, Not(HasSubstr("checkpoint.every")));
  write_file(out() / "spec.yaml", spec_yaml() + " ");
  const auto damaged = run({"ckpt", "import", out().string()});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.err, HasSubstr("spec.yaml is not what was exported"));
  EXPECT_FALSE(fs::exists(job_dir("tiny-2")));
  EXPECT_EQ(run({"ckpt", "import", (folder_ / "nowhere").string()}).code, 4);
}

// A real controller: what it takes for the same job, and what it refuses.
class ResumeTest : public CliTest {
 protected:
  void start(pb::JobState job = pb::JOB_STOPPED) {
    auto registry = open_registry();
    pb::JobRecord record = job_record("tiny", 1, job);
    record.set_spec_hash("of an older version");
    must(registry->put_job(record, Sync::yes));
    registry.reset();
    controller_ = std::make_unique<Program>(
        "crabcast",
        std::vector<std::string>{"controller", "--state", state(), "--bind", "127.0.0.1:*"});
    ASSERT_TRUE(eventually([&] { return run({"nodes"}).code == 0; }, 60s)) << controller_->err();
  }
  Finished resume_with(const std::string& more) {
    write_file(folder_ / "job.yaml", small_spec("tiny") + more);
    return run({"submit", "--resume", folder_ / "job.yaml"});
  }
  std::unique_ptr<Program> controller_;
};

TEST_F(ResumeTest, RefusesAnotherSpecAndShowsTheDifference) {
  start();
  const auto done = resume_with("  lanes: 8\n  seed: 9\nresources: {loaders: 2}\n");
  EXPECT_EQ(done.code, 3) << done.out;
  EXPECT_THAT(done.err, HasSubstr("tiny-1 cannot go on with this spec"));
  EXPECT_THAT(done.err, HasSubstr("train.lanes: 4 in the checkpoint, 8 in the spec"));
  EXPECT_THAT(done.err, HasSubstr("train.seed: 1 in the checkpoint, 9 in the spec"));
  EXPECT_THAT(done.err, Not(HasSubstr("loaders")));
  EXPECT_EQ(run_json({"ps", "--all"}).at("jobs").size(), 1U);
}

TEST_F(ResumeTest, GoesOnAfterHarmlessChanges) {
  start();
  std::string longer = small_spec("tiny");
  longer.replace(longer.find("steps: 40"), 9, "steps: 80");
  write_file(folder_ / "job.yaml",
             longer +
                 "resources: {loaders: 2}\ncheckpoint: {every: 20 steps, scrub: off}\n"
                 "failure: {restarts: 3}\n");
  const auto done = run({"submit", "--resume", folder_ / "job.yaml"});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("tiny-1"));
  EXPECT_EQ(run_json({"status", "tiny-1"}).at("state"), "pending");
}

TEST_F(ResumeTest, RefusesFewerSteps) {
  start();
  std::string shorter = small_spec("tiny");
  shorter.replace(shorter.find("steps: 40"), 9, "steps: 20");
  write_file(folder_ / "job.yaml", shorter);
  const auto done = run({"submit", "--resume", folder_ / "job.yaml"});
  EXPECT_EQ(done.code, 3);
  EXPECT_THAT(done.err, HasSubstr("train.steps: 40 in the checkpoint, 20 in the spec"));
}

// A coordinator on its own: its agents never answer, so it waits.
class CoordinatorTest : public ResumeTest {
 protected:
  fs::path launch_file() {
    pb::RoleLaunch launch;
    launch.set_job("tiny-1");
    launch.set_spec_yaml(small_spec("tiny"));
    launch.set_job_dir(job_dir("tiny-1"));
    launch.set_keys_dir(state() / "keys");
    launch.set_bind_host("127.0.0.1");
    const std::string endpoint = read_file(state() / "controller" / "endpoint");
    launch.set_controller_endpoint(endpoint.substr(0, endpoint.find('\n')));
    auto& slot = *launch.add_placement();
    slot.set_role("worker-0");
    slot.set_kind(pb::ROLE_WORKER);
    slot.set_node("nowhere");
    slot.set_agent_endpoint("tcp://127.0.0.1:1");
    std::string text;
    google::protobuf::TextFormat::PrintToString(launch, &text);
    write_file(folder_ / "launch", text);
    return folder_ / "launch";
  }
};

// A store that came another way than through the controller: its coordinator looks, too.
TEST_F(CoordinatorTest, RefusesAStoreOfAnotherSpec) {
  start();  // which makes the keys
  {
    auto store = open_store("tiny-1");
    must(storage::put_spec(*store, small_spec("tiny") + "  lanes: 8\n"));
    must(store->append_commit(storage::commit_record(1), Sync::yes));
  }
  const auto done = run({"role", launch_file()});
  EXPECT_EQ(done.code, 3) << done.err;
  EXPECT_THAT(done.err, HasSubstr("train.lanes: 8 in the checkpoint, 4 in the spec"));
  EXPECT_EQ(must(open_store("tiny-1")->last_commit())->step(), 1U);
}

TEST_F(CoordinatorTest, PinsForTheOneWhoAsksItsController) {
  start(pb::JOB_RUNNING);
  {
    auto store = open_store("tiny-1");
    must(storage::put_spec(*store, small_spec("tiny")));
    must(store->append_commit(storage::commit_record(1), Sync::yes));
    must(storage::write_checkpoint(*store, 1));
  }
  Program coordinator("crabcast", {"role", launch_file()});
  ASSERT_TRUE(eventually(
      [&] {
        return run_json({"status", "tiny-1"}).value("state", "") == "starting";
      },
      60s))
      << coordinator.err();
  const auto pinned = run({"ckpt", "pin", "tiny-1", "--id", "1", "--note", "best so far"});
  EXPECT_EQ(pinned.code, 0) << pinned.err;
  EXPECT_EQ(run_json({"ckpt", "show", "tiny-1"}).at("pin_note"), "best so far");
  EXPECT_EQ(run({"ckpt", "pin", "tiny-1", "--id", "9"}).code, 4);
  EXPECT_EQ(run({"ckpt", "unpin", "tiny-1", "--id", "1"}).code, 0);
  EXPECT_EQ(run_json({"ckpt", "show", "tiny-1"}).at("pinned"), false);
}

}  // namespace
}  // namespace crabcast::testing

// Power loss at every write of a whole history of a job's store, with all unsynced bytes forgotten:
// each operation happened or did not, and nothing that was acknowledged is missing (C-1, C-2, J-1).
#include <gtest/gtest.h>

#include <functional>
#include <sstream>

#include "storage/checkpoint_export.h"
#include "storage/open_with_env.h"
#include "storage/stored_spec.h"
#include "tests/storage/fault_fs.h"
#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;

constexpr int kMostOperations = 2000;

struct Operation {
  const char* name;
  std::function<Status(JobStore&)> run;
  bool in_pieces = false;  // a part of it may be found: records, but no checkpoint without them
};

JobSpec spec_of_job() {
  JobSpec spec;
  spec.name = "tiny";
  spec.model.base = "nano";
  spec.data.corpus.synthetic.emplace();
  spec.train.steps = 100;
  return spec;
}

Status commits(JobStore& store, std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t step = first; step <= last; ++step)
    CRABCAST_TRY(store.append_commit(commit_record(step), Sync::yes));
  return {};
}

Status score(JobStore& store, std::uint64_t id, double mean) {
  pb::EvaluationRecord record;
  record.set_checkpoint(id);
  record.set_mean(mean);
  return store.put_evaluation(record, Sync::yes);
}

Status damage(JobStore& store, std::uint64_t id) {
  VerifyReport report = must(store.verify(CheckpointId(id)));
  report.problems = {"found by the test"};
  return store.mark_damaged(report);
}

Status retain(JobStore& store, const RetentionPolicy& policy) {
  const auto dropped = store.apply_retention(policy, {});
  return dropped ? Status() : fail(dropped.error());
}

Status bad_samples(JobStore& store) {
  pb::BadSample bad;
  bad.mutable_sample()->set_index(7);
  return store.put_quarantine({&bad, 1}, Sync::yes);
}

// What can be read of the store, as text; a checkpoint counts with what its chunks say.
struct Picture {
  std::uint64_t last_step = 0;
  std::string checkpoints;  // and what is known of them
  std::string rest;
  friend bool operator==(const Picture&, const Picture&) = default;
};

Picture picture_of(const JobStore& store) {
  Picture picture;
  std::ostringstream checkpoints, rest;
  must(store.for_each_commit(Step(0), [&](const pb::CommitRecord& record) {
    EXPECT_EQ(record.SerializeAsString(), commit_record(record.step()).SerializeAsString());
    picture.last_step = record.step();
    return true;
  }));
  const auto pins = must(store.pins());
  const auto damages = must(store.damages());
  for (const CheckpointId id : must(store.checkpoint_ids())) {
    EXPECT_TRUE(must(store.verify(id)).ok()) << id.value();
    const auto manifest = must(store.manifest(id));
    checkpoints << id.value() << " " << manifest.bytes() << " " << manifest.metrics_size()
                << (pins.contains(id) ? " pinned" : "") << (damages.contains(id) ? " damaged" : "")
                << "\n";
  }
  rest << must(store.evaluations()).size() << " evaluations, " << must(store.quarantine()).size()
       << " bad samples, spec " << must(newest_spec(store)).has_value();
  picture.checkpoints = checkpoints.str();
  picture.rest = rest.str();
  return picture;
}

class CrashHistoryTest : public testing::Test {
 protected:
  CrashHistoryTest() {
    auto other = must(JobStore::open(folder_ / "other"));
    must(put_spec(*other, to_yaml(spec_of_job())));
    must(commits(*other, 1, 9));
    pb::CheckpointManifest manifest = manifest_of(9);
    manifest.set_spec_hash(spec_hash(spec_of_job()));
    auto writer = must(other->begin_checkpoint(CheckpointId(9)));
    for (std::uint32_t i = 0; i < 3; ++i) {
      const std::string bytes = chunk_bytes(9, i, CheckpointShape().chunk_bytes);
      must(writer->put_chunk(manifest.chunks(static_cast<int>(i)), as_span(bytes)));
    }
    must(writer->commit(manifest));
    must(score(*other, 9, 0.25));
    must(export_checkpoint(*other, "tiny-1", CheckpointId(9), folder_ / "exported"));
  }

  // In one life of a store: saves, commits, scores, pins, damage, retention, a rewind, saves of the
  // same ids again, an import.
  std::vector<Operation> history() const {
    const CheckpointShape small{.chunks = 2, .chunk_bytes = 24576};
    return {
        {"spec", [](JobStore& s) { return put_spec(s, to_yaml(spec_of_job())); }, true},
        {"commits to 2", [](JobStore& s) { return commits(s, 1, 2); }, true},
        {"save 2", [](JobStore& s) { return write_checkpoint(s, 2); }},
        {"commits to 4", [](JobStore& s) { return commits(s, 3, 4); }, true},
        {"save 4", [](JobStore& s) { return write_checkpoint(s, 4); }},
        {"score 2", [](JobStore& s) { return score(s, 2, 0.5); }},
        {"pin 2", [](JobStore& s) { return s.pin(CheckpointId(2), pb::CheckpointPin()); }},
        {"commits to 6", [](JobStore& s) { return commits(s, 5, 6); }, true},
        {"save 6", [](JobStore& s) { return write_checkpoint(s, 6); }},
        {"bad samples", bad_samples},
        {"retain", [](JobStore& s) { return retain(s, {.last = 1, .best = 0}); }},
        {"damage", [](JobStore& s) { return damage(s, 6); }},
        {"unpin 2", [](JobStore& s) { return s.unpin(CheckpointId(2)); }},
        {"rewind", [](JobStore& s) { return s.rewind_ledger(Step(2)); }},
        {"commits again", [](JobStore& s) { return commits(s, 3, 6); }, true},
        {"save 6 again", [small](JobStore& s) { return write_checkpoint(s, 6, small); }},
        {"retain all kinds",
         [](JobStore& s) {
           return retain(s, {.last = 1, .best = 1, .every_steps = 4, .interval_seconds = 60});
         }},
        {"import 9",
         [this](JobStore& s) {
           return import_checkpoint(must(open_export(folder_ / "exported")), s);
         },
         true},
        {"compact", [](JobStore& s) { return s.compact(); }},
        {"retain the last", [](JobStore& s) { return retain(s, {.last = 1, .best = 0}); }},
    };
  }

  TempFolder folder_;
};

TEST_F(CrashHistoryTest, EachOperationHappenedOrDidNot) {
  const auto operations = history();
  std::vector<Picture> pictures;  // before the first operation, and after each
  {
    auto store = must(JobStore::open(folder_ / "calm"));
    pictures.push_back(picture_of(*store));
    for (const Operation& operation : operations) {
      must(operation.run(*store));
      pictures.push_back(picture_of(*store));
    }
    EXPECT_EQ(pictures.back().last_step, 9U);
    EXPECT_EQ(pictures.back().checkpoints, "9 49152 1\n");
  }
  int crash = 0;
  for (bool struck = true; struck && crash < kMostOperations; ++crash) {
    SCOPED_TRACE("power loss after operation " + std::to_string(crash));
    const fs::path folder = folder_ / "crashed";
    fs::remove_all(folder);
    { auto made = must(JobStore::open(folder)); }
    std::size_t done = 0;
    {
      FaultDisk disk;
      auto store = must(open_job_store(folder, disk.env.get()));
      disk.fs->arm(FaultFs::Fault::power_loss, crash);
      while (done < operations.size() && operations[done].run(*store)) ++done;
      struck = disk.fs->struck();
      disk.fs->arm(FaultFs::Fault::power_loss, 0);
      store.reset();
      disk.fs->forget_unsynced();
    }
    auto store = must(JobStore::open(folder));
    const Picture found = picture_of(*store);
    const Picture& before = pictures[done];
    const Picture& after = pictures[std::min(done + 1, operations.size())];
    SCOPED_TRACE(done < operations.size() ? operations[done].name : "after the end");
    if (done < operations.size() && operations[done].in_pieces) {
      EXPECT_GE(found.last_step, before.last_step);
      EXPECT_LE(found.last_step, after.last_step);
      EXPECT_TRUE(found.checkpoints == before.checkpoints ||
                  (found.checkpoints == after.checkpoints && found.last_step == after.last_step))
          << found.checkpoints;
    } else {
      EXPECT_TRUE(found == before || found == after) << found.last_step << "\n"
                                                     << found.checkpoints << found.rest;
    }
    EXPECT_EQ(files_in(folder / "incoming"), 0U);
    EXPECT_EQ(must(store->left_over()).files, 0U);
    // Life goes on from there.
    must(store->append_commit(commit_record(found.last_step + 1), Sync::yes));
    must(write_checkpoint(*store, found.last_step + 1));
    must(retain(*store, {.last = 1, .best = 0}));
    EXPECT_TRUE(must(store->newest_verified([](const VerifyReport&) {})).has_value());
    if (HasFailure()) return;
  }
  EXPECT_GT(crash, 60);
  EXPECT_LT(crash, kMostOperations);
  RecordProperty("crashes", crash);
}

}  // namespace
}  // namespace crabcast::storage

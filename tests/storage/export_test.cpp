// A checkpoint on its way to another store: whole and checked, or refused with what differs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "storage/checkpoint_diff.h"
#include "storage/checkpoint_export.h"
#include "storage/stored_spec.h"
#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

JobSpec spec_with_lanes(std::uint32_t lanes) {
  JobSpec spec;
  spec.name = "tiny";
  spec.model.base = "nano";
  spec.data.corpus.synthetic.emplace();
  spec.train.steps = 100;
  spec.train.lanes = lanes;
  return spec;
}

// float32 tensors w [values], with a checkpoint of its own spec and base.
Status write_tensors(JobStore& store, std::uint64_t id, const std::vector<float>& values,
                     const std::string& base = "base-1", std::uint32_t lanes = 4) {
  const std::string bytes(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  pb::CheckpointManifest manifest;
  manifest.set_id(id);
  manifest.set_step(id);
  manifest.set_ledger_step(id);
  manifest.set_bytes(bytes.size());
  manifest.set_base_hash(base);
  manifest.set_spec_hash(spec_hash(spec_with_lanes(lanes)));
  *manifest.add_chunks() = make_chunk_entry(0, as_span(bytes));
  auto* tensor = manifest.add_tensors();
  tensor->set_name("adapter/w");
  tensor->set_dtype(pb::DTYPE_FLOAT32);
  tensor->add_shape(static_cast<std::int64_t>(values.size()));
  tensor->set_bytes(bytes.size());
  auto writer = store.begin_checkpoint(CheckpointId(id));
  if (!writer) return fail(writer.error());
  CRABCAST_TRY((*writer)->put_chunk(manifest.chunks(0), as_span(bytes)));
  return (*writer)->commit(manifest);
}

class ExportTest : public testing::Test {
 protected:
  ExportTest() {
    source_ = make("source");
    for (std::uint64_t step = 1; step <= 8; ++step) {
      pb::CommitRecord commit = commit_record(step);
      if (step == 3) *commit.add_quarantined() = bad_sample(3);
      must(source_->append_commit(commit, Sync::no));
    }
    must(write_tensors(*source_, 4, {1, 2, 3}));
    must(write_tensors(*source_, 6, {1, 2, 5}));
    pb::EvaluationRecord evaluation;
    evaluation.set_checkpoint(6);
    evaluation.set_mean(0.5);
    must(source_->put_evaluation(evaluation, Sync::yes));
    must(export_checkpoint(*source_, "tiny-1", CheckpointId(6), exported()));
  }
  std::unique_ptr<JobStore> make(const std::string& name, std::uint32_t lanes = 4) {
    auto store = must(JobStore::open(folder_ / name));
    must(put_spec(*store, to_yaml(spec_with_lanes(lanes))));
    return store;
  }
  static pb::BadSample bad_sample(std::uint64_t step) {
    pb::BadSample bad;
    bad.mutable_sample()->set_index(99);
    bad.set_step(step);
    return bad;
  }
  fs::path exported() const { return folder_ / "exported"; }
  // Imports into the store, which then holds nothing new if it is refused.
  Status import_into(JobStore& store) {
    const auto before = ids_of(store);
    const Status done = import_checkpoint(must(open_export(exported())), store);
    if (!done) {
      EXPECT_EQ(ids_of(store), before);
    }
    return done;
  }

  TempFolder folder_;
  std::unique_ptr<JobStore> source_;
};

TEST_F(ExportTest, ANewStoreGoesOnWhereTheOldOneStood) {
  auto target = must(JobStore::open(folder_ / "target"));
  must(import_into(*target));
  target.reset();
  target = must(JobStore::open(folder_ / "target"));
  EXPECT_EQ(must(target->manifest(CheckpointId(6))).SerializeAsString(),
            must(source_->manifest(CheckpointId(6))).SerializeAsString());
  EXPECT_EQ(must(target->newest_verified([](const auto&) {}))->id(), 6U);
  EXPECT_EQ(must(target->last_commit())->step(), 6U);
  EXPECT_EQ(must(target->quarantine()).size(), 1U);
  EXPECT_EQ(must(target->evaluations()).size(), 1U);
  EXPECT_EQ(must(newest_spec(*target)), to_yaml(spec_with_lanes(4)));
  must(target->append_commit(commit_record(7), Sync::yes));
  must(import_into(*target));  // once more: it is there already, and the ledger has gone on
  EXPECT_EQ(must(target->last_commit())->step(), 7U);
}

TEST_F(ExportTest, RescuesADamagedOneOfTheSameRun) {
  auto target = must(JobStore::open(folder_ / "target"));
  must(import_into(*target));
  target.reset();
  for (const auto& entry : fs::directory_iterator(folder_ / "target"))
    if (entry.path().extension() == ".sst") fs::remove(entry.path());
  target = must(JobStore::open(folder_ / "target"));
  EXPECT_FALSE(must(target->verify(CheckpointId(6))).ok());
  must(import_into(*target));
  EXPECT_TRUE(must(target->verify(CheckpointId(6))).ok());
}

TEST_F(ExportTest, SafetensorsReadersCanReadTheState) {
  std::ifstream in(exported() / "state.safetensors", std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  EXPECT_EQ(length % 8, 0U);
  EXPECT_THAT(bytes.substr(8, length),
              HasSubstr(R"("adapter/w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]})"));
  float last = 0;
  std::memcpy(&last, bytes.data() + 8 + length + 8, sizeof last);
  EXPECT_EQ(last, 5);
}

TEST_F(ExportTest, EveryByteIsChecked) {
  for (const char* name : {"manifest.json", "spec.yaml", "records.pb", "state.safetensors"}) {
    const auto size = fs::file_size(exported() / name);
    for (std::uintmax_t at = 0; at < size; at += std::max<std::uintmax_t>(1, size / 40)) {
      SCOPED_TRACE(std::string(name) + " byte " + std::to_string(at));
      const fs::path copy = folder_ / "copy";
      fs::remove_all(copy);
      fs::copy(exported(), copy);
      {
        std::fstream file(copy / name, std::ios::binary | std::ios::in | std::ios::out);
        file.seekg(static_cast<std::streamoff>(at));
        const int byte = file.get();
        file.seekp(static_cast<std::streamoff>(at));
        file.put(static_cast<char>(byte ^ 1));
      }
      const auto opened = open_export(copy);
      // White space between the words of the JSON means nothing.
      if (std::string(name) == "manifest.json" && opened) continue;
      if (!opened) {
        EXPECT_TRUE(opened.error().code == Errc::corrupt ||
                    opened.error().code == Errc::unsupported)
            << opened.error().message;
        continue;
      }
      fs::remove_all(folder_ / "damaged");
      auto target = must(JobStore::open(folder_ / "damaged"));
      const Status done = import_checkpoint(*opened, *target);
      ASSERT_FALSE(done.has_value());
      EXPECT_EQ(done.error().code, Errc::corrupt) << done.error().message;
      EXPECT_TRUE(ids_of(*target).empty());
      EXPECT_FALSE(must(target->last_commit()).has_value());
    }
  }
}

TEST_F(ExportTest, RefusesWhatDoesNotFitAndSaysWhy) {
  const auto refused = [&](JobStore& store, const std::string& part) {
    const Status done = import_into(store);
    ASSERT_FALSE(done.has_value()) << part;
    EXPECT_THAT(done.error().message, HasSubstr(part));
  };
  auto lanes = make("lanes", 8);
  refused(*lanes, "train.lanes: 4 in the checkpoint, 8 in the spec");

  auto base = make("base");
  must(write_tensors(*base, 2, {1, 2, 3}, "base-2"));
  refused(*base, "base: base-1 in the checkpoint, base-2 in the store");

  auto layout = make("layout");
  must(write_tensors(*layout, 2, {1, 2}));
  refused(*layout, "adapter/w: FLOAT32 [3] in the checkpoint, FLOAT32 [2] in the store");

  auto ledger = make("ledger");
  must(ledger->append_commit(commit_record(1), Sync::no));
  pb::CommitRecord other = commit_record(2);
  other.set_generation(9);
  must(ledger->append_commit(other, Sync::yes));
  refused(*ledger, "not the same from step 2 on");

  auto another = make("another");
  must(write_tensors(*another, 6, {7, 8, 9}));
  refused(*another, "another checkpoint 6");
}

TEST_F(ExportTest, AnExportIsWholeOrNotThere) {
  EXPECT_EQ(export_checkpoint(*source_, "tiny-1", CheckpointId(6), exported()).error().code,
            Errc::already_exists);
  EXPECT_EQ(export_checkpoint(*source_, "tiny-1", CheckpointId(5), folder_ / "none").error().code,
            Errc::not_found);
  must(write_tensors(*source_, 9, {1}));  // beyond the ledger
  EXPECT_THAT(export_checkpoint(*source_, "j", CheckpointId(9), folder_ / "none").error().message,
              HasSubstr("the ledger ends at step 8"));
  EXPECT_FALSE(fs::exists(folder_ / "none"));
  EXPECT_FALSE(fs::exists(folder_ / ".none.partial"));
  fs::create_directories(folder_ / ".late.partial" / "left");  // by one that was killed
  must(export_checkpoint(*source_, "tiny-1", CheckpointId(4), (folder_ / "late").string() + "/"));
  EXPECT_EQ(must(open_export(folder_ / "late")).manifest.checkpoint().id(), 4U);
  EXPECT_EQ(open_export(folder_ / "nowhere").error().code, Errc::not_found);
}

TEST_F(ExportTest, DifferencesAreThoseOfTheElements) {
  const auto open = [&](std::uint64_t id) {
    return must(source_->open_checkpoint(CheckpointId(id)));
  };
  const auto changed = must(difference_of(*open(4), *open(6)));
  ASSERT_EQ(changed.tensors.size(), 1U);
  EXPECT_EQ(changed.tensors[0].kind, TensorDifference::Kind::changed);
  EXPECT_EQ(changed.tensors[0].max_change, 2);
  EXPECT_DOUBLE_EQ(changed.tensors[0].relative_l2, 2 / std::sqrt(14.0));
  EXPECT_EQ(changed.equal_chunks, 0U);
  const auto same = must(difference_of(*open(4), *open(4)));
  EXPECT_EQ(same.tensors[0].kind, TensorDifference::Kind::equal);
  EXPECT_EQ(same.equal_chunks, 1U);
  must(write_tensors(*source_, 8, {1, 2}));
  const auto reshaped = must(difference_of(*open(4), *open(8)));
  EXPECT_EQ(reshaped.tensors[0].kind, TensorDifference::Kind::reshaped);
  EXPECT_EQ(reshaped.tensors[0].after, "FLOAT32 [2]");
}

}  // namespace
}  // namespace crabcast::storage

#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <google/protobuf/util/delimited_message_util.h>

#include <fstream>
#include <functional>
#include <map>

#include "protocol/spec_changes.h"
#include "storage/checkpoint_diff.h"
#include "storage/checkpoint_export.h"
#include "storage/export_files.h"
#include "storage/stored_spec.h"

namespace crabcast::storage {
namespace {

constexpr std::size_t kMostDifferences = 8;  // in one message

// Of a file whose bytes were checked.
Status for_each_record(const std::filesystem::path& path,
                       const std::function<Status(const pb::ExportedRecord&)>& visit) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(error_from_errno(errno, "open " + path.string()));
  google::protobuf::io::IstreamInputStream stream(&in);
  for (bool end = false;;) {
    pb::ExportedRecord record;
    if (google::protobuf::util::ParseDelimitedFromZeroCopyStream(&record, &stream, &end)) {
      CRABCAST_TRY(visit(record));
    } else if (end) {
      return {};
    } else {
      return fail(Errc::corrupt, path.string() + ": a record cannot be read");
    }
  }
}

// ---- Does it fit? ------------------------------------------------------------------------------

Status check_spec(const ExportedCheckpoint& exported, const JobStore& store) {
  const auto here = newest_spec(store);
  if (!here) return fail(here.error());
  const auto theirs = parse_job_spec(exported.spec_yaml, kSpecFile);
  if (!theirs) return fail(theirs.error().error());
  if (!here->has_value()) return {};
  const auto ours = parse_job_spec(**here, "the job's spec");
  if (!ours) return fail(ours.error().error());
  return check_resumable(*theirs, *ours);
}

using Layout = std::map<std::string, std::string>;  // tensor -> type and shape

Layout layout_of(const pb::CheckpointManifest& manifest) {
  Layout layout;
  for (const pb::TensorEntry& tensor : manifest.tensors())
    layout[tensor.name()] = layout_text(tensor);
  return layout;
}

std::string difference(const Layout& theirs, const Layout& ours) {
  std::vector<std::string> found;
  for (const auto& [name, text] : theirs) {
    const auto here = ours.find(name);
    if (here == ours.end())
      found.push_back(name + " is in the checkpoint only");
    else if (here->second != text)
      found.push_back(name + ": " + text + " in the checkpoint, " + here->second + " in the store");
  }
  for (const auto& [name, text] : ours)
    if (!theirs.contains(name)) found.push_back(name + " is in the store only");
  std::string text;
  for (std::size_t i = 0; i < std::min(found.size(), kMostDifferences); ++i)
    text += (i == 0 ? "" : "; ") + found[i];
  if (found.size() > kMostDifferences)
    text += "; and " + std::to_string(found.size() - kMostDifferences) + " more";
  return text;
}

bool same_chunks(const pb::CheckpointManifest& a, const pb::CheckpointManifest& b) {
  if (a.chunks_size() != b.chunks_size()) return false;
  for (int i = 0; i < a.chunks_size(); ++i)
    if (a.chunks(i).SerializeAsString() != b.chunks(i).SerializeAsString()) return false;
  return true;
}

Status check_checkpoints(const pb::CheckpointManifest& theirs, const JobStore& store) {
  const auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  for (auto id = ids->rbegin(); id != ids->rend(); ++id) {
    const auto ours = store.manifest(*id);
    if (!ours) continue;  // damaged: another one says what the store holds
    if (ours->base_hash() != theirs.base_hash()) {
      return fail(Errc::invalid_argument, "base: " + theirs.base_hash() + " in the checkpoint, " +
                                              ours->base_hash() + " in the store");
    }
    const std::string differs = difference(layout_of(theirs), layout_of(*ours));
    if (!differs.empty()) return fail(Errc::invalid_argument, "its tensors differ: " + differs);
    break;
  }
  const auto ours = store.manifest(CheckpointId(theirs.id()));
  if (!ours || same_chunks(*ours, theirs)) return {};
  const auto report = store.verify(CheckpointId(theirs.id()));
  if (!report) return fail(report.error());
  if (!report->ok()) return {};
  return fail(Errc::already_exists, "the store has another checkpoint " +
                                        std::to_string(theirs.id()) + ", and it is good");
}

// The ledgers as far as both go.
Status check_ledger(const ExportedCheckpoint& exported, const JobStore& store) {
  std::vector<std::string> ours;  // a page of commits
  std::uint64_t page_begin = 1;
  constexpr std::size_t kPage = 1024;
  std::uint64_t expected = 1;
  return for_each_record(
      exported.folder / kRecordsFile, [&](const pb::ExportedRecord& record) -> Status {
        if (!record.has_commit()) return {};
        const std::uint64_t step = record.commit().step();
        if (step != expected++) {
          return fail(Errc::corrupt, std::string(kRecordsFile) + ": step " +
                                         std::to_string(expected - 1) + " is missing");
        }
        if (ours.empty() || step >= page_begin + kPage) {
          ours.clear();
          page_begin = step;
          CRABCAST_TRY(store.for_each_commit(Step{step - 1}, [&](const pb::CommitRecord& commit) {
            ours.push_back(commit.SerializeAsString());
            return ours.size() < kPage;
          }));
        }
        const std::size_t at = step - page_begin;
        if (at >= ours.size() || ours[at] == record.commit().SerializeAsString()) return {};
        return fail(Errc::invalid_argument,
                    "its ledger and the store's are not the same from step " +
                        std::to_string(step) + " on: it is of another run; import it as a new job");
      });
}

// ---- Taking it in ------------------------------------------------------------------------------

Status write_records(const ExportedCheckpoint& exported, JobStore& store) {
  const auto last = store.last_commit();
  if (!last) return fail(last.error());
  const std::uint64_t known = *last ? (*last)->step() : 0;
  return for_each_record(exported.folder / kRecordsFile,
                         [&](const pb::ExportedRecord& record) -> Status {
                           if (record.has_commit() && record.commit().step() > known)
                             return store.append_commit(record.commit(), Sync::no);
                           if (record.has_quarantined())
                             return store.put_quarantine({&record.quarantined(), 1}, Sync::no);
                           if (record.has_evaluation())
                             return store.put_evaluation(record.evaluation(), Sync::no);
                           return {};
                         });
}

// Its commit is synced, and so makes the records before it durable.
Status write_checkpoint(const ExportedCheckpoint& exported, JobStore& store) {
  const pb::CheckpointManifest& manifest = exported.manifest.checkpoint();
  const auto header = safetensors_header(manifest);
  if (!header) return fail(header.error());
  const std::filesystem::path path = exported.folder / kStateFile;
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(error_from_errno(errno, "open " + path.string()));
  std::string found(header->size(), '\0');
  if (!in.read(found.data(), static_cast<std::streamsize>(found.size())) || found != *header)
    return fail(Errc::corrupt, path.string() + ": its header is not that of the checkpoint");
  auto writer = store.begin_checkpoint(CheckpointId(manifest.id()));
  if (!writer) return fail(writer.error());
  std::string bytes;
  for (const pb::ChunkEntry& entry : manifest.chunks()) {
    bytes.resize(entry.bytes());
    if (!in.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
      return fail(Errc::corrupt, path.string() + " ends too early");
    CRABCAST_TRY((*writer)->put_chunk(entry, std::as_bytes(std::span(bytes))));
  }
  return (*writer)->commit(manifest);
}

}  // namespace

Status import_checkpoint(const ExportedCheckpoint& exported, JobStore& store) {
  const pb::CheckpointManifest& checkpoint = exported.manifest.checkpoint();
  for (const pb::ExportedFile& file : exported.manifest.files())
    CRABCAST_TRY(check_file(exported.folder, file));
  if (spec_text_hash(exported.spec_yaml) != checkpoint.spec_hash())
    return fail(Errc::corrupt, "spec.yaml is not the spec of the checkpoint");
  for (const Status& fits : {check_spec(exported, store), check_checkpoints(checkpoint, store),
                             check_ledger(exported, store)}) {
    if (!fits) return fail(fits.error().within("the checkpoint does not fit to this job"));
  }
  const auto here = newest_spec(store);
  if (!here) return fail(here.error());
  CRABCAST_TRY(*here ? keep_spec(store, exported.spec_yaml, Sync::no)
                     : put_spec(store, exported.spec_yaml));
  CRABCAST_TRY(write_records(exported, store));
  return write_checkpoint(exported, store);
}

}  // namespace crabcast::storage

#include "storage/checkpoint_export.h"

#include <google/protobuf/util/delimited_message_util.h>
#include <google/protobuf/util/json_util.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "storage/export_files.h"
#include "storage/files.h"
#include "storage/stored_spec.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;
using google::protobuf::util::JsonStringToMessage;
using google::protobuf::util::MessageToJsonString;
using nlohmann::ordered_json;

constexpr const char* kChecksum = "checksum";  // beside the fields of the message

Status write_record(ExportFile& file, const pb::ExportedRecord& record) {
  std::ostringstream bytes;
  if (!google::protobuf::util::SerializeDelimitedToOstream(record, &bytes))
    return fail(Errc::internal, "a record could not be written");
  return file.write(bytes.str());
}

Status write_ledger(const JobStore& store, std::uint64_t until, ExportFile& file) {
  std::uint64_t last = 0;
  Status written;
  CRABCAST_TRY(store.for_each_commit(Step{0}, [&](const pb::CommitRecord& commit) {
    if (commit.step() > until) return false;
    pb::ExportedRecord record;
    *record.mutable_commit() = commit;
    written = write_record(file, record);
    last = commit.step();
    return written.has_value();
  }));
  if (!written) return written;
  if (last == until) return {};
  return fail(Errc::not_found, "the ledger ends at step " + std::to_string(last) +
                                   ", and the checkpoint is of step " + std::to_string(until));
}

Result<pb::ExportedFile> write_records(const JobStore& store,
                                       const pb::CheckpointManifest& checkpoint,
                                       const fs::path& path) {
  auto file = ExportFile::create(path);
  if (!file) return fail(file.error());
  CRABCAST_TRY(write_ledger(store, checkpoint.ledger_step(), **file));
  const auto quarantine = store.quarantine();
  if (!quarantine) return fail(quarantine.error());
  for (const pb::BadSample& bad : *quarantine) {
    pb::ExportedRecord record;
    *record.mutable_quarantined() = bad;
    CRABCAST_TRY(write_record(**file, record));
  }
  const auto evaluations = store.evaluations();
  if (!evaluations) return fail(evaluations.error());
  for (const pb::EvaluationRecord& evaluation : *evaluations) {
    if (evaluation.checkpoint() != checkpoint.id()) continue;
    pb::ExportedRecord record;
    *record.mutable_evaluation() = evaluation;
    CRABCAST_TRY(write_record(**file, record));
  }
  return (*file)->finish();
}

Result<pb::ExportedFile> write_state(const JobStore& store,
                                     const pb::CheckpointManifest& checkpoint,
                                     const fs::path& path) {
  const auto header = safetensors_header(checkpoint);
  if (!header) return fail(header.error());
  auto file = ExportFile::create(path);
  if (!file) return fail(file.error());
  CRABCAST_TRY((*file)->write(*header));
  Status written;
  CRABCAST_TRY(store.for_each_chunk(
      CheckpointId(checkpoint.id()), [&](const pb::ChunkEntry&, std::span<const std::byte> bytes) {
        written = (*file)->write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        return written.has_value();
      }));
  if (!written) return fail(written.error());
  return (*file)->finish();
}

Result<pb::ExportedFile> write_text(const std::string& text, const fs::path& path) {
  auto file = ExportFile::create(path);
  if (!file) return fail(file.error());
  CRABCAST_TRY((*file)->write(text));
  return (*file)->finish();
}

Result<std::string> printed(const pb::ExportManifest& manifest) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  if (const auto status = MessageToJsonString(manifest, &json, options); !status.ok())
    return fail(Errc::internal, "the manifest could not be printed: " + status.ToString());
  auto page = ordered_json::parse(json);
  page[kChecksum] = std::to_string(checksum_of(manifest));
  return page.dump(1) + "\n";
}

Status write_files(const JobStore& store, const std::string& job, CheckpointId id,
                   const fs::path& folder) {
  auto checkpoint = store.manifest(id);
  if (!checkpoint) return fail(checkpoint.error());
  const auto spec = spec_of(store, *checkpoint);
  if (!spec) return fail(spec.error());
  pb::ExportManifest manifest;
  manifest.set_format(kExportFormat);
  manifest.set_job(job);
  for (const auto& written : {write_text(*spec, folder / kSpecFile),
                              write_records(store, *checkpoint, folder / kRecordsFile),
                              write_state(store, *checkpoint, folder / kStateFile)}) {
    if (!written) return fail(written.error());
    *manifest.add_files() = *written;
  }
  *manifest.mutable_checkpoint() = std::move(*checkpoint);
  const auto page = printed(manifest);
  if (!page) return fail(page.error());
  const auto written = write_text(*page, folder / kManifestFile);
  if (!written) return fail(written.error());
  return sync_folder(folder);
}

Result<std::string> read_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(error_from_errno(errno, "open " + path.string()));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  if (in.bad()) return fail(Errc::io_error, "read " + path.string());
  return text;
}

}  // namespace

Status export_checkpoint(const JobStore& store, const std::string& job, CheckpointId id,
                         const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder, error))
    return fail(Errc::already_exists, folder.string() + " is there already; name another folder");
  fs::path partial = folder;
  if (!partial.has_filename()) partial = partial.parent_path();  // a name that ends in '/'
  const fs::path whole = partial;
  partial.replace_filename("." + whole.filename().string() + ".partial");
  fs::remove_all(partial, error);  // what a killed export left
  CRABCAST_TRY(make_folder(partial));
  Status written = write_files(store, job, id, partial);
  if (written) {
    fs::rename(partial, whole, error);
    if (error) written = fail(error_from_errno(error.value(), "make " + whole.string()));
  }
  if (written) return sync_folder(fs::absolute(whole).parent_path());
  fs::remove_all(partial, error);
  return written;
}

Result<ExportedCheckpoint> open_export(const fs::path& folder) {
  ExportedCheckpoint exported{folder, {}, {}};
  const fs::path path = folder / kManifestFile;
  const auto text = read_text(path);
  if (!text) return fail(text.error());
  ordered_json page = ordered_json::parse(*text, nullptr, false);
  const auto damaged = [&path](const std::string& what) {
    return fail(Errc::corrupt, path.string() + ": " + what + "; copy it again");
  };
  if (!page.is_object() || !page.contains(kChecksum) || !page[kChecksum].is_string())
    return damaged("it is not the table of contents of a checkpoint");
  const std::string checksum = page[kChecksum];
  page.erase(kChecksum);
  if (page.value("format", "") != kExportFormat) {
    return fail(Errc::unsupported,
                path.string() + " has another format than \"" + std::string(kExportFormat) + "\"");
  }
  if (!JsonStringToMessage(page.dump(), &exported.manifest).ok() ||
      std::to_string(checksum_of(exported.manifest)) != checksum)
    return damaged("it does not match its checksum");
  auto spec = read_text(folder / kSpecFile);
  if (!spec) return fail(spec.error());
  exported.spec_yaml = std::move(*spec);
  return exported;
}

}  // namespace crabcast::storage

// A checkpoint as a folder that another machine can take in: the whole training state, and what a
// job needs of its store to go on (docs/storage-format.md, "An exported checkpoint").
//
// Concurrency: one thread at a time for a store, as its own methods.
#pragma once

#include <filesystem>
#include <string>

#include "protocol/error.h"
#include "protocol/records.pb.h"
#include "storage/job_store.h"

namespace crabcast::storage {

struct ExportedCheckpoint {
  std::filesystem::path folder;
  pb::ExportManifest manifest;
  std::string spec_yaml;
};

// Writes `folder`, whole or not at all; durable when it returns. `job` is only named in it.
// already_exists: the folder is there; corrupt: a chunk is damaged; not_found; disk_full.
Status export_checkpoint(const JobStore& store, const std::string& job, CheckpointId id,
                         const std::filesystem::path& folder);

// Reads and checks the table of contents and the spec. not_found, corrupt, unsupported.
Result<ExportedCheckpoint> open_export(const std::filesystem::path& folder);

// Checks every byte, then that it fits: its spec, base and tensors to those of the store, its
// ledger to the store's as far as both go. Then it writes the rest of the ledger and, as the last,
// the checkpoint. A store that was never run takes the spec of the checkpoint.
// corrupt: the folder is damaged; invalid_argument: it does not fit, with what differs;
// already_exists: the store has another good checkpoint of this step.
Status import_checkpoint(const ExportedCheckpoint& exported, JobStore& store);

}  // namespace crabcast::storage

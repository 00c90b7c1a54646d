// CheckpointWriter over one chunk file. Internal to storage/.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "storage/checkpoints.h"

namespace crabcast::storage {

class ChunkFileWriter final : public CheckpointWriter {
 public:
  static Result<std::unique_ptr<CheckpointWriter>> start(std::shared_ptr<Checkpoints> checkpoints,
                                                         CheckpointId id, std::uint64_t write);
  ~ChunkFileWriter() override;
  Status put_chunk(const pb::ChunkEntry& entry, std::span<const std::byte> bytes) override;
  Status commit(const pb::CheckpointManifest& manifest) override;

 private:
  ChunkFileWriter(std::shared_ptr<Checkpoints> checkpoints, CheckpointId id, std::uint64_t write);
  Status check_chunk(const pb::ChunkEntry& entry, std::span<const std::byte> bytes) const;
  Status check_manifest(const pb::CheckpointManifest& manifest) const;
  Status store(const pb::CheckpointManifest& manifest);
  // Gives the room back at once, and remembers why.
  Status abandon(Error why);

  std::shared_ptr<Checkpoints> checkpoints_;
  CheckpointId id_;
  std::uint64_t write_;
  std::filesystem::path file_;
  std::unique_ptr<rocksdb::SstFileWriter> sst_;  // null when done or abandoned
  std::vector<pb::ChunkEntry> entries_;
  std::uint64_t bytes_ = 0;
  std::optional<Error> failure_;
};

}  // namespace crabcast::storage

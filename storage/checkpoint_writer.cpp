#include "storage/checkpoint_writer.h"

#include "storage/job_keys.h"
#include "storage/rocks_options.h"

namespace crabcast::storage {
namespace {

bool same(const pb::ChunkEntry& a, const pb::ChunkEntry& b) {
  return a.index() == b.index() && a.bytes() == b.bytes() && a.xxh3_high() == b.xxh3_high() &&
         a.xxh3_low() == b.xxh3_low();
}

rocksdb::Slice slice(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

ChunkFileWriter::ChunkFileWriter(std::shared_ptr<Checkpoints> checkpoints, CheckpointId id,
                                 std::uint64_t write)
    : checkpoints_(std::move(checkpoints)), id_(id), write_(write) {
  file_ = checkpoints_->rocks_->incoming() /
          (std::to_string(id.value()) + "-" + std::to_string(write) + ".sst");
}

Result<std::unique_ptr<CheckpointWriter>> ChunkFileWriter::start(
    std::shared_ptr<Checkpoints> checkpoints, CheckpointId id, std::uint64_t write) {
  std::unique_ptr<ChunkFileWriter> writer(new ChunkFileWriter(std::move(checkpoints), id, write));
  auto sst = writer->checkpoints_->rocks_->new_chunk_file(writer->file_);
  if (!sst) {
    writer->abandon(sst.error());
    return fail(sst.error());
  }
  writer->sst_ = std::move(*sst);
  return writer;
}

ChunkFileWriter::~ChunkFileWriter() {
  if (sst_ != nullptr) (void)abandon({Errc::cancelled, "the checkpoint was given up"});
}

Status ChunkFileWriter::abandon(Error why) {
  sst_.reset();
  // A file that cannot be deleted now is deleted by the next open of the store.
  (void)checkpoints_->rocks_->remove_file(file_);
  failure_ = why;
  return fail(std::move(why));
}

Status ChunkFileWriter::check_chunk(const pb::ChunkEntry& entry,
                                    std::span<const std::byte> bytes) const {
  const std::string name = text_of_chunk(id_, entry.index());
  if (entry.index() != entries_.size()) {
    return fail(Errc::invalid_argument, name + " came out of order; chunk " +
                                            std::to_string(entries_.size()) + " is the next");
  }
  if (bytes.empty() || bytes.size() > kChunkBytes) {
    return fail(Errc::invalid_argument, name + " has " + std::to_string(bytes.size()) +
                                            " bytes; a chunk has 1 to " +
                                            std::to_string(kChunkBytes));
  }
  if (!same(entry, make_chunk_entry(entry.index(), bytes)))
    return fail(Errc::corrupt, name + ": the bytes do not match the hash of their source");
  return checkpoints_->rocks_->check_room(bytes.size());
}

Status ChunkFileWriter::put_chunk(const pb::ChunkEntry& entry, std::span<const std::byte> bytes) {
  if (failure_) return fail(*failure_);
  if (auto status = check_chunk(entry, bytes); !status) return abandon(status.error());
  const auto status = sst_->Put(chunk_key(id_, write_, entry.index()), slice(bytes));
  if (!status.ok()) return abandon(error_of(status, text_of_chunk(id_, entry.index())));
  entries_.push_back(entry);
  bytes_ += bytes.size();
  return {};
}

Status ChunkFileWriter::check_manifest(const pb::CheckpointManifest& manifest) const {
  const std::string name = text_of("manifest", id_.value());
  if (manifest.id() != id_.value())
    return fail(Errc::invalid_argument,
                name + " names checkpoint " + std::to_string(manifest.id()));
  if (entries_.empty()) return fail(Errc::invalid_argument, name + " comes without any chunk");
  if (static_cast<std::size_t>(manifest.chunks_size()) != entries_.size()) {
    return fail(Errc::invalid_argument, name + " lists " + std::to_string(manifest.chunks_size()) +
                                            " chunks, and " + std::to_string(entries_.size()) +
                                            " were written");
  }
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (same(manifest.chunks(static_cast<int>(i)), entries_[i])) continue;
    return fail(Errc::invalid_argument,
                name + ": its entry " + std::to_string(i) + " is not that of the written chunk");
  }
  if (manifest.bytes() != bytes_) {
    return fail(Errc::invalid_argument, name + " says " + std::to_string(manifest.bytes()) +
                                            " bytes, and " + std::to_string(bytes_) +
                                            " were written");
  }
  for (const pb::TensorEntry& tensor : manifest.tensors()) {
    if (tensor.offset() <= bytes_ && tensor.bytes() <= bytes_ - tensor.offset()) continue;
    return fail(Errc::invalid_argument,
                name + ": tensor " + tensor.name() + " lies outside the checkpoint's bytes");
  }
  return {};
}

Status ChunkFileWriter::commit(const pb::CheckpointManifest& manifest) {
  if (failure_) return fail(*failure_);
  if (auto status = check_manifest(manifest); !status) return abandon(status.error());
  if (auto status = store(manifest); !status) return abandon(status.error());
  sst_.reset();
  failure_ = Error{Errc::invalid_argument, text_of("manifest", id_.value()) + " is committed"};
  return {};
}

// The order of C-1: the file's bytes are on the disk, then the store knows the file, then the
// manifest makes it a checkpoint.
Status ChunkFileWriter::store(const pb::CheckpointManifest& manifest) {
  Rocks& rocks = *checkpoints_->rocks_;
  if (const auto status = sst_->Finish(); !status.ok())
    return fail(error_of(status, "write the chunks of checkpoint " + std::to_string(id_.value())));
  CRABCAST_TRY(rocks.ingest(file_));
  return checkpoints_->publish(manifest, write_);
}

}  // namespace crabcast::storage

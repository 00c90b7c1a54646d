#include "storage/checkpoints.h"

#include <xxhash.h>

#include <algorithm>

#include "storage/checkpoint_writer.h"
#include "storage/job_keys.h"
#include "storage/rocks_options.h"

namespace crabcast::storage {
namespace {

constexpr std::size_t kManifestHeaderBytes = 16;  // checksum and write number

// Seeded with the id, so that a manifest under another checkpoint's key does not pass.
std::uint64_t checksum_of(CheckpointId id, std::string_view bytes) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), id.value());
}

std::string manifest_value(const pb::CheckpointManifest& manifest, std::uint64_t write) {
  std::string body;
  append_u64(body, write);
  manifest.AppendToString(&body);
  std::string value;
  append_u64(value, checksum_of(CheckpointId(manifest.id()), body));
  return value.append(body);
}

std::span<const std::byte> bytes_of(const Rocks::Chunk& chunk) {
  return std::as_bytes(std::span(chunk.bytes().data(), chunk.bytes().size()));
}

}  // namespace

Result<Checkpoints::Unmeant> Checkpoints::unmeant_files() const {
  auto visible = ids();
  if (!visible) return fail(visible.error());
  std::set<std::pair<std::uint64_t, std::uint64_t>> meant;
  // A damaged manifest hides which write it means: its chunks stay, for a look at the damage.
  std::set<std::uint64_t> unreadable;
  for (const CheckpointId id : *visible) {
    const auto manifest = stored(id);
    if (manifest) meant.emplace(id.value(), manifest->write);
    if (!manifest) unreadable.insert(id.value());
  }
  Unmeant unmeant;
  for (Rocks::ChunkFile& file : rocks_->chunk_files()) {
    if (file.first_key.size() != kChunkKeyBytes)
      return fail(Errc::corrupt, rocks_->folder().string() + ": a chunk has a key of wrong length");
    const std::uint64_t id = read_u64(file.first_key);
    const std::uint64_t write = read_u64(std::string_view(file.first_key).substr(8));
    unmeant.last_write = std::max(unmeant.last_write, write);
    if (meant.contains({id, write}) || unreadable.contains(id)) continue;
    unmeant.files.push_back(std::move(file));
  }
  for (const auto& [id, write] : meant) unmeant.last_write = std::max(unmeant.last_write, write);
  return unmeant;
}

Status Checkpoints::drop_left_over_chunks() {
  const auto unmeant = unmeant_files();
  if (!unmeant) return fail(unmeant.error());
  for (const Rocks::ChunkFile& file : unmeant->files)
    CRABCAST_TRY(drop_write(CheckpointId(read_u64(file.first_key)),
                            read_u64(std::string_view(file.first_key).substr(8))));
  next_write_ = std::max<std::uint64_t>(next_write_, unmeant->last_write + 1);
  return {};
}

Result<LeftOver> Checkpoints::left_over() const {
  const auto unmeant = unmeant_files();
  if (!unmeant) return fail(unmeant.error());
  LeftOver sum;
  for (const Rocks::ChunkFile& file : unmeant->files) {
    ++sum.files;
    sum.bytes += file.bytes;
  }
  return sum;
}

Result<std::unique_ptr<CheckpointWriter>> Checkpoints::begin(CheckpointId id) {
  return ChunkFileWriter::start(shared_from_this(), id, next_write_++);
}

Result<std::vector<CheckpointId>> Checkpoints::ids() const {
  std::vector<CheckpointId> all;
  bool short_key = false;
  CRABCAST_TRY(rocks_->scan(key_of(JobKey::manifest), end_of(JobKey::manifest),
                            [&](std::string_view key, std::string_view /*value*/) {
                              short_key = key.size() != 9;
                              if (!short_key) all.emplace_back(read_u64(key.substr(1)));
                              return !short_key;
                            }));
  if (short_key)
    return fail(Errc::corrupt, rocks_->folder().string() + ": a manifest's key has a wrong length");
  return all;
}

Result<Checkpoints::Stored> Checkpoints::stored(CheckpointId id) const {
  const std::string name = text_of("manifest", id.value());
  const auto value = rocks_->get(key_of(JobKey::manifest, id.value()));
  if (!value) return fail(value.error().within(name));
  if (!value->has_value()) {
    return fail(Errc::not_found, "there is no checkpoint " + std::to_string(id.value()) + " in " +
                                     rocks_->folder().string());
  }
  const std::string_view bytes = **value;
  if (bytes.size() < kManifestHeaderBytes || checksum_of(id, bytes.substr(8)) != read_u64(bytes))
    return fail(Errc::corrupt, name + ": the manifest does not match its checksum");
  auto manifest = parse_record<pb::CheckpointManifest>(bytes.substr(kManifestHeaderBytes), name);
  if (!manifest) return fail(manifest.error());
  return Stored{read_u64(bytes.substr(8)), std::move(*manifest)};
}

Result<pb::CheckpointManifest> Checkpoints::manifest(CheckpointId id) const {
  auto found = stored(id);
  if (!found) return fail(found.error());
  return std::move(found->manifest);
}

// The hash was taken from the source buffer, so it covers every way between there and here.
Result<Rocks::Chunk> Checkpoints::checked_chunk(const Stored& stored,
                                                const pb::ChunkEntry& entry) const {
  const CheckpointId id(stored.manifest.id());
  const std::string name = text_of_chunk(id, entry.index());
  auto value = rocks_->chunk(chunk_key(id, stored.write, entry.index()));
  if (!value && value.error().code == Errc::not_found)
    return fail(Errc::corrupt, name + ": the chunk is missing");
  if (!value) return fail(value.error().within(name));
  const pb::ChunkEntry found = make_chunk_entry(entry.index(), bytes_of(*value));
  if (found.bytes() != entry.bytes()) {
    return fail(Errc::corrupt, name + ": " + std::to_string(found.bytes()) + " bytes instead of " +
                                   std::to_string(entry.bytes()));
  }
  if (found.xxh3_high() != entry.xxh3_high() || found.xxh3_low() != entry.xxh3_low())
    return fail(Errc::corrupt, name + ": the bytes do not match the hash of their source");
  return value;
}

class Checkpoints::Reader final : public CheckpointReader {
 public:
  Reader(std::shared_ptr<const Checkpoints> checkpoints, Stored stored)
      : checkpoints_(std::move(checkpoints)), stored_(std::move(stored)) {}
  const pb::CheckpointManifest& manifest() const override { return stored_.manifest; }
  Result<std::string> chunk(std::uint32_t index) const override {
    if (index >= static_cast<std::uint32_t>(stored_.manifest.chunks_size()))
      return fail(Errc::invalid_argument, "there is no chunk " + std::to_string(index));
    const auto value =
        checkpoints_->checked_chunk(stored_, stored_.manifest.chunks(static_cast<int>(index)));
    if (!value) return fail(value.error());
    return std::string(value->bytes());
  }

 private:
  std::shared_ptr<const Checkpoints> checkpoints_;
  Stored stored_;
};

Result<std::unique_ptr<CheckpointReader>> Checkpoints::open(CheckpointId id) const {
  auto found = stored(id);
  if (!found) return fail(found.error());
  return std::make_unique<Reader>(shared_from_this(), std::move(*found));
}

void Checkpoints::evict(CheckpointId id) const {
  if (const auto found = stored(id))
    rocks_->evict(chunk_key(id, found->write, 0), chunk_key(id, found->write, UINT32_MAX));
}

Status Checkpoints::for_each_chunk(CheckpointId id, const VisitChunk& visit) const {
  const auto found = stored(id);
  if (!found) return fail(found.error());
  for (const pb::ChunkEntry& entry : found->manifest.chunks()) {
    const auto value = checked_chunk(*found, entry);
    if (!value) return fail(value.error());
    if (!visit(entry, bytes_of(*value))) break;
  }
  return {};
}

Result<std::string> Checkpoints::read_chunk(CheckpointId id, std::uint32_t index) const {
  const auto found = stored(id);
  if (!found) return fail(found.error());
  const auto& chunks = found->manifest.chunks();
  if (index >= static_cast<std::uint32_t>(chunks.size())) {
    return fail(Errc::invalid_argument, "checkpoint " + std::to_string(id.value()) + " has " +
                                            std::to_string(chunks.size()) + " chunks, not " +
                                            std::to_string(index + 1ULL));
  }
  const auto value = checked_chunk(*found, chunks[static_cast<int>(index)]);
  if (!value) return fail(value.error());
  return std::string(value->bytes());
}

Result<VerifyReport> Checkpoints::verify(CheckpointId id, std::uint32_t first,
                                         std::uint32_t count) const {
  VerifyReport report;
  report.id = id;
  const auto found = stored(id);
  if (!found && found.error().code == Errc::not_found) return fail(found.error());
  const auto problem = [&report](const Error& error) {
    report.problems.push_back(error.message);
    report.damaged = report.damaged || error.code == Errc::corrupt;
  };
  if (!found) {
    problem(found.error());
    return report;
  }
  report.write = found->write;
  const auto& chunks = found->manifest.chunks();
  const std::uint64_t end = std::min<std::uint64_t>(chunks.size(), std::uint64_t{first} + count);
  for (std::uint64_t i = first; i < end; ++i) {
    const pb::ChunkEntry& entry = chunks[static_cast<int>(i)];
    ++report.chunks;
    report.bytes += entry.bytes();
    if (const auto value = checked_chunk(*found, entry); !value) problem(value.error());
  }
  if (report.ok()) return report;
  // Retention or another save may have taken its chunks meanwhile.
  const auto now = stored(id);
  if (!now && now.error().code == Errc::not_found) return fail(now.error());
  if (now && now->write != found->write) return verify(id, first, count);
  return report;
}

Status Checkpoints::write_with_manifest(
    CheckpointId id, rocksdb::WriteBatch& batch, Sync sync,
    const std::function<void(pb::CheckpointManifest&)>& change) {
  const std::scoped_lock lock(manifest_mutex_);
  auto found = stored(id);
  if (found) {
    change(found->manifest);
    const auto status = batch.Put(key_of(JobKey::manifest, id.value()),
                                  manifest_value(found->manifest, found->write));
    if (!status.ok()) return fail(error_of(status, text_of("manifest", id.value())));
  } else if (found.error().code != Errc::not_found && found.error().code != Errc::corrupt) {
    return fail(found.error());
  }
  return rocks_->write(batch, sync);
}

// The commit of a checkpoint (C-1): its chunks are durable, this makes them visible.
Status Checkpoints::publish(const pb::CheckpointManifest& manifest, std::uint64_t write) {
  const CheckpointId id(manifest.id());
  const std::string key = key_of(JobKey::manifest, id.value());
  const std::scoped_lock lock(manifest_mutex_);
  const auto before = stored(id);
  const auto bytes_before = rocks_->get(key);
  if (!bytes_before) return fail(bytes_before.error());
  rocksdb::WriteBatch batch;
  auto put = batch.Put(key, manifest_value(manifest, write));
  if (put.ok()) put = batch.Delete(key_of(JobKey::damage, id.value()));
  if (!put.ok()) return fail(error_of(put, text_of("manifest", id.value())));
  const Status published = rocks_->write(batch, Sync::yes);
  if (published) {
    // The new one counts. What cannot be dropped of the old one now, the next open drops.
    if (before) (void)drop_write(id, before->write);
    return {};
  }
  // A write that failed may still be found in the log after a crash. The chunks may go only when it
  // is surely undone; otherwise the next open decides by what it finds.
  rocksdb::WriteBatch undo;
  const auto status = bytes_before->has_value() ? undo.Put(key, **bytes_before) : undo.Delete(key);
  if (status.ok() && rocks_->write(undo, Sync::yes)) (void)drop_write(id, write);
  return published;
}

Status Checkpoints::drop_write(CheckpointId id, std::uint64_t write) {
  return rocks_->drop_chunks(chunk_key(id, write, 0), chunk_key(id, write, UINT32_MAX));
}

}  // namespace crabcast::storage

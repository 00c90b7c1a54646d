#include "storage/checkpoints.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>

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

Status Checkpoints::drop_left_over_chunks() {
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
  std::uint64_t last_write = 0;
  for (const std::string& key : rocks_->first_keys_of_chunk_files()) {
    if (key.size() != kChunkKeyBytes)
      return fail(Errc::corrupt, rocks_->folder().string() + ": a chunk has a key of wrong length");
    const std::uint64_t id = read_u64(key);
    const std::uint64_t write = read_u64(std::string_view(key).substr(8));
    last_write = std::max(last_write, write);
    if (meant.contains({id, write}) || unreadable.contains(id)) continue;
    CRABCAST_TRY(drop_write(CheckpointId(id), write));
  }
  for (const auto& [id, write] : meant) last_write = std::max(last_write, write);
  next_write_ = last_write + 1;
  return {};
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

Result<VerifyReport> Checkpoints::verify(CheckpointId id) const {
  VerifyReport report;
  report.id = id;
  const auto found = stored(id);
  if (!found && found.error().code == Errc::not_found) return fail(found.error());
  if (!found) {
    report.problems.push_back(found.error().message);
    return report;
  }
  for (const pb::ChunkEntry& entry : found->manifest.chunks()) {
    ++report.chunks;
    report.bytes += entry.bytes();
    if (const auto value = checked_chunk(*found, entry); !value)
      report.problems.push_back(value.error().message);
  }
  return report;
}

Result<std::optional<pb::CheckpointManifest>> Checkpoints::newest_verified(
    CheckpointId at_most, const Problem& problem) const {
  const auto all = ids();
  if (!all) return fail(all.error());
  for (auto id = all->rbegin(); id != all->rend(); ++id) {
    if (*id > at_most) continue;
    const auto report = verify(*id);
    if (!report && report.error().code == Errc::not_found) continue;  // retention took it
    if (!report) return fail(report.error());
    if (!report->ok()) {
      problem(*report);
      continue;
    }
    auto found = manifest(*id);
    if (!found && found.error().code == Errc::not_found) continue;
    if (!found) return fail(found.error());
    return std::optional(std::move(*found));
  }
  return std::optional<pb::CheckpointManifest>();
}

std::set<CheckpointId> Checkpoints::kept_by(const RetentionPolicy& policy,
                                            const std::vector<CheckpointId>& ids) const {
  std::set<CheckpointId> kept;
  const std::size_t last = std::min<std::size_t>(std::max(policy.last, 1U), ids.size());
  kept.insert(ids.end() - static_cast<std::ptrdiff_t>(last), ids.end());
  std::vector<std::pair<double, CheckpointId>> ranked;
  for (const CheckpointId id : ids) {
    const auto found = stored(id);
    if (!found) continue;  // damaged: it cannot be the best of anything
    const auto score = found->manifest.metrics().find(policy.by);
    if (score == found->manifest.metrics().end() || std::isnan(score->second)) continue;
    ranked.emplace_back(score->second, id);
  }
  std::sort(ranked.rbegin(), ranked.rend());  // of equal scores the newer one
  ranked.resize(std::min<std::size_t>(policy.best, ranked.size()));
  for (const auto& [score, id] : ranked) kept.insert(id);
  return kept;
}

Result<std::vector<CheckpointId>> Checkpoints::apply_retention(
    const RetentionPolicy& policy, const std::set<CheckpointId>& in_use) {
  const auto all = ids();
  if (!all) return fail(all.error());
  std::set<CheckpointId> kept = kept_by(policy, *all);
  kept.insert(in_use.begin(), in_use.end());
  const auto is_kept = [&kept](CheckpointId id) { return kept.contains(id); };
  if (std::all_of(all->begin(), all->end(), is_kept)) return std::vector<CheckpointId>();
  const auto newest = newest_verified(CheckpointId{UINT64_MAX}, [](const VerifyReport&) {});
  if (!newest) return fail(newest.error());
  // Nothing verifies: what looks superfluous may be all that can still be rescued.
  if (!newest->has_value()) return std::vector<CheckpointId>();
  kept.insert(CheckpointId((*newest)->id()));

  std::vector<CheckpointId> dropped;
  std::copy_if(all->begin(), all->end(), std::back_inserter(dropped), std::not_fn(is_kept));
  CRABCAST_TRY(drop(dropped));
  return dropped;
}

Status Checkpoints::drop_after(CheckpointId last) {
  const auto all = ids();
  if (!all) return fail(all.error());
  std::vector<CheckpointId> after;
  std::copy_if(all->begin(), all->end(), std::back_inserter(after),
               [last](CheckpointId id) { return id > last; });
  return drop(after);
}

Status Checkpoints::drop(const std::vector<CheckpointId>& ids) {
  if (ids.empty()) return {};
  const std::scoped_lock lock(manifest_mutex_);
  std::vector<std::pair<CheckpointId, std::uint64_t>> writes;
  rocksdb::WriteBatch batch;
  for (const CheckpointId id : ids) {
    if (const auto found = stored(id)) writes.emplace_back(id, found->write);
    const auto status = batch.Delete(key_of(JobKey::manifest, id.value()));
    if (!status.ok()) return fail(error_of(status, text_of("manifest", id.value())));
  }
  // First invisible, then gone: after a crash in between, the next open drops the chunks.
  CRABCAST_TRY(rocks_->write(batch, Sync::yes));
  for (const auto& [id, write] : writes) CRABCAST_TRY(drop_write(id, write));
  return {};
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
  const Status published = rocks_->put(key, manifest_value(manifest, write), Sync::yes);
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

#include "apps/cli/stored_adapter.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "apps/cli/checkpoint_source.h"
#include "apps/cli/shared_memory.h"
#include "protocol/format.h"
#include "storage/stored_spec.h"

namespace crabcast::apps {
namespace {

namespace fs = std::filesystem;
using storage::JobStore;

constexpr std::string_view kJob = "job:";
constexpr std::string_view kAdapter = "adapter/";  // how the names of its tensors begin

// A job or a store, and the checkpoint that is wanted of it.
struct Name {
  std::string job;
  fs::path store;
  std::optional<std::uint64_t> checkpoint;
};

Result<Name> parse(const std::string& text) {
  Name name;
  std::string place = text;
  const bool is_job = text.starts_with(kJob);
  if (const auto at = text.rfind('@'); at != std::string::npos && (is_job || !fs::exists(text))) {
    name.checkpoint = parse_whole(text.substr(at + 1));
    if (!name.checkpoint)
      return fail(Errc::invalid_argument,
                  "--adapter: what follows @ is the number of a checkpoint, "
                  "as crabcast ckpt ls shows it, not '" +
                      excerpt(text.substr(at + 1)) + "'");
    place = text.substr(0, at);
  }
  if (is_job)
    name.job = place.substr(kJob.size());
  else
    name.store = place;
  return name;
}

// The tensors of the adapter, cut out of the checkpoint's byte stream and put one after another.
class Extract {
 public:
  explicit Extract(const pb::CheckpointManifest& manifest) {
    for (const auto& entry : manifest.tensors())
      if (entry.name().starts_with(kAdapter)) wanted_.push_back(entry);
    std::sort(wanted_.begin(), wanted_.end(),
              [](const auto& a, const auto& b) { return a.offset() < b.offset(); });
  }

  // Appends what a chunk, whose bytes begin at position() of the stream, has of the tensors.
  Status take(std::span<const std::byte> chunk, SharedMemory& memory) {
    const std::uint64_t begin = position_, end = position_ + chunk.size();
    for (; next_ < wanted_.size() && wanted_[next_].offset() < end; ++next_) {
      const auto& entry = wanted_[next_];
      const std::uint64_t from = std::max(begin, entry.offset());
      const std::uint64_t to = std::min(end, entry.offset() + entry.bytes());
      if (from < to) CRABCAST_TRY(memory.append(chunk.subspan(from - begin, to - from)));
      if (entry.offset() + entry.bytes() > end) break;  // goes on in the next chunk
    }
    position_ = end;
    return {};
  }
  [[nodiscard]] bool is_complete() const { return next_ == wanted_.size(); }

  // The tensors with their places in the memory.
  void describe(pb::StoredAdapter& adapter) const {
    std::uint64_t offset = 0;
    for (const auto& entry : wanted_) {
      auto& moved = *adapter.add_tensors();
      moved = entry;
      moved.set_offset(offset);
      offset += entry.bytes();
    }
  }

 private:
  std::vector<pb::TensorEntry> wanted_;  // in the order of the stream
  std::size_t next_ = 0;                 // the first that is not complete
  std::uint64_t position_ = 0;
};

}  // namespace

bool is_stored_adapter(const std::string& name) {
  if (name.starts_with(kJob)) return true;
  const auto is_job_folder = [](const fs::path& folder) {
    std::error_code ignored;
    if (folder.empty()) return false;
    return fs::exists(folder / "CURRENT", ignored) ||
           fs::exists(folder / "store" / "CURRENT", ignored);
  };
  return is_job_folder(name) || is_job_folder(name.substr(0, name.rfind('@')));
}

Result<pb::StoredAdapter> stored_adapter(const Common& common, const std::string& name) {
  auto wanted = parse(name);
  if (!wanted) return fail(wanted.error());
  const auto opened = open_checkpoint(common, wanted->job, wanted->store, wanted->checkpoint);
  if (!opened) return fail(opened.error());
  const auto& manifest = opened->manifest;
  const auto spec = storage::newest_spec(*opened->store);  // what the adapter is never changes
  if (!spec) return fail(spec.error());
  if (!*spec) return fail(Errc::corrupt, "the job's store does not hold its spec");

  pb::StoredAdapter adapter;
  adapter.set_source("checkpoint " + std::to_string(manifest.id()) + " of " +
                     (wanted->job.empty() ? wanted->store.string() : "job " + wanted->job));
  adapter.set_spec_yaml(**spec);
  adapter.set_base_hash(manifest.base_hash());
  auto memory = SharedMemory::create();
  if (!memory) return fail(memory.error());
  Extract extract(manifest);
  Status taken;
  CRABCAST_TRY(opened->store->for_each_chunk(
      CheckpointId{manifest.id()}, [&](const pb::ChunkEntry&, std::span<const std::byte> bytes) {
        taken = extract.take(bytes, *memory);
        return taken.has_value() && !extract.is_complete();
      }));
  CRABCAST_TRY(taken);
  if (!extract.is_complete())
    return fail(Errc::corrupt, adapter.source() + " ends before its adapter does");
  extract.describe(adapter);
  adapter.set_file(std::move(*memory).hand_on());
  return adapter;
}

}  // namespace crabcast::apps

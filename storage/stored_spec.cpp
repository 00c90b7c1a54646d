#include "storage/stored_spec.h"

#include "protocol/job_spec.h"

namespace crabcast::storage {
namespace {

constexpr const char* kNewest = "spec";

std::string key_of_hash(const std::string& hash) {
  return std::string(kNewest) + "/" + hash;
}

}  // namespace

Status keep_spec(JobStore& store, const std::string& yaml, Sync sync) {
  const auto spec = parse_job_spec(yaml, "spec");
  if (!spec) return fail(spec.error().error());
  return store.put_value(key_of_hash(spec_hash(*spec)), to_yaml(*spec), sync);
}

Status put_spec(JobStore& store, const std::string& yaml) {
  CRABCAST_TRY(keep_spec(store, yaml, Sync::no));
  return store.put_value(kNewest, yaml, Sync::yes);
}

Result<std::optional<std::string>> newest_spec(const JobStore& store) {
  return store.value(kNewest);
}

Result<std::string> spec_of(const JobStore& store, const pb::CheckpointManifest& manifest) {
  for (const std::string& key : {key_of_hash(manifest.spec_hash()), std::string(kNewest)}) {
    auto yaml = store.value(key);
    if (!yaml) return fail(yaml.error());
    if (!yaml->has_value()) continue;
    if (key != kNewest) return std::move(**yaml);
    if (spec_text_hash(**yaml) == manifest.spec_hash()) return std::move(**yaml);
  }
  return fail(Errc::not_found,
              "the spec of checkpoint " + std::to_string(manifest.id()) + " is not in its store");
}

}  // namespace crabcast::storage

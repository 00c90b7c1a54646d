#include "apps/cli/checkpoint_source.h"

#include <algorithm>

#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "protocol/format.h"
#include "storage/stored_spec.h"

namespace crabcast::apps {

using storage::JobStore;

Result<CheckpointId> find_checkpoint(const JobStore& store, std::optional<std::uint64_t> id) {
  if (!id) {
    auto newest =
        store.newest_verified([](const storage::VerifyReport& bad) { note(bad.problems.front()); });
    if (!newest) return fail(newest.error());
    if (!*newest) return fail(Errc::not_found, "no checkpoint that verifies is stored");
    return CheckpointId((*newest)->id());
  }
  const auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  if (std::find(ids->begin(), ids->end(), CheckpointId(*id)) != ids->end())
    return CheckpointId(*id);
  std::vector<std::string> numbers;
  for (const CheckpointId one : *ids) numbers.push_back(std::to_string(one.value()));
  return fail(Errc::not_found, "there is no checkpoint " + std::to_string(*id) +
                                   (numbers.empty() ? "; none is stored yet"
                                                    : "; there are " + join_names(numbers)));
}

Result<OpenedCheckpoint> open_checkpoint(const Common& common, const std::string& job,
                                         const std::filesystem::path& store,
                                         std::optional<std::uint64_t> id) {
  const auto folder = store_folder(common, job, store);
  if (!folder) return fail(folder.error());
  auto opened = JobStore::open_read_only(*folder);
  if (!opened) return fail(opened.error());
  const auto found = find_checkpoint(**opened, id);
  if (!found) return fail(found.error().within(folder->string()));
  auto manifest = (*opened)->manifest(*found);
  if (!manifest) return fail(manifest.error());
  return OpenedCheckpoint{std::move(*opened), std::move(*manifest)};
}

Result<std::unique_ptr<JobStore>> open_to_change(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder / "CURRENT", error))
    return fail(Errc::not_found, "there is no store in " + folder.string());
  auto store = JobStore::open(folder);
  if (store || store.error().code != Errc::already_exists) return store;
  return fail(
      Errc::unavailable,
      "the job of " + folder.string() +
          " runs: only its coordinator may change its store; stop it first (crabcast cancel "
          "--keep JOB, or Ctrl-C in crabcast run), and resume it afterwards");
}

Result<JobSpec> spec_of_job(const JobStore& store) {
  const auto yaml = storage::newest_spec(store);
  if (!yaml) return fail(yaml.error());
  if (!yaml->has_value()) return fail(Errc::not_found, "the job's spec is not in its store");
  auto spec = parse_job_spec(**yaml, "the job's spec");
  if (!spec) return fail(spec.error().error());
  return std::move(*spec);
}

nlohmann::json manifest_json(const pb::CheckpointManifest& manifest) {
  nlohmann::json metrics = nlohmann::json::object();
  for (const auto& [name, value] : manifest.metrics()) metrics[name] = value;
  return {{"id", manifest.id()},
          {"step", manifest.step()},
          {"generation", manifest.generation()},
          {"unix_ms", manifest.unix_ms()},
          {"bytes", manifest.bytes()},
          {"chunks", manifest.chunks_size()},
          {"tensors", manifest.tensors_size()},
          {"spec_hash", manifest.spec_hash()},
          {"base_hash", manifest.base_hash()},
          {"metrics", metrics}};
}

}  // namespace crabcast::apps

#include "actors/compute/adapter_weights.h"

#include <utility>

#include "actors/compute/tensor_frames.h"
#include "model/adapter_file.h"
#include "model/adapter_import.h"
#include "model/disk_file.h"

namespace crabcast::actors {
namespace {

Result<AdapterWeights> read_stored(const pb::StoredAdapter& adapter) {
  auto spec = parse_job_spec(adapter.spec_yaml(), "the job spec of " + adapter.source());
  if (!spec) return fail(spec.error().error());
  auto file = model::DiskFile::open(adapter.file());
  if (!file) return fail(file.error());
  auto bytes = file->map();
  if (!bytes) return fail(bytes.error());
  AdapterWeights weights{
      adapter.source(), spec->model.adapter, spec->train.precision, adapter.base_hash(), {}};
  for (const auto& entry : adapter.tensors()) {
    if (entry.offset() > file->size() || entry.bytes() > file->size() - entry.offset())
      return fail(Errc::corrupt, adapter.source() + ": " + entry.name() + " is not all there");
    auto tensor = from_bytes(entry.dtype(),
                             {entry.shape().data(), static_cast<std::size_t>(entry.shape_size())},
                             {bytes->get() + entry.offset(), entry.bytes()});
    if (!tensor) return fail(tensor.error().within(adapter.source() + ": " + entry.name()));
    weights.tensors.push_back({entry.name(), std::move(*tensor)});
  }
  return weights;
}

Result<AdapterWeights> read_file(const std::string& path, std::optional<double> alpha) {
  auto file = model::open_adapter(path);
  if (!file) return fail(file.error());
  auto spec = model::complete_spec(*file, {.alpha = alpha});
  if (!spec) return fail(spec.error());
  AdapterWeights weights{path, std::move(*spec), std::nullopt, std::move(file->base_hash), {}};
  for (auto& [name, value] : file->tensors)
    weights.tensors.push_back({"adapter/" + name, std::move(value)});
  return weights;
}

}  // namespace

Result<std::optional<AdapterWeights>> read_adapter(const pb::GenerateRequest& request) {
  if (request.has_adapter()) return read_stored(request.adapter());
  if (request.adapter_path().empty()) return std::nullopt;
  return read_file(request.adapter_path(),
                   request.has_alpha() ? std::optional(request.alpha()) : std::nullopt);
}

}  // namespace crabcast::actors

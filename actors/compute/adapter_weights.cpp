#include "actors/compute/adapter_weights.h"

#include <utility>

#include "actors/compute/tensor_frames.h"
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

}  // namespace

Result<std::optional<AdapterWeights>> read_adapter(const pb::GenerateRequest& request) {
  if (request.has_adapter()) return read_stored(request.adapter());
  if (request.adapter_path().empty()) return std::nullopt;
  return fail(Errc::unsupported, "--adapter: " + request.adapter_path() +
                                     " is no store of a job; name a job's checkpoint with "
                                     "job:JOB or job:JOB@CHECKPOINT");
}

}  // namespace crabcast::actors

#include "model/adapter_import.h"

#include <ATen/ATen.h>

#include <utility>

#include "model/adapter_inspect.h"
#include "model/base.h"
#include "model/base_inspect.h"
#include "model/guarded.h"
#include "protocol/base_location.h"
#include "protocol/format.h"
#include "protocol/records.pb.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhenFull = "Use a machine with more memory";
constexpr std::uint64_t kMostTextBytes = 64ULL << 20;  // of a manifest or a spec

struct BaseIdentity {
  ThinkerConfig config;
  std::string hash;
};

Result<BaseIdentity> identify_base(
    const std::string& base,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress) {
  if (is_shipped_base(base)) {
    auto opened = open_base(base, at::kCPU, at::kFloat);
    if (!opened) return fail(opened.error());
    return BaseIdentity{opened->config, opened->hash};
  }
  auto report = inspect_base(base, progress);
  if (!report) return fail(report.error());
  if (report->clean()) return BaseIdentity{report->config, report->hash};
  return fail(Errc::corrupt, "the base " + base + ": " + report->problems.front());
}

// Of two that may say a number, the one that does.
Result<std::optional<double>> agreed(const char* what, std::optional<double> file,
                                     std::optional<double> given) {
  if (file && given && *file != *given)
    return fail(Errc::invalid_argument, std::string("its ") + what + " is " + exact_number(*file) +
                                            ", not " + exact_number(*given));
  return file ? file : given;
}

Status write(const AdapterSource& source, AdapterFormat format, const fs::path& out) {
  return format == AdapterFormat::crab ? export_crab(source, out) : export_peft(source, out);
}

// ---- A checkpoint as a stream

using Read = std::function<Status(std::span<std::byte>)>;

Result<std::string> read_text(const Read& read, const char* what) {
  std::uint64_t length = 0;
  CRABCAST_TRY(read(std::as_writable_bytes(std::span(&length, 1))));
  if (length > kMostTextBytes)
    return fail(Errc::corrupt, std::string(what) + " has " + format_bytes(length));
  std::string text(length, '\0');
  CRABCAST_TRY(read(std::as_writable_bytes(std::span(text))));
  return text;
}

Result<at::Tensor> read_tensor(const Read& read, const std::vector<std::int64_t>& shape) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  CRABCAST_TRY(read({static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()}));
  return tensor;
}

// A checkpoint's state begins with the adapter, in float32 and in order (state.h). The base is not
// asked for its names: they are what was trained.
Result<std::vector<TensorSource>> streamed_tensors(const pb::CheckpointManifest& manifest,
                                                   const Read& read) {
  constexpr std::string_view kAdapter = "adapter/";
  std::vector<TensorSource> tensors;
  std::uint64_t end = 0;
  for (const pb::TensorEntry& entry : manifest.tensors()) {
    if (!entry.name().starts_with(kAdapter)) continue;
    if (entry.offset() != end || entry.dtype() != pb::DTYPE_FLOAT32)
      return fail(Errc::corrupt, "the checkpoint does not begin with its adapter: " + entry.name());
    end += entry.bytes();
    const std::vector<std::int64_t> shape(entry.shape().begin(), entry.shape().end());
    if (static_cast<std::uint64_t>(c10::multiply_integers(shape)) * sizeof(float) != entry.bytes())
      return fail(Errc::corrupt, "the checkpoint's tensor " + entry.name() + " has " +
                                     std::to_string(entry.bytes()) + " bytes");
    tensors.push_back({entry.name().substr(kAdapter.size()), at::kFloat, shape,
                       [=] { return read_tensor(read, shape); }});
  }
  if (tensors.empty()) return fail(Errc::corrupt, "the checkpoint holds no adapter");
  return tensors;
}

}  // namespace

Result<AdapterSpec> complete_spec(const AdapterFile& file, const Unsaid& unsaid) {
  AdapterSpec spec;
  spec.kind = file.kind;
  if (unsaid.kind && *unsaid.kind != file.kind) {
    if (file.says_kind || !has_heads(*unsaid.kind) || !has_heads(file.kind))
      return fail(Errc::invalid_argument, "it is of kind " + std::string(to_string(file.kind)) +
                                              ", not " + std::string(to_string(*unsaid.kind)));
    spec.kind = *unsaid.kind;
  }
  if (!has_factors(spec.kind)) return spec;
  auto alpha = agreed("alpha", file.alpha, unsaid.alpha);
  CRABCAST_TRY(alpha);
  if (!*alpha)
    return fail(Errc::invalid_argument,
                file.path.string() +
                    " does not say its alpha, without which nobody can scale it: give --alpha "
                    "(Crab+'s own adapters have 256)");
  auto dropout = agreed("dropout", file.dropout, unsaid.dropout);
  CRABCAST_TRY(dropout);
  spec.alpha = **alpha;
  spec.dropout = dropout->value_or(0);
  spec.rank = file.rank;
  spec.scope = file.scope;
  if (has_heads(spec.kind)) spec.heads = file.heads;
  return spec;
}

Result<ImportedAdapter> import_adapter(
    const fs::path& path, const std::string& base, const Unsaid& unsaid, const fs::path& out,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress) {
  return guarded("importing " + path.string(), kWhenFull, [&]() -> Result<ImportedAdapter> {
    auto file = open_adapter(path);
    if (!file) return fail(file.error());
    auto spec = complete_spec(*file, unsaid);
    if (!spec) return fail(spec.error());
    auto identity = identify_base(base, progress);
    if (!identity) return fail(identity.error());
    CRABCAST_TRY(check_adapter(*file, identity->config, *spec, identity->hash));
    ImportedAdapter imported{*spec, identity->hash};
    for (const NamedTensor& tensor : file->tensors) {
      ++imported.tensors;
      imported.parameters += static_cast<std::uint64_t>(tensor.tensor.numel());
      imported.bytes += tensor.tensor.nbytes();
    }
    imported.adds_nothing = adds_nothing(*file);
    CRABCAST_TRY(export_crab({*spec, base, identity->hash, sources_of(*file)}, out));
    return imported;
  });
}

Status export_adapter(const fs::path& path, const Unsaid& unsaid, AdapterFormat format,
                      const fs::path& out) {
  return guarded("exporting " + path.string(), kWhenFull, [&]() -> Status {
    auto file = open_adapter(path);
    if (!file) return fail(file.error());
    auto spec = complete_spec(*file, unsaid);
    if (!spec) return fail(spec.error());
    return write({*spec, "", file->base_hash, sources_of(*file)}, format, out);
  });
}

Status export_checkpoint(const Read& read, AdapterFormat format, const fs::path& out) {
  return guarded("exporting a checkpoint", kWhenFull, [&]() -> Status {
    auto manifest_text = read_text(read, "the manifest");
    if (!manifest_text) return fail(manifest_text.error());
    auto yaml = read_text(read, "the spec");
    if (!yaml) return fail(yaml.error());
    pb::CheckpointManifest manifest;
    if (!manifest.ParseFromString(*manifest_text))
      return fail(Errc::corrupt, "the checkpoint's manifest cannot be read");
    auto spec = parse_job_spec(*yaml, "the job's spec");
    if (!spec) return fail(spec.error().error());
    auto tensors = streamed_tensors(manifest, read);
    if (!tensors) return fail(tensors.error());
    return write({spec->model.adapter, spec->model.base, manifest.base_hash(), std::move(*tensors)},
                 format, out);
  });
}

}  // namespace crabcast::model

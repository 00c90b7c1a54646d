// Adapters from elsewhere, checked against a base and written as files of ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "model/adapter_export.h"
#include "model/adapter_file.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

// What is known of an adapter beside its file.
struct Unsaid {
  std::optional<AdapterKind> kind = {};  // ilora or crab_v1, which names cannot tell apart
  std::optional<double> alpha = {}, dropout = {};
};

// The file's own spec. A dropout that nobody says is 0: it matters to training only.
// invalid_argument: alpha is not said, or two say otherwise; or the kind is not that of the
// tensors.
Result<AdapterSpec> complete_spec(const AdapterFile& file, const Unsaid& unsaid);

struct ImportedAdapter {
  AdapterSpec spec;
  std::string base_hash;
  std::uint64_t tensors = 0, parameters = 0, bytes = 0;
  bool adds_nothing = false;  // every B is zero
};

// Writes `out`, bit by bit the tensors of `path`, with its spec and the hash of `base` beside them.
// `base` is what locate_base gives; all of it is read, for its hash, and `progress` hears of bytes
// done and of all bytes. Errors as open_adapter, complete_spec and check_adapter say them.
Result<ImportedAdapter> import_adapter(
    const std::filesystem::path& path, const std::string& base, const Unsaid& unsaid,
    const std::filesystem::path& out,
    const std::function<void(std::uint64_t done, std::uint64_t total)>& progress);

enum class AdapterFormat { crab, peft };

// From a file or folder.
Status export_adapter(const std::filesystem::path& path, const Unsaid& unsaid, AdapterFormat format,
                      const std::filesystem::path& out);

// From a checkpoint, as a stream: the length of its manifest (8 bytes, little-endian) and the
// manifest, the length of the job's spec and the spec, and the first bytes of the checkpoint up to
// the end of the adapter. `read` fills its argument, or fails.
Status export_checkpoint(const std::function<Status(std::span<std::byte>)>& read,
                         AdapterFormat format, const std::filesystem::path& out);

}  // namespace crabcast::model

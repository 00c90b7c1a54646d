// The files of an exported checkpoint: written and read once, from the front, with a checksum of
// all bytes. Internal to storage/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/checksum.h"
#include "protocol/error.h"
#include "protocol/records.pb.h"

namespace crabcast::storage {

inline constexpr const char* kExportFormat = "crabcast checkpoint 1";
inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kSpecFile = "spec.yaml";
inline constexpr const char* kRecordsFile = "records.pb";
inline constexpr const char* kStateFile = "state.safetensors";

// XXH3-64 of a table of contents; manifest.json has it beside the message.
std::uint64_t checksum_of(const pb::ExportManifest& manifest);

// The header of a safetensors file whose data is a checkpoint's byte stream, with its length in
// front. unsupported: its tensors do not lie behind one another, or have a type without a name.
Result<std::string> safetensors_header(const pb::CheckpointManifest& manifest);

class ExportFile {
 public:
  static Result<std::unique_ptr<ExportFile>> create(const std::filesystem::path& path);
  ExportFile(const ExportFile&) = delete;
  ExportFile& operator=(const ExportFile&) = delete;
  ~ExportFile();

  Status write(std::string_view bytes);
  // Durable when it returns: what the table of contents says of it.
  Result<pb::ExportedFile> finish();

 private:
  ExportFile(std::filesystem::path path, int file) : path_(std::move(path)), file_(file) {}
  Status flush();
  std::filesystem::path path_;
  int file_;
  std::string buffer_;
  std::uint64_t bytes_ = 0;
  Checksum64 checksum_;
};

// corrupt when its bytes are not those that the table of contents says.
Status check_file(const std::filesystem::path& folder, const pb::ExportedFile& file);

}  // namespace crabcast::storage

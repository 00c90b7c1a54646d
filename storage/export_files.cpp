#include "storage/export_files.h"

#include <fcntl.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "storage/encoding.h"

namespace crabcast::storage {
namespace {

constexpr std::size_t kBufferBytes = 1ULL << 20;

const char* type_name(pb::DType type) {
  static const std::map<pb::DType, const char*> names = {
      {pb::DTYPE_FLOAT32, "F32"}, {pb::DTYPE_BFLOAT16, "BF16"}, {pb::DTYPE_INT64, "I64"},
      {pb::DTYPE_INT32, "I32"},   {pb::DTYPE_UINT8, "U8"},      {pb::DTYPE_BOOL, "BOOL"},
      {pb::DTYPE_FLOAT64, "F64"}, {pb::DTYPE_FLOAT16, "F16"}};
  const auto found = names.find(type);
  return found == names.end() ? nullptr : found->second;
}

}  // namespace

std::uint64_t checksum_of(const pb::ExportManifest& manifest) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    manifest.SerializeToCodedStream(&coded);
  }
  return checksum64(std::as_bytes(std::span(bytes)));
}

Result<std::string> safetensors_header(const pb::CheckpointManifest& manifest) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", kExportFormat},
                            {"step", std::to_string(manifest.step())},
                            {"base_hash", manifest.base_hash()},
                            {"spec_hash", manifest.spec_hash()}};
  std::uint64_t end = 0;
  for (const pb::TensorEntry& tensor : manifest.tensors()) {
    const char* type = type_name(tensor.dtype());
    if (type == nullptr || tensor.offset() != end)
      return fail(Errc::unsupported, "tensor " + tensor.name() + " of checkpoint " +
                                         std::to_string(manifest.id()) +
                                         " has no place in a safetensors file");
    end += tensor.bytes();
    header[tensor.name()] = {
        {"dtype", type},
        {"shape", std::vector<std::int64_t>(tensor.shape().begin(), tensor.shape().end())},
        {"data_offsets", {tensor.offset(), end}}};
  }
  if (end != manifest.bytes())
    return fail(Errc::unsupported, "the tensors of checkpoint " + std::to_string(manifest.id()) +
                                       " do not cover its bytes");
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins at a multiple of 8
  std::string length;
  append_u64(length, text.size());
  return std::string(length.rbegin(), length.rend()) + text;  // little-endian
}

Result<std::unique_ptr<ExportFile>> ExportFile::create(const std::filesystem::path& path) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0) return fail(error_from_errno(errno, "make " + path.string()));
  return std::unique_ptr<ExportFile>(new ExportFile(path, file));
}

ExportFile::~ExportFile() {
  if (file_ >= 0) ::close(file_);
}

Status ExportFile::write(std::string_view bytes) {
  checksum_.add(std::as_bytes(std::span(bytes)));
  bytes_ += bytes.size();
  buffer_.append(bytes);
  return buffer_.size() < kBufferBytes ? Status() : flush();
}

Status ExportFile::flush() {
  for (std::string_view left = buffer_; !left.empty();) {
    const ssize_t written = ::write(file_, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(error_from_errno(errno, "write " + path_.string()));
    left.remove_prefix(static_cast<std::size_t>(written));
  }
  buffer_.clear();
  return {};
}

Result<pb::ExportedFile> ExportFile::finish() {
  CRABCAST_TRY(flush());
  if (::fsync(file_) != 0) return fail(error_from_errno(errno, "fsync " + path_.string()));
  pb::ExportedFile entry;
  entry.set_name(path_.filename());
  entry.set_bytes(bytes_);
  entry.set_xxh3(checksum_.value());
  return entry;
}

Status check_file(const std::filesystem::path& folder, const pb::ExportedFile& file) {
  const std::filesystem::path path = folder / file.name();
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(error_from_errno(errno, "open " + path.string()));
  Checksum64 checksum;
  std::uint64_t bytes = 0;
  std::string buffer(kBufferBytes, '\0');
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0) {
    const auto count = static_cast<std::size_t>(in.gcount());
    checksum.add(std::as_bytes(std::span(buffer.data(), count)));
    bytes += count;
  }
  if (in.bad()) return fail(Errc::io_error, "read " + path.string());
  if (bytes == file.bytes() && checksum.value() == file.xxh3()) return {};
  return fail(Errc::corrupt,
              path.string() + " is not what was exported: " +
                  (bytes == file.bytes() ? "its bytes do not match their checksum"
                                         : std::to_string(bytes) + " bytes instead of " +
                                               std::to_string(file.bytes())) +
                  "; copy it again");
}

}  // namespace crabcast::storage

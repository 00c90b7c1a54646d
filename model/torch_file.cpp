#include "model/torch_file.h"

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <span>
#include <utility>

#include "model/disk_file.h"
#include "model/pickle.h"
#include "model/safetensors_header.h"
#include "model/zip_file.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPickle = "/data.pkl", kByteOrder = "/byteorder", kData = "/data/";
constexpr std::uint64_t kMostPickleBytes = 16ULL << 20;

struct Archive {
  DiskFile file;
  std::shared_ptr<const std::byte> map;
  std::string root;  // the folder that all records are in
  std::map<std::string, ZipEntry> records;

  [[nodiscard]] const ZipEntry* find(const std::string& name) const {
    const auto found = records.find(root + name);
    return found == records.end() ? nullptr : &found->second;
  }
};

Result<std::string> read_record(const DiskFile& file, const ZipEntry& entry, std::uint64_t most) {
  if (entry.size > most)
    return fail(Errc::corrupt, "entry " + entry.name + " has " + format_bytes(entry.size) +
                                   ", more than " + format_bytes(most));
  CRABCAST_TRY(check_zip_entry(file, entry));
  std::string bytes(entry.size, '\0');
  CRABCAST_TRY(file.read(entry.begin, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

Result<Archive> open_archive(const fs::path& path) {
  auto file = DiskFile::open(path);
  if (!file) return fail(file.error());
  auto entries = read_zip_entries(*file);
  if (!entries) return fail(entries.error());
  auto map = file->map();
  if (!map) return fail(map.error());
  Archive archive{std::move(*file), std::move(*map), "", {}};
  for (ZipEntry& entry : *entries) {
    if (entry.name.ends_with(kPickle) && entry.name.find('/') == entry.name.rfind('/'))
      archive.root = entry.name.substr(0, entry.name.size() - kPickle.size());
    archive.records.emplace(entry.name, std::move(entry));
  }
  if (archive.find(std::string(kPickle)) == nullptr)
    return fail(Errc::corrupt, "it holds no data.pkl, so torch.save did not write it");
  if (const ZipEntry* order = archive.find(std::string(kByteOrder))) {
    auto text = read_record(archive.file, *order, 16);
    if (!text) return fail(text.error());
    if (*text != "little")
      return fail(Errc::corrupt, "its numbers are " + excerpt(*text) + " endian, not little");
  }
  return archive;
}

// Where the last element lies, in elements; nothing when that cannot be counted.
std::optional<std::int64_t> last_element(const PickledTensor& tensor) {
  std::int64_t last = tensor.offset;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    std::int64_t distance = 0;
    if (tensor.shape[i] == 0) return tensor.offset;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.strides[i], &distance) ||
        __builtin_add_overflow(last, distance, &last))
      return std::nullopt;
  }
  return last;
}

std::optional<std::int64_t> element_count(const PickledTensor& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t size : tensor.shape)
    if (__builtin_mul_overflow(count, size, &count)) return std::nullopt;
  return count;
}

Result<at::Tensor> view(const Archive& archive, const PickledTensor& tensor) {
  const ZipEntry* record = archive.find(std::string(kData) + tensor.storage);
  if (record == nullptr)
    return fail(Errc::corrupt, "its storage " + excerpt(tensor.storage) + " is not in the file");
  const auto width = static_cast<std::int64_t>(c10::elementSize(tensor.type));
  const auto elements = static_cast<std::int64_t>(record->size) / width;
  if (static_cast<std::int64_t>(record->size) % width != 0 || elements != tensor.storage_elements)
    return fail(Errc::corrupt, "its storage has " + std::to_string(record->size) + " bytes, not " +
                                   std::to_string(tensor.storage_elements) + " elements of " +
                                   std::to_string(width));
  const auto count = element_count(tensor), last = last_element(tensor);
  if (!count || !last || *count > elements || (*count > 0 && *last >= elements))
    return fail(Errc::corrupt, "shape " + shape_text(tensor.shape) + " reaches beyond its storage");
  if (*count == 0) return at::empty(tensor.shape, tensor.type);

  const at::TensorOptions options(tensor.type);
  std::byte* data = const_cast<std::byte*>(archive.map.get()) + record->begin;
  if (record->begin % static_cast<std::uint64_t>(width) != 0) {
    at::Tensor copy = at::empty({elements}, options);
    CRABCAST_TRY(archive.file.read(
        record->begin, std::span(static_cast<std::byte*>(copy.mutable_data_ptr()), record->size)));
    return copy.as_strided(tensor.shape, tensor.strides, tensor.offset).contiguous();
  }
  return at::from_blob(
             data + tensor.offset * width, tensor.shape, tensor.strides,
             [map = archive.map](void*) {}, options)
      .contiguous();
}

Result<std::vector<NamedTensor>> read_tensors(const fs::path& path) {
  auto archive = open_archive(path);
  if (!archive) return fail(archive.error());
  auto pickle = read_record(archive->file, *archive->find(std::string(kPickle)), kMostPickleBytes);
  if (!pickle) return fail(pickle.error());
  auto described = read_state_dict(*pickle);
  if (!described) return fail(described.error().within("data.pkl"));
  for (const auto& [name, entry] : archive->records)
    if (name.starts_with(archive->root + std::string(kData)))
      CRABCAST_TRY(check_zip_entry(archive->file, entry));
  std::vector<NamedTensor> tensors;
  for (const PickledTensor& tensor : *described) {
    auto made = view(*archive, tensor);
    if (!made) return fail(made.error().within("tensor " + tensor.name));
    tensors.push_back({tensor.name, std::move(*made)});
  }
  return tensors;
}

}  // namespace

bool is_torch_file(const fs::path& path) {
  constexpr std::string_view kLocalHeader = "PK\3\4";
  auto file = DiskFile::open(path);
  std::string begin(kLocalHeader.size(), '\0');
  return file && file->size() >= begin.size() &&
         file->read(0, std::as_writable_bytes(std::span(begin))) && begin == kLocalHeader;
}

Result<std::vector<NamedTensor>> open_torch_file(const fs::path& path) {
  auto tensors = read_tensors(path);
  if (!tensors) return fail(tensors.error().within(path.string()));
  return tensors;
}

}  // namespace crabcast::model

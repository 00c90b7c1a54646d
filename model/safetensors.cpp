#include "model/safetensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include "model/safetensors_header.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;
using Entry = SafetensorsFile::Entry;

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr std::uint64_t kLengthBytes = sizeof(std::uint64_t);
constexpr std::uint64_t kMostHeaderBytes = 16ULL << 20;
constexpr std::uint64_t kAlignment = 64;  // as LibTorch's own buffers on the host
constexpr std::size_t kPage = 4096;

Result<std::string> read_header(const DiskFile& file) {
  if (file.size() == 0) return fail(Errc::corrupt, "the file is empty");
  if (file.size() < kLengthBytes)
    return fail(Errc::corrupt, "the file has " + std::to_string(file.size()) +
                                   " bytes, too few for the length of a header");
  std::uint64_t length = 0;
  CRABCAST_TRY(file.read(0, std::as_writable_bytes(std::span(&length, 1))));
  if (length > file.size() - kLengthBytes)
    return fail(Errc::corrupt, "its header should have " + std::to_string(length) +
                                   " bytes, but the file has " + std::to_string(file.size()));
  if (length > kMostHeaderBytes)
    return fail(Errc::corrupt, "its header has " + std::to_string(length) + " bytes, more than " +
                                   format_bytes(kMostHeaderBytes));
  std::string text(length, '\0');
  CRABCAST_TRY(file.read(kLengthBytes, std::as_writable_bytes(std::span(text))));
  return text;
}

// The header, and where its entries go. Tensors of whole alignment units come first, so that each
// of them begins at one; of the others those with the widest elements, so that all are aligned for
// their type.
SafetensorsHeader lay_out(const std::vector<TensorSource>& tensors) {
  SafetensorsHeader header;
  for (const TensorSource& tensor : tensors) {
    std::uint64_t bytes = c10::elementSize(tensor.type);
    for (const std::int64_t size : tensor.shape) bytes *= static_cast<std::uint64_t>(size);
    header.entries.push_back({tensor.name, tensor.type, tensor.shape, 0, bytes});
  }
  std::vector<Entry*> places;
  for (Entry& entry : header.entries) places.push_back(&entry);
  const auto rank = [](const Entry* entry) {
    return entry->end % kAlignment == 0 ? kAlignment : c10::elementSize(entry->type);
  };
  std::stable_sort(places.begin(), places.end(),
                   [&](const Entry* a, const Entry* b) { return rank(a) > rank(b); });
  std::uint64_t end = 0;
  for (Entry* entry : places) {
    entry->begin = end;
    end = entry->end += entry->begin;
  }
  return header;
}

Status check_sources(const std::vector<TensorSource>& tensors) {
  std::set<std::string> names;
  for (const TensorSource& tensor : tensors) {
    if (!names.insert(tensor.name).second)
      return fail(Errc::invalid_argument, "the tensor " + tensor.name + " is given twice");
    if (tensor.name == "__metadata__")
      return fail(Errc::invalid_argument, "no tensor may be called __metadata__");
    if (!safetensors_type_name(tensor.type))
      return fail(Errc::invalid_argument, "the tensor " + tensor.name + " has the type " +
                                              c10::toString(tensor.type) +
                                              ", which safetensors files cannot hold");
  }
  return {};
}

bool fits(const at::Tensor& tensor, const TensorSource& source) {
  return tensor.defined() && tensor.device().is_cpu() && tensor.is_contiguous() &&
         tensor.scalar_type() == source.type && tensor.sizes() == at::IntArrayRef(source.shape);
}

}  // namespace

Result<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::open(const fs::path& path) {
  auto file = DiskFile::open(path);
  if (!file) return fail(file.error());
  return open(std::move(*file));
}

Result<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::open(DiskFile file) {
  const auto within = [&](const Error& error) { return fail(error.within(file.path().string())); };
  auto text = read_header(file);
  if (!text) return within(text.error());
  const std::uint64_t data_begin = kLengthBytes + text->size();
  auto header = parse_safetensors_header(*text, file.size() - data_begin);
  if (!header) return within(header.error());
  auto map = file.map();
  if (!map) return fail(map.error());
  const std::shared_ptr<SafetensorsFile> opened(new SafetensorsFile(std::move(file)));
  opened->map_ = std::move(*map);
  opened->data_begin_ = data_begin;
  opened->entries_ = std::move(header->entries);
  opened->metadata_ = std::move(header->metadata);
  return opened;
}

at::Tensor SafetensorsFile::tensor(const Entry& entry) const {
  const std::byte* data = map_.get() + data_begin_ + entry.begin;
  if (entry.begin == entry.end) return at::empty(entry.shape, entry.type);
  if (alignment(entry) < c10::elementSize(entry.type)) {
    at::Tensor copy = at::empty(entry.shape, entry.type);
    std::memcpy(copy.mutable_data_ptr(), data, entry.end - entry.begin);
    return copy;
  }
  return at::from_blob(
      const_cast<std::byte*>(data), entry.shape, [map = map_](void*) {},
      at::TensorOptions(entry.type));
}

std::size_t SafetensorsFile::alignment(const Entry& entry) const {
  const std::uint64_t place = data_begin_ + entry.begin;  // never 0; the map begins at a page
  return std::min<std::size_t>(kPage, place & -place);
}

Status SafetensorsFile::read(const Entry& entry, std::uint64_t offset,
                             std::span<std::byte> into) const {
  return file_.read(data_begin_ + entry.begin + offset, into);
}

void SafetensorsFile::will_read(const Entry& entry, std::uint64_t offset,
                                std::uint64_t bytes) const {
  file_.will_read(data_begin_ + entry.begin + offset, bytes);
}

Status stream_safetensors(const fs::path& path, const std::vector<TensorSource>& tensors,
                          const std::map<std::string, std::string>& metadata) {
  CRABCAST_TRY(check_sources(tensors));
  SafetensorsHeader header = lay_out(tensors);
  header.metadata = metadata;
  auto text = print_safetensors_header(header);
  if (!text) return fail(text.error());
  text->append((kAlignment - (kLengthBytes + text->size()) % kAlignment) % kAlignment, ' ');
  const std::uint64_t length = text->size(), data_begin = kLengthBytes + length;

  auto file = NewFile::create(path);
  if (!file) return fail(file.error());
  CRABCAST_TRY(file->write(0, std::as_bytes(std::span(&length, 1))));
  CRABCAST_TRY(file->write(kLengthBytes, std::as_bytes(std::span(*text))));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    auto tensor = tensors[i].make();
    if (!tensor) return fail(tensor.error());
    if (!fits(*tensor, tensors[i]))
      return fail(Errc::invalid_argument, "the tensor " + tensors[i].name +
                                              " is not a contiguous host tensor of its type and "
                                              "shape");
    const std::span bytes(static_cast<const std::byte*>(tensor->const_data_ptr()),
                          tensor->nbytes());
    CRABCAST_TRY(file->write(data_begin + header.entries[i].begin, bytes));
  }
  return file->publish();
}

Status write_safetensors(const fs::path& path, const std::vector<NamedTensor>& tensors,
                         const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSource> sources;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined())
      return fail(Errc::invalid_argument, "the tensor " + name + " is not defined");
    sources.push_back({name, tensor.scalar_type(), tensor.sizes().vec(),
                       [tensor = tensor]() -> Result<at::Tensor> { return tensor; }});
  }
  return stream_safetensors(path, sources, metadata);
}

}  // namespace crabcast::model

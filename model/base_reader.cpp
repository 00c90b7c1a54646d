#include "model/base_reader.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace crabcast::model {
namespace {

constexpr std::uint64_t kBufferBytes = 2ULL << 20;  // small enough for a processor's cache
constexpr std::uint64_t kReadAhead = 32ULL << 20;   // keeps the disk busy while bytes are hashed
constexpr std::size_t kAlignment = 64;

}  // namespace

BaseReader::BaseReader(std::function<void(std::uint64_t bytes)> progress)
    : progress_(std::move(progress)),
      buffer_(at::empty({static_cast<std::int64_t>(kBufferBytes)}, at::kByte)) {}

Status BaseReader::stream(const BaseTensor& tensor, std::byte* whole, const Take& take) {
  hasher_.begin({tensor.name, tensor.entry.shape}, tensor.entry.type);
  auto* const buffer = static_cast<std::byte*>(buffer_.mutable_data_ptr());
  tensor.file->will_read(tensor.entry, 0, kReadAhead);
  for (std::uint64_t offset = 0; offset < tensor.bytes(); offset += kBufferBytes) {
    const std::span bytes(whole != nullptr ? whole + offset : buffer,
                          std::min(kBufferBytes, tensor.bytes() - offset));
    tensor.file->will_read(tensor.entry, offset + kReadAhead, kBufferBytes);
    CRABCAST_TRY(tensor.file->read(tensor.entry, offset, bytes));
    hasher_.add(bytes);
    if (take) take(offset, bytes.size());
    done_ += bytes.size();
    if (progress_) progress_(done_);
  }
  return {};
}

Result<at::Tensor> BaseReader::load(const BaseTensor& tensor, at::Device device,
                                    at::ScalarType type, Sharing sharing) {
  const bool as_it_is = device.is_cpu() && type == tensor.entry.type;
  if (as_it_is && sharing == Sharing::map && tensor.file->alignment(tensor.entry) >= kAlignment) {
    CRABCAST_TRY(skim(tensor));
    return tensor.file->tensor(tensor.entry);
  }
  at::Tensor target = at::empty(tensor.entry.shape, at::TensorOptions(type).device(device));
  if (as_it_is) {
    CRABCAST_TRY(stream(tensor, static_cast<std::byte*>(target.mutable_data_ptr()), {}));
    return target;
  }
  const at::Tensor flat = target.view(-1);
  const auto width = static_cast<std::int64_t>(c10::elementSize(tensor.entry.type));
  CRABCAST_TRY(stream(tensor, nullptr, [&](std::uint64_t offset, std::uint64_t bytes) {
    const auto size = static_cast<std::int64_t>(bytes);
    flat.narrow(0, static_cast<std::int64_t>(offset) / width, size / width)
        .copy_(buffer_.narrow(0, 0, size).view(tensor.entry.type));
  }));
  return target;
}

Status BaseReader::skim(const BaseTensor& tensor) {
  return stream(tensor, nullptr, {});
}

Status check_tied_head(const BaseFiles& files) {
  if (!files.tied_head) return {};
  const BaseTensor& head = *files.tied_head;
  const auto embedding = std::find_if(
      files.tensors.begin(), files.tensors.end(),
      [](const BaseTensor& tensor) { return tensor.name == "thinker.model.embed_tokens.weight"; });
  bool same = embedding != files.tensors.end() && embedding->entry.type == head.entry.type &&
              embedding->entry.shape == head.entry.shape;
  std::vector<std::byte> a(kBufferBytes), b(kBufferBytes);
  for (std::uint64_t offset = 0; same && offset < head.bytes(); offset += kBufferBytes) {
    const std::size_t size = std::min(kBufferBytes, head.bytes() - offset);
    CRABCAST_TRY(head.file->read(head.entry, offset, std::span(a).first(size)));
    CRABCAST_TRY(embedding->file->read(embedding->entry, offset, std::span(b).first(size)));
    same = std::memcmp(a.data(), b.data(), size) == 0;
  }
  if (same) return {};
  return fail(Errc::corrupt,
              "config.json ties the head to the embedding (tie_word_embeddings), but " +
                  head.file->path().filename().string() + " has another " + head.entry.name +
                  ": set the field to false if that head is meant");
}

}  // namespace crabcast::model

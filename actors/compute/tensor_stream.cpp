#include "actors/compute/tensor_stream.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "protocol/checksum.h"

namespace crabcast::actors {

TensorStream::TensorStream(const std::vector<model::NamedTensor>& tensors) {
  for (const auto& [name, tensor] : tensors) add(bytes_, tensor);
}

void TensorStream::add(std::uint64_t offset, const at::Tensor& tensor) {
  if (tensor.nbytes() == 0) return;
  bytes_ = offset + tensor.nbytes();
  pieces_.push_back({offset, bytes_, tensor});
}

std::uint32_t TensorStream::chunks() const {
  return static_cast<std::uint32_t>((bytes_ + kChunkBytes - 1) / kChunkBytes);
}

std::vector<TensorStream::Piece>::const_iterator TensorStream::at(std::uint64_t offset) const {
  return std::upper_bound(
      pieces_.begin(), pieces_.end(), offset,
      [](std::uint64_t value, const Piece& piece) { return value < piece.end; });
}

cluster::Frame TensorStream::chunk(std::uint32_t index) const {
  const std::uint64_t begin = index * std::uint64_t{kChunkBytes};
  const std::uint64_t end = std::min(begin + kChunkBytes, bytes_);
  auto piece = at(begin);
  const auto* data = static_cast<const char*>(piece->tensor.const_data_ptr());
  if (end <= piece->end)
    return {std::make_shared<at::Tensor>(piece->tensor), data + (begin - piece->begin),
            end - begin};
  auto joined = std::make_shared<std::string>();
  joined->reserve(end - begin);
  for (auto from = begin; from < end; ++piece) {
    const auto to = std::min(end, piece->end);
    joined->append(static_cast<const char*>(piece->tensor.const_data_ptr()) + (from - piece->begin),
                   to - from);
    from = to;
  }
  return {joined, joined->data(), joined->size()};
}

bool TensorStream::touches(std::uint64_t begin, std::uint64_t end) const {
  const auto piece = at(begin);
  return piece != pieces_.end() && piece->begin < end;
}

void TensorStream::fill(std::uint64_t offset, std::span<const std::byte> bytes) {
  const auto end = offset + bytes.size();
  for (auto piece = at(offset); piece != pieces_.end() && piece->begin < end; ++piece) {
    const auto from = std::max(offset, piece->begin);
    const auto to = std::min(end, piece->end);
    std::memcpy(static_cast<char*>(piece->tensor.mutable_data_ptr()) + (from - piece->begin),
                bytes.data() + (from - offset), to - from);
  }
}

Status check_chunk(const pb::ChunkEntry& entry, std::span<const std::byte> bytes,
                   const std::string& what) {
  const auto received = make_chunk_entry(entry.index(), bytes);
  if (received.xxh3_high() == entry.xxh3_high() && received.xxh3_low() == entry.xxh3_low() &&
      received.bytes() == entry.bytes())
    return {};
  return fail(Errc::corrupt,
              "chunk " + std::to_string(entry.index()) + " of " + what + " changed on its way");
}

}  // namespace crabcast::actors

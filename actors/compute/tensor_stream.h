// A state as one byte stream, its tensors one behind the other, cut into chunks of kChunkBytes: how
// checkpoints and copies of a peer's state travel. Tensors of any shape and type, row-major;
// offsets and sizes in bytes. Concurrency: const methods from any thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/transport.h"
#include "model/session.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::actors {

// Holds references to the tensors, which must be contiguous and on the host. A stream may have
// gaps, namely tensors that nobody wants; they can be filled, and not be read.
class TensorStream {
 public:
  TensorStream() = default;
  explicit TensorStream(const std::vector<model::NamedTensor>& tensors);
  void add(std::uint64_t offset, const at::Tensor& tensor);  // in order

  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] std::uint32_t chunks() const;
  // Without a copy where the chunk lies inside one tensor.
  [[nodiscard]] cluster::Frame chunk(std::uint32_t index) const;
  [[nodiscard]] bool touches(std::uint64_t begin, std::uint64_t end) const;
  // Copies bytes that begin at `offset` of the stream to where they belong.
  void fill(std::uint64_t offset, std::span<const std::byte> bytes);

 private:
  struct Piece {
    std::uint64_t begin = 0, end = 0;
    at::Tensor tensor;
  };
  // The first piece that ends behind `offset`.
  [[nodiscard]] std::vector<Piece>::const_iterator at(std::uint64_t offset) const;

  std::vector<Piece> pieces_;
  std::uint64_t bytes_ = 0;
};

// corrupt unless the bytes are those of the entry; `what` names them in the message.
Status check_chunk(const pb::ChunkEntry& entry, std::span<const std::byte> bytes,
                   const std::string& what);

}  // namespace crabcast::actors

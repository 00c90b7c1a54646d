// Reads the tensors of a base from its files, and hashes what it reads on the way.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "model/base_files.h"
#include "model/weights.h"
#include "protocol/error.h"

namespace crabcast::model {

enum class Sharing { copy, map };  // may a tensor be a view of its file?

// Bytes are read through one buffer of 2 MiB and converted piece by piece, so that beside the
// tensors themselves nothing grows with the base. What was read is not kept in memory. One thread.
class BaseReader {
 public:
  explicit BaseReader(std::function<void(std::uint64_t bytes)> progress = {});

  // The next tensor, on `device` in `type`. A view of the file where `sharing` allows it, nothing
  // has to be converted, and the bytes are aligned as LibTorch's own are: the last bits of a
  // product may depend on that, and must be the same however a base is stored (T-2).
  Result<at::Tensor> load(const BaseTensor& tensor, at::Device device, at::ScalarType type,
                          Sharing sharing);
  // The next tensor, for its bytes' sake.
  Status skim(const BaseTensor& tensor);
  // Of the tensors so far. That of the base, when all came in the order of weight_shapes.
  [[nodiscard]] std::string hash() const { return hasher_.hex(); }

 private:
  using Take = std::function<void(std::uint64_t offset, std::uint64_t bytes)>;
  // Reads and hashes the tensor piece by piece, each to its place in `whole` or, where that is
  // null, into the buffer; then `take` gets it.
  Status stream(const BaseTensor& tensor, std::byte* whole, const Take& take);

  std::function<void(std::uint64_t bytes)> progress_;
  std::uint64_t done_ = 0;
  at::Tensor buffer_;
  BaseHasher hasher_;
};

// A base with tied embeddings may still have a head in its files. corrupt where it differs from the
// embedding: then nobody can say which of the two is meant.
Status check_tied_head(const BaseFiles& files);

}  // namespace crabcast::model

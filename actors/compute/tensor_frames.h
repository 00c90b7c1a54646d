// Tensors to raw frames and back: how batches, peer state and checkpoints leave a process without
// being copied into Protobuf (docs/protocol.md, "Bulk").
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "cluster/transport.h"
#include "model/session.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::actors {

pb::DType dtype_of(const at::Tensor& tensor);
Result<at::ScalarType> scalar_type(pb::DType dtype);

// Describes and shares the tensor's own memory; it must be contiguous and on the host.
pb::TensorDesc describe(const std::string& name, const at::Tensor& tensor);
cluster::Frame to_frame(const at::Tensor& tensor);
std::span<const std::byte> bytes_of(const at::Tensor& tensor);

// Not filled. corrupt when the type or the shape is none.
Result<at::Tensor> empty_tensor(pb::DType dtype, std::span<const std::int64_t> shape);
// A tensor in LibTorch's own aligned memory (MKL's last bits depend on alignment). corrupt when the
// bytes do not fit the shape.
Result<at::Tensor> from_bytes(pb::DType dtype, std::span<const std::int64_t> shape,
                              std::span<const std::byte> bytes);
Result<std::vector<model::NamedTensor>> from_frames(
    const google::protobuf::RepeatedPtrField<pb::TensorDesc>& tensors,
    const std::vector<cluster::Frame>& frames);

}  // namespace crabcast::actors

#include "actors/compute/tensor_frames.h"

#include <ATen/ATen.h>

#include <cstring>

namespace crabcast::actors {

pb::DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return pb::DTYPE_FLOAT32;
    case at::kDouble:
      return pb::DTYPE_FLOAT64;
    case at::kBFloat16:
      return pb::DTYPE_BFLOAT16;
    case at::kHalf:
      return pb::DTYPE_FLOAT16;
    case at::kLong:
      return pb::DTYPE_INT64;
    case at::kInt:
      return pb::DTYPE_INT32;
    case at::kByte:
      return pb::DTYPE_UINT8;
    case at::kBool:
      return pb::DTYPE_BOOL;
    default:
      return pb::DTYPE_UNSPECIFIED;
  }
}

Result<at::ScalarType> scalar_type(pb::DType dtype) {
  switch (dtype) {
    case pb::DTYPE_FLOAT32:
      return at::kFloat;
    case pb::DTYPE_FLOAT64:
      return at::kDouble;
    case pb::DTYPE_BFLOAT16:
      return at::kBFloat16;
    case pb::DTYPE_FLOAT16:
      return at::kHalf;
    case pb::DTYPE_INT64:
      return at::kLong;
    case pb::DTYPE_INT32:
      return at::kInt;
    case pb::DTYPE_UINT8:
      return at::kByte;
    case pb::DTYPE_BOOL:
      return at::kBool;
    default:
      return fail(Errc::corrupt, "unknown tensor type " + std::to_string(dtype));
  }
}

pb::TensorDesc describe(const std::string& name, const at::Tensor& tensor) {
  pb::TensorDesc desc;
  desc.set_name(name);
  desc.set_dtype(dtype_of(tensor));
  for (const auto size : tensor.sizes()) desc.add_shape(size);
  return desc;
}

cluster::Frame to_frame(const at::Tensor& tensor) {
  return {std::make_shared<at::Tensor>(tensor), tensor.const_data_ptr(), tensor.nbytes()};
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

namespace {

Result<std::uint64_t> bytes_for(at::ScalarType type, std::span<const std::int64_t> shape) {
  std::uint64_t bytes = c10::elementSize(type);
  for (const auto size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes))
      return fail(Errc::corrupt, "a tensor has a shape that no tensor can have");
  return bytes;
}

}  // namespace

Result<at::Tensor> empty_tensor(pb::DType dtype, std::span<const std::int64_t> shape) {
  auto type = scalar_type(dtype);
  if (!type) return fail(type.error());
  if (auto bytes = bytes_for(*type, shape); !bytes) return fail(bytes.error());
  return at::empty(at::IntArrayRef(shape.data(), shape.size()), at::TensorOptions(*type));
}

Result<at::Tensor> from_bytes(pb::DType dtype, std::span<const std::int64_t> shape,
                              std::span<const std::byte> bytes) {
  auto type = scalar_type(dtype);
  if (!type) return fail(type.error());
  auto expected = bytes_for(*type, shape);
  if (!expected) return fail(expected.error());
  if (*expected != bytes.size())
    return fail(Errc::corrupt, "a tensor of " + std::to_string(*expected) + " bytes came with " +
                                   std::to_string(bytes.size()));
  auto tensor = at::empty(at::IntArrayRef(shape.data(), shape.size()), at::TensorOptions(*type));
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

Result<std::vector<model::NamedTensor>> from_frames(
    const google::protobuf::RepeatedPtrField<pb::TensorDesc>& tensors,
    const std::vector<cluster::Frame>& frames) {
  if (static_cast<std::size_t>(tensors.size()) != frames.size())
    return fail(Errc::corrupt, std::to_string(tensors.size()) + " tensors came with " +
                                   std::to_string(frames.size()) + " frames");
  std::vector<model::NamedTensor> result;
  for (int i = 0; i < tensors.size(); ++i) {
    const auto& desc = tensors[i];
    const auto& frame = frames[static_cast<std::size_t>(i)];
    auto tensor =
        from_bytes(desc.dtype(), {desc.shape().data(), static_cast<std::size_t>(desc.shape_size())},
                   {frame.data(), frame.size()});
    if (!tensor) return fail(tensor.error().within(desc.name()));
    result.push_back({desc.name(), std::move(*tensor)});
  }
  return result;
}

}  // namespace crabcast::actors

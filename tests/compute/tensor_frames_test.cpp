// Tensors as raw frames: the same bits come back, and what does not fit is refused.
#include "actors/compute/tensor_frames.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace crabcast::actors {
namespace {

using Shape = std::vector<std::int64_t>;

TEST(TensorFrames, EveryTypeComesBackAsItWas) {
  google::protobuf::RepeatedPtrField<pb::TensorDesc> descs;
  std::vector<cluster::Frame> frames;
  std::vector<at::Tensor> sent;
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kLong, at::kInt,
                          at::kByte, at::kBool}) {
    sent.push_back(at::arange(6).view({2, 3}).to(type));
    *descs.Add() = describe("t" + std::to_string(sent.size()), sent.back());
    frames.push_back(to_frame(sent.back()));
  }
  sent.push_back(at::empty({0, 4}));
  *descs.Add() = describe("empty", sent.back());
  frames.push_back(to_frame(sent.back()));

  const auto received = from_frames(descs, frames);
  ASSERT_TRUE(received.has_value()) << received.error().message;
  ASSERT_EQ(received->size(), sent.size());
  for (std::size_t i = 0; i < sent.size(); ++i) {
    EXPECT_EQ((*received)[i].tensor.scalar_type(), sent[i].scalar_type());
    EXPECT_TRUE(at::equal((*received)[i].tensor, sent[i])) << (*received)[i].name;
  }
  EXPECT_EQ(received->back().name, "empty");
}

TEST(TensorFrames, RefusesWhatDoesNotFit) {
  const std::vector<std::byte> eight(8);
  const auto refused = [&](pb::DType type, const Shape& shape) {
    const auto tensor = from_bytes(type, shape, eight);
    return !tensor && tensor.error().code == Errc::corrupt;
  };
  EXPECT_TRUE(from_bytes(pb::DTYPE_FLOAT32, Shape{2}, eight).has_value());
  EXPECT_TRUE(from_bytes(pb::DTYPE_FLOAT64, Shape{}, eight).has_value()) << "a scalar";
  EXPECT_TRUE(refused(pb::DTYPE_FLOAT32, {3}));
  EXPECT_TRUE(refused(pb::DTYPE_FLOAT32, {1}));
  EXPECT_TRUE(refused(pb::DTYPE_FLOAT32, {-2}));
  EXPECT_TRUE(refused(pb::DTYPE_FLOAT32, {0}));
  EXPECT_TRUE(refused(pb::DTYPE_UNSPECIFIED, {8}));
  EXPECT_TRUE(refused(static_cast<pb::DType>(99), {8}));
  // Products that are 1 modulo 2^64 or 2^62.
  EXPECT_TRUE(refused(pb::DTYPE_UINT8, {8, 3, 0x2AAAAAAAAAAAAAAB}));
  EXPECT_TRUE(refused(pb::DTYPE_FLOAT32, {2, INT64_MAX, INT64_MAX}));
  EXPECT_TRUE(refused(pb::DTYPE_FLOAT32, {INT64_MAX, 2}));
}

TEST(TensorFrames, EachTensorNeedsItsFrame) {
  const auto tensor = at::zeros({2});
  google::protobuf::RepeatedPtrField<pb::TensorDesc> descs;
  *descs.Add() = describe("a", tensor);
  *descs.Add() = describe("b", tensor);
  const auto received = from_frames(descs, {to_frame(tensor)});
  ASSERT_FALSE(received.has_value());
  EXPECT_EQ(received.error().code, Errc::corrupt);
  const auto short_one = from_frames(descs, {to_frame(tensor), to_frame(at::zeros({1}))});
  ASSERT_FALSE(short_one.has_value());
  EXPECT_NE(short_one.error().message.find("b"), std::string::npos) << short_one.error().message;
}

}  // namespace
}  // namespace crabcast::actors

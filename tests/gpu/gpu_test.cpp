// What needs a real GPU: the model computes on it what it computes on a CPU, and NCCL's operations
// work on it. Skipped, with the reason, where there is none. Several members need several GPUs;
// with one, NCCL runs at world size 1.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include "model/session.h"
#include "tests/model/toy_batch.h"

#ifdef CRABCAST_CUDA
#include <cuda_runtime_api.h>

#include "cluster/nccl/nccl_collective.h"
#endif

namespace crabcast {
namespace {

using model::test::toy_batch;
using model::test::Visual;

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef CRABCAST_CUDA
    GTEST_SKIP() << "this build has no CUDA: ./dev test cuda";
#else
    if (!at::hasCUDA() || at::detail::getCUDAHooks().deviceCount() == 0)
      GTEST_SKIP() << "this machine has no GPU";
#endif
  }
  static std::unique_ptr<model::Session> open(const std::string& device) {
    model::SessionOptions options;
    options.model.base = "nano";
    options.seed = 3;
    options.steps = 10;
    options.device = device;
    auto session = model::Session::open(options);
    EXPECT_TRUE(session.has_value()) << session.error().message;
    return session ? std::move(*session) : nullptr;
  }
  static model::ModelInput batch() {
    return toy_batch({{.prompt = "what barks?",
                       .answer = "a dog",
                       .visual = Visual::video,
                       .frames = 3,
                       .mel_frames = 61},
                      {.prompt = "where?", .answer = "[1,2,3,4]", .visual = Visual::picture}});
  }
};

double relative_distance(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

TEST_F(Gpu, TrainsLikeACpu) {
  const auto cpu = open("cpu"), gpu = open("cuda:0");
  ASSERT_TRUE(cpu && gpu);
  for (std::uint64_t step = 2; step <= 4; ++step) {  // a first step has rate 0
    auto expected = cpu->lane_gradient(batch(), step, 0),
         found = gpu->lane_gradient(batch(), step, 0);
    ASSERT_TRUE(expected.has_value() && found.has_value());
    EXPECT_EQ(found->touched, expected->touched);
    for (std::size_t i = 0; i < expected->samples.size(); ++i)
      EXPECT_NEAR(found->samples[i].loss_sum, expected->samples[i].loss_sum,
                  1e-4 * expected->samples[i].loss_sum);
    EXPECT_LT(relative_distance(found->gradient, expected->gradient), 1e-3) << "step " << step;
    cpu->apply_update(expected->gradient, 10, expected->touched, step);
    gpu->apply_update(expected->gradient, 10, expected->touched, step);
  }
}

TEST_F(Gpu, EqualCallsGiveEqualBits) {  // T-2
  const auto a = open("cuda:0"), b = open("cuda:0");
  ASSERT_TRUE(a && b);
  const auto one = a->lane_gradient(batch(), 5, 1), two = b->lane_gradient(batch(), 5, 1);
  ASSERT_TRUE(one.has_value() && two.has_value());
  EXPECT_TRUE(at::equal(one->gradient, two->gradient));
}

#ifdef CRABCAST_CUDA
TEST_F(Gpu, NcclMovesHostAndDeviceBuffers) {
  using namespace cluster;
  const auto patience = std::chrono::seconds(30);
  auto id = make_nccl_unique_id();
  ASSERT_TRUE(id.has_value()) << id.error().message;
  auto made = make_nccl_collective(*id, 0, 0, 1, patience, patience, [] { return false; });
  ASSERT_TRUE(made.has_value()) << made.error().message;
  Collective& collective = **made;

  at::Tensor host = at::arange(1000, at::kFloat), device = host.to(at::kCUDA);
  const auto buffer = [](const at::Tensor& tensor) {
    return Buffer{tensor.mutable_data_ptr(), tensor.nbytes(), ElementType::float32,
                  tensor.is_cuda() ? MemoryKind::cuda : MemoryKind::host};
  };
  for (const at::Tensor& tensor : {host, device}) {
    ASSERT_TRUE(collective.all_reduce(buffer(tensor)));
    EXPECT_TRUE(at::equal(tensor.cpu(), at::arange(1000, at::kFloat)));
    at::Tensor copy = at::zeros_like(tensor);
    const Buffer from = buffer(tensor), to = buffer(copy);
    ASSERT_TRUE(collective.all_gather(from, {&to, 1}));
    EXPECT_TRUE(at::equal(copy, tensor));
    copy.zero_();
    ASSERT_TRUE(collective.all_to_all({&from, 1}, {&to, 1}));
    EXPECT_TRUE(at::equal(copy, tensor));
    ASSERT_TRUE(collective.broadcast(buffer(tensor), 0));
  }
  collective.abort("the test says so");
  EXPECT_FALSE(collective.all_reduce(buffer(host)));
}
#endif

}  // namespace
}  // namespace crabcast

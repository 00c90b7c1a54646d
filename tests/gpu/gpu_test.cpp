// What needs a real GPU: the model computes on it what it computes on a CPU, and NCCL's operations
// work on it. Skipped, with the reason, where there is none. Several members need several GPUs;
// with one, NCCL runs at world size 1.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include "model/adamw.h"
#include "model/dropout.h"
#include "model/gate.h"
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
  return ((a.cpu() - b.cpu()).norm() / b.cpu().norm()).item<double>();
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
    EXPECT_TRUE(found->gradient.is_cuda());
    EXPECT_NEAR(gpu->gradient_norm(found->gradient, 10), cpu->gradient_norm(expected->gradient, 10),
                1e-3 * cpu->gradient_norm(expected->gradient, 10));
    cpu->apply_update(expected->gradient, 10, expected->touched, step);
    gpu->apply_update(found->gradient, 10, found->touched, step);
  }
}

TEST_F(Gpu, EqualCallsGiveEqualBits) {  // T-2
  const auto a = open("cuda:0"), b = open("cuda:0");
  ASSERT_TRUE(a && b);
  const auto one = a->lane_gradient(batch(), 5, 1), two = b->lane_gradient(batch(), 5, 1);
  ASSERT_TRUE(one.has_value() && two.has_value());
  EXPECT_TRUE(at::equal(one->gradient, two->gradient));
}

// The kernels and their twins on a CPU.
TEST_F(Gpu, DropoutHasTheBitsOfTheHost) {
  const at::Tensor numbers = at::randn({70'001}, at::kDouble);
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const std::int64_t count : {0, 1, 3, 4, 5, 4097, 70'000})
      for (const std::int64_t first : {0, 1}) {  // the second view is not aligned
        const at::Tensor x = numbers.to(type), y = x.cuda();
        const model::Dropout drop{0.37, 0xFEDCBA9876543210ULL};
        EXPECT_TRUE(at::equal(model::dropout(x.narrow(0, first, count), drop),
                              model::dropout(y.narrow(0, first, count), drop).cpu()))
            << at::toString(type) << ", " << count << " from " << first;
      }
}

TEST_F(Gpu, GateAgreesWithTheHost) {
  struct Shape {
    std::int64_t tokens, heads, rank;
  };
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16})
    for (const auto [tokens, heads, rank] : {Shape{0, 3, 8}, Shape{1, 1, 1}, Shape{1000, 3, 128},
                                             Shape{37, 5, 13}, Shape{9, 64, 40}}) {
      const auto random = [&](std::int64_t columns) {
        return at::randn({tokens, columns}, at::kDouble).to(type);
      };
      const at::Tensor logits = random(heads), z = random(rank), dc = random(heads * rank);
      const at::Tensor p = model::route(logits), q = model::route(logits.cuda());
      const auto agrees = [&](const at::Tensor& device, const at::Tensor& host) {
        // Twins add in other orders; for bfloat16 each result is rounded once, so one step apart.
        const double tolerance = type == at::kDouble ? 1e-12 : type == at::kFloat ? 2e-5 : 1e-2;
        return device.is_cuda() && at::allclose(device.cpu(), host, tolerance, tolerance);
      };
      SCOPED_TRACE(std::string(at::toString(type)) + ", heads " + std::to_string(heads));
      EXPECT_TRUE(agrees(q, p));
      EXPECT_TRUE(agrees(model::gate(p.cuda(), z.cuda()), model::gate(p, z)));
      const auto host = model::gate_backward(dc, p, z, 0.7),
                 device = model::gate_backward(dc.cuda(), p.cuda(), z.cuda(), 0.7);
      EXPECT_TRUE(agrees(device.dz_TR, host.dz_TR));
      EXPECT_TRUE(agrees(device.dlogits_TN, host.dlogits_TN));
    }
}

TEST_F(Gpu, AdamWFollowsTheHost) {
  OptimizerSpec spec;
  spec.weight_decay = 0.1;
  const std::vector<std::int64_t> offsets = {0, 1000, 1003, 70'000};
  model::AdamW host(spec, offsets, at::kFloat),
      device(spec, offsets, at::TensorOptions(at::kCUDA).dtype(at::kFloat));
  at::Tensor p = at::randn({70'000}), q = p.cuda();
  for (int step = 0; step < 4; ++step) {
    const at::Tensor gradient = at::randn({70'000});
    const std::vector<bool> touched = {true, step % 2 == 0, true};
    host.step(p, gradient, 0.3, touched, 1e-2);
    device.step(q, gradient.cuda(), 0.3, touched, 1e-2);
    EXPECT_TRUE(at::allclose(q.cpu(), p, 1e-5, 1e-6)) << "step " << step;
  }
  EXPECT_EQ(device.steps(), host.steps());
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

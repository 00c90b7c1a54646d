#include "model/recompute.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "model/session.h"
#include "tests/model/toy_batch.h"

namespace crabcast::model {
namespace {

struct Outcome {
  at::Tensor y, dx, dw;
};

// Two blocks of one weight, one after the other.
Outcome run(Recompute recompute, bool input_has_gradient) {
  const at::Tensor w = at::linspace(-1, 1, 16).view({4, 4}).clone().set_requires_grad(true);
  const at::Tensor x =
      at::linspace(0, 1, 12).view({3, 4}).clone().set_requires_grad(input_has_gradient);
  const Block block = [&w](const at::Tensor& in, Output) { return at::tanh(at::mm(in, w)); };
  const at::Tensor y = apply_block(block, apply_block(block, x, recompute), recompute);
  torch::autograd::backward({y.sum()});
  return {y.detach(), x.grad(), w.grad()};
}

TEST(Recompute, GradientsAreThoseOfThePlainPass) {
  for (const bool input_has_gradient : {true, false}) {
    const Outcome kept = run(Recompute::none, input_has_gradient);
    const Outcome again = run(Recompute::layers, input_has_gradient);
    EXPECT_TRUE(at::equal(again.y, kept.y));
    EXPECT_TRUE(at::equal(again.dw, kept.dw));
    ASSERT_EQ(again.dx.defined(), input_has_gradient);
    if (input_has_gradient) {
      EXPECT_TRUE(at::equal(again.dx, kept.dx));
    }
  }
}

TEST(Recompute, TheBlockRunsOnceForwardAndOnceBackward) {
  std::vector<Output> calls;
  const at::Tensor w = at::ones({2, 2}).set_requires_grad(true);
  const Block block = [&](const at::Tensor& in, Output output) {
    calls.push_back(output);
    return at::mm(in, w);
  };
  const at::Tensor y = apply_block(block, at::ones({1, 2}), Recompute::layers);
  EXPECT_EQ(calls, (std::vector{Output::read}));
  torch::autograd::backward({y.sum()});
  EXPECT_EQ(calls, (std::vector{Output::read, Output::unread}));
}

TEST(Recompute, WithoutGradientsNothingIsKept) {
  const at::NoGradGuard no_grad;
  const Block block = [](const at::Tensor& x, Output) { return x * 2; };
  EXPECT_FALSE(apply_block(block, at::ones({1}), Recompute::layers).requires_grad());
}

// T-2: whether activations are kept is no matter of the result.
TEST(Recompute, AWholeStepHasTheSameBits) {
  const ModelInput batch = test::toy_batch({{.prompt = "what barks?",
                                             .answer = "a dog",
                                             .visual = test::Visual::video,
                                             .frames = 3,
                                             .mel_frames = 61},
                                            {.prompt = "where?", .answer = "[1,2,3,4]"}});
  const std::pair<AdapterKind, AdapterScope> cases[] = {
      {AdapterKind::ilora, AdapterScope::all},
      {AdapterKind::ilora, AdapterScope::language_model},
      {AdapterKind::crab_v1, AdapterScope::all},
      {AdapterKind::full, AdapterScope::all}};
  for (const auto& [kind, scope] : cases) {
    std::vector<LaneResult> results;
    for (const Recompute recompute : {Recompute::none, Recompute::layers}) {
      SessionOptions options;
      options.model.base = "nano";
      options.model.adapter.kind = kind;
      options.model.adapter.scope = scope;
      options.recompute = recompute;
      auto session = Session::open(options);
      ASSERT_TRUE(session.has_value()) << session.error().message;
      auto lane = (*session)->lane_gradient(batch, 3, 1);
      ASSERT_TRUE(lane.has_value()) << lane.error().message;
      results.push_back(std::move(*lane));
    }
    EXPECT_EQ(results[0].samples[0].loss_sum, results[1].samples[0].loss_sum);
    EXPECT_TRUE(at::equal(results[0].gradient, results[1].gradient)) << to_string(kind);
    EXPECT_EQ(results[0].touched, results[1].touched);
  }
}

}  // namespace
}  // namespace crabcast::model

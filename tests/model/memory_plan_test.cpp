// The plan against what LibTorch really allocates, seen by an allocator that counts.
#include "model/memory_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/base.h"
#include "model/session.h"
#include "tests/model/hf_base.h"
#include "tests/model/sized_batch.h"
#include "tests/support/counting_allocator.h"

namespace crabcast::model {
namespace {

constexpr test::BatchSize kBatch{
    .samples = 2, .tokens = 222, .trained = 30, .grid = {3, 8, 8}, .mel_frames = 400};

BatchShape shape_of(const test::BatchSize& size) {
  return {size.samples * size.tokens, size.samples * size.trained, size.samples * size.patches(),
          size.samples * size.mel_frames};
}

// Deeper and wider than nano, so that activations count and a block is a small part of them.
ThinkerConfig small_thinker() {
  ThinkerConfig c = nano();
  c.text.layers = 8;
  c.text.intermediate_size = 512;
  c.text.vocab_size = 1000;
  c.vision.depth = 4;
  c.vision.full_attention_blocks = {1, 3};
  c.audio.layers = 4;
  return c;
}

Base random_base(const ThinkerConfig& config) {
  return {config, test::random_weights(config, at::kFloat, 1), "random"};
}

struct Case {
  AdapterKind kind;
  AdapterScope scope;
  Recompute recompute;
};

class MemoryPlanAgainstAllocations : public ::testing::TestWithParam<Case> {};

TEST_P(MemoryPlanAgainstAllocations, IsWithinATenth) {
  const auto [kind, scope, recompute] = GetParam();
  SessionOptions options;
  options.model.base = "random";
  options.model.adapter.kind = kind;
  options.model.adapter.scope = scope;
  options.recompute = recompute;
  const ThinkerConfig config = small_thinker();
  const ModelInput batch = test::sized_batch(config, kBatch);
  const crabcast::test::CountedMemory memory;
  const std::int64_t before = memory.held();
  auto session = Session::open(options, random_base(config), {});
  ASSERT_TRUE(session.has_value()) << session.error().message;
  memory.reset_peak();
  for (std::uint64_t step = 2; step < 4; ++step) {
    auto lane = (*session)->lane_gradient(batch, step, 0);
    ASSERT_TRUE(lane.has_value()) << lane.error().message;
    (*session)->apply_update(lane->gradient, 1, lane->touched, step);
  }
  const auto measured = static_cast<double>(memory.peak() - before);
  const MemoryPlan plan =
      plan_memory(config, options.model.adapter, Precision::float32, recompute, shape_of(kBatch));
  EXPECT_EQ(plan.trained_parameters, (*session)->parameters());
  const auto total = static_cast<double>(plan.total());
  EXPECT_NEAR(total / measured, 1, 0.1)
      << "planned " << total / (1 << 20) << " MiB, of which activations "
      << static_cast<double>(plan.activations) / (1 << 20) << ", measured " << measured / (1 << 20);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, MemoryPlanAgainstAllocations,
    ::testing::Values(Case{AdapterKind::ilora, AdapterScope::all, Recompute::none},
                      Case{AdapterKind::ilora, AdapterScope::all, Recompute::layers},
                      Case{AdapterKind::ilora, AdapterScope::language_model, Recompute::none},
                      Case{AdapterKind::ilora, AdapterScope::language_model, Recompute::layers},
                      Case{AdapterKind::lora, AdapterScope::all, Recompute::none},
                      Case{AdapterKind::crab_v1, AdapterScope::all, Recompute::none},
                      Case{AdapterKind::full, AdapterScope::all, Recompute::none},
                      Case{AdapterKind::full, AdapterScope::all, Recompute::layers}));

// As bench/step.cpp measured it on a GPU (docs/benchmarks.md): growth beyond weights and adapter,
// less the gradient.
TEST(MemoryPlan, TheSevenBillionModel) {
  constexpr double kMiB = 1 << 20;
  AdapterSpec adapter;
  adapter.rank = 128;
  adapter.heads = 3;
  const BatchShape batch{4 * 649, 160, 4 * 1280, 4 * 1000};
  for (const auto& [recompute, measured] :
       {std::pair(Recompute::none, 26'700.0), std::pair(Recompute::layers, 5'245.0)}) {
    const MemoryPlan plan =
        plan_memory(qwen2_5_omni_7b(), adapter, Precision::bfloat16, recompute, batch);
    EXPECT_EQ(plan.weights, 17'863'627'776U);
    EXPECT_NEAR(static_cast<double>(plan.trained_parameters), 870.48e6, 0.01e6);
    const double planned = static_cast<double>(plan.gradient + plan.activations) / kMiB;
    EXPECT_NEAR(planned / measured, 1, 0.1) << to_string(recompute) << ": " << planned << " MiB";
  }
}

}  // namespace
}  // namespace crabcast::model

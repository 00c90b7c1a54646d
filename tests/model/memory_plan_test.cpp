// The plan against what LibTorch really allocates, seen by an allocator that counts.
#include "model/memory_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/base.h"
#include "model/session.h"
#include "tests/support/counting_allocator.h"

namespace crabcast::model {
namespace {

constexpr std::int64_t kSamples = 2, kText = 70, kTrained = 30, kMelFrames = 400;
constexpr std::int64_t kGrid[] = {3, 8, 8};

ModelInput make_batch(const ThinkerConfig& c) {
  const auto& s = c.special;
  const std::int64_t patches = kGrid[0] * kGrid[1] * kGrid[2];
  const std::int64_t merge = c.vision.spatial_merge_size;
  std::vector<std::int64_t> ids;
  const auto medium = [&](std::int64_t begin, std::int64_t token, std::int64_t count,
                          std::int64_t end) {
    ids.push_back(begin);
    ids.insert(ids.end(), static_cast<std::size_t>(count), token);
    ids.push_back(end);
  };
  medium(s.vision_begin, s.video, patches / (merge * merge), s.vision_end);
  medium(s.audio_begin, s.audio, MediaShape::audio_tokens(kMelFrames), s.audio_end);
  for (std::int64_t i = 0; i < kText; ++i) ids.push_back(i);
  std::vector<std::int64_t> labels(ids.size(), -100);
  std::copy(ids.end() - kTrained, ids.end(), labels.end() - kTrained);
  const auto rows = [](const std::vector<std::int64_t>& values) {
    return at::tensor(values, at::kLong).unsqueeze(0).repeat({kSamples, 1});
  };
  ModelInput input;
  input.input_ids = rows(ids);
  input.labels = rows(labels);
  input.attention_mask = at::ones_like(input.input_ids, at::kBool);
  input.pixel_values = at::randn({kSamples * patches, c.vision.patch_elements()});
  input.grid_thw = rows({kGrid[0], kGrid[1], kGrid[2]});
  input.seconds_per_grid = at::full({kSamples}, 2.0F);
  input.audio_features = at::randn({kSamples, c.audio.mel_bins, kMelFrames});
  input.audio_lengths = at::full({kSamples}, kMelFrames, at::kLong);
  return input;
}

BatchShape shape_of(const ModelInput& input) {
  return {input.input_ids.numel(), kSamples * kTrained, input.pixel_values.size(0),
          kSamples * kMelFrames};
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
  Base base{config, {}, "random"};
  for (const auto& [name, shape] : weight_shapes(config))
    base.weights[name] = shape.size() == 1 ? at::ones(shape) : at::randn(shape).mul_(0.02);
  return base;
}

struct Case {
  AdapterKind kind;
  AdapterScope scope;
  Recompute recompute;
};

class MemoryPlanAgainstAllocations : public testing::TestWithParam<Case> {};

TEST_P(MemoryPlanAgainstAllocations, IsWithinATenth) {
  const auto [kind, scope, recompute] = GetParam();
  SessionOptions options;
  options.model.base = "random";
  options.model.adapter.kind = kind;
  options.model.adapter.scope = scope;
  options.recompute = recompute;
  const ThinkerConfig config = small_thinker();
  const ModelInput batch = make_batch(config);
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
      plan_memory(config, options.model.adapter, Precision::float32, recompute, shape_of(batch));
  EXPECT_EQ(plan.trained_parameters, (*session)->parameters());
  const auto total = static_cast<double>(plan.total());
  EXPECT_NEAR(total / measured, 1, 0.1)
      << "planned " << total / (1 << 20) << " MiB, of which activations "
      << static_cast<double>(plan.activations) / (1 << 20) << ", measured " << measured / (1 << 20);
}

INSTANTIATE_TEST_SUITE_P(
    Cases, MemoryPlanAgainstAllocations,
    testing::Values(Case{AdapterKind::ilora, AdapterScope::all, Recompute::none},
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

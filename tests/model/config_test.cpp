#include "model/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "model/weights.h"

namespace crabcast::model {
namespace {

std::int64_t elements(const WeightShape& weight) {
  return std::accumulate(weight.shape.begin(), weight.shape.end(), std::int64_t{1},
                         std::multiplies<>());
}

std::int64_t count_with_prefix(const std::vector<WeightShape>& shapes, const std::string& prefix) {
  return std::count_if(shapes.begin(), shapes.end(),
                       [&](const WeightShape& w) { return w.name.starts_with(prefix); });
}

TEST(Weights, TheSevenBillionModelHasThePublishedTensors) {
  const auto shapes = weight_shapes(qwen2_5_omni_7b());
  EXPECT_EQ(count_with_prefix(shapes, "thinker.model."), 338);
  EXPECT_EQ(count_with_prefix(shapes, "thinker.audio_tower."), 489);
  EXPECT_EQ(count_with_prefix(shapes, "thinker.visual."), 518);
  EXPECT_EQ(shapes.size(), 1346U);
  std::int64_t sum = 0;
  for (const WeightShape& w : shapes) sum += elements(w);
  EXPECT_EQ(2 * sum, 17863627776);  // bytes in bfloat16
}

TEST(Weights, NamesAndShapesAreThePublishedOnes) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const WeightShape& w : weight_shapes(qwen2_5_omni_7b()))
    EXPECT_TRUE(shapes.emplace(w.name, w.shape).second) << w.name << " is listed twice";
  using Shape = std::vector<std::int64_t>;
  const std::map<std::string, Shape> published = {
      {"thinker.model.embed_tokens.weight", {152064, 3584}},
      {"thinker.model.layers.27.self_attn.q_proj.bias", {3584}},
      {"thinker.model.layers.27.self_attn.k_proj.weight", {512, 3584}},
      {"thinker.model.layers.0.self_attn.o_proj.weight", {3584, 3584}},
      {"thinker.model.layers.0.mlp.down_proj.weight", {3584, 18944}},
      {"thinker.model.layers.0.post_attention_layernorm.weight", {3584}},
      {"thinker.model.norm.weight", {3584}},
      {"thinker.lm_head.weight", {152064, 3584}},
      {"thinker.audio_tower.conv1.weight", {1280, 128, 3}},
      {"thinker.audio_tower.conv2.bias", {1280}},
      {"thinker.audio_tower.audio_bos_eos_token.weight", {2, 3584}},
      {"thinker.audio_tower.layers.31.self_attn.out_proj.bias", {1280}},
      {"thinker.audio_tower.layers.0.self_attn_layer_norm.bias", {1280}},
      {"thinker.audio_tower.layers.0.final_layer_norm.weight", {1280}},
      {"thinker.audio_tower.layers.0.fc1.weight", {5120, 1280}},
      {"thinker.audio_tower.ln_post.weight", {1280}},
      {"thinker.audio_tower.proj.weight", {3584, 1280}},
      {"thinker.visual.patch_embed.proj.weight", {1280, 3, 2, 14, 14}},
      {"thinker.visual.blocks.31.attn.q.weight", {1280, 1280}},
      {"thinker.visual.blocks.0.attn.proj.bias", {1280}},
      {"thinker.visual.blocks.0.mlp.gate_proj.bias", {3420}},
      {"thinker.visual.blocks.0.norm2.weight", {1280}},
      {"thinker.visual.merger.ln_q.weight", {1280}},
      {"thinker.visual.merger.mlp.0.weight", {5120, 5120}},
      {"thinker.visual.merger.mlp.2.weight", {3584, 5120}},
  };
  for (const auto& [name, shape] : published) {
    ASSERT_TRUE(shapes.contains(name)) << name;
    EXPECT_EQ(shapes[name], shape) << name;
  }
  for (const char* absent :
       {"thinker.audio_tower.layers.0.self_attn.k_proj.bias",
        "thinker.visual.patch_embed.proj.bias", "thinker.model.layers.0.self_attn.o_proj.bias",
        "thinker.model.layers.0.mlp.up_proj.bias", "thinker.lm_head.bias"})
    EXPECT_FALSE(shapes.contains(absent)) << absent;
}

TEST(Adapter, HasThePublishedSizeAtSevenBillion) {
  const ThinkerConfig config = qwen2_5_omni_7b();
  const auto millions = [&](AdapterScope scope) {
    return static_cast<double>(adapter_parameters(adapter_modules(config, scope), 128, 3)) / 1e6;
  };
  EXPECT_NEAR(millions(AdapterScope::all), 870.48, 0.005);
  EXPECT_NEAR(millions(AdapterScope::language_model), 682.35, 0.005);
}

TEST(Adapter, TheNameRuleHitsSevenProjectionsAndNothingElse) {
  const auto all = adapter_modules(nano(), AdapterScope::all);
  const auto text = adapter_modules(nano(), AdapterScope::language_model);
  const ThinkerConfig config = nano();
  EXPECT_EQ(static_cast<std::int64_t>(text.size()), 7 * config.text.layers);
  EXPECT_EQ(static_cast<std::int64_t>(all.size()),
            7 * config.text.layers + 3 * config.audio.layers + 3 * config.vision.depth);
  std::map<std::string, std::string> published;
  for (const AdapterModule& m : all) published[m.module] = m.published;
  EXPECT_EQ(published["thinker.model.layers.0.self_attn.q_proj"],
            "base_model.model.model.layers.0.self_attn.q_proj");
  EXPECT_EQ(published["thinker.audio_tower.layers.1.self_attn.k_proj"],
            "base_model.model.audio_tower.layers.1.self_attn.k_proj");
  EXPECT_EQ(published["thinker.visual.blocks.0.mlp.gate_proj"],
            "base_model.model.visual.blocks.0.mlp.gate_proj");
  for (const char* plain :
       {"thinker.audio_tower.layers.0.self_attn.out_proj", "thinker.visual.blocks.0.attn.q",
        "thinker.visual.blocks.0.attn.proj", "thinker.audio_tower.proj", "thinker.lm_head",
        "thinker.visual.patch_embed.proj", "thinker.model.embed_tokens"})
    EXPECT_FALSE(published.contains(plain)) << plain;
}

TEST(Nano, FitsItsFrontEndAndIsSmall) {
  const ThinkerConfig config = nano();
  const auto front_end = load_front_end("nano");
  ASSERT_TRUE(front_end.has_value());
  EXPECT_EQ(front_end->media.patch_size, config.vision.patch_size);
  EXPECT_EQ(front_end->media.temporal_patch, config.vision.temporal_patch_size);
  EXPECT_EQ(front_end->media.merge, config.vision.spatial_merge_size);
  EXPECT_EQ(front_end->media.mel_bins, config.audio.mel_bins);
  EXPECT_GE(config.text.vocab_size, front_end->tokenizer->vocabulary_size());
  EXPECT_EQ(config.text.vocab_size % 8, 0);
  EXPECT_LT(config.text.kv_heads, config.text.heads);
  EXPECT_EQ(
      config.text.mrope_section[0] + config.text.mrope_section[1] + config.text.mrope_section[2],
      config.text.head_dim / 2);
  // Both kinds of block, and more than one window in a frame.
  EXPECT_LT(static_cast<std::int64_t>(config.vision.full_attention_blocks.size()),
            config.vision.depth);
  EXPECT_FALSE(config.vision.full_attention_blocks.empty());
  EXPECT_LT(config.vision.window_size, front_end->media.image_size);
  std::int64_t sum = 0;
  for (const WeightShape& w : weight_shapes(config)) sum += elements(w);
  EXPECT_LE(sum, 2'000'000);
}

// The making of the shipped base begins with them: another start would make another base.
TEST(Nano, RandomWeightsHaveTheSameBitsEverywhere) {
  const WeightMap weights = random_nano_weights();
  const auto hash = hash_base(nano(), weights);
  ASSERT_TRUE(hash.has_value()) << hash.error().message;
  EXPECT_EQ(*hash, "2cb6997cb24286b203e84c260eda7585");
  for (const auto& [name, tensor] : weights) EXPECT_FALSE(tensor.requires_grad()) << name;
}

TEST(Nano, TheHashSeesEveryTensor) {
  const auto original = hash_base(nano(), random_nano_weights());
  WeightMap changed = random_nano_weights();
  changed["thinker.visual.merger.mlp.2.bias"].mutable_data_ptr<float>()[0] += 1;
  EXPECT_NE(*hash_base(nano(), changed), *original);
  changed.erase("thinker.visual.merger.mlp.2.bias");
  const auto missing = hash_base(nano(), changed);
  ASSERT_FALSE(missing.has_value());
  EXPECT_NE(missing.error().message.find("thinker.visual.merger.mlp.2.bias"), std::string::npos);
}

}  // namespace
}  // namespace crabcast::model

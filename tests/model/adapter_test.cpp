// What every kind of adapter trains: names, start, views of the buffer, gradients.
#include "model/adapter.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace crabcast::model {
namespace {

const char* const kQProj = "thinker.model.layers.0.self_attn.q_proj";

Base nano_base() {
  return {nano(), random_nano_weights(), ""};
}

AdapterSet make(AdapterKind kind, std::uint64_t seed = 1) {
  return AdapterSet(nano_base(), AdapterSpec{.kind = kind}, seed, at::kCPU);
}

TEST(AdapterSet, StartsFromSeedAndNameOnly) {
  const AdapterSpec all, text{.scope = AdapterScope::language_model};
  const AdapterSet a(nano_base(), all, 9, at::kCPU), b(nano_base(), text, 9, at::kCPU),
      other(nano_base(), all, 10, at::kCPU);
  for (const AdapterModule& m : adapter_modules(nano(), AdapterScope::language_model)) {
    EXPECT_TRUE(at::equal(a.find(m.module)->lora_A_RI, b.find(m.module)->lora_A_RI)) << m.module;
    EXPECT_TRUE(at::equal(a.find(m.module)->lora_route_NI, b.find(m.module)->lora_route_NI));
    EXPECT_FALSE(at::equal(a.find(m.module)->lora_A_RI, other.find(m.module)->lora_A_RI));
    EXPECT_EQ(a.find(m.module)->lora_B_NOR.abs().max().item<float>(), 0);
    const double bound = 1 / std::sqrt(static_cast<double>(m.in));
    const double largest = a.find(m.module)->lora_A_RI.abs().max().item<double>();
    EXPECT_LE(largest, bound);
    EXPECT_GT(largest, 0.95 * bound);
  }
  EXPECT_EQ(a.find("thinker.lm_head"), nullptr);
}

TEST(AdapterSet, FullStartsAsTheBase) {
  const AdapterSet set = make(AdapterKind::full);
  const Base base = nano_base();
  const WeightMap weights = set.weights(base);
  ASSERT_EQ(weights.size(), base.weights.size());
  for (const auto& [name, tensor] : base.weights)
    EXPECT_TRUE(at::equal(weights.at(name), tensor)) << name;
  EXPECT_EQ(set.find(kQProj), nullptr);
}

TEST(AdapterSet, OnlyFullTrainsTheWeights) {
  const Base base = nano_base();
  for (const AdapterKind kind : {AdapterKind::ilora, AdapterKind::lora, AdapterKind::crab_v1})
    for (const auto& [name, tensor] : make(kind).weights(base))
      EXPECT_TRUE(tensor.is_same(base.weights.at(name))) << name;
  const AdapterSet set = make(AdapterKind::full);
  for (const auto& [name, tensor] : set.weights(base)) EXPECT_TRUE(tensor.requires_grad()) << name;
}

TEST(AdapterSet, ATiedHeadIsTheTrainedEmbedding) {
  Base base = nano_base();
  base.config.tie_word_embeddings = true;
  tie_head(base.config, base.weights);
  const AdapterSet set(base, AdapterSpec{.kind = AdapterKind::full}, 1, at::kCPU);
  const WeightMap weights = set.weights(base);
  EXPECT_TRUE(weights.at("thinker.lm_head.weight")
                  .is_same(weights.at("thinker.model.embed_tokens.weight")));
  EXPECT_EQ(set.parameters().size() + 1, weights.size());
}

// The names of the first module; full: of the first two tensors.
TEST(AdapterSet, NamesArePublished) {
  const std::string first = "base_model.model.model.layers.0.self_attn.q_proj.";
  const auto names = [](AdapterKind kind, std::size_t count) {
    std::vector<std::string> found;
    for (const Parameter& p : trained_parameters(nano(), AdapterSpec{.kind = kind}))
      if (found.size() < count) found.push_back(p.name);
    return found;
  };
  std::vector<std::string> heads;
  for (const char* part : {"lora_A", "lora_B0", "lora_B1", "lora_B2", "lora_route"})
    heads.push_back(first + part + ".weight");
  EXPECT_EQ(names(AdapterKind::ilora, 5), heads);
  EXPECT_EQ(names(AdapterKind::crab_v1, 5), heads);
  EXPECT_EQ(names(AdapterKind::lora, 2),
            (std::vector<std::string>{first + "lora_A.weight", first + "lora_B.weight"}));
  EXPECT_EQ(names(AdapterKind::full, 2),
            (std::vector<std::string>{"thinker.model.embed_tokens.weight",
                                      "thinker.model.layers.0.input_layernorm.weight"}));
}

TEST(AdapterSet, RangesCoverTheBuffer) {
  const auto modules = adapter_modules(nano(), AdapterScope::all);
  for (const AdapterKind kind :
       {AdapterKind::ilora, AdapterKind::lora, AdapterKind::crab_v1, AdapterKind::full}) {
    const AdapterSet set = make(kind);
    EXPECT_EQ(set.offsets().front(), 0);
    EXPECT_EQ(set.elements(), set.values().numel());
    ASSERT_EQ(set.offsets().size(), set.parameters().size() + 1);
    for (std::size_t i = 0; i < set.parameters().size(); ++i)
      EXPECT_EQ(set.offsets()[i + 1] - set.offsets()[i],
                c10::multiply_integers(set.parameters()[i].shape));
    if (has_heads(kind)) {
      EXPECT_EQ(set.elements(), adapter_parameters(modules, 16, 3));
    }
  }
}

TEST(AdapterSet, LayersSeeWhatIsWrittenIntoTheBuffer) {
  AdapterSet set = make(AdapterKind::ilora);
  set.values().fill_(0.25);
  EXPECT_EQ(set.find(kQProj)->lora_B_NOR.min().item<float>(), 0.25F);
  AdapterSet full = make(AdapterKind::full);
  full.values().fill_(0.25);
  for (const auto& [name, tensor] : full.weights(nano_base()))
    EXPECT_EQ(tensor.max().item<float>(), 0.25F) << name;
}

TEST(AdapterSet, BackwardPassesAddUpAndAutogradSaysWhatTheyTouched) {
  AdapterSet set = make(AdapterKind::ilora);
  const ModuleAdapter& adapter = *set.find(kQProj);
  set.begin_gradient();
  torch::autograd::backward({(adapter.lora_A_RI * 3).sum()});
  torch::autograd::backward({adapter.lora_A_RI.sum() + adapter.lora_B_NOR[1].sum() * 0});
  const FlatGradient gradient = set.end_gradient();
  EXPECT_EQ(gradient.values[0].item<float>(), 4);  // both passes were added
  EXPECT_EQ(gradient.values[adapter.lora_A_RI.numel()].item<float>(), 0);
  ASSERT_EQ(gradient.touched.size(), set.parameters().size());
  // A gradient of zero is one. The heads' B are one tensor to autograd.
  for (std::size_t i = 0; i < gradient.touched.size(); ++i)
    EXPECT_EQ(gradient.touched[i], i < 4) << set.parameters()[i].name;
  EXPECT_FALSE(adapter.lora_A_RI.grad().defined());
}

}  // namespace
}  // namespace crabcast::model

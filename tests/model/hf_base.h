// Random bases in Hugging Face layout for tests: any ThinkerConfig, in every form in which such
// folders occur.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/random.h"
#include "model/safetensors.h"
#include "model/weights.h"
#include "tests/model/hf_config.h"
#include "tests/support/program.h"

namespace crabcast::model::test {

// nano with one layer in each part: 1.9 MB in float32, all kinds of tensors.
inline ThinkerConfig small_config() {
  ThinkerConfig config = nano();
  config.text.layers = config.audio.layers = config.vision.depth = 1;
  config.vision.full_attention_blocks = {0};
  return config;
}

inline std::string file_name(std::string published, Names names) {
  const auto replace = [&](const std::string& from, const std::string& to) {
    if (!published.starts_with(from)) return false;
    published.replace(0, from.size(), to);
    return true;
  };
  const std::string root = names == Names::whole_in_memory ? "thinker." : "";
  if (names == Names::published) return published;
  if (names == Names::saved_thinker) {
    replace("thinker.", "");
    return published;
  }
  (void)(replace("thinker.model.", root + "model.language_model.") ||
         replace("thinker.audio_tower.", root + "model.audio_tower.") ||
         replace("thinker.visual.", root + "model.visual.") ||
         replace("thinker.lm_head.", root + "lm_head."));
  return published;
}

// Uniform, with the variance of what a trained model has, roughly: activations stay finite.
inline WeightMap random_weights(const ThinkerConfig& config, at::ScalarType type,
                                std::uint64_t seed) {
  WeightMap weights;
  for (const WeightShape& weight : weight_shapes(config)) {
    at::Tensor tensor = at::empty(weight.shape, at::kFloat);
    const double inputs = static_cast<double>(tensor.numel()) / static_cast<double>(tensor.size(0));
    fill_uniform(tensor, combine_key(seed, name_key(weight.name)), 1.0 / std::sqrt(inputs));
    if (weight.shape.size() == 1 && weight.name.ends_with("weight")) tensor.add_(1);
    weights.emplace(weight.name, tensor.to(type));
  }
  return weights;
}

inline void write_config(const std::filesystem::path& folder, const nlohmann::json& config) {
  crabcast::testing::write_file(folder / "config.json", config.dump(2));
}

// The safetensors of a base, without its config. Tensors go into shards from the last name to the
// first, so that no reader can rely on an order.
inline void write_weights(const std::filesystem::path& folder, const WeightMap& weights,
                          const HfLayout& layout) {
  std::filesystem::create_directories(folder);
  std::vector<NamedTensor> tensors;
  for (auto at = weights.rbegin(); at != weights.rend(); ++at)
    tensors.push_back({file_name(at->first, layout.names), at->second.contiguous()});
  if (layout.other_parts) {
    tensors.push_back({"talker.model.norm.weight", at::ones({24})});
    tensors.push_back({"token2wav.code2wav_dit_model.proj_out.bias", at::zeros({7})});
  }
  std::vector<std::vector<NamedTensor>> shards(1);
  std::uint64_t bytes = 0;
  for (NamedTensor& tensor : tensors) {
    if (layout.shard_bytes > 0 && bytes > 0 &&
        bytes + tensor.tensor.nbytes() > layout.shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.tensor.nbytes();
    shards.back().push_back(std::move(tensor));
  }
  nlohmann::json map = nlohmann::json::object();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = layout.shard_bytes == 0
                                 ? "model.safetensors"
                                 : "model-" + std::to_string(i + 1) + ".safetensors";
    const Status written = write_safetensors(folder / name, shards[i], {{"format", "pt"}});
    ASSERT_TRUE(written.has_value()) << written.error().message;
    for (const NamedTensor& tensor : shards[i]) map[tensor.name] = name;
  }
  if (layout.shard_bytes > 0)
    crabcast::testing::write_file(folder / "model.safetensors.index.json",
                                  nlohmann::json{{"weight_map", map}}.dump(1));
}

// A whole base, but for its tokenizer; the weights as they were written.
inline WeightMap write_base(const std::filesystem::path& folder, const ThinkerConfig& config,
                            const HfLayout& layout = {}) {
  WeightMap weights = random_weights(config, layout.type, layout.seed);
  write_config(folder, config_json(config, layout));
  write_weights(folder, weights, layout);
  return weights;
}

}  // namespace crabcast::model::test

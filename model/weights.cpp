#include "model/weights.h"

#include <ATen/ATen.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cmath>
#include <cstdio>
#include <memory>

#include "model/random.h"

namespace crabcast::model {
namespace {

// Changing a number here makes other bases: raise the version, so that no name can mislead.
constexpr std::string_view kStartName = "crabcast/nano/2";
constexpr double kEmbeddingStd = 0.5;
constexpr double kHeadStd = 0.05;
// Branches begin by adding little to the residual stream, so that a token stays readable to the
// last layer.
constexpr double kBranchGain = 0.4;

// How a weight begins, by its name.
struct Start {
  double mean = 0, std = 0;
};
Start start_of(const WeightShape& weight) {
  const std::string_view name = weight.name;
  const auto ends = [&](std::string_view suffix) { return name.ends_with(suffix); };
  if (ends("embed_tokens.weight") || ends("audio_bos_eos_token.weight")) return {0, kEmbeddingStd};
  if (ends("lm_head.weight")) return {0, kHeadStd};
  if (ends(".bias")) return {};
  if (weight.shape.size() == 1) return {1, 0};  // of a norm
  double fan_in = 1;
  for (std::size_t i = 1; i < weight.shape.size(); ++i)
    fan_in *= static_cast<double>(weight.shape[i]);
  const bool branch = ends("o_proj.weight") || ends("down_proj.weight") ||
                      ends("out_proj.weight") || ends("attn.proj.weight") || ends("fc2.weight");
  return {0, (branch ? kBranchGain : 1.0) / std::sqrt(fan_in)};
}

}  // namespace

void tie_head(const ThinkerConfig& config, WeightMap& weights) {
  if (config.tie_word_embeddings)
    weights["thinker.lm_head.weight"] = weights.at("thinker.model.embed_tokens.weight");
}

WeightMap random_nano_weights() {
  WeightMap weights;
  const std::uint64_t key = name_key(kStartName);
  for (const WeightShape& weight : weight_shapes(nano())) {
    const auto [mean, std] = start_of(weight);
    at::Tensor tensor = at::full(weight.shape, mean, at::kFloat);
    // A uniform distribution of standard deviation s reaches to s * sqrt(3).
    if (std > 0)
      fill_uniform(tensor, combine_key(key, name_key(weight.name)), std * std::sqrt(3.0));
    weights.emplace(weight.name, std::move(tensor));
  }
  return weights;
}

struct BaseHasher::State {
  XXH3_state_t xxh;
};

BaseHasher::BaseHasher() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->xxh);
}
BaseHasher::~BaseHasher() = default;

void BaseHasher::begin(const WeightShape& weight, at::ScalarType type) {
  // The terminating zero and the rank keep neighbouring fields apart. Equal bytes of another type
  // are other numbers; float32 adds nothing, so that hashes of it stay.
  const auto rank = static_cast<std::int64_t>(weight.shape.size());
  const std::int64_t type_code = type == at::kFloat ? 0 : type == at::kBFloat16 ? 1 : 2;
  const std::int64_t rank_and_type = rank + (type_code << 32);
  XXH3_128bits_update(&state_->xxh, weight.name.c_str(), weight.name.size() + 1);
  XXH3_128bits_update(&state_->xxh, &rank_and_type, sizeof rank_and_type);
  XXH3_128bits_update(&state_->xxh, weight.shape.data(),
                      weight.shape.size() * sizeof(std::int64_t));
}

void BaseHasher::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&state_->xxh, bytes.data(), bytes.size());
}

std::string BaseHasher::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

Result<std::string> hash_base(const ThinkerConfig& config, const WeightMap& weights) {
  BaseHasher hasher;
  for (const WeightShape& weight : weight_shapes(config)) {
    const auto found = weights.find(weight.name);
    if (found == weights.end()) return fail(Errc::corrupt, "the base has no tensor " + weight.name);
    if (found->second.sizes() != at::IntArrayRef(weight.shape))
      return fail(Errc::corrupt, "the base's tensor " + weight.name + " has another shape");
    const at::Tensor host = found->second.cpu().contiguous();
    hasher.begin(weight, host.scalar_type());
    hasher.add({static_cast<const std::byte*>(host.const_data_ptr()), host.nbytes()});
  }
  return hasher.hex();
}

}  // namespace crabcast::model

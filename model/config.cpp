#include "model/config.h"

#include <algorithm>
#include <string_view>

namespace crabcast::model {
namespace {

// Collects names and shapes under a prefix.
class Lister {
 public:
  explicit Lister(std::vector<WeightShape>& out) : out_(out) {}

  void tensor(const std::string& name, std::vector<std::int64_t> shape) {
    out_.push_back({name, std::move(shape)});
  }
  void linear(const std::string& name, std::int64_t in, std::int64_t out, bool bias) {
    tensor(name + ".weight", {out, in});
    if (bias) tensor(name + ".bias", {out});
  }
  void layer_norm(const std::string& name, std::int64_t width) {
    tensor(name + ".weight", {width});
    tensor(name + ".bias", {width});
  }

 private:
  std::vector<WeightShape>& out_;
};

void list_text(const TextConfig& c, Lister& list) {
  const std::string root = "thinker.model.";
  list.tensor(root + "embed_tokens.weight", {c.vocab_size, c.hidden_size});
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = root + "layers." + std::to_string(i) + ".";
    list.tensor(layer + "input_layernorm.weight", {c.hidden_size});
    list.linear(layer + "self_attn.q_proj", c.hidden_size, c.heads * c.head_dim, true);
    list.linear(layer + "self_attn.k_proj", c.hidden_size, c.kv_heads * c.head_dim, true);
    list.linear(layer + "self_attn.v_proj", c.hidden_size, c.kv_heads * c.head_dim, true);
    list.linear(layer + "self_attn.o_proj", c.heads * c.head_dim, c.hidden_size, false);
    list.tensor(layer + "post_attention_layernorm.weight", {c.hidden_size});
    list.linear(layer + "mlp.gate_proj", c.hidden_size, c.intermediate_size, false);
    list.linear(layer + "mlp.up_proj", c.hidden_size, c.intermediate_size, false);
    list.linear(layer + "mlp.down_proj", c.intermediate_size, c.hidden_size, false);
  }
  list.tensor(root + "norm.weight", {c.hidden_size});
}

void list_audio(const AudioConfig& c, Lister& list) {
  const std::string root = "thinker.audio_tower.";
  list.tensor(root + "conv1.weight", {c.d_model, c.mel_bins, 3});
  list.tensor(root + "conv1.bias", {c.d_model});
  list.tensor(root + "conv2.weight", {c.d_model, c.d_model, 3});
  list.tensor(root + "conv2.bias", {c.d_model});
  // Published, and never used by the thinker.
  list.tensor(root + "audio_bos_eos_token.weight", {2, c.output_dim});
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = root + "layers." + std::to_string(i) + ".";
    list.layer_norm(layer + "self_attn_layer_norm", c.d_model);
    list.linear(layer + "self_attn.q_proj", c.d_model, c.d_model, true);
    list.linear(layer + "self_attn.k_proj", c.d_model, c.d_model, false);
    list.linear(layer + "self_attn.v_proj", c.d_model, c.d_model, true);
    list.linear(layer + "self_attn.out_proj", c.d_model, c.d_model, true);
    list.layer_norm(layer + "final_layer_norm", c.d_model);
    list.linear(layer + "fc1", c.d_model, c.ffn_dim, true);
    list.linear(layer + "fc2", c.ffn_dim, c.d_model, true);
  }
  list.layer_norm(root + "ln_post", c.d_model);
  list.linear(root + "proj", c.d_model, c.output_dim, true);
}

void list_vision(const VisionConfig& c, Lister& list) {
  const std::string root = "thinker.visual.";
  list.tensor(root + "patch_embed.proj.weight",
              {c.hidden_size, c.in_channels, c.temporal_patch_size, c.patch_size, c.patch_size});
  for (std::int64_t i = 0; i < c.depth; ++i) {
    const std::string block = root + "blocks." + std::to_string(i) + ".";
    list.tensor(block + "norm1.weight", {c.hidden_size});
    for (const char* part : {"q", "k", "v", "proj"})
      list.linear(block + "attn." + part, c.hidden_size, c.hidden_size, true);
    list.tensor(block + "norm2.weight", {c.hidden_size});
    list.linear(block + "mlp.gate_proj", c.hidden_size, c.intermediate_size, true);
    list.linear(block + "mlp.up_proj", c.hidden_size, c.intermediate_size, true);
    list.linear(block + "mlp.down_proj", c.intermediate_size, c.hidden_size, true);
  }
  const std::int64_t merged = c.hidden_size * c.spatial_merge_size * c.spatial_merge_size;
  list.tensor(root + "merger.ln_q.weight", {c.hidden_size});
  list.linear(root + "merger.mlp.0", merged, merged, true);
  list.linear(root + "merger.mlp.2", merged, c.out_hidden_size, true);
}

bool takes_adapter(std::string_view module) {
  static constexpr std::array<std::string_view, 7> kProjections = {
      "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  const std::string_view last = module.substr(module.rfind('.') + 1);
  return std::find(kProjections.begin(), kProjections.end(), last) != kProjections.end();
}

}  // namespace

// Most rotary frequencies are the width's: so neighbouring columns turn by enough to be told apart
// in so narrow a head, and half of the frequencies are low enough to find a thing wherever it is.
ThinkerConfig nano() {
  ThinkerConfig c;
  c.text = {.vocab_size = 272,
            .hidden_size = 128,
            .intermediate_size = 256,
            .layers = 4,
            .heads = 4,
            .kv_heads = 2,
            .head_dim = 32,
            .rms_norm_eps = 1e-6,
            .rope_theta = 10000,
            .mrope_section = {2, 2, 12}};
  c.vision.depth = 2;
  c.vision.hidden_size = 96;
  c.vision.intermediate_size = 192;
  c.vision.heads = 4;
  c.vision.window_size = 56;
  c.vision.out_hidden_size = c.text.hidden_size;
  c.vision.full_attention_blocks = {1};
  c.audio.layers = 2;
  c.audio.heads = 4;
  c.audio.ffn_dim = 192;
  c.audio.d_model = 64;
  c.audio.output_dim = c.text.hidden_size;
  c.special = make_byte_tokenizer()->special();
  return c;
}

ThinkerConfig qwen2_5_omni_7b() {
  ThinkerConfig c;
  c.text = {.vocab_size = 152064,
            .hidden_size = 3584,
            .intermediate_size = 18944,
            .layers = 28,
            .heads = 28,
            .kv_heads = 4,
            .head_dim = 128,
            .rms_norm_eps = 1e-6,
            .rope_theta = 1e6,
            .mrope_section = {16, 24, 24}};
  c.vision.depth = 32;
  c.vision.hidden_size = 1280;
  c.vision.intermediate_size = 3420;
  c.vision.heads = 16;
  c.vision.out_hidden_size = c.text.hidden_size;
  c.vision.full_attention_blocks = {7, 15, 23, 31};
  c.audio.layers = 32;
  c.audio.heads = 20;
  c.audio.ffn_dim = 5120;
  c.audio.d_model = 1280;
  c.audio.output_dim = c.text.hidden_size;
  c.special = {.pad = 151643,
               .im_start = 151644,
               .im_end = 151645,
               .audio = 151646,
               .audio_begin = 151647,
               .audio_end = 151648,
               .image = 151655,
               .video = 151656,
               .vision_begin = 151652,
               .vision_end = 151653};
  return c;
}

std::vector<WeightShape> weight_shapes(const ThinkerConfig& config) {
  std::vector<WeightShape> shapes;
  Lister list(shapes);
  list_text(config.text, list);
  list_audio(config.audio, list);
  list_vision(config.vision, list);
  if (config.tie_word_embeddings) return shapes;
  list.linear("thinker.lm_head", config.text.hidden_size, config.text.vocab_size, false);
  return shapes;
}

std::vector<AdapterModule> adapter_modules(const ThinkerConfig& config, AdapterScope scope) {
  constexpr std::string_view kWeight = ".weight", kThinker = "thinker.";
  std::vector<AdapterModule> modules;
  for (const WeightShape& weight : weight_shapes(config)) {
    std::string_view name = weight.name;
    if (weight.shape.size() != 2 || !name.ends_with(kWeight)) continue;
    name.remove_suffix(kWeight.size());
    if (!takes_adapter(name)) continue;
    if (scope == AdapterScope::language_model && !name.starts_with("thinker.model.")) continue;
    modules.push_back({std::string(name),
                       "base_model.model." + std::string(name.substr(kThinker.size())),
                       weight.shape[1], weight.shape[0]});
  }
  return modules;
}

std::int64_t adapter_parameters(const std::vector<AdapterModule>& modules, std::int64_t rank,
                                std::int64_t heads) {
  std::int64_t sum = 0;
  for (const AdapterModule& m : modules) sum += rank * m.in + heads * m.out * rank + heads * m.in;
  return sum;
}

}  // namespace crabcast::model

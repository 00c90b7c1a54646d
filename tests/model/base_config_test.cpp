// config.json: all forms in which it occurs, its defaults, and what is refused.
#include "model/base_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/hf_base.h"
#include "tests/model/mutation.h"

namespace crabcast::model {
namespace {

using crabcast::testing::TemporaryFolder;
using crabcast::testing::write_file;
using nlohmann::json;
using test::config_json;
using test::HfLayout;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Both configs as text, so that no field is forgotten and a difference shows.
std::string text(const ThinkerConfig& config) {
  return config_json(config, {.nested = false}).dump(1);
}

class BaseConfigTest : public ::testing::Test {
 protected:
  BaseConfig read(const json& config) const {
    test::write_config(folder_.path(), config);
    auto read = read_base_config(folder_.path());
    EXPECT_TRUE(read.has_value()) << read.error().message;
    return std::move(*read);
  }
  // The problems that one changed field makes; `pointer` as in "/text_config/hidden_act".
  std::string refused(const char* pointer, const json& value) const {
    json config = config_json(nano(), {.nested = false});
    config[json::json_pointer(pointer)] = value;
    return list_problems(read(config).problems);
  }
  TemporaryFolder folder_;
};

// Field by field as the file of Qwen2.5-Omni-7B has it, with names that only older and only newer
// versions of transformers know.
constexpr auto kPublished7b = R"({
  "architectures": ["Qwen2_5OmniModel"], "enable_audio_output": true, "model_type": "qwen2_5_omni",
  "talker_config": {"model_type": "qwen2_5_omni_talker", "hidden_act": "silu"},
  "thinker_config": {
    "audio_config": {"activation_dropout": 0.0, "activation_function": "gelu",
      "attention_dropout": 0.0, "d_model": 1280, "dropout": 0.0, "encoder_attention_heads": 20,
      "encoder_ffn_dim": 5120, "encoder_layers": 32, "max_source_positions": 1500,
      "model_type": "qwen2_5_omni_audio_encoder", "n_window": 100, "num_hidden_layers": 32,
      "num_mel_bins": 128, "output_dim": 3584, "scale_embedding": false},
    "audio_end_token_id": 151648, "audio_start_token_id": 151647, "audio_token_index": 151646,
    "bos_token_id": 151644, "eos_token_id": 151645, "ignore_index": -100,
    "image_token_index": 151655, "model_type": "qwen2_5_omni_thinker", "pad_token_id": 151643,
    "position_id_per_seconds": 25, "seconds_per_chunk": 2,
    "text_config": {"hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
      "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen2_5_omni_text",
      "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
      "rms_norm_eps": 1e-06,
      "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
      "rope_theta": 1000000.0, "sliding_window": 32768, "use_cache": true,
      "use_sliding_window": false, "vocab_size": 152064},
    "user_token_id": 872, "video_token_index": 151656, "vision_end_token_id": 151653,
    "vision_config": {"depth": 32, "embed_dim": 1280, "fullatt_block_indexes": [7, 15, 23, 31],
      "hidden_act": "silu", "hidden_size": 1280, "in_channels": 3, "in_chans": 3,
      "intermediate_size": 3420, "model_type": "qwen2_5_omni_vision_encoder", "num_heads": 16,
      "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14,
      "temporal_patch_size": 2, "tokens_per_second": 25, "window_size": 112},
    "vision_start_token_id": 151652, "vision_token_id": 151654},
  "token2wav_config": {"model_type": "qwen2_5_omni_token2wav"}, "torch_dtype": "bfloat16"
})";

TEST_F(BaseConfigTest, TheSevenBillionModelIsReadAsPublished) {
  const BaseConfig read = this->read(json::parse(kPublished7b));
  EXPECT_THAT(read.problems, IsEmpty()) << list_problems(read.problems);
  EXPECT_EQ(read.model_type, "qwen2_5_omni");
  EXPECT_EQ(text(read.config), text(qwen2_5_omni_7b()));
  EXPECT_FALSE(read.config.tie_word_embeddings);
}

TEST_F(BaseConfigTest, EveryFormIsReadTheSame) {
  for (const bool nested : {true, false})
    for (const bool rope_parameters : {true, false}) {
      const BaseConfig read =
          this->read(config_json(nano(), {.nested = nested, .rope_parameters = rope_parameters}));
      EXPECT_THAT(read.problems, IsEmpty()) << list_problems(read.problems);
      EXPECT_EQ(text(read.config), text(nano()));
      EXPECT_EQ(read.model_type, nested ? "qwen2_5_omni" : "qwen2_5_omni_thinker");
    }
}

TEST_F(BaseConfigTest, OtherNamesThatTransformersTakes) {
  json config = config_json(nano(), {.nested = false});
  const auto rename = [&](const char* section, const char* from, const char* to) {
    json& object = *section == '\0' ? config : config[section];
    object[to] = object[from];
    object.erase(from);
  };
  rename("vision_config", "depth", "num_hidden_layers");
  rename("vision_config", "num_heads", "num_attention_heads");
  rename("audio_config", "encoder_layers", "num_hidden_layers");
  rename("audio_config", "encoder_attention_heads", "num_attention_heads");
  rename("audio_config", "encoder_ffn_dim", "intermediate_size");
  rename("audio_config", "d_model", "hidden_size");
  rename("", "audio_token_index", "audio_token_id");
  rename("", "image_token_index", "image_token_id");
  rename("", "video_token_index", "video_token_id");
  const BaseConfig read = this->read(config);
  EXPECT_THAT(read.problems, IsEmpty()) << list_problems(read.problems);
  EXPECT_EQ(text(read.config), text(nano()));
}

// What transformers 5.23 has where a file says nothing. The vision tower's width there is 3584, not
// the 1280 of the published models.
TEST_F(BaseConfigTest, MissingFieldsHaveTheDefaultsOfTransformers) {
  const BaseConfig read = this->read({{"model_type", "qwen2_5_omni_thinker"}});
  EXPECT_THAT(read.problems, IsEmpty()) << list_problems(read.problems);
  ThinkerConfig expected = qwen2_5_omni_7b();
  expected.vision.hidden_size = 3584;
  EXPECT_EQ(text(read.config), text(expected));
  EXPECT_FALSE(read.config.tie_word_embeddings);

  json nulls = {{"model_type", "qwen2_5_omni_thinker"}, {"audio_config", nullptr}};
  nulls["text_config"] = {{"rope_parameters", nullptr}, {"num_key_value_heads", nullptr}};
  EXPECT_EQ(text(this->read(nulls).config), text(expected));
}

TEST_F(BaseConfigTest, TheThinkersFlagTiesTheHead) {
  json config = config_json(nano(), {.nested = false});
  config["text_config"]["tie_word_embeddings"] = true;
  EXPECT_FALSE(read(config).config.tie_word_embeddings);
  config["tie_word_embeddings"] = true;
  EXPECT_TRUE(read(config).config.tie_word_embeddings);
}

TEST_F(BaseConfigTest, TheHeadsWidthMayStandAlone) {
  json config = config_json(nano(), {.nested = false});
  config["text_config"].erase("head_dim");
  EXPECT_EQ(read(config).config.text.head_dim, 32);
  config["text_config"]["head_dim"] = 64;
  config["text_config"]["rope_scaling"]["mrope_section"] = {8, 12, 12};
  EXPECT_EQ(read(config).config.text.head_dim, 64);
}

TEST_F(BaseConfigTest, WhatIsNotImplementedIsRefusedWithFieldValueAndSupport) {
  const struct {
    const char* pointer;
    json value;
    const char* message;
  } cases[] = {
      {"/model_type", "qwen3_omni_moe_thinker",
       "model_type is \"qwen3_omni_moe_thinker\"; supported: \"qwen2_5_omni_thinker\""},
      {"/text_config/model_type", "qwen2",
       "text_config.model_type is \"qwen2\"; supported: \"qwen2_5_omni_text\""},
      {"/text_config/hidden_act", "gelu",
       "text_config.hidden_act is \"gelu\"; supported: \"silu\""},
      {"/vision_config/hidden_act", "gelu", "vision_config.hidden_act is \"gelu\""},
      {"/audio_config/activation_function", "gelu_new",
       "audio_config.activation_function is \"gelu_new\"; supported: \"gelu\""},
      {"/text_config/use_sliding_window", true,
       "text_config.use_sliding_window is true; supported: false"},
      {"/text_config/layer_types",
       {"full_attention", "sliding_attention"},
       "text_config.layer_types is"},
      {"/text_config/attention_dropout", 0.1, "text_config.attention_dropout is 0.1; supported: 0"},
      {"/audio_config/scale_embedding", true, "audio_config.scale_embedding is true"},
      {"/audio_config/dropout", 0.5, "audio_config.dropout is 0.5"},
      {"/quantization_config", json{{"bits", 4}}, "quantization_config is there"},
      {"/text_config/rope_scaling/rope_type", "yarn",
       "text_config.rope_scaling.rope_type is \"yarn\"; supported: default"},
      {"/text_config/rope_scaling/factor", 4, "text_config.rope_scaling.factor is 4"},
      {"/text_config/rope_scaling/mrope_section",
       {4, 6, 7},
       "text_config.rope_scaling.mrope_section is [4,6,7]; supported: three sizes that add up"},
      {"/text_config/rope_scaling/mrope_section", {16}, "mrope_section is [16]"},
      {"/text_config/rope_theta", 0, "text_config.rope_theta is 0; supported: numbers above 0"},
      {"/text_config/rms_norm_eps", "small", "text_config.rms_norm_eps is \"small\""},
      {"/text_config/vocab_size", "272",
       "text_config.vocab_size is \"272\"; supported: whole numbers"},
      {"/text_config/vocab_size", -1, "text_config.vocab_size is -1"},
      {"/text_config/vocab_size", 1e300, "text_config.vocab_size is 1e+300"},
      {"/text_config/vocab_size", 18446744073709551615U,
       "text_config.vocab_size is 18446744073709551615"},
      {"/text_config/num_hidden_layers", 0, "text_config.num_hidden_layers is 0"},
      {"/text_config/num_key_value_heads", 3,
       "text_config.num_key_value_heads is 3; supported: divisors"},
      {"/text_config/head_dim", 31, "text_config.rope_scaling.mrope_section is [2,2,12]"},
      {"/vision_config/num_heads", 5, "vision_config.num_heads is 5"},
      {"/vision_config/in_channels", 1, "vision_config.in_channels is 1; supported: 3"},
      {"/vision_config/patch_size", {14, 14}, "vision_config.patch_size is [14,14]"},
      {"/vision_config/window_size", 20, "vision_config.window_size is 20"},
      {"/vision_config/out_hidden_size", 64,
       "vision_config.out_hidden_size is 64; supported: text_config"},
      {"/vision_config/fullatt_block_indexes", {-1}, "vision_config.fullatt_block_indexes is [-1]"},
      {"/vision_config/rope_parameters", json{{"rope_theta", 5000}},
       "vision_config.rope_parameters.rope_theta is 5000"},
      {"/vision_config/num_hidden_layers", 7,
       "vision_config.depth is 2; supported: the same value as num_hidden_layers, which is 7"},
      {"/audio_config/d_model", 65, "audio_config.d_model is 65"},
      {"/audio_config/output_dim", 64, "audio_config.output_dim is 64"},
      {"/audio_config/n_window", 2000, "audio_config.n_window is 2000"},
      {"/video_token_index", 272,
       "video_token_index is 272; supported: ids below text_config.vocab_size 272"},
      {"/video_token_index", 262, "must differ"},
      {"/pad_token_id", nullptr,
       "pad_token_id is 151643; supported: ids below text_config.vocab_size 272 (the field is "
       "missing)"},
      {"/eos_token_id", {258, 256}, "eos_token_id is [258,256]"},
      {"/position_id_per_seconds", 1e300, "position_id_per_seconds is 1e+300"},
      {"/position_id_per_seconds", true, "position_id_per_seconds is true"},
      {"/tie_word_embeddings", 1, "tie_word_embeddings is 1; supported: true or false"},
      {"/audio_config", 5, "audio_config is 5; supported: a mapping"},
  };
  for (const auto& one : cases)
    EXPECT_THAT(refused(one.pointer, one.value), HasSubstr(one.message)) << one.pointer;
}

TEST_F(BaseConfigTest, AllProblemsAreNamedAtOnceAndWhereTheyStand) {
  json config = config_json(nano());
  config["thinker_config"]["text_config"]["hidden_act"] = "relu";
  config["thinker_config"]["audio_config"]["dropout"] = 1;
  config["quantization_config"] = {{"bits", 4}};
  test::write_config(folder_.path(), config);
  const auto read = read_thinker_config(folder_.path());
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, Errc::unsupported);
  EXPECT_THAT(read.error().message, HasSubstr("thinker_config.text_config.hidden_act is \"relu\""));
  EXPECT_THAT(read.error().message, HasSubstr("thinker_config.audio_config.dropout is 1"));
  EXPECT_THAT(read.error().message, HasSubstr("; quantization_config is there"));
  EXPECT_THAT(read.error().message, HasSubstr("config.json"));
}

TEST_F(BaseConfigTest, AListIsCutAtTwenty) {
  std::vector<std::string> problems;
  for (int i = 1; i <= 23; ++i) problems.push_back("p" + std::to_string(i));
  EXPECT_THAT(list_problems(problems), HasSubstr("p20; and 3 more"));
}

// Whatever is accepted has shapes that can be listed.
TEST_F(BaseConfigTest, MutatedFilesAreReadOrRefused) {
  const std::string whole = config_json(nano(), {.nested = false}).dump();
  const test::MemoryFile memory;
  std::filesystem::create_symlink(memory.path(), folder_ / "config.json");
  int accepted = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    memory.set(test::mutate(whole, seed, 0, whole.size()));
    const auto read = read_base_config(folder_.path());
    if (!read || !read->problems.empty()) continue;
    ++accepted;
    for (const WeightShape& weight : weight_shapes(read->config))
      for (const std::int64_t size : weight.shape) ASSERT_GT(size, 0) << "seed " << seed;
  }
  EXPECT_GT(accepted, 30);
  EXPECT_LT(accepted, 2700);
}

TEST_F(BaseConfigTest, ABrokenFileIsRefused) {
  const auto refused = [&](const std::string& text) {
    write_file(folder_ / "config.json", text);
    const auto read = read_base_config(folder_.path());
    EXPECT_FALSE(read.has_value()) << text.substr(0, 80);
    EXPECT_EQ(read.error().code, Errc::corrupt);
    return read.error().message;
  };
  EXPECT_THAT(refused("{"), HasSubstr("no valid JSON"));
  EXPECT_THAT(refused("[1]"), HasSubstr("no JSON object"));
  EXPECT_THAT(refused(R"({"model_type": "a", "model_type": "b"})"), HasSubstr("stands twice"));
  EXPECT_THAT(refused(std::string(5U << 20, ' ')), HasSubstr("may have"));
  EXPECT_THAT(refused(std::string(2U << 20, '[')), HasSubstr("levels"));
  std::filesystem::remove(folder_ / "config.json");
  EXPECT_EQ(read_base_config(folder_.path()).error().code, Errc::not_found);
  std::filesystem::create_directory(folder_ / "config.json");
  EXPECT_THAT(read_base_config(folder_.path()).error().message, HasSubstr("is a folder"));
}

}  // namespace
}  // namespace crabcast::model

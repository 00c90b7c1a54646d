// Bases from folders: the same weights and the same hash from every form of the same base.
#include "model/base.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "model/packing.h"
#include "model/thinker.h"
#include "tests/model/hf_base.h"
#include "tests/model/toy_batch.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;
using crabcast::testing::read_file;
using crabcast::testing::TemporaryFolder;
using crabcast::testing::write_file;
using nlohmann::json;
using test::HfLayout;
using test::Names;
using test::small_config;
using ::testing::HasSubstr;
using ::testing::Not;

Base open(const fs::path& folder, at::ScalarType type = at::kFloat) {
  auto base = open_base(folder.string(), at::kCPU, type);
  EXPECT_TRUE(base.has_value()) << base.error().message;
  return base ? std::move(*base) : Base{};
}

Error refused(const fs::path& folder) {
  auto base = open_base(folder.string(), at::kCPU, at::kFloat);
  EXPECT_FALSE(base.has_value());
  return base ? Error{} : base.error();
}

void expect_equal(const WeightMap& a, const WeightMap& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_TRUE(at::equal(tensor, b.at(name))) << name;
    EXPECT_FALSE(tensor.requires_grad()) << name;
  }
}

// Checkpoints name it by its hash: whoever ships another one changes this on purpose, and the
// scores in model/shipped/nano/README.md.
TEST(Base, NanoIsWhatItWas) {
  const auto base = open_base("nano", at::kCPU, at::kFloat);
  ASSERT_TRUE(base.has_value());
  EXPECT_EQ(base->hash, "2f6d3587dacbcb699a503fe4646be466");
  ASSERT_EQ(base->weights.size(), weight_shapes(nano()).size());
  for (const auto& [name, shape] : weight_shapes(nano()))
    EXPECT_EQ(base->weights.at(name).sizes(), at::IntArrayRef(shape)) << name;
  // It lies in the program in bfloat16, so nothing is lost when it is opened so.
  const auto narrow = open_base("nano", at::kCPU, at::kBFloat16);
  ASSERT_TRUE(narrow.has_value());
  EXPECT_EQ(narrow->hash, base->hash);
  for (const auto& [name, tensor] : base->weights)
    EXPECT_TRUE(at::equal(narrow->weights.at(name).to(at::kFloat), tensor)) << name;
}

TEST(Base, EveryFormOfTheSameBaseIsTheSame) {
  const TemporaryFolder folder;
  const HfLayout forms[] = {
      {},
      {.nested = false, .rope_parameters = true, .names = Names::saved_thinker, .shard_bytes = 1},
      {.nested = false, .names = Names::thinker_in_memory, .shard_bytes = 300'000},
      {.rope_parameters = true, .names = Names::whole_in_memory, .shard_bytes = 100'000},
      {.shard_bytes = 1'000'000, .other_parts = true},
  };
  std::string hash;
  for (const HfLayout& form : forms) {
    const fs::path place = folder / std::to_string(&form - forms);
    const WeightMap written = test::write_base(place, small_config(), form);
    const Base base = open(place);
    expect_equal(base.weights, written);
    if (hash.empty()) hash = base.hash;
    EXPECT_EQ(base.hash, hash) << "form " << &form - forms;
    EXPECT_EQ(base.hash, *hash_base(base.config, written));
    EXPECT_EQ(base.config.text.rope_theta, small_config().text.rope_theta);
  }
  EXPECT_THAT(hash, ::testing::MatchesRegex("[0-9a-f]+"));
  EXPECT_EQ(hash.size(), 32U);
}

TEST(Base, IsConvertedWithoutChangingItsHash) {
  const TemporaryFolder folder;
  for (const at::ScalarType stored : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const fs::path place = folder / c10::toString(stored);
    const WeightMap written = test::write_base(place, small_config(), {.type = stored});
    for (const at::ScalarType wanted : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const Base base = open(place, wanted);
      EXPECT_EQ(base.hash, *hash_base(base.config, written));
      for (const auto& [name, tensor] : base.weights) {
        ASSERT_EQ(tensor.scalar_type(), wanted);
        ASSERT_TRUE(at::equal(tensor, written.at(name).to(wanted))) << name;
      }
    }
  }
}

TEST(Base, TheHashSeesBytesAndTypes) {
  const TemporaryFolder folder;
  const WeightMap written = test::write_base(folder / "a", small_config(), {.type = at::kBFloat16});
  const std::string hash = open(folder / "a").hash;

  WeightMap other = written;
  other.at("thinker.model.norm.weight") = other.at("thinker.model.norm.weight").clone();
  other.at("thinker.model.norm.weight")[3] += 1;
  test::write_config(folder / "b", test::config_json(small_config()));
  test::write_weights(folder / "b", other, {.type = at::kBFloat16});
  EXPECT_NE(open(folder / "b").hash, hash);

  // The same bytes under another type are other numbers.
  for (auto& [name, tensor] : other) tensor = written.at(name).view(at::kHalf);
  test::write_config(folder / "c", test::config_json(small_config()));
  test::write_weights(folder / "c", other, {.type = at::kHalf});
  EXPECT_NE(open(folder / "c").hash, hash);
}

TEST(Base, AByteThatChangesUnderAnOldDateIsNoticed) {
  const TemporaryFolder folder;
  test::write_base(folder.path(), small_config());
  const fs::path file = folder / "model.safetensors";
  const std::string hash = open(folder.path()).hash;
  const auto time = fs::last_write_time(file);
  {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(-3, std::ios::end);
    stream.put('\x41');
  }
  fs::last_write_time(file, time);
  EXPECT_NE(open(folder.path()).hash, hash);
}

TEST(Base, ATiedHeadIsTheEmbedding) {
  const TemporaryFolder folder;
  ThinkerConfig config = small_config();
  config.tie_word_embeddings = true;
  const WeightMap written = test::write_base(folder / "a", config);
  EXPECT_FALSE(written.contains("thinker.lm_head.weight"));
  const Base base = open(folder / "a", at::kBFloat16);
  EXPECT_TRUE(base.config.tie_word_embeddings);
  EXPECT_TRUE(base.weights.at("thinker.lm_head.weight")
                  .is_same(base.weights.at("thinker.model.embed_tokens.weight")));
  EXPECT_EQ(base.hash, *hash_base(config, written));

  // A copy of the embedding in the file changes nothing; another head is refused.
  WeightMap with_head = written;
  with_head["thinker.lm_head.weight"] = written.at("thinker.model.embed_tokens.weight");
  test::write_config(folder / "b", test::config_json(config));
  test::write_weights(folder / "b", with_head, {});
  EXPECT_EQ(open(folder / "b").hash, base.hash);
  with_head["thinker.lm_head.weight"] = with_head.at("thinker.lm_head.weight") + 1;
  test::write_weights(folder / "b", with_head, {});
  EXPECT_THAT(refused(folder / "b").message, HasSubstr("tie_word_embeddings"));
}

// T-2 holds for any node, so also when one has a mapped base and another a converted copy.
TEST(Base, TheSameLossFromAMapAndFromACopy) {
  const TemporaryFolder folder;
  const ThinkerConfig config = nano();
  for (const bool sharded : {false, true}) {
    const fs::path place = folder / (sharded ? "many" : "one");
    test::write_config(place, test::config_json(config));
    HfLayout layout;
    layout.shard_bytes = sharded ? 200'000 : 0;
    test::write_weights(place, random_nano_weights(), layout);
  }
  const auto input = pack_input(config,
                                test::toy_batch({{.prompt = "what?",
                                                  .answer = "a dog",
                                                  .visual = test::Visual::picture,
                                                  .mel_frames = 40}}),
                                at::kCPU, at::kFloat);
  ASSERT_TRUE(input.has_value());
  const auto losses = [&](const WeightMap& weights) {
    return token_losses(make_thinker(config, weights, nullptr), *input, {});
  };
  const at::Tensor expected = losses(random_nano_weights());
  EXPECT_TRUE(at::equal(losses(open(folder / "one").weights), expected));
  EXPECT_TRUE(at::equal(losses(open(folder / "many").weights), expected));
}

class BrokenBase : public ::testing::Test {
 protected:
  BrokenBase() : weights_(test::random_weights(small_config(), at::kFloat, 1)) {
    test::write_config(folder_.path(), test::config_json(small_config()));
  }
  // The message about the base with these weights.
  Error refused_with(const WeightMap& weights, const HfLayout& layout = {}) const {
    test::write_weights(folder_.path(), weights, layout);
    return refused(folder_.path());
  }
  // The message after a change of the index of a base in shards.
  std::string refused_index(const std::function<void(json& map)>& change) const {
    test::write_weights(folder_.path(), weights_, {.shard_bytes = 400'000});
    json index = json::parse(read_file(folder_ / kIndex));
    change(index["weight_map"]);
    write_file(folder_ / kIndex, index.dump());
    return refused(folder_.path()).message;
  }
  static constexpr const char* kIndex = "model.safetensors.index.json";
  TemporaryFolder folder_;
  WeightMap weights_;
};

TEST_F(BrokenBase, NamesWhatIsMissingLeftOverAndMisshapen) {
  WeightMap weights = weights_;
  weights.erase("thinker.visual.merger.ln_q.weight");
  weights["thinker.model.layers.9.mlp.up_proj.weight"] = at::zeros({2, 2});
  weights["lora.weight"] = at::zeros({2});
  weights["thinker.model.norm.weight"] = at::zeros({3});
  weights["thinker.audio_tower.ln_post.bias"] = at::zeros({64}, at::kLong);
  const Error error = refused_with(weights);
  EXPECT_EQ(error.code, Errc::corrupt);
  EXPECT_THAT(error.message, HasSubstr("thinker.visual.merger.ln_q.weight is missing"));
  EXPECT_THAT(error.message,
              HasSubstr("thinker.model.layers.9.mlp.up_proj.weight in model.safetensors is none"));
  EXPECT_THAT(error.message, HasSubstr("lora.weight in model.safetensors is none"));
  EXPECT_THAT(error.message,
              HasSubstr("thinker.model.norm.weight has the shape [3]; config.json asks for [128]"));
  EXPECT_THAT(error.message, HasSubstr("thinker.audio_tower.ln_post.bias has the type I64"));
  EXPECT_THAT(error.message, HasSubstr(folder_.path().string()));
}

TEST_F(BrokenBase, NamesTwentyAndCountsTheRest) {
  WeightMap weights = weights_;
  std::erase_if(weights, [](const auto& one) { return one.first.starts_with("thinker.visual."); });
  const std::string message = refused_with(weights).message;
  EXPECT_THAT(message, HasSubstr("thinker.visual.patch_embed.proj.weight is missing"));
  const auto missing = static_cast<int>(weights_.size() - weights.size());
  EXPECT_THAT(message, HasSubstr("; and " + std::to_string(missing - 20) + " more"));
}

TEST_F(BrokenBase, OneTensorUnderTwoNames) {
  WeightMap weights = weights_;
  weights["model.norm.weight"] = at::zeros({128});
  EXPECT_THAT(refused_with(weights).message, HasSubstr("thinker.model.norm.weight is there twice"));
}

TEST_F(BrokenBase, TheConfigDecidesTheShapes) {
  ThinkerConfig config = small_config();
  config.text.intermediate_size = 300;
  test::write_config(folder_.path(), test::config_json(config));
  EXPECT_THAT(
      refused_with(weights_).message,
      HasSubstr("mlp.gate_proj.weight has the shape [256, 128]; config.json asks for [300, 128]"));
}

TEST_F(BrokenBase, TheIndexIsCheckedAgainstTheShards) {
  const std::string norm = "thinker.model.norm.weight", head = "thinker.lm_head.weight";
  std::string other;
  EXPECT_THAT(refused_index([&](json& map) {
                other =
                    map[head] == map[norm] ? "model-1.safetensors" : map[head].get<std::string>();
                map[norm] = other;
              }),
              ::testing::AllOf(HasSubstr("thinker.model.norm.weight is not in " + other),
                               HasSubstr("but model.safetensors.index.json does not say so")));
  EXPECT_THAT(refused_index([&](json& map) { map.erase(norm); }),
              HasSubstr("thinker.model.norm.weight is in model-"));
  EXPECT_THAT(refused_index([&](json& map) { map["thinker.model.more"] = "model-1.safetensors"; }),
              HasSubstr("thinker.model.more is not in model-1.safetensors"));
  EXPECT_THAT(refused_index([&](json& map) { map[norm] = "model-77.safetensors"; }),
              HasSubstr("model-77.safetensors: No such file"));
  EXPECT_THAT(refused_index([&](json& map) { map[norm] = 7; }),
              HasSubstr("the file of " + norm + " is 7"));
  EXPECT_THAT(refused_index([&](json& map) { map = json::object(); }),
              HasSubstr("weight_map is empty"));
  EXPECT_THAT(refused_index([&](json& map) { map = "x"; }), HasSubstr("weight_map is missing"));
  for (const char* path :
       {"../model-1.safetensors", "/etc/passwd", "sub/model-1.safetensors", "..", ".", ""})
    EXPECT_THAT(refused_index([&](json& map) { map[norm] = path; }),
                HasSubstr("is not a plain file name"))
        << path;
}

TEST_F(BrokenBase, AShardMayBeALink) {
  const TemporaryFolder blobs;
  test::write_weights(folder_.path(), weights_, {.shard_bytes = 400'000});
  fs::rename(folder_ / "model-2.safetensors", blobs / "7c0ffee");
  fs::create_symlink(blobs / "7c0ffee", folder_ / "model-2.safetensors");
  EXPECT_EQ(open(folder_.path()).hash, *hash_base(small_config(), weights_));
}

TEST_F(BrokenBase, AFolderWithoutWeightsOrConfig) {
  EXPECT_THAT(refused(folder_.path()).message,
              HasSubstr("there is neither model.safetensors nor model.safetensors.index.json"));
  EXPECT_EQ(refused(folder_.path()).code, Errc::not_found);
  test::write_weights(folder_.path(), weights_, {});
  fs::remove(folder_ / "config.json");
  EXPECT_EQ(refused(folder_.path()).code, Errc::not_found);
  EXPECT_THAT(refused(folder_.path()).message, HasSubstr("config.json"));
  EXPECT_EQ(refused(folder_ / "nowhere").code, Errc::not_found);
}

}  // namespace
}  // namespace crabcast::model

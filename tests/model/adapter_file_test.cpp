// Adapters in files: what they are, what fits, and that nothing is lost from one form to the next.
#include "model/adapter_file.h"

#include <gmock/gmock.h>

#include "model/adapter_export.h"
#include "model/adapter_import.h"
#include "model/adapter_inspect.h"
#include "model/base.h"
#include "model/peft.h"
#include "model/safetensors.h"
#include "tests/model/adapter_fixture.h"
#include "tests/support/program.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;
using namespace test;
using crabcast::testing::TemporaryFolder;
using crabcast::testing::write_file;
using ::testing::HasSubstr;
using ::testing::Not;

const AdapterSpec kILora{.rank = 4, .alpha = 10, .heads = 2, .dropout = 0.25};
const AdapterSpec kLora{.kind = AdapterKind::lora,
                        .rank = 3,
                        .alpha = 7.5,
                        .dropout = 0.05,
                        .scope = AdapterScope::language_model};

const std::string& nano_hash() {
  static const std::string hash = open_base("nano", at::kCPU, at::kFloat)->hash;
  return hash;
}

AdapterFile open(const fs::path& path) {
  auto file = open_adapter(path);
  EXPECT_TRUE(file.has_value()) << file.error().message;
  return file ? std::move(*file) : AdapterFile{};
}

std::string refusal(const fs::path& path) {
  const auto file = open_adapter(path);
  EXPECT_FALSE(file.has_value());
  return file ? "it was read" : file.error().message;
}

AdapterSource source(const AdapterSpec& spec, const std::vector<NamedTensor>& tensors) {
  AdapterFile file;
  file.tensors = tensors;
  return {spec, "nano", nano_hash(), sources_of(file)};
}

fs::path write_crab(const TemporaryFolder& folder, const AdapterSpec& spec,
                    const std::vector<NamedTensor>& tensors) {
  const fs::path path = folder / "adapter.safetensors";
  const Status written = export_crab(source(spec, tensors), path);
  EXPECT_TRUE(written.has_value()) << written.error().message;
  return path;
}

class EveryAdapter : public ::testing::TestWithParam<AdapterKind> {
 protected:
  static AdapterSpec spec() {
    AdapterSpec spec = kILora;
    spec.kind = GetParam();
    if (!has_factors(spec.kind)) return {.kind = spec.kind};
    if (!has_heads(spec.kind)) spec.heads = AdapterSpec{}.heads;
    return spec;
  }
};

TEST_P(EveryAdapter, OurFileSaysAllOfIt) {
  const TemporaryFolder folder;
  const auto tensors = random_adapter(nano(), spec());
  const AdapterFile file = open(write_crab(folder, spec(), tensors));
  expect_same_bits(file.tensors, tensors);
  EXPECT_EQ(file.base_hash, nano_hash());
  const auto read_back = complete_spec(file, {});
  ASSERT_TRUE(read_back.has_value()) << read_back.error().message;
  EXPECT_TRUE(*read_back == spec());
  EXPECT_TRUE(check_adapter(file, nano(), spec(), nano_hash()).has_value());
}

TEST_P(EveryAdapter, ImportingKeepsEveryBit) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const TemporaryFolder folder;
    const auto tensors = random_adapter(nano(), spec(), type);
    write_file(folder / "finetune_weights.bin", finetune_weights(tensors));
    const auto imported =
        import_adapter(folder.path(), "nano", {spec().kind, spec().alpha, spec().dropout},
                       folder / "out.safetensors", {});
    ASSERT_TRUE(imported.has_value()) << imported.error().message;
    EXPECT_EQ(imported->tensors, tensors.size());
    EXPECT_FALSE(imported->adds_nothing);
    const AdapterFile file = open(folder / "out.safetensors");
    expect_same_bits(file.tensors, tensors);
    EXPECT_TRUE(*complete_spec(file, {}) == spec());
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryAdapter,
                         ::testing::Values(AdapterKind::ilora, AdapterKind::lora,
                                           AdapterKind::crab_v1, AdapterKind::full),
                         [](const ::testing::TestParamInfo<AdapterKind>& info) {
                           return std::string(to_string(info.param));
                         });

TEST(AdapterFile, NamesOfAnyVersionOfTransformersAreThePublishedOnes) {
  const TemporaryFolder folder;
  const auto tensors = random_adapter(nano(), kILora);
  for (const auto& [published, in_memory] : std::vector<std::pair<std::string, std::string>>{
           {"base_model.model.model.layers.", "base_model.model.model.language_model.layers."},
           {"base_model.model.", "base_model.model.thinker."}}) {
    std::vector<NamedTensor> renamed = tensors;
    for (NamedTensor& tensor : renamed)
      if (tensor.name.starts_with(published))
        tensor.name = in_memory + tensor.name.substr(published.size());
    ASSERT_TRUE(write_safetensors(folder / "renamed.safetensors", renamed, {}).has_value());
    expect_same_bits(open(folder / "renamed.safetensors").tensors, tensors);
  }
}

TEST(AdapterFile, ScopeRankAndHeadsComeFromTheTensors) {
  const TemporaryFolder folder;
  AdapterSpec spec = kILora;
  spec.scope = AdapterScope::language_model;
  write_file(folder / "weights.bin", finetune_weights(random_adapter(nano(), spec)));
  const AdapterFile file = open(folder / "weights.bin");
  EXPECT_EQ(file.format, "torch.save");
  EXPECT_EQ(file.kind, AdapterKind::ilora);
  EXPECT_EQ(file.rank, 4U);
  EXPECT_EQ(file.heads, 2U);
  EXPECT_EQ(file.scope, AdapterScope::language_model);
  EXPECT_FALSE(file.alpha.has_value());
  EXPECT_EQ(file.base_hash, "");
}

TEST(AdapterFile, WhatIsNotSaidMustBeGivenAndNotBeDenied) {
  const TemporaryFolder folder;
  write_file(folder / "weights.bin", finetune_weights(random_adapter(nano(), kILora)));
  const AdapterFile torch = open(folder / "weights.bin");
  EXPECT_THAT(complete_spec(torch, {}).error().message, HasSubstr("give --alpha"));
  EXPECT_EQ(complete_spec(torch, {.kind = AdapterKind::crab_v1, .alpha = 2})->kind,
            AdapterKind::crab_v1);
  const AdapterFile ours = open(write_crab(folder, kILora, random_adapter(nano(), kILora)));
  EXPECT_THAT(complete_spec(ours, {.kind = {}, .alpha = 11}).error().message,
              HasSubstr("its alpha is 10, not 11"));
  const AdapterFile lora = open(write_crab(folder, kLora, random_adapter(nano(), kLora)));
  EXPECT_THAT(complete_spec(lora, {.kind = AdapterKind::ilora}).error().message,
              HasSubstr("of kind lora, not ilora"));
  EXPECT_THAT(complete_spec(ours, {.kind = AdapterKind::crab_v1}).error().message,
              HasSubstr("of kind ilora, not crab_v1"));
  // A file that does not say its kind serves as either.
  AdapterSpec crab_v1 = kILora;
  crab_v1.kind = AdapterKind::crab_v1;
  EXPECT_TRUE(check_adapter(torch, nano(), crab_v1, nano_hash()).has_value());
  EXPECT_FALSE(check_adapter(ours, nano(), crab_v1, nano_hash()).has_value());
}

TEST(AdapterFile, RefusesAnotherBaseKindRankScopeAndAlpha) {
  const TemporaryFolder folder;
  const AdapterFile file = open(write_crab(folder, kILora, random_adapter(nano(), kILora)));
  const auto refused = [&](auto change, const std::string& hash = nano_hash()) {
    AdapterSpec spec = kILora;
    change(spec);
    const Status status = check_adapter(file, nano(), spec, hash);
    EXPECT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::invalid_argument);
    return status.error().message;
  };
  EXPECT_THAT(refused([](auto&) {}, "0123"), HasSubstr("the hash of its base is " + nano_hash()));
  EXPECT_THAT(refused([](auto& s) { s.kind = AdapterKind::lora; }),
              HasSubstr("its kind is ilora, not lora"));
  EXPECT_THAT(refused([](auto& s) { s.kind = AdapterKind::full; }), HasSubstr("not full"));
  EXPECT_THAT(refused([](auto& s) { s.alpha = 3; }), HasSubstr("its alpha is 10, not 3"));
  const std::string message = refused([](auto& s) {
    s.rank = 8;
    s.heads = 3;
    s.scope = AdapterScope::language_model;
  });
  EXPECT_THAT(message, HasSubstr("its rank is 4, not 8"));
  EXPECT_THAT(message, HasSubstr("its number of heads is 2, not 3"));
  EXPECT_THAT(message, HasSubstr("its scope is all, not language_model"));
}

TEST(AdapterFile, NamesEveryTensorThatDoesNotFit) {
  const TemporaryFolder folder;
  auto tensors = random_adapter(nano(), kILora);
  const std::string missing = tensors[3].name, misshapen = tensors[6].name;
  tensors[6].tensor = tensors[6].tensor.narrow(0, 1, 5).contiguous();
  tensors[3].name = "base_model.model.model.layers.9.self_attn.q_proj.lora_B1.weight";
  const AdapterFile file = open(write_crab(folder, kILora, tensors));
  const std::string message = check_adapter(file, nano(), kILora, nano_hash()).error().message;
  EXPECT_THAT(message, HasSubstr("missing: " + missing));
  EXPECT_THAT(message, HasSubstr("surplus: base_model.model.model.layers.9"));
  EXPECT_THAT(message, HasSubstr("wrong shape or type: " + misshapen + " is Float [5, 4]"));

  // Of another base altogether: bounded, and counted.
  ThinkerConfig wide = nano();
  wide.text.hidden_size = 64;
  const Status other =
      check_adapter(open(folder / "adapter.safetensors"), wide, kILora, nano_hash());
  ASSERT_FALSE(other.has_value());
  EXPECT_THAT(other.error().message, HasSubstr("more of these: wrong shape or type"));
  EXPECT_LT(other.error().message.size(), 8000U);
}

TEST(AdapterFile, RefusesWhatIsNoAdapter) {
  const TemporaryFolder folder;
  const auto written = [&](const std::vector<NamedTensor>& tensors) {
    EXPECT_TRUE(write_safetensors(folder / "a.safetensors", tensors, {}).has_value());
    return refusal(folder / "a.safetensors");
  };
  const at::Tensor two = at::ones({2, 2});
  EXPECT_THAT(written({}), HasSubstr("holds no tensor"));
  EXPECT_THAT(written({{"weight", two}}), HasSubstr("tensor weight is of no adapter"));
  EXPECT_THAT(written({{"base_model.model.model.layers.0.q_proj.lora_B.weight", two}}),
              HasSubstr("no tensor of it is a lora_A"));
  EXPECT_THAT(written({{"base_model.model.model.layers.0.q_proj.lora_A.weight", two},
                       {"base_model.model.model.layers.0.q_proj.lora_B1.weight", two}}),
              HasSubstr("its modules have lora_A, lora_B1"));
  EXPECT_THAT(refusal(folder.path()), HasSubstr("none of adapter_config.json"));
  EXPECT_THAT(refusal(folder / "nothing"), HasSubstr("nothing"));
}

// ---- peft

TEST(Peft, ALoraComesBackBitByBit) {
  const TemporaryFolder folder;
  const auto tensors = random_adapter(nano(), kLora);
  const Status written = export_peft(source(kLora, tensors), folder / "peft");
  ASSERT_TRUE(written.has_value()) << written.error().message;
  const AdapterFile file = open(folder / "peft");
  EXPECT_EQ(file.format, "peft");
  expect_same_bits(file.tensors, tensors);
  EXPECT_TRUE(*complete_spec(file, {}) == kLora);
  EXPECT_EQ(export_peft(source(kLora, tensors), folder / "peft").error().code,
            Errc::already_exists);
}

TEST(Peft, EachHeadIsALoraAndTheRoutedFormIsBesideThem) {
  const TemporaryFolder folder;
  const auto tensors = random_adapter(nano(), kILora);
  ASSERT_TRUE(export_peft(source(kILora, tensors), folder / "heads").has_value());
  const AdapterFile all = open(folder / "heads");
  expect_same_bits(all.tensors, tensors);
  EXPECT_TRUE(*complete_spec(all, {}) == kILora);
  for (const std::string head : {"0", "1"}) {
    const AdapterFile one = open(folder / "heads" / ("head_" + head));
    EXPECT_EQ(one.kind, AdapterKind::lora);
    EXPECT_EQ(one.alpha, kILora.alpha);
    std::vector<NamedTensor> expected;
    for (const auto& [name, tensor] : tensors) {
      if (name.ends_with("lora_A.weight")) expected.push_back({name, tensor});
      if (const auto at = name.find("lora_B" + head); at != std::string::npos)
        expected.push_back({name.substr(0, at) + "lora_B.weight", tensor});
    }
    expect_same_bits(one.tensors, expected);
  }
  EXPECT_FALSE(fs::exists(folder / "heads.partial"));
}

TEST(Peft, HasNoFormForAllWeights) {
  const TemporaryFolder folder;
  const AdapterSpec full{.kind = AdapterKind::full};
  const Status written = export_peft(source(full, random_adapter(nano(), full)), folder / "out");
  EXPECT_EQ(written.error().code, Errc::unsupported);
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Peft, RefusesWhatIsMoreThanAPlainLora) {
  const TemporaryFolder folder;
  ASSERT_TRUE(
      export_peft(source(kLora, random_adapter(nano(), kLora)), folder / "peft").has_value());
  const fs::path config = folder / "peft" / kPeftConfig;
  const std::string good = crabcast::testing::read_file(config);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    EXPECT_NE(text.find(from), std::string::npos) << from;
    write_file(config, text.replace(text.find(from), from.size(), to));
    return refusal(folder / "peft");
  };
  EXPECT_THAT(with("\"LORA\"", "\"LOHA\""), HasSubstr("peft_type is not LORA"));
  EXPECT_THAT(with("\"use_dora\": false", "\"use_dora\": true"), HasSubstr("use_dora is true"));
  EXPECT_THAT(with("\"use_rslora\": false", "\"use_rslora\": true"), HasSubstr("use_rslora"));
  EXPECT_THAT(with("\"bias\": \"none\"", "\"bias\": \"all\""), HasSubstr("bias"));
  EXPECT_THAT(with("\"use_dora\": false", "\"rank_pattern\": {\"q_proj\": 8}"),
              HasSubstr("rank_pattern"));
  EXPECT_THAT(with("\"use_dora\": false", "\"init_lora_weights\": \"pissa\""), HasSubstr("pissa"));
  EXPECT_THAT(with("\"r\": 3", "\"r\": 0"), HasSubstr("r is 0"));
  EXPECT_THAT(with("\"r\": 3", "\"r\": 4"), HasSubstr("rank 4; its tensors are lora of rank 3"));
  EXPECT_THAT(with("\"lora_alpha\": 7.5", "\"lora_alpha\": null"), HasSubstr("lora_alpha is null"));
  EXPECT_THAT(with("{", ""), HasSubstr(kPeftConfig));
  write_file(config, good);
  EXPECT_TRUE(open_adapter(folder / "peft").has_value());
}

// ---- What people see

TEST(AdapterInspection, SaysWhatItIs) {
  const TemporaryFolder folder;
  auto tensors = random_adapter(nano(), kILora);
  const auto report = [&] {
    const auto found = inspect_adapter(write_crab(folder, kILora, tensors));
    EXPECT_TRUE(found.has_value()) << found.error().message;
    return std::move(*found);
  };
  const AdapterInspection good = report();
  EXPECT_TRUE(good.clean());
  EXPECT_EQ(good.modules, tensors.size() / 4);
  EXPECT_THAT(good.text(),
              HasSubstr("kind ilora, rank 4, 2 heads, scope all\nalpha 10, dropout 0.25"));
  EXPECT_THAT(good.text(), HasSubstr(nano_hash()));
  EXPECT_THAT(good.text(), Not(HasSubstr("zero")));
  EXPECT_THAT(good.json(), HasSubstr("\"kind\": \"ilora\""));
  tensors[0].tensor[0][0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(report().clean());
  EXPECT_THAT(report().text(), HasSubstr("not finite"));
  for (NamedTensor& tensor : tensors)
    if (tensor.name.find("lora_B") != std::string::npos) tensor.tensor.zero_();
  EXPECT_THAT(report().text(), HasSubstr("every B is zero"));
}

}  // namespace
}  // namespace crabcast::model

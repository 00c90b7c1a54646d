// `crabcast base inspect`, short of the command line.
#include "model/base_inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/base.h"
#include "tests/model/hf_base.h"

namespace crabcast::model {
namespace {

using crabcast::testing::TemporaryFolder;
using crabcast::testing::write_file;
using nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

BaseInspection inspect(const std::filesystem::path& folder) {
  auto report = inspect_base(folder);
  EXPECT_TRUE(report.has_value()) << report.error().message;
  return std::move(*report);
}

TEST(BaseInspect, CountsTheParts) {
  const TemporaryFolder folder;
  const WeightMap weights = test::write_base(
      folder.path(), nano(), {.shard_bytes = 500'000, .type = at::kBFloat16, .other_parts = true});
  std::uint64_t seen = 0, all = 0;
  const auto report = inspect_base(folder.path(), [&](std::uint64_t done, std::uint64_t total) {
    seen = done;
    all = total;
  });
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_TRUE(report->clean()) << report->text();
  EXPECT_EQ(report->model_type, "qwen2_5_omni");
  EXPECT_GT(report->shards, 3U);
  EXPECT_EQ(report->hash, *hash_base(nano(), weights));
  EXPECT_EQ(report->skipped_tensors, 2U);
  EXPECT_EQ(report->skipped_bytes, 4 * (24U + 7U));

  std::uint64_t tensors = 0, parameters = 0, bytes = 0;
  std::vector<std::string> names;
  for (const auto& part : report->parts) {
    names.push_back(part.name);
    tensors += part.tensors, parameters += part.parameters, bytes += part.bytes;
  }
  EXPECT_THAT(names, ElementsAre("text", "audio", "vision", "head"));
  EXPECT_EQ(report->parts[3].parameters, 272U * 128);
  EXPECT_EQ(tensors, weights.size());
  EXPECT_EQ(bytes, 2 * parameters);
  EXPECT_EQ(seen, bytes);
  EXPECT_EQ(all, bytes);
  ASSERT_EQ(report->types.size(), 1U);
  EXPECT_EQ(report->types[0].name, "BF16");
  EXPECT_EQ(report->types[0].tensors, weights.size());

  ASSERT_EQ(report->adapters.size(), 2U);
  EXPECT_EQ(report->adapters[0].scope, "all");
  EXPECT_EQ(report->adapters[0].modules, adapter_modules(nano(), AdapterScope::all).size());
  EXPECT_EQ(report->adapters[1].parameters,
            adapter_parameters(adapter_modules(nano(), AdapterScope::language_model), 128, 3));
}

TEST(BaseInspect, PrintsTextAndJson) {
  const TemporaryFolder folder;
  test::write_base(folder.path(), nano(), {.nested = false});
  const BaseInspection report = inspect(folder.path());
  EXPECT_THAT(report.text(), HasSubstr("qwen2_5_omni_thinker: text 4 layers of 128 with 4 heads"));
  EXPECT_THAT(report.text(), HasSubstr("hash " + report.hash));
  EXPECT_THAT(report.text(), HasSubstr("language_model"));
  EXPECT_THAT(report.notes, Contains(HasSubstr("no tokenizer.json")));
  const json parsed = json::parse(report.json());
  EXPECT_EQ(parsed.at("clean"), true);
  EXPECT_EQ(parsed.at("hash"), report.hash);
  EXPECT_EQ(parsed.at("shapes").at("text").at("hidden_size"), 128);
  EXPECT_EQ(parsed.at("parts").at("head").at("bytes"), 272 * 128 * 4);
  EXPECT_EQ(parsed.at("types").at("F32").at("tensors"), report.types[0].tensors);
  EXPECT_EQ(parsed.at("adapter").at("all").at("modules"),
            adapter_modules(nano(), AdapterScope::all).size());
  EXPECT_THAT(parsed.at("problems"), IsEmpty());
  write_file(folder / "tokenizer.json", "{}");
  EXPECT_THAT(inspect(folder.path()).notes, IsEmpty());
}

TEST(BaseInspect, ListsEveryProblemAndHashesNothing) {
  const TemporaryFolder folder;
  WeightMap weights = test::random_weights(nano(), at::kFloat, 1);
  std::erase_if(weights, [](const auto& one) { return one.first.starts_with("thinker.visual."); });
  test::write_config(folder.path(), test::config_json(nano()));
  test::write_weights(folder.path(), weights, {});
  const BaseInspection report = inspect(folder.path());
  EXPECT_FALSE(report.clean());
  EXPECT_EQ(report.hash, "");
  EXPECT_GT(report.problems.size(), 20U);
  EXPECT_THAT(report.problems, Contains("tensor thinker.visual.merger.ln_q.weight is missing"));
  EXPECT_THAT(report.text(), HasSubstr("thinker.visual.merger.ln_q.weight is missing"));
  const json parsed = json::parse(report.json());
  EXPECT_EQ(parsed.at("clean"), false);
  EXPECT_TRUE(parsed.at("hash").is_null());
  EXPECT_EQ(parsed.at("problems").size(), report.problems.size());
}

TEST(BaseInspect, ABrokenConfigIsAProblemAndAMissingFolderAnError) {
  const TemporaryFolder folder;
  test::write_base(folder.path(), nano());
  write_file(folder / "config.json", R"({"model_type": "llama"})");
  const BaseInspection report = inspect(folder.path());
  EXPECT_THAT(report.problems, ElementsAre(HasSubstr("model_type is \"llama\"")));
  EXPECT_THAT(report.text(), HasSubstr("llama"));
  EXPECT_EQ(inspect_base(folder / "nowhere").error().code, Errc::not_found);
}

}  // namespace
}  // namespace crabcast::model

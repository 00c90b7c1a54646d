// `crabcast base inspect` and `crabcast base import`, and what finds an imported base.
#include "tests/cli/cli_fixture.h"
#include "tests/model/hf_base.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class BaseVerbsTest : public CliTest {
 protected:
  BaseVerbsTest() {
    model::test::write_base(published(), model::nano(), {.shard_bytes = 1'000'000});
    write_file(published() / "tokenizer.json", "{}");
  }
  [[nodiscard]] fs::path published() const { return folder_ / "published"; }
};

TEST_F(BaseVerbsTest, HelpSaysHow) {
  const auto inspect = run({"base", "inspect", "--help"});
  EXPECT_EQ(inspect.code, 0);
  EXPECT_THAT(inspect.out, HasSubstr("crabcast base inspect /models"));
  EXPECT_THAT(inspect.out, HasSubstr("--json"));
  const auto import = run({"base", "import", "--help"});
  EXPECT_EQ(import.code, 0);
  for (const char* option : {"--name", "--type", "--state", "--json"})
    EXPECT_THAT(import.out, HasSubstr(option));
  EXPECT_EQ(run({"base", "inspect"}).code, 2);
  EXPECT_EQ(run({"base", "import", published()}).code, 2);
  EXPECT_EQ(run({"base", "import", published(), "--name", "x", "--type", "int8"}).code, 2);
}

TEST_F(BaseVerbsTest, InspectShowsABase) {
  const auto done = run({"base", "inspect", published()});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("text 4 layers of 128 with 4 heads"));
  EXPECT_EQ(done.err, "");
  const json report = json::parse(run({"base", "inspect", published(), "--json"}).out);
  EXPECT_EQ(report.at("clean"), true);
  EXPECT_EQ(report.at("hash").get<std::string>().size(), 32U);
}

TEST_F(BaseVerbsTest, InspectFailsWhereThereAreProblems) {
  fs::remove(published() / "model-2.safetensors");
  const auto done = run({"base", "inspect", published()});
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.out, HasSubstr("problems"));
  EXPECT_THAT(done.out, HasSubstr("model-2.safetensors"));
  const json report = json::parse(run({"base", "inspect", published(), "--json"}).out);
  EXPECT_EQ(report.at("clean"), false);

  const auto missing = run({"base", "inspect", folder_ / "nowhere"});
  EXPECT_EQ(missing.code, 4);
  EXPECT_EQ(missing.out, "");
  EXPECT_THAT(missing.err, HasSubstr("there is no folder"));
  const auto error = run({"base", "inspect", folder_ / "nowhere", "--json"});
  EXPECT_EQ(json::parse(error.out).at("error").at("code"), "not_found");
}

TEST_F(BaseVerbsTest, AnImportedBaseIsFoundByItsName) {
  const std::string spec = (folder_ / "job.yaml").string();
  write_file(spec, "name: x\nmodel: {base: omni}\ndata: {corpus: {synthetic: {}}}\n");
  const auto before = run({"validate", spec});
  EXPECT_EQ(before.code, 0);
  EXPECT_THAT(before.err, HasSubstr("there is no base \"omni\" on this machine"));
  const auto refused = run({"run", spec});
  EXPECT_EQ(refused.code, 4);
  EXPECT_THAT(refused.err, HasSubstr("there is no base \"omni\""));
  EXPECT_FALSE(fs::exists(state() / "jobs"));

  const auto done = run({"base", "import", published(), "--name", "omni", "--json"});
  ASSERT_EQ(done.code, 0) << done.err;
  const json imported = json::parse(done.out);
  EXPECT_EQ(imported.at("folder"), (state() / "bases" / "omni").string());
  const json inspected = json::parse(run({"base", "inspect", published(), "--json"}).out);
  EXPECT_EQ(imported.at("hash"), inspected.at("hash"));

  const auto after = run({"validate", spec});
  EXPECT_EQ(after.code, 0);
  EXPECT_THAT(after.err, IsEmpty());
  const auto again = run({"base", "import", published(), "--name", "omni"});
  EXPECT_EQ(again.code, 3);
  EXPECT_THAT(again.err, HasSubstr("choose another name"));
  const auto narrow =
      run({"base", "import", published(), "--name", "narrow", "--type", "bfloat16"});
  EXPECT_EQ(narrow.code, 0) << narrow.err;
  EXPECT_THAT(narrow.out, HasSubstr("model.base: narrow"));
}

}  // namespace
}  // namespace crabcast::testing

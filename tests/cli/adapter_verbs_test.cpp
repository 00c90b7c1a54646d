// `crabcast adapter inspect`, `import` and `export`.
#include "tests/cli/cli_fixture.h"
#include "tests/model/adapter_fixture.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class AdapterVerbsTest : public CliTest {
 protected:
  AdapterVerbsTest() {
    write_file(published(), model::test::finetune_weights(model::test::random_adapter(
                                model::nano(), AdapterSpec{.rank = 4, .heads = 2})));
  }
  [[nodiscard]] fs::path published() const { return folder_ / "finetune_weights.bin"; }
  [[nodiscard]] fs::path out() const { return folder_ / "out.safetensors"; }
};

TEST_F(AdapterVerbsTest, HelpSaysHow) {
  for (const char* verb : {"inspect", "import", "export"}) {
    const auto help = run({"adapter", verb, "--help"});
    EXPECT_EQ(help.code, 0) << help.err;
    EXPECT_THAT(help.out, HasSubstr(std::string("crabcast adapter ") + verb));
    EXPECT_THAT(help.out, HasSubstr("--json"));
    EXPECT_EQ(run({"adapter", verb}).code, 2) << verb;
  }
  EXPECT_THAT(run({"adapter", "export", "--help"}).out, HasSubstr("--checkpoint"));
  EXPECT_EQ(run({"adapter", "export", published(), "--out", "x"}).code, 2);
  EXPECT_EQ(run({"adapter", "export", "--format", "crab", "--out", "x"}).code, 2);
  EXPECT_EQ(
      run({"adapter", "export", published(), "--job", "a-1", "--format", "crab", "--out", "x"})
          .code,
      2);
}

TEST_F(AdapterVerbsTest, InspectShowsAnAdapter) {
  const auto done = run({"adapter", "inspect", published()});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("kind ilora, rank 4, 2 heads, scope all"));
  const json report = run_json({"adapter", "inspect", published()});
  EXPECT_EQ(report.at("rank"), 4);
  EXPECT_TRUE(report.at("alpha").is_null());
  EXPECT_EQ(run({"adapter", "inspect", folder_ / "nowhere"}).code, 4);
}

TEST_F(AdapterVerbsTest, InspectRefusesCode) {
  write_file(published(), model::test::make_zip(model::test::torch_records(
                              "\x80\x02"
                              "cposix\nsystem\n" +
                                  model::test::pickled_text("true") + "\x85R.",
                              {})));
  const auto done = run({"adapter", "inspect", published()});
  EXPECT_EQ(done.code, 1);
  EXPECT_THAT(done.err, HasSubstr("posix.system"));
}

TEST_F(AdapterVerbsTest, ImportChecksAndExportGivesBack) {
  const auto without = run({"adapter", "import", published(), "--base", "nano", "--out", out()});
  EXPECT_EQ(without.code, 3);
  EXPECT_THAT(without.err, HasSubstr("--alpha"));
  const auto done =
      run({"adapter", "import", published(), "--base", "nano", "--alpha", "8", "--out", out()});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("model.adapter.init: " + out().string()));
  const json report = run_json({"adapter", "inspect", out()});
  EXPECT_EQ(report.at("alpha"), 8);
  EXPECT_EQ(report.at("base_hash").get<std::string>().size(), 32U);

  const fs::path peft = folder_ / "peft";
  const auto exported = run({"adapter", "export", out(), "--format", "peft", "--out", peft});
  EXPECT_EQ(exported.code, 0) << exported.err;
  EXPECT_TRUE(fs::exists(peft / "head_1" / "adapter_config.json"));
  EXPECT_EQ(read_file(peft / "adapter.safetensors"), read_file(out()));
  EXPECT_EQ(run({"adapter", "export", out(), "--format", "peft", "--out", peft}).code, 3);
}

TEST_F(AdapterVerbsTest, ExportOfAJobThatIsNotThere) {
  EXPECT_EQ(run({"adapter", "export", "--job", "none-1", "--format", "crab", "--out", out()}).code,
            4);
  { const auto made = open_store("tiny-1"); }
  const auto empty =
      run({"adapter", "export", "--job", "tiny-1", "--format", "crab", "--out", out()});
  EXPECT_EQ(empty.code, 4);
  EXPECT_THAT(empty.err, HasSubstr("no checkpoint"));
  EXPECT_FALSE(fs::exists(out()));
}

}  // namespace
}  // namespace crabcast::testing

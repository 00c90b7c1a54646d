// crabcast validate, and the checks of submit that need no controller.
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class SpecTest : public CliTest {
 protected:
  std::string spec(const std::string& text) const {
    write_file(folder_ / "job.yaml", text);
    return folder_ / "job.yaml";
  }
};

TEST_F(SpecTest, AGoodSpecIsValid) {
  const auto file = spec(small_spec("tiny"));
  const auto done = run({"validate", file});
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_EQ(done.out, file + " is valid\n");
  EXPECT_EQ(done.err, "");
}

TEST_F(SpecTest, PrintShowsEveryDefaultAndIsASpecItself) {
  const auto printed = run({"validate", "--print", spec(small_spec("tiny"))});
  EXPECT_EQ(printed.code, 0);
  EXPECT_THAT(printed.out, HasSubstr("clip_norm: 1"));
  const auto again = run({"validate", "--print", spec(printed.out)});
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.out, printed.out);
}

TEST_F(SpecTest, JsonIsTheSpecWithItsTypes) {
  const json value = run_json({"validate", spec(small_spec("tiny"))});
  EXPECT_EQ(value.at("crabcast"), 1);
  EXPECT_EQ(value.at("name"), "tiny");
  EXPECT_EQ(value.at("train").at("steps"), 40);
  EXPECT_FALSE(value.at("train").contains("epochs"));
  EXPECT_EQ(value.at("train").at("optimizer").at("lr"), 1e-4);
  EXPECT_EQ(value.at("data").at("tasks"), "all");
  EXPECT_EQ(
      value.at("data").at("corpus"),
      (json{{"synthetic", {{"seed", 7}, {"samples_per_dataset", 64}, {"difficulty", "easy"}}}}));
  EXPECT_EQ(value.at("resources").at("worker").at("memory"), "2GiB");
  EXPECT_EQ(value.at("checkpoint").at("every"), "50 steps");
  // JSON is YAML: it is accepted as a spec.
  EXPECT_EQ(run({"validate", spec(value.dump())}).code, 0);
}

TEST_F(SpecTest, InitPrintsASpecThatIsValidAsItIs) {
  const auto made = run({"init", "mine"});
  ASSERT_EQ(made.code, 0) << made.err;
  const auto checked = run({"validate", "--print", spec(made.out)});
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_THAT(checked.out, HasSubstr("name: mine\n"));
  for (const char* field : {"# lr: ", "# time_limit: ", "# after: ", "  base: nano"})
    EXPECT_THAT(made.out, HasSubstr(field));
}

TEST_F(SpecTest, EveryMistakeHasItsPlace) {
  const auto file = spec(
      "crabcast: 1\nname: tiny\nmodel: {base: nano}\n"
      "data: {corpus: {synthetic: {}}}\ntrain:\n  stesp: 3\n  lanes: many\n");
  const auto done = run({"validate", file});
  EXPECT_EQ(done.code, 3);
  EXPECT_EQ(done.out, "");
  EXPECT_THAT(done.err, StartsWith(file + ":6:3: "));
  EXPECT_THAT(done.err, HasSubstr("did you mean"));
  EXPECT_THAT(done.err, HasSubstr("steps"));
  EXPECT_THAT(done.err, HasSubstr("\n" + file + ":7:10: train.lanes: "));
  const json value = run_json({"validate", file}, 3);
  EXPECT_EQ(value.at("valid"), false);
  ASSERT_EQ(value.at("problems").size(), 2U);
  EXPECT_EQ(value.at("problems")[1].at("field"), "train.lanes");
  EXPECT_EQ(value.at("problems")[1].at("line"), 7);
  EXPECT_EQ(value.at("problems")[1].at("column"), 10);
  // Submit reads it the same way, before it looks for a controller.
  const auto submitted = run({"submit", file});
  EXPECT_EQ(submitted.code, 3);
  EXPECT_EQ(submitted.err, done.err);
}

TEST_F(SpecTest, AFileThatCannotBeReadIsNamed) {
  const auto missing = run({"validate", (folder_ / "nothing.yaml").string()});
  EXPECT_EQ(missing.code, 4);
  EXPECT_THAT(missing.err, HasSubstr("nothing.yaml: No such file"));
  const auto folder = run({"validate", folder_.path().string()});
  EXPECT_EQ(folder.code, 3);
  EXPECT_THAT(folder.err, HasSubstr("Is a directory"));
  const auto large = run({"validate", spec(std::string(2U << 20, '#'))});
  EXPECT_EQ(large.code, 3);
  EXPECT_THAT(large.err, HasSubstr("longer than 1 MiB"));
}

}  // namespace
}  // namespace crabcast::testing

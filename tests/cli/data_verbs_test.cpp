// `crabcast data synth` with a difficulty and with --stats.
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(CliTest, SynthPrintsFiguresWithoutRendering) {
  const auto table =
      run({"data", "synth", "--stats", "--difficulty", "hard", "--samples-per-dataset", "4"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("| avqa: Audio-Visual Temporal |"));
  const json figures = run_json(
      {"data", "synth", "--stats", "--difficulty", "normal", "--samples-per-dataset", "4"});
  EXPECT_EQ(figures.at(0).at("samples"), 8);
  EXPECT_GT(figures.at(2).at("needs").at("both").get<double>(), 0);
}

TEST_F(CliTest, SynthNeedsAFolderOrStatsAndAKnownDifficulty) {
  EXPECT_EQ(run({"data", "synth"}).code, 2);
  EXPECT_EQ(run({"data", "synth", "--stats", "--out", folder_ / "c"}).code, 2);
  EXPECT_EQ(run({"data", "synth", "--json", "--out", folder_ / "c"}).code, 2);
  const auto unknown = run({"data", "synth", "--out", folder_ / "c", "--difficulty", "brutal"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("brutal"));
}

}  // namespace
}  // namespace crabcast::testing

// crabcast plan: what a worker needs, and whether it fits.
#include <fstream>

#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

using ::testing::HasSubstr;

class PlanTest : public CliTest {
 protected:
  [[nodiscard]] std::string spec(const std::string& more) const {
    const std::string path = folder_ / "job.yaml";
    std::ofstream(path) << "name: t\ndata: {corpus: {synthetic: {}}}\n" << more;
    return path;
  }
};

TEST_F(PlanTest, SaysEachPartAndThatItFits) {
  const std::string file = spec("model: {base: nano}\n");
  const json plan = run_json({"plan", file});
  EXPECT_GT(plan.at("base_parameters").get<int>(), 100'000);
  EXPECT_EQ(plan.at("fits"), true);
  std::uint64_t sum = 0;
  for (const auto& [part, bytes] : plan.at("memory").items()) sum += bytes.get<std::uint64_t>();
  EXPECT_EQ(plan.at("needed"), sum);
  EXPECT_EQ(plan.at("room"), 2ULL << 30);
  const auto text = run({"plan", file});
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.out, HasSubstr("fits: "));
  EXPECT_THAT(text.out, HasSubstr("activations"));
}

TEST_F(PlanTest, SaysThatItDoesNotFitAndWhatWouldHelp) {
  const std::string file = spec(
      "model: {base: nano}\ntrain: {samples_per_lane: 64}\n"
      "resources: {worker: {memory: 512MiB}}\n");
  const auto text = run({"plan", file});
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.out, HasSubstr("does NOT fit"));
  EXPECT_THAT(text.out, HasSubstr("train.recompute: layers"));
  EXPECT_EQ(run_json({"plan", file}, 1).at("fits"), false);
  EXPECT_EQ(run_json({"plan", file, "--device-memory", "64GiB"}).at("fits"), true);
}

TEST_F(PlanTest, RecomputingAndFewerTokensNeedLess) {
  const auto needed = [&](const std::string& more, std::vector<std::string> options = {}) {
    options.insert(options.begin(), {"plan", spec("model: {base: nano}\n" + more)});
    return run_json(options).at("memory").at("activations").get<std::uint64_t>();
  };
  const auto all = needed("");
  EXPECT_LT(needed("train: {recompute: layers}\n"), all / 3 * 2);
  EXPECT_LT(needed("", {"--text-tokens", "16", "--answer-tokens", "8"}), all);
  // A pack of one sample needs what a lane of one does, and a limit that is not reached changes
  // nothing.
  EXPECT_EQ(needed("train: {samples_per_lane: 8, pack_tokens: 1}\n"),
            needed("train: {samples_per_lane: 1}\n"));
  EXPECT_EQ(needed("train: {samples_per_lane: 8, pack_tokens: 1000000}\n"),
            needed("train: {samples_per_lane: 8}\n"));
}

TEST_F(PlanTest, BadInputIsRefused) {
  const auto message = [&](std::vector<std::string> arguments, int code) {
    return run_json(std::move(arguments), code).at("error").at("message").get<std::string>();
  };
  EXPECT_THAT(message({"plan", folder_ / "none.yaml"}, 4), HasSubstr("none.yaml"));
  EXPECT_THAT(message({"plan", folder_.path()}, 3), HasSubstr("job spec"));
  EXPECT_THAT(message({"plan", spec("model: {base: nanoo}\n")}, 4), HasSubstr("nanoo"));
  EXPECT_THAT(message({"plan", spec("model: {base: nano, adaptor: {}}\n")}, 3),
              HasSubstr("adapter"));
  EXPECT_THAT(message({"plan", spec("model: {base: nano}\n"), "--device-memory", "80"}, 3),
              HasSubstr("--device-memory"));
}

}  // namespace
}  // namespace crabcast::testing

// Scenarios that cannot be played, and the points that can be named. What is staged is in
// tests/chaos/.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "protocol/fault_points.h"
#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

using ::testing::HasSubstr;

class Chaos : public ::testing::Test {
 protected:
  Finished play(const std::string& scenario) {
    write_file(folder_ / "job.yaml", "crabcast: 1\n");
    write_file(folder_ / "scenario.yaml", scenario);
    return run_program("crabcast", {"chaos", "run", (folder_ / "scenario.yaml").string()}, 30s);
  }
  TemporaryFolder folder_;
};

TEST_F(Chaos, AScenarioThatCannotBePlayedIsRefusedWithItsLine) {
  const std::string head = "crabcast_chaos: 1\njob: job.yaml\n";
  for (const auto& [text, why] : std::vector<std::pair<std::string, std::string>>{
           {"crabcast_chaos: 2\njob: job.yaml\n", ":1:17: expected version 1"},
           {"crabcast_chaos: 1\njob: other.yaml\n", ":2:6: no file"},
           {"crabcast_chaos: 1\n", "no job is given"},
           {head + "falts: []\n", ":3:1: no field is named 'falts'; did you mean faults?"},
           {head + "faults:\n  - {kil: worker-0}\n", "no field is named 'kil'; did you mean kill?"},
           {head + "faults:\n  - {for: 3s}\n", "no fault is named"},
           {head + "faults:\n  - {kill: worker-0, stop: worker-1}\n", "one fault at a time"},
           {head + "faults:\n  - {kill: worker-0, at: step x}\n", "expected 'step N'"},
           {head + "faults:\n  - {partition: node-1}\n", "partition needs 'for'"},
           {head + "faults:\n  - {delay: node-1, for: 3s}\n", "delay needs 'by'"},
           {head + "orders: [worker-0@nowhere=kill]\n", "no point is named 'nowhere'"},
           {head + "random: {kinds: [explode]}\n", "can be drawn is named 'explode'"},
           {head + "random: {kinds: [partition]}\n", "can be drawn is named 'partition'"},
           {head + "faults: 3\n", "expected a list of faults"},
           {head + "orders: worker-0@step.apply=kill\n", "expected a list of orders"},
           {head + "random: {steps: [9, 3]}\n", "from 9 to"},
           {head + "nodes: 99\n", "from 1 to 8"},
           {head + "incidents: {worker-0: many}\n", "expected a whole number"}}) {
    const auto done = play(text);
    EXPECT_NE(done.code, 0) << text;
    EXPECT_THAT(done.err, HasSubstr(why)) << text;
  }
}

TEST_F(Chaos, AFileThatIsNotThere) {
  const auto done = run_program("crabcast", {"chaos", "run", (folder_ / "no.yaml").string()}, 30s);
  EXPECT_NE(done.code, 0);
  EXPECT_THAT(done.err, HasSubstr("no scenario"));
}

TEST_F(Chaos, EveryPointIsListed) {
  const auto done = run_program("crabcast", {"chaos", "points", "--json"}, 30s);
  ASSERT_EQ(done.code, 0) << done.err;
  const auto answer = nlohmann::json::parse(done.out);
  std::set<std::string> listed;
  for (const auto& point : answer["points"]) listed.insert(point["point"].get<std::string>());
  EXPECT_EQ(listed.size(), fault_points().size());
  EXPECT_TRUE(listed.contains("checkpoint.commit.before"));
}

}  // namespace
}  // namespace crabcast::testing

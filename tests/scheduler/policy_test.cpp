#include "scheduler/policy.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/scheduler/staged.h"

namespace crabcast::scheduler {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string problems_of(const std::string& yaml) {
  const auto policy = parse_policy(yaml, "policy.yaml");
  return policy ? "" : policy.error().text();
}

TEST(Policy, OneQueueWithoutAFile) {
  const ClusterPolicy policy = ClusterPolicy::standard();
  EXPECT_THAT(policy.leaves(), ElementsAre("default"));
  EXPECT_FALSE(policy.preemption.has_value());
  EXPECT_EQ(policy.backfill_depth, 0U);
  EXPECT_TRUE(policy.admits("default", "ann", Priority::critical));
}

TEST(Policy, ReadsEveryField) {
  const ClusterPolicy policy = policy_of(R"(
crabcast: 1
backfill: {depth: 7}
preemption: {min_runtime: 5m, grace: 30s}
starvation: 12h
queues:
  research:
    weight: 3
    guaranteed: {cpus: 8.5, gpus: 4, memory: 64GiB}
    limit: {gpus: 8}
    users: [ann, bob]
    queues:
      vision:
        guaranteed: {gpus: 4}
        priorities: [low, normal]
      audio:
  batch:
users:
  "*": {running: 3}
  ann: {running: 9, gpus: 6}
)");
  EXPECT_EQ(policy.backfill_depth, 7U);
  ASSERT_TRUE(policy.preemption.has_value());
  EXPECT_EQ(policy.preemption->min_runtime, std::chrono::minutes(5));
  EXPECT_EQ(policy.preemption->grace, std::chrono::seconds(30));
  EXPECT_EQ(policy.starvation, std::chrono::hours(12));
  EXPECT_THAT(policy.leaves(), ElementsAre("research/vision", "research/audio", "batch"));
  const QueuePolicy* research = policy.find("research");
  ASSERT_NE(research, nullptr);
  EXPECT_EQ(research->weight, 3);
  EXPECT_EQ(research->guaranteed, (Quota{8500, 4, 64 * kGiB}));
  EXPECT_EQ(research->limit, (Quota{{}, 8, {}}));
  EXPECT_EQ(policy.user("ann")->limit.gpus, 6);
  EXPECT_EQ(policy.user("carol")->running, 3U);
}

TEST(Policy, SaysWhoMaySubmitWhat) {
  const ClusterPolicy policy =
      policy_of("queues: {a: {users: [ann], queues: {x: , y: {priorities: [low]}}}, b: }");
  EXPECT_TRUE(policy.admits("a/x", "ann", Priority::high));
  const auto wrong_user = policy.admits("a/x", "bob", Priority::high);
  ASSERT_FALSE(wrong_user);
  EXPECT_EQ(wrong_user.error().code, Errc::permission_denied);
  EXPECT_THAT(wrong_user.error().message, HasSubstr("jobs of ann, not of bob"));
  EXPECT_EQ(policy.admits("a/y", "ann", Priority::high).error().code, Errc::permission_denied);
  EXPECT_THAT(policy.admits("a", "ann", Priority::low).error().message, HasSubstr("a/x, a/y"));
  EXPECT_THAT(policy.admits("a/z", "ann", Priority::low).error().message,
              HasSubstr("there is no queue a/z; did you mean a/"));
}

struct Mistake {
  const char* name;
  std::string yaml;
  std::string message;
};
class PolicyMistakes : public testing::TestWithParam<Mistake> {};

TEST_P(PolicyMistakes, AreNamedWithTheirPlace) {
  EXPECT_THAT(problems_of(GetParam().yaml), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, PolicyMistakes,
    testing::Values(
        Mistake{"nothing", "", "policy.yaml:"},
        Mistake{"no_queues", "starvation: off\n", "queues: is missing"},
        Mistake{"unknown", "queus: {a: }\n",
                "policy.yaml:1:1: queus: unknown field; did you mean "
                "queues?"},
        Mistake{"deep", "queues:\n  a:\n    wieght: 2\n",
                "policy.yaml:3:5: queues.a.wieght: unknown field; did you mean weight?"},
        Mistake{"weight", "queues:\n  a: {weight: 0}\n", "2:15: queues.a.weight: \"0\" is out"},
        Mistake{"name", "queues:\n  Big: \n", "2:3: queues: \"Big\" is not a queue's name"},
        Mistake{"twice", "queues:\n  a:\n  a:\n", "3:3: queues.a: is given twice; first in line 2"},
        Mistake{"memory", "queues:\n  a: {limit: {memory: 5}}\n", "\"5\" is not a size"},
        Mistake{"priority", "queues:\n  a: {priorities: [hihg]}\n", "did you mean high?"},
        Mistake{"duration", "preemption: {min_runtime: ten}\nqueues: {a: }\n",
                "not such a duration"},
        Mistake{"sum",
                "queues:\n  a:\n    guaranteed: {gpus: 4}\n    queues:\n      x: {guaranteed: "
                "{gpus: 3}}\n      y: {guaranteed: {gpus: 2}}\n",
                "the queues in a are guaranteed 5 GPUs together, and a itself 4 GPUs"},
        Mistake{"limit", "queues:\n  a: {guaranteed: {gpus: 4}, limit: {gpus: 2}}\n",
                "4 GPUs is more than its limit of 2 GPUs"},
        Mistake{"depth", "backfill: {depth: 0}\nqueues: {a: }\n", "from 1 to 100000"},
        Mistake{"version", "crabcast: 2\nqueues: {a: }\n", "\"2\" is not known to this program"}),
    [](const auto& test) { return test.param.name; });

TEST(Policy, ReportsAllMistakesAtOnce) {
  const std::string text =
      problems_of("starvation: soon\nqueues:\n  a: {weight: x, limit: {gpu: 1}}\n");
  EXPECT_THAT(text, HasSubstr("policy.yaml:1:13: starvation"));
  EXPECT_THAT(text, HasSubstr("queues.a.weight"));
  EXPECT_THAT(text, HasSubstr("queues.a.limit.gpu: unknown field; did you mean gpus?"));
}

// The example on the page is what people copy.
TEST(Policy, TheExampleInTheDocumentationIsValid) {
  const char* source = std::getenv("CRABCAST_SOURCE");
  ASSERT_NE(source, nullptr) << "set CRABCAST_SOURCE to the repository";
  std::ifstream file(std::string(source) + "/docs/scheduling.md");
  std::ostringstream page;
  page << file.rdbuf();
  const std::string text = page.str();
  const auto begin = text.find("```yaml\n");
  ASSERT_NE(begin, std::string::npos);
  const auto end = text.find("```", begin + 8);
  const ClusterPolicy policy = policy_of(text.substr(begin + 8, end - begin - 8));
  EXPECT_GE(policy.queues.size(), 4U);
  EXPECT_TRUE(policy.preemption.has_value());
}

TEST(Reasons, EachHasANameOnThePageInTheirOrder) {
  const char* source = std::getenv("CRABCAST_SOURCE");
  ASSERT_NE(source, nullptr) << "set CRABCAST_SOURCE to the repository";
  std::ifstream file(std::string(source) + "/docs/scheduling.md");
  std::ostringstream page;
  page << file.rdbuf();
  std::size_t at = 0;
  for (const PendingReason reason : every_pending_reason()) {
    if (reason == PendingReason::none) continue;
    at = page.str().find("| `" + std::string(to_string(reason)) + "` |", at);
    ASSERT_NE(at, std::string::npos) << to_string(reason);
  }
}

}  // namespace
}  // namespace crabcast::scheduler

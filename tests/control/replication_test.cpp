// Which nodes get copies, when, and what is safe: in virtual time.
#include "actors/control/replication.h"

#include <gmock/gmock.h>

#include <map>
#include <random>

namespace crabcast::actors {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

class ReplicationTest : public testing::Test {
 protected:
  static Replication copies(std::uint32_t replicas, std::optional<std::uint32_t> quorum = {},
                            std::uint64_t safe = 0) {
    CheckpointSpec spec;
    spec.replicas = replicas;
    spec.quorum = quorum;
    return {"job-1", spec, safe};
  }
  // "NODE: CHECKPOINT" of each copy that is due now.
  std::vector<std::string> due(Replication& replication) {
    std::vector<std::string> lines;
    for (const auto& copy : replication.due(now_))
      lines.push_back(copy.node + ": " + std::to_string(copy.checkpoint));
    return lines;
  }
  // The nodes that a job's copies go to.
  static std::vector<std::string> chosen(const std::string& job, std::uint32_t replicas,
                                         const std::set<std::string>& nodes) {
    CheckpointSpec spec;
    spec.replicas = replicas;
    Replication replication(job, spec, 0);
    replication.on_nodes(nodes);
    replication.on_stored(1);
    std::vector<std::string> names;
    for (const auto& copy : replication.due(TimePoint{})) names.push_back(copy.node);
    return names;
  }
  TimePoint now_{std::chrono::hours(1)};
};

TEST_F(ReplicationTest, ANodeThatGoesMovesItsOwnCopiesOnly) {
  std::set<std::string> nodes;
  for (int i = 0; i < 20; ++i) nodes.insert("node-" + std::to_string(i));
  std::map<std::string, int> load;
  for (int job = 0; job < 200; ++job) {
    const std::string name = "job-" + std::to_string(job);
    const auto before = chosen(name, 2, nodes);
    ASSERT_EQ(before.size(), 2U);
    for (const auto& node : before) ++load[node];
    auto fewer = nodes;
    fewer.erase("node-7");
    const auto after = chosen(name, 2, fewer);
    for (const auto& node : before) {
      if (node == "node-7") continue;
      EXPECT_THAT(after, Contains(node));
    }
  }
  for (const auto& [node, copies] : load) EXPECT_LT(copies, 45) << node << ": 20 are its share";
  EXPECT_EQ(load.size(), 20U);
}

TEST_F(ReplicationTest, OnlyTheNewestIsCopiedAndOneAtATime) {
  auto replication = copies(1);
  replication.on_nodes({"a"});
  EXPECT_THAT(due(replication), IsEmpty()) << "there is no checkpoint yet";
  replication.on_stored(4);
  EXPECT_THAT(due(replication), ElementsAre("a: 4"));
  replication.on_stored(8);
  replication.on_stored(12);
  EXPECT_THAT(due(replication), IsEmpty()) << "the one of step 4 is under way";
  EXPECT_THAT(replication.in_use(), ElementsAre(4));
  replication.on_copied("a", 4, {4, 8, 12});
  EXPECT_THAT(due(replication), ElementsAre("a: 12")) << "8 was overtaken";
}

TEST_F(ReplicationTest, SafeIsWhatAQuorumHolds) {
  auto replication = copies(2);  // of 3 stores, two
  replication.on_nodes({"a", "b"});
  replication.on_stored(4);
  due(replication);
  EXPECT_EQ(replication.safe(), 0U);
  replication.on_copied("b", 4, {4});
  EXPECT_EQ(replication.safe(), 4U);
  EXPECT_THAT(replication.holders(4), ElementsAre("b"));
  replication.on_stored(8);
  EXPECT_EQ(replication.safe(), 4U);
  EXPECT_THAT(replication.in_use(), ElementsAre(4)) << "until a later one is as safe";

  auto all = copies(2, 3);
  all.on_nodes({"a", "b"});
  all.on_stored(4);
  due(all);
  all.on_copied("a", 4, {4});
  EXPECT_EQ(all.safe(), 0U);
  all.on_copied("b", 4, {4});
  EXPECT_EQ(all.safe(), 4U);
}

TEST_F(ReplicationTest, ANodeThatIsAwayStillHolds) {
  auto replication = copies(1);
  replication.on_nodes({"a"});
  replication.on_stored(4);
  due(replication);
  replication.on_copied("a", 4, {4});
  replication.on_nodes({});
  EXPECT_EQ(replication.safe(), 4U);
  replication.on_stored(8);
  EXPECT_THAT(due(replication), IsEmpty());
  replication.on_nodes({"a"});
  EXPECT_THAT(due(replication), ElementsAre("a: 8"));
}

TEST_F(ReplicationTest, WhatWasSafeIsKnownToTheNextCoordinator) {
  auto replication = copies(1, {}, 4);
  EXPECT_EQ(replication.safe(), 4U);
  EXPECT_THAT(replication.in_use(), ElementsAre(4));
  replication.on_nodes({"a"});
  replication.on_stored(8);
  EXPECT_THAT(due(replication), ElementsAre("a: 8"));
  replication.on_opened("a", {4, 8}, false);  // it was sealed, and nobody heard of it
  EXPECT_EQ(replication.safe(), 8U);
}

TEST_F(ReplicationTest, WhatIsVoidIsNotSafeAndMustGo) {
  auto replication = copies(1);
  replication.on_nodes({"a"});
  replication.on_stored(4);
  due(replication);
  replication.on_copied("a", 4, {4});
  replication.on_stored(8);
  due(replication);
  replication.on_copied("a", 8, {4, 8});
  EXPECT_EQ(replication.safe(), 8U);
  replication.on_voided(4, 4);
  EXPECT_EQ(replication.safe(), 4U);
  EXPECT_THAT(due(replication), ElementsAre("a: 0")) << "a holds 4, and 8 has to go";
  replication.on_copied("a", 0, {4});
  EXPECT_THAT(due(replication), IsEmpty());
}

TEST_F(ReplicationTest, ACopyOfWhatBecameVoidMayHaveArrived) {
  auto replication = copies(1);
  replication.on_nodes({"a"});
  replication.on_stored(8);
  EXPECT_THAT(due(replication), ElementsAre("a: 8"));
  replication.on_voided(4, 0);
  replication.on_interrupted("a");
  EXPECT_THAT(due(replication), ElementsAre("a: 0"));
}

TEST_F(ReplicationTest, TriesAreRarerAndEndForAWhile) {
  auto replication = copies(1);
  replication.on_nodes({"a"});
  replication.on_stored(4);
  for (const auto wait : {1, 2, 4, 8}) {
    EXPECT_THAT(due(replication), ElementsAre("a: 4"));
    replication.on_failed("a", now_);
    now_ += seconds(wait) - std::chrono::milliseconds(1);
    EXPECT_THAT(due(replication), IsEmpty()) << wait;
    now_ += std::chrono::milliseconds(1);
  }
  EXPECT_THAT(due(replication), ElementsAre("a: 4"));
  replication.on_failed("a", now_);
  replication.on_stored(8);
  now_ += minutes(9);
  EXPECT_THAT(due(replication), IsEmpty());
  now_ += minutes(1);
  EXPECT_THAT(due(replication), ElementsAre("a: 8"));
  replication.on_failed("a", now_);
  now_ += minutes(9);
  EXPECT_THAT(due(replication), IsEmpty()) << "one try after the rest";
  replication.on_nodes({});
  replication.on_nodes({"a"});
  EXPECT_THAT(due(replication), ElementsAre("a: 8")) << "it came back: all is new";
}

TEST_F(ReplicationTest, AnotherNodeTakesThePlaceOfOneThatFails) {
  auto replication = copies(1);
  replication.on_nodes({"a", "b"});
  replication.on_stored(4);
  const auto first = due(replication);
  ASSERT_EQ(first.size(), 1U);
  const std::string node = first[0].substr(0, 1);
  const std::string other = node == "a" ? "b" : "a";
  for (std::uint32_t i = 0; i < Replication::kTries; ++i) {
    replication.on_failed(node, now_);
    now_ += seconds(8);
    due(replication);
  }
  EXPECT_THAT(replication.in_use(), ElementsAre(4));
  replication.on_copied(other, 4, {4});
  EXPECT_EQ(replication.safe(), 4U);
  EXPECT_TRUE(replication.idle());
}

TEST_F(ReplicationTest, WhatCannotBeReadHereIsNotCopied) {
  auto replication = copies(1);
  replication.on_nodes({"a"});
  replication.on_stored(4);
  EXPECT_THAT(due(replication), ElementsAre("a: 4"));
  replication.on_unreadable(4);
  replication.on_interrupted("a");
  EXPECT_THAT(due(replication), IsEmpty());
  replication.on_stored(8);
  EXPECT_THAT(due(replication), ElementsAre("a: 8"));
}

TEST_F(ReplicationTest, WithAQuorumOfOneACopyIsNamedAllTheSame) {
  auto replication = copies(1, 1);
  replication.on_nodes({"a"});
  replication.on_stored(4);
  due(replication);
  EXPECT_EQ(replication.safe(), 0U) << "nothing was replicated";
  replication.on_copied("a", 4, {4});
  EXPECT_EQ(replication.safe(), 4U);
}

// Any history of nodes that come, go and fail, and of checkpoints that are stored and voided.
class AnyHistory : public ReplicationTest, public testing::WithParamInterface<int> {};

TEST_P(AnyHistory, KeepsItsPromises) {
  std::mt19937 random(static_cast<unsigned>(GetParam()));
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  const auto replicas = 1 + below(3);
  const auto quorum = 1 + below(1 + replicas);
  auto replication = copies(replicas, quorum);
  const std::vector<std::string> all = {"a", "b", "c", "d", "e"};
  std::set<std::string> here;
  std::set<std::uint64_t> stored;                       // here
  std::map<std::string, std::set<std::uint64_t>> held;  // by the nodes
  std::map<std::string, std::uint64_t> copying;
  std::uint64_t step = 0;
  for (int round = 0; round < 400; ++round) {
    now_ += seconds(below(4));
    const auto& node = all[below(5)];
    switch (below(6)) {
      case 0:
        if (!here.erase(node)) here.insert(node);
        replication.on_nodes(here);
        break;
      case 1:
      case 2:
        stored.insert(step += 1 + below(3));
        replication.on_stored(step);
        break;
      case 3: {
        if (stored.empty() || below(4) > 0) break;
        step = *std::next(stored.begin(), below(static_cast<std::uint32_t>(stored.size())));
        stored.erase(stored.upper_bound(step), stored.end());
        replication.on_voided(step, step);
        std::erase_if(copying, [&](const auto& copy) {
          if (copy.second > step) replication.on_interrupted(copy.first);
          return copy.second > step;
        });
        for (auto& [name, ids] : held) ids.erase(ids.upper_bound(step), ids.end());
        break;
      }
      default:
        if (!copying.contains(node)) break;
        if (below(4) == 0) {
          replication.on_failed(node, now_);
        } else {
          if (copying[node] > 0) held[node].insert(copying[node]);
          replication.on_copied(node, copying[node], stored);
        }
        copying.erase(node);
    }
    for (const auto& copy : replication.due(now_)) {
      EXPECT_TRUE(here.contains(copy.node));
      EXPECT_TRUE(copy.checkpoint == 0 || copy.checkpoint == step) << "only the newest";
      EXPECT_TRUE(copying.emplace(copy.node, copy.checkpoint).second) << "one at a time";
    }
    EXPECT_EQ(replication.idle(), copying.empty());
    const auto safe = replication.safe();
    if (safe == 0) continue;
    EXPECT_TRUE(stored.contains(safe));
    EXPECT_TRUE(replication.in_use().contains(safe));
    std::uint32_t holders = 0;
    for (const auto& [name, ids] : held) holders += ids.contains(safe) ? 1 : 0;
    EXPECT_GE(1 + holders, quorum) << "round " << round;
  }
  // In quiet times all is copied.
  replication.on_nodes({all.begin(), all.end()});
  replication.on_stored(++step);
  for (int round = 0; round < 100; ++round) {
    for (const auto& [node, checkpoint] : copying) replication.on_copied(node, checkpoint, {step});
    copying.clear();
    now_ += minutes(1);
    for (const auto& copy : replication.due(now_)) copying[copy.node] = copy.checkpoint;
  }
  EXPECT_EQ(replication.safe(), step);
  EXPECT_GE(replication.holders(step).size(), replicas);
  EXPECT_TRUE(replication.idle());
}
INSTANTIATE_TEST_SUITE_P(Seeds, AnyHistory, testing::Range(0, 50));

}  // namespace
}  // namespace crabcast::actors

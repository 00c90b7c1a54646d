// S-1 and S-2 for any plan: policies, sizes, caps and histories are drawn from seeds.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "data/datasets.h"
#include "data/sampler.h"

namespace crabcast::data {
namespace {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : bits_(seed) {}
  std::uint64_t pick(std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(bits_);
  }
  double number(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(bits_);
  }
  bool coin() { return pick(0, 1) == 1; }

 private:
  std::mt19937_64 bits_;
};

// Sources of the true table, some small and some up to `largest`.
SamplerPlan random_plan(Dice& dice, std::uint64_t largest) {
  SamplerPlan plan;
  plan.seed = dice.pick(0, UINT64_MAX);
  plan.global_batch = static_cast<std::uint32_t>(dice.pick(1, 48));
  for (std::uint32_t i = 0; i < datasets().size(); ++i)
    if (dice.coin())
      plan.sources.push_back(
          {i, datasets()[i].task, dice.coin() ? dice.pick(1, 9) : dice.pick(1, largest)});
  if (plan.sources.empty()) plan.sources.push_back({0, datasets()[0].task, largest});
  auto& mixture = plan.mixture;
  mixture.policy = static_cast<MixturePolicy>(dice.pick(0, 4));
  mixture.temperature = dice.number(1, 10);
  if (mixture.policy == MixturePolicy::weights)
    for (const auto& source : plan.sources) {
      const auto& table = datasets()[source.dataset];
      if (dice.coin()) mixture.weights.emplace_back(table.id, dice.number(0.01, 10));
      const auto named = [&](const auto& w) { return w.first == task_name(table.task); };
      if (dice.coin() && std::ranges::none_of(mixture.weights, named))
        mixture.weights.emplace_back(task_name(table.task), dice.number(0.01, 10));
    }
  if (dice.coin()) mixture.most_epochs = static_cast<std::uint32_t>(dice.pick(1, 5));
  if (mixture.policy == MixturePolicy::adaptive) {
    std::uint64_t step = 1;
    for (auto changes = dice.pick(0, 6); changes > 0; --changes) {
      MixtureChange change;
      change.first_step = step += dice.pick(1, 40);
      for (auto& weight : change.weights) weight = static_cast<std::uint32_t>(dice.pick(250, 4000));
      plan.changes.push_back(change);
    }
  }
  return plan;
}

Sampler make(const SamplerPlan& plan) {
  auto sampler = Sampler::create(plan);
  EXPECT_TRUE(sampler.has_value()) << sampler.error().message;
  return std::move(sampler).value();
}

std::uint64_t total(const SamplerPlan& plan) {
  std::uint64_t sum = 0;
  for (const auto& source : plan.sources) sum += source.samples;
  return sum;
}

// S-2: each data set is gone through again and again, every sample once in each round, and no round
// begins before the one before has ended; whatever the mixture does. No data set is drawn more
// often than the cap says, and nothing but a last partial batch is left out.
TEST(SamplerProperty, EveryDataSetIsDrawnInWholeEpochs) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Dice dice(seed);
    const auto plan = random_plan(dice, 120);
    const auto sampler = make(plan);
    const auto steps =
        std::min<std::uint64_t>(sampler.steps_allowed(), 4 * total(plan) / plan.global_batch + 20);
    std::map<std::uint32_t, std::set<std::uint64_t>> round;
    std::map<std::uint32_t, std::uint64_t> rounds, draws;
    for (std::uint64_t step = 1; step <= steps; ++step) {
      auto batch = sampler.batch(step);
      ASSERT_EQ(batch.size(), plan.global_batch);
      // Slots are turned inside a batch: within it, epochs may come in any order.
      std::stable_sort(batch.begin(), batch.end(),
                       [](const Draw& a, const Draw& b) { return a.epoch < b.epoch; });
      for (const auto& draw : batch) {
        const auto& source = *std::ranges::find(plan.sources, draw.dataset, &SourceSize::dataset);
        ASSERT_LT(draw.index, source.samples);
        ASSERT_EQ(draw.epoch, rounds[draw.dataset]) << datasets()[draw.dataset].id;
        ASSERT_TRUE(round[draw.dataset].insert(draw.index).second) << "drawn twice in an epoch";
        ++draws[draw.dataset];
        if (round[draw.dataset].size() < source.samples) continue;
        round[draw.dataset].clear();
        ++rounds[draw.dataset];
      }
    }
    const auto counted = sampler.drawn(steps);
    auto sources = plan.sources;
    for (std::size_t i = 0; i < sources.size(); ++i)
      ASSERT_EQ(counted[i], draws[sources[i].dataset]) << "drawn() counts otherwise";
    if (!plan.mixture.most_epochs || steps < sampler.steps_allowed()) continue;
    std::uint64_t drawn = 0;
    for (const auto& source : plan.sources) {
      ASSERT_LE(draws[source.dataset], source.samples * *plan.mixture.most_epochs);
      drawn += draws[source.dataset];
    }
    ASSERT_GT(drawn + plan.global_batch, total(plan) * *plan.mixture.most_epochs);
    ASSERT_TRUE(sampler.batch(steps + 1).empty());
  }
}

// S-1: whoever asks, in whatever order and after whatever break, gets the same samples: lanes dealt
// out to any number of workers, served by any number of loaders, each with a sampler of its own.
TEST(SamplerProperty, WorkersLoadersAndResumesChangeNothing) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Dice dice(seed);
    auto plan = random_plan(dice, 2'000'000'000);
    const auto lanes = dice.pick(1, 8), per_lane = dice.pick(1, 6);
    plan.global_batch = static_cast<std::uint32_t>(lanes * per_lane);
    const auto whole = make(plan);
    const auto last = std::min<std::uint64_t>(whole.steps_allowed(), 2'000'000'000);
    if (last < 1) continue;
    const auto first = dice.coin() ? 1 : dice.pick(1, last);  // resumes here
    std::vector<Sampler> loaders;
    for (auto count = dice.pick(1, 4); count > 0; --count) loaders.push_back(make(plan));
    for (auto step = first; step <= std::min(last, first + 20); ++step) {
      const auto expected = whole.batch(step);
      const auto workers = dice.pick(1, lanes);
      for (std::uint64_t worker = 0; worker < workers; ++worker)
        for (auto lane = worker; lane < lanes; lane += workers) {
          const auto& loader = loaders[dice.pick(0, loaders.size() - 1)];
          const auto batch = loader.batch(step);
          for (auto slot = lane * per_lane; slot < (lane + 1) * per_lane; ++slot)
            ASSERT_EQ(batch[slot], expected[slot]);
        }
    }
  }
}

// The steps before a change do not depend on it: a loader that has not heard of it yet draws the
// same.
TEST(SamplerProperty, LaterChangesLeaveEarlierStepsAlone) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Dice dice(seed);
    auto plan = random_plan(dice, 500);
    if (plan.changes.empty()) continue;
    const auto all = make(plan);
    while (!plan.changes.empty()) {
      const auto until = plan.changes.back().first_step;
      plan.changes.pop_back();
      const auto fewer = make(plan);
      for (std::uint64_t step = 1; step < until; ++step)
        ASSERT_EQ(fewer.batch(step), all.batch(step)) << "step " << step;
    }
  }
}

// Far into a run over two billion samples nothing is repeated, with and without a cap, and the
// first sample of any step is found at once.
TEST(SamplerProperty, BillionsOfSamples) {
  for (int policy = 0; policy <= static_cast<int>(MixturePolicy::adaptive); ++policy) {
    SamplerPlan plan;
    plan.mixture.policy = static_cast<MixturePolicy>(policy);
    plan.mixture.most_epochs = 3;
    plan.global_batch = 64;
    plan.sources = {{0, Task::action_recognition, 1'500'000'000},
                    {7, Task::av_question_answering, 500'000'000},
                    {16, Task::captioning, 17}};
    if (plan.mixture.policy == MixturePolicy::adaptive)
      plan.changes = {{1'000'001, {4000, 1000, 250, 1000, 1000, 1000, 1000, 1000}}};
    const auto sampler = make(plan);
    EXPECT_EQ(sampler.steps_allowed(), 3 * 2'000'000'017ULL / 64);
    std::set<std::pair<std::uint32_t, std::pair<std::uint64_t, std::uint64_t>>> seen;
    const auto from = sampler.steps_allowed() / 2;
    for (auto step = from; step < from + 500; ++step)
      for (const auto& draw : sampler.batch(step))
        EXPECT_TRUE(seen.insert({draw.dataset, {draw.epoch, draw.index}}).second);
    std::uint64_t drawn = 0;
    for (const auto count : sampler.drawn(sampler.steps_allowed())) drawn += count;
    EXPECT_EQ(drawn, sampler.steps_allowed() * 64);
    EXPECT_EQ(sampler.steps_for_epochs(3), sampler.steps_allowed());
  }
}

std::vector<double> shares(const Sampler& sampler, std::uint64_t steps) {
  const auto counts = sampler.drawn(steps);
  const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
  std::vector<double> result;
  for (const auto count : counts) result.push_back(static_cast<double>(count) / sum);
  return result;
}

SamplerPlan three_sets(MixturePolicy policy) {
  SamplerPlan plan;
  plan.mixture.policy = policy;
  plan.sources = {{0, Task::action_recognition, 1000},
                  {1, Task::action_recognition, 3000},
                  {16, Task::captioning, 16000}};
  return plan;
}

TEST(SamplerShares, TemperatureFlattensSizes) {
  auto plan = three_sets(MixturePolicy::temperature);
  plan.mixture.temperature = 2;
  const double sum = std::sqrt(1000.0) + std::sqrt(3000.0) + std::sqrt(16000.0);
  const auto found = shares(make(plan), 10'000);
  EXPECT_NEAR(found[0], std::sqrt(1000.0) / sum, 1e-4);
  EXPECT_NEAR(found[1], std::sqrt(3000.0) / sum, 1e-4);
  EXPECT_NEAR(found[2], std::sqrt(16000.0) / sum, 1e-4);
  plan.mixture.temperature = 1;
  EXPECT_NEAR(shares(make(plan), 10'000)[2], 0.8, 1e-4) << "1 is proportional";
}

TEST(SamplerShares, WeightsOfTasksAndOfDataSetsWithinThem) {
  auto plan = three_sets(MixturePolicy::weights);
  plan.mixture.weights = {{"captioning", 3}, {"ks", 6}};
  const auto found = shares(make(plan), 10'000);
  EXPECT_NEAR(found[2], 0.75, 1e-4);
  EXPECT_NEAR(found[0], 0.25 * 6000 / 9000, 1e-4);
  EXPECT_NEAR(found[1], 0.25 * 3000 / 9000, 1e-4);
  plan.mixture.weights = {{"avqa", 2}};
  const auto unknown = Sampler::create(plan);
  ASSERT_FALSE(unknown.has_value());
  EXPECT_NE(unknown.error().message.find("avqa"), std::string::npos);
}

// Every batch holds each task's share up to two samples, not only the long run.
TEST(SamplerShares, EveryBatchIsNearItsShares) {
  auto plan = three_sets(MixturePolicy::weights);
  plan.global_batch = 20;
  plan.mixture.weights = {{"captioning", 3}};
  const auto sampler = make(plan);
  for (std::uint64_t step = 1; step < 2000; ++step) {
    const auto batch = sampler.batch(step);
    const auto captions = std::ranges::count(batch, 16U, &Draw::dataset);
    EXPECT_NEAR(static_cast<double>(captions), 15, 2) << "step " << step;
  }
}

TEST(SamplerShares, AChangeCountsFromItsStepOn) {
  auto plan = three_sets(MixturePolicy::adaptive);
  plan.global_batch = 40;
  plan.changes = {{101, {1000, 1000, 1000, 1000, 1000, 1000, 3000, 1000}}};
  const auto sampler = make(plan);
  EXPECT_NEAR(shares(sampler, 100)[2], 0.5, 1e-3);
  const auto before = sampler.drawn(100), after = sampler.drawn(300);
  EXPECT_NEAR(static_cast<double>(after[2] - before[2]) / (200.0 * 40), 0.75, 1e-3);
}

// The share of a data set that is done goes to those of its task, then to the other tasks.
TEST(SamplerShares, ACapHandsTheShareOn) {
  auto plan = three_sets(MixturePolicy::task_balanced);
  plan.mixture.most_epochs = 1;
  plan.global_batch = 8;
  const auto sampler = make(plan);
  EXPECT_EQ(sampler.steps_allowed(), 2500U);
  EXPECT_EQ(sampler.drawn(1000), (std::vector<std::uint64_t>{1000, 3000, 4000}));
  EXPECT_EQ(sampler.drawn(2500), (std::vector<std::uint64_t>{1000, 3000, 16000}));
  EXPECT_EQ(sampler.steps_for_epochs(1), 2500U);
  EXPECT_EQ(sampler.steps_for_epochs(7), 2500U) << "no further than the cap";
}

TEST(SamplerShares, RefusesHistoriesThatMakeNoSense) {
  auto plan = three_sets(MixturePolicy::task_balanced);
  plan.changes = {{10, {1, 1, 1, 1, 1, 1, 1, 1}}};
  EXPECT_EQ(Sampler::create(plan).error().code, Errc::invalid_argument) << "not adaptive";
  plan.mixture.policy = MixturePolicy::adaptive;
  EXPECT_TRUE(Sampler::create(plan).has_value());
  plan.changes.push_back({10, {1, 1, 1, 1, 1, 1, 1, 1}});
  EXPECT_EQ(Sampler::create(plan).error().code, Errc::invalid_argument) << "out of order";
  plan.changes.back() = {11, {1, 1, 0, 1, 1, 1, 1, 1}};
  EXPECT_EQ(Sampler::create(plan).error().code, Errc::invalid_argument) << "no weight";
}

}  // namespace
}  // namespace crabcast::data

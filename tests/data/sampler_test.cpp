#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace crabcast::data {
namespace {

constexpr std::size_t kTasks = 7;  // of the seventeen data sets below

// The seventeen data sets with sizes like those of AV-UIE v2, in the order of the table.
std::vector<SourceSize> seventeen() {
  const std::vector<std::pair<Task, std::vector<std::uint64_t>>> sizes = {
      {Task::action_recognition, {20111, 6600}},
      {Task::emotion_recognition, {9989, 5030, 5209, 7333, 9356}},
      {Task::av_question_answering, {31904, 40182}},
      {Task::temporal_localization, {3309, 6489, 10000}},
      {Task::spatial_localization, {8510}},
      {Task::segmentation, {3452, 1480, 13911}},
      {Task::captioning, {39000}},
  };
  std::vector<SourceSize> sources;
  for (const auto& [task, list] : sizes)
    for (const auto samples : list)
      sources.push_back({static_cast<std::uint32_t>(sources.size()), task, samples});
  return sources;
}

Sampler make(SamplerPlan plan) {
  auto sampler = Sampler::create(std::move(plan));
  EXPECT_TRUE(sampler.has_value()) << sampler.error().message;
  return std::move(sampler).value();
}

// The sample of a running slot number (from 0), whatever batches it is drawn in.
Draw at(const Sampler& sampler, std::uint64_t global_batch, std::uint64_t slot) {
  return sampler.batch(slot / global_batch + 1).at(slot % global_batch);
}

Task task_of(const std::vector<SourceSize>& sources, std::uint32_t dataset) {
  return std::find_if(sources.begin(), sources.end(),
                      [&](const SourceSize& s) { return s.dataset == dataset; })
      ->task;
}

// A plan of random shape and small sizes, so that whole epochs can be walked.
SamplerPlan random_plan(std::mt19937_64& random) {
  const auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  SamplerPlan plan;
  plan.mixture.policy =
      pick(0, 1) == 0 ? MixturePolicy::task_balanced : MixturePolicy::proportional;
  plan.seed = random();
  plan.global_batch = static_cast<std::uint32_t>(pick(1, 40));
  const auto sources = pick(1, 17);
  for (std::uint64_t i = 0; i < sources; ++i)
    plan.sources.push_back({static_cast<std::uint32_t>(i), static_cast<Task>(pick(0, 6)),
                            pick(0, 3) == 0 ? pick(1, 3) : pick(1, 200)});
  return plan;
}

std::uint64_t total(const std::vector<SourceSize>& sources) {
  return std::accumulate(sources.begin(), sources.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const SourceSize& s) { return sum + s.samples; });
}

// S-2 at the level of the sampler: no sample twice, none left out, in every epoch of every set.
TEST(Sampler, EveryEpochOfEveryDataSetIsAPermutation) {
  std::mt19937_64 random(20240601);
  for (int round = 0; round < 60; ++round) {
    const auto plan = random_plan(random);
    SCOPED_TRACE("seed 20240601, round " + std::to_string(round));
    const auto sampler = make(plan);
    const std::uint64_t slots = (sampler.steps_for_epochs(2) + 1) * plan.global_batch;
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::set<std::uint64_t>> seen;
    for (std::uint64_t slot = 0; slot < slots; ++slot) {
      const auto draw = at(sampler, plan.global_batch, slot);
      EXPECT_LT(draw.index, plan.sources[draw.dataset].samples);
      EXPECT_TRUE((seen[{draw.dataset, draw.epoch}].insert(draw.index).second))
          << "sample drawn twice in an epoch";
    }
    for (const auto& source : plan.sources)
      for (std::uint64_t epoch = 0; epoch < 2; ++epoch)
        EXPECT_EQ((seen[{source.dataset, epoch}].size()), source.samples);
  }
}

TEST(Sampler, TasksDifferByAtMostOneInEveryGlobalBatchAndNotAtAllInABlock) {
  const auto sources = seventeen();
  for (const std::uint32_t global_batch : {1U, 3U, 7U, 8U, 12U, 14U, 21U, 64U, 100U}) {
    const auto sampler = make({{MixturePolicy::task_balanced}, sources, 5, global_batch, {}, {}});
    std::map<Task, int> all;
    for (std::uint64_t step = 1; step <= 700; ++step) {
      std::array<int, kTasks> count{};
      for (const auto& draw : sampler.batch(step))
        ++count[static_cast<std::size_t>(task_of(sources, draw.dataset))];
      const auto [low, high] = std::minmax_element(count.begin(), count.end());
      EXPECT_LE(*high - *low, 1) << "batch " << global_batch << " step " << step;
    }
    for (std::uint64_t block = 0; block < 500; ++block) {
      std::set<Task> tasks;
      for (std::uint64_t place = 0; place < kTasks; ++place)
        tasks.insert(task_of(sources, at(sampler, global_batch, block * kTasks + place).dataset));
      EXPECT_EQ(tasks.size(), kTasks) << "block " << block;
    }
  }
}

TEST(Sampler, TheTaskWithTwoSamplesInABatchOfEightChanges) {
  const auto sources = seventeen();
  const auto sampler = make({{MixturePolicy::task_balanced}, sources, 5, 8, {}, {}});
  std::set<Task> doubled;
  for (std::uint64_t step = 1; step <= 7; ++step) {
    std::map<Task, int> count;
    for (const auto& draw : sampler.batch(step)) ++count[task_of(sources, draw.dataset)];
    for (const auto& [task, n] : count)
      if (n == 2) doubled.insert(task);
  }
  EXPECT_EQ(doubled.size(), kTasks);
}

// A lane that always met the same task would always wait for the heaviest media.
TEST(Sampler, NoSlotKeepsItsTaskForever) {
  const auto sources = seventeen();
  for (const auto policy : {MixturePolicy::task_balanced, MixturePolicy::proportional}) {
    const auto sampler = make({{policy}, sources, 5, 14, {}, {}});
    for (std::size_t slot = 0; slot < 14; ++slot) {
      std::set<Task> tasks;
      for (std::uint64_t step = 1; step <= 200; ++step)
        tasks.insert(task_of(sources, sampler.batch(step)[slot].dataset));
      EXPECT_GE(tasks.size(), 6U) << "slot " << slot;
    }
  }
}

// Counts over any beginning of the sequence follow the exact shares; over a whole cycle they are
// the sizes themselves.
TEST(Sampler, SharesAreExactOverACycleAndNearAtEveryMoment) {
  std::mt19937_64 random(77);
  for (int round = 0; round < 40; ++round) {
    auto plan = random_plan(random);
    SCOPED_TRACE("seed 77, round " + std::to_string(round));
    plan.mixture.policy = MixturePolicy::proportional;
    plan.global_batch = 1;
    const auto sampler = make(plan);
    const std::uint64_t cycle = total(plan.sources);
    std::vector<std::uint64_t> count(plan.sources.size());
    double worst = 0;
    for (std::uint64_t slot = 0; slot < cycle; ++slot) {
      ++count[at(sampler, 1, slot).dataset];
      for (std::size_t i = 0; i < count.size(); ++i) {
        const double exact = static_cast<double>(slot + 1) *
                             static_cast<double>(plan.sources[i].samples) /
                             static_cast<double>(cycle);
        worst = std::max(worst, std::abs(static_cast<double>(count[i]) - exact));
      }
    }
    EXPECT_LT(worst, 2);
    for (std::size_t i = 0; i < count.size(); ++i) EXPECT_EQ(count[i], plan.sources[i].samples);
  }
}

TEST(Sampler, DataSetsOfATaskShareInProportionToTheirSizes) {
  const auto sources = seventeen();
  const auto sampler = make({{MixturePolicy::task_balanced}, sources, 9, 7, {}, {}});
  std::map<std::uint32_t, std::uint64_t> count;
  const std::uint64_t cycle = 20111 + 6600;
  for (std::uint64_t slot = 0; slot < cycle * kTasks; ++slot) ++count[at(sampler, 7, slot).dataset];
  EXPECT_EQ(count[0], 20111U);
  EXPECT_EQ(count[1], 6600U);
}

// A batch is divided among data sets as a whole; the draws are those of one at a time.
TEST(Sampler, ABatchHoldsWhatAsManyBatchesOfOneHold) {
  const auto sources = seventeen();
  const auto one_by_one = make({{MixturePolicy::proportional}, sources, 3, 1, {}, {}});
  for (const std::uint32_t global_batch : {5U, 24U, 200U})
    for (const std::uint64_t first :
         {std::uint64_t{1}, std::uint64_t{999'999'990}, std::uint64_t{2'000'000'000'000'000}}) {
      const auto sampler = make({{MixturePolicy::proportional}, sources, 3, global_batch, {}, {}});
      for (std::uint64_t step = first; step < first + 40; ++step) {
        std::vector<Draw> expected;
        for (std::uint64_t i = 0; i < global_batch; ++i)
          expected.push_back(at(one_by_one, 1, (step - 1) * global_batch + i));
        EXPECT_TRUE(std::ranges::is_permutation(sampler.batch(step), expected)) << "step " << step;
      }
    }
}

// Two billion samples in one data set: an epoch far into the run is still without repetition.
TEST(Sampler, HugeDataSetsNeedNoMemoryAndRepeatNothing) {
  const std::vector<SourceSize> sources = {{0, Task::action_recognition, 2'000'000'000},
                                           {1, Task::captioning, 1}};
  const auto sampler = make({{MixturePolicy::task_balanced}, sources, 1, 8, {}, {}});
  std::set<std::uint64_t> seen;
  std::uint64_t epoch = 0;
  for (std::uint64_t step = 700'000'000; step < 700'005'000; ++step)
    for (const auto& draw : sampler.batch(step)) {
      if (draw.dataset != 0) continue;
      epoch = draw.epoch;
      EXPECT_LT(draw.index, 2'000'000'000U);
      EXPECT_TRUE(seen.insert(draw.index).second);
    }
  EXPECT_EQ(epoch, 1U);
  EXPECT_EQ(seen.size(), 20'000U);
  EXPECT_GT(*seen.rbegin() - *seen.begin(), 1'900'000'000U);
}

TEST(Sampler, EpochsAndSeedsGiveOtherOrders) {
  const std::vector<SourceSize> one = {{0, Task::captioning, 1000}};
  const auto order = [](const Sampler& sampler, std::uint64_t epoch) {
    std::vector<std::uint64_t> list;
    for (std::uint64_t i = 0; i < 1000; ++i) list.push_back(at(sampler, 1, epoch * 1000 + i).index);
    return list;
  };
  const auto a = make({{MixturePolicy::proportional}, one, 1, 1, {}, {}});
  const auto b = make({{MixturePolicy::proportional}, one, 2, 1, {}, {}});
  EXPECT_NE(order(a, 0), order(a, 1));
  EXPECT_NE(order(a, 0), order(b, 0));
  EXPECT_EQ(order(a, 0), order(make({{MixturePolicy::proportional}, one, 1, 1, {}, {}}), 0));
}

// Every order of four and of five samples, and none much more often than another: chi-squared stays
// within five standard deviations of its mean.
TEST(Sampler, SmallPermutationsAreNearlyUniform) {
  for (const auto& [samples, orders_of] : {std::pair{4, 24}, std::pair{5, 120}}) {
    const auto n = static_cast<std::uint64_t>(samples);
    const auto sampler =
        make({{MixturePolicy::proportional}, {{0, Task::captioning, n}}, 11, 1, {}, {}});
    std::map<std::vector<std::uint64_t>, int> orders;
    for (int epoch = 0; epoch < 1000 * orders_of; ++epoch) {
      std::vector<std::uint64_t> order;
      for (std::uint64_t i = 0; i < n; ++i)
        order.push_back(at(sampler, 1, static_cast<std::uint64_t>(epoch) * n + i).index);
      ++orders[order];
    }
    EXPECT_EQ(orders.size(), static_cast<std::size_t>(orders_of));
    double chi_squared = 0;
    for (const auto& [order, count] : orders)
      chi_squared += (count - 1000.0) * (count - 1000.0) / 1000.0;
    EXPECT_LT(chi_squared, orders_of - 1 + 5 * std::sqrt(2.0 * (orders_of - 1)));
  }
}

// Where a sample lands says nothing about where it started: each first position of 64 samples is
// about equally likely (63 degrees of freedom: 125 is beyond one in a hundred thousand).
TEST(Sampler, TheFirstSampleOfAnEpochIsAnyOne) {
  const auto sampler =
      make({{MixturePolicy::proportional}, {{0, Task::captioning, 64}}, 12, 1, {}, {}});
  std::vector<int> count(64);
  for (std::uint64_t epoch = 0; epoch < 64'000; ++epoch) ++count[at(sampler, 1, epoch * 64).index];
  double chi_squared = 0;
  for (const int n : count) chi_squared += (n - 1000.0) * (n - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 125);
}

// A fixed value: a change of the order would make old ledgers wrong, so it must be noticed.
TEST(Sampler, TheOrderIsTheSameOnEveryMachineAndInEveryVersion) {
  const auto sampler = make({{MixturePolicy::task_balanced}, seventeen(), 7, 8, {}, {}});
  std::uint64_t sum = 0;
  for (std::uint64_t step = 1; step <= 1000; ++step)
    for (const auto& draw : sampler.batch(step))
      sum = sum * 1099511628211ULL + draw.dataset * 1'000'003 + draw.index * 31 + draw.epoch;
  EXPECT_EQ(sum, 7662573714423455278U);
}

TEST(Sampler, TheOrderOfSourcesInThePlanChangesNothing) {
  auto reversed = seventeen();
  std::reverse(reversed.begin(), reversed.end());
  const auto a = make({{MixturePolicy::task_balanced}, seventeen(), 7, 8, {}, {}});
  const auto b = make({{MixturePolicy::task_balanced}, reversed, 7, 8, {}, {}});
  for (std::uint64_t step = 1; step <= 100; ++step) EXPECT_EQ(a.batch(step), b.batch(step));
}

TEST(Sampler, StepsForEpochsIsTheFirstStepAtWhichAllWereDue) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 40; ++round) {
    const auto plan = random_plan(random);
    SCOPED_TRACE("seed 5, round " + std::to_string(round));
    const auto sampler = make(plan);
    const auto steps = sampler.steps_for_epochs(1);
    std::set<std::pair<std::uint32_t, std::uint64_t>> seen;
    std::uint64_t due_at = 0;
    for (std::uint64_t step = 1; seen.size() < total(plan.sources); ++step, due_at = step - 1)
      for (const auto& draw : sampler.batch(step)) seen.emplace(draw.dataset, draw.index);
    if (plan.mixture.policy == MixturePolicy::task_balanced) {
      EXPECT_EQ(steps, due_at);
    } else {
      // Slots are turned inside a batch, which cannot move a sample to another step.
      EXPECT_EQ(steps, (total(plan.sources) + plan.global_batch - 1) / plan.global_batch);
      EXPECT_GE(steps, due_at);
    }
  }
}

TEST(Sampler, FractionsOfAnEpoch) {
  const std::vector<SourceSize> one = {{0, Task::captioning, 10}};
  const auto sampler = make({{MixturePolicy::proportional}, one, 1, 1, {}, {}});
  EXPECT_EQ(sampler.steps_for_epochs(1.1), 11U);
  EXPECT_EQ(sampler.steps_for_epochs(0.25), 3U);
  EXPECT_EQ(sampler.steps_for_epochs(5), 50U);
  EXPECT_EQ(sampler.steps_for_epochs(0), 0U);
  EXPECT_EQ(sampler.steps_for_epochs(-1), 0U);
  EXPECT_EQ(sampler.steps_for_epochs(std::nan("")), 0U);
  EXPECT_GT(sampler.steps_for_epochs(1e300), 1ULL << 59);
}

struct BadPlan {
  const char* name;
  SamplerPlan plan;
  Errc code;
  const char* says;
};

TEST(Sampler, RefusesBadPlansByName) {
  const auto balanced = MixturePolicy::task_balanced;
  const std::vector<BadPlan> bad = {
      {"empty source",
       {{balanced},
        {{0, Task::action_recognition, 5}, {3, Task::emotion_recognition, 0}},
        1,
        8,
        {},
        {}},
       Errc::data_error,
       "no training samples"},
      {"no sources", {{balanced}, {}, 1, 8, {}}, Errc::data_error, "no data set"},
      {"no batch",
       {{balanced}, {{0, Task::captioning, 5}}, 1, 0, {}, {}},
       Errc::invalid_argument,
       "global batch"},
      {"twice",
       {{balanced}, {{0, Task::captioning, 5}, {0, Task::captioning, 5}}, 1, 8, {}, {}},
       Errc::invalid_argument,
       "twice"},
      {"task without data",
       {{balanced}, {{0, Task::captioning, 5}}, 1, 8, {Task::captioning, Task::segmentation}},
       Errc::data_error,
       "segmentation"},
      {"task not chosen",
       {{balanced}, {{0, Task::captioning, 5}}, 1, 8, {Task::segmentation}},
       Errc::invalid_argument,
       "captioning"},
      {"too many",
       {{balanced}, {{0, Task::captioning, 1ULL << 60}}, 1, 8, {}, {}},
       Errc::invalid_argument,
       "2^56"},
  };
  for (const auto& [name, plan, code, says] : bad) {
    SCOPED_TRACE(name);
    const auto sampler = Sampler::create(plan);
    ASSERT_FALSE(sampler.has_value());
    EXPECT_EQ(sampler.error().code, code);
    EXPECT_NE(sampler.error().message.find(says), std::string::npos) << sampler.error().message;
  }
}

}  // namespace
}  // namespace crabcast::data

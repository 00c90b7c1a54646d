// Decoding with a cache against recomputing everything for each token; what is drawn; where answers
// end.
#include "model/generation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "model/adapter.h"
#include "model/base.h"
#include "model/session.h"
#include "model/thinker.h"
#include "tests/model/toy_batch.h"

namespace crabcast::model {
namespace {

using test::ToySample;
using test::Visual;

std::vector<ToySample> prompts() {
  return {{.prompt = "describe the scene", .visual = Visual::video, .frames = 4, .mel_frames = 90},
          {.prompt = "hi"},
          {.prompt = "what do you hear?", .mel_frames = 210}};
}

// An adapter that changes the output, so that decoding goes through it too.
AdapterSet& lively_adapters() {
  static AdapterSet adapters({nano(), {}, ""}, AdapterSpec{}, 5, at::kCPU);
  for (std::size_t i = 0; i < adapters.parameters().size(); ++i)
    fill_uniform(adapters.values().narrow(0, adapters.offsets()[i],
                                          adapters.offsets()[i + 1] - adapters.offsets()[i]),
                 100 + i, 0.1);
  return adapters;
}

// The definition: the whole sequence again for every token, without a cache.
std::vector<TokenId> by_recomputation(const Thinker& thinker, const ModelInput& prompt,
                                      std::int64_t max_new_tokens) {
  const at::NoGradGuard no_grad;
  std::vector<TokenId> answer;
  ModelInput input = prompt;
  while (static_cast<std::int64_t>(answer.size()) < max_new_tokens) {
    const auto packed = pack_input(nano(), input, at::kCPU, at::kFloat);
    EXPECT_TRUE(packed.has_value()) << packed.error().message;
    const at::Tensor hidden = hidden_states(thinker, *packed, {});
    const auto best =
        logits(thinker, hidden.narrow(0, hidden.size(0) - 1, 1)).argmax().item<std::int64_t>();
    if (best == nano().special.im_end || best == nano().special.pad) break;
    answer.push_back(best);
    input.input_ids = at::cat({input.input_ids, at::full({1, 1}, best, at::kLong)}, 1);
    input.attention_mask = at::cat({input.attention_mask, at::ones({1, 1}, at::kBool)}, 1);
  }
  return answer;
}

TEST(Generation, TheCacheChangesNothing) {
  const Thinker thinker = make_thinker(nano(), random_nano_weights(), &lively_adapters());
  const auto packed = pack_input(nano(), test::toy_prompts(prompts()), at::kCPU, at::kFloat);
  ASSERT_TRUE(packed.has_value()) << packed.error().message;
  const auto together = generate(thinker, *packed, {.max_new_tokens = 12});
  ASSERT_TRUE(together.has_value()) << together.error().message;
  ASSERT_EQ(together->size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*together)[i].ids, by_recomputation(thinker, test::toy_prompts({prompts()[i]}), 12))
        << "sample " << i;
    EXPECT_FALSE((*together)[i].ids.empty());
  }
}

TEST(Generation, DecodingGoesOnAtTheLargestPosition) {
  const auto packed = pack_input(nano(), test::toy_prompts(prompts()), at::kCPU, at::kFloat);
  ASSERT_TRUE(packed.has_value());
  // A video of 2 temporal patches of 2 s reaches 50 further than its first patch.
  EXPECT_EQ(packed->next_position[1], packed->lengths[1]);
  EXPECT_GT(packed->next_position[0], 50);
  EXPECT_EQ(
      packed->next_position[0],
      packed->position_ids_3T.narrow(1, 0, packed->lengths[0]).max().item<std::int64_t>() + 1);
}

TEST(Generation, ATrainedAnswerIsGivenAndStopsAtItsEnd) {
  SessionOptions options;
  options.model.base = "nano";
  options.steps = 60;
  options.optimizer.lr = 3e-3;
  auto session = Session::open(options);
  ASSERT_TRUE(session.has_value()) << session.error().message;
  const std::vector<ToySample> samples = {{.prompt = "name?", .answer = "crab"},
                                          {.prompt = "and its kind?", .answer = "a decapod"}};
  for (std::uint64_t step = 1; step <= options.steps; ++step) {
    const auto lane = (*session)->lane_gradient(test::toy_batch(samples), step, 0);
    ASSERT_TRUE(lane.has_value()) << lane.error().message;
    (*session)->apply_update(lane->gradient, 15, lane->touched, step);
  }
  const auto answers = (*session)->generate(test::toy_prompts(samples), {.max_new_tokens = 32});
  ASSERT_TRUE(answers.has_value()) << answers.error().message;
  const auto& tokenizer = *(*session)->front_end().tokenizer;
  EXPECT_EQ(tokenizer.decode((*answers)[0].ids), "crab");
  EXPECT_EQ(tokenizer.decode((*answers)[1].ids), "a decapod");
  const auto short_answers =
      (*session)->generate(test::toy_prompts(samples), {.max_new_tokens = 3});
  ASSERT_TRUE(short_answers.has_value());
  EXPECT_EQ(tokenizer.decode((*short_answers)[1].ids), "a d");
  EXPECT_EQ((*answers)[0].ending, Ending::end_token);
  EXPECT_EQ((*short_answers)[1].ending, Ending::length);
  EXPECT_FALSE((*session)->generate(test::toy_prompts(samples), {.max_new_tokens = 0}).has_value());
}

// Prompts of nano with an adapter that changes its output.
struct Toy {
  explicit Toy(const std::vector<ToySample>& samples)
      : thinker(make_thinker(nano(), random_nano_weights(), &lively_adapters())),
        packed(pack_input(nano(), test::toy_prompts(samples), at::kCPU, at::kFloat)) {}

  [[nodiscard]] std::vector<std::vector<TokenId>> ids(const GenerationOptions& options) const {
    const auto answers = generate(thinker, *packed, options);
    EXPECT_TRUE(answers.has_value()) << answers.error().message;
    std::vector<std::vector<TokenId>> all;
    for (const Generated& answer : *answers) all.push_back(answer.ids);
    return all;
  }

  Thinker thinker;
  Result<PackedInput> packed;
};

TEST(Generation, WhatIsDrawnDependsOnSeedAndSampleNotOnTheBatch) {
  GenerationOptions options{.max_new_tokens = 12, .temperature = 1, .top_p = 0.9, .seed = 7};
  const auto together = Toy(prompts()).ids(options);
  for (std::size_t i = 0; i < 3; ++i) {
    options.first_sample = i;
    EXPECT_EQ(Toy({prompts()[i]}).ids(options).front(), together[i]) << "sample " << i;
  }
  options.first_sample = 1;
  EXPECT_NE(Toy({prompts()[0]}).ids(options).front(), together[0]);
  options.first_sample = 0;
  options.seed = 8;
  EXPECT_NE(Toy(prompts()).ids(options), together);
}

TEST(Generation, AlmostNoTemperatureIsGreedy) {
  const Toy toy(prompts());
  const auto greedy = toy.ids({.max_new_tokens = 8});
  EXPECT_EQ(toy.ids({.max_new_tokens = 8, .temperature = 1e-6}), greedy);
  EXPECT_EQ(toy.ids({.max_new_tokens = 8, .temperature = 1, .top_p = 1e-6}), greedy);
}

TEST(Generation, AnAnswerEndsAtAStopTokenOrWhenTheCallerHasEnough) {
  const Toy toy(prompts());
  const auto free = toy.ids({.max_new_tokens = 8});
  ASSERT_GE(free[1].size(), 3U);
  const TokenId stop = free[1][2];
  const auto cut = [&](std::vector<TokenId> ids) {
    ids.erase(std::find(ids.begin(), ids.end(), stop), ids.end());
    return ids;
  };
  const auto stopped = toy.ids({.max_new_tokens = 8, .stop = {stop}});
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(stopped[i], cut(free[i])) << "sample " << i;

  std::vector<std::vector<TokenId>> heard(3);
  GenerationOptions options{.max_new_tokens = 8};
  options.on_token = [&](std::size_t sample, TokenId id) {
    heard[sample].push_back(id);
    return sample != 1 || heard[1].size() < 2;
  };
  const auto answers = generate(toy.thinker, *toy.packed, options);
  ASSERT_TRUE(answers.has_value()) << answers.error().message;
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ((*answers)[i].ids, heard[i]) << "sample " << i;
  EXPECT_EQ(heard[1].size(), 2U);
  EXPECT_EQ((*answers)[1].ending, Ending::refused);
  EXPECT_EQ(heard[0], free[0]);
}

TEST(Generation, OptionsOutOfRangeAreRefused) {
  const Toy toy({{.prompt = "hi"}});
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [&](const GenerationOptions& options, const std::string& name) {
    const auto answers = generate(toy.thinker, *toy.packed, options);
    ASSERT_FALSE(answers.has_value()) << name;
    EXPECT_EQ(answers.error().code, Errc::invalid_argument);
    EXPECT_NE(answers.error().message.find(name), std::string::npos) << answers.error().message;
  };
  refused({.max_new_tokens = 0}, "max_new_tokens is 0");
  refused({.temperature = -1}, "temperature");
  refused({.temperature = kNaN}, "temperature");
  refused({.top_p = 0}, "top_p is 0");
  refused({.top_p = 1.5}, "top_p");
  refused({.top_p = kNaN}, "top_p");
}

TEST(Generation, WeightsThatAreNotNumbersAreToldNotDecoded) {
  WeightMap weights = random_nano_weights();
  at::Tensor norm = weights.at("thinker.model.norm.weight").clone();
  norm.fill_(std::numeric_limits<double>::quiet_NaN());
  weights["thinker.model.norm.weight"] = norm;
  const Thinker thinker = make_thinker(nano(), weights, nullptr);
  const auto packed =
      pack_input(nano(), test::toy_prompts({{.prompt = "hi"}}), at::kCPU, at::kFloat);
  const auto answers = generate(thinker, *packed, {});
  ASSERT_FALSE(answers.has_value());
  EXPECT_EQ(answers.error().code, Errc::non_finite);
}

TEST(Generation, ABaseAloneNeedsNoAdapter) {
  SessionOptions options;
  options.model.base = "nano";
  options.with_adapter = false;
  auto session = Session::open(options);
  ASSERT_TRUE(session.has_value()) << session.error().message;
  EXPECT_EQ((*session)->parameters(), 0);
  EXPECT_TRUE((*session)->state().empty());
  const auto answers = (*session)->generate(test::toy_prompts(prompts()), {.max_new_tokens = 4});
  ASSERT_TRUE(answers.has_value()) << answers.error().message;
  const auto base = open_base("nano", at::kCPU, at::kFloat);
  ASSERT_TRUE(base.has_value()) << base.error().message;
  const Thinker thinker = make_thinker(base->config, base->weights, nullptr);
  const auto packed = pack_input(nano(), test::toy_prompts(prompts()), at::kCPU, at::kFloat);
  const auto plain = generate(thinker, *packed, {.max_new_tokens = 4});
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ((*answers)[i].ids, (*plain)[i].ids);
}

}  // namespace
}  // namespace crabcast::model

// Greedy decoding with a cache against recomputing everything for each token.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "model/adapter.h"
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
    if (best == nano().special.im_end) break;
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
  const auto together = generate_greedily(thinker, *packed, 12);
  ASSERT_EQ(together.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(together[i], by_recomputation(thinker, test::toy_prompts({prompts()[i]}), 12))
        << "sample " << i;
    EXPECT_FALSE(together[i].empty());
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
  EXPECT_EQ(tokenizer.decode((*answers)[0]), "crab");
  EXPECT_EQ(tokenizer.decode((*answers)[1]), "a decapod");
  const auto short_answers =
      (*session)->generate(test::toy_prompts(samples), {.max_new_tokens = 3});
  ASSERT_TRUE(short_answers.has_value());
  EXPECT_EQ(tokenizer.decode((*short_answers)[1]), "a d");
  EXPECT_FALSE((*session)->generate(test::toy_prompts(samples), {.max_new_tokens = 0}).has_value());
}

}  // namespace
}  // namespace crabcast::model

// A session as the actors use it: losses, gradients, updates, state, errors.
#include "model/session.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/base.h"
#include "model/thinker.h"
#include "tests/model/toy_batch.h"

namespace crabcast::model {
namespace {

using test::mixed_samples;
using test::toy_batch;
using test::ToySample;
using test::Visual;
using testing::HasSubstr;

SessionOptions options() {
  SessionOptions o;
  o.model.base = "nano";
  o.steps = 100;
  o.seed = 3;
  return o;
}

std::unique_ptr<Session> open(const SessionOptions& o = options()) {
  auto session = Session::open(o);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(*session);
}

// Moves every adapter away from its start, so that B is not zero.
void train_a_little(Session& session, int steps = 2) {
  for (int step = 1; step <= steps; ++step) {
    auto lane = session.lane_gradient(toy_batch(mixed_samples(), 99), 1000, 0);
    ASSERT_TRUE(lane.has_value()) << lane.error().message;
    session.apply_update(lane->gradient, 10, lane->touched, 40);
  }
}

TEST(Session, LossIsTheShiftedCrossEntropyOfTheAnswer) {
  const auto session = open();
  const ModelInput input = toy_batch(mixed_samples());
  const auto losses = session->evaluate_loss(input);
  ASSERT_TRUE(losses.has_value()) << losses.error().message;
  ASSERT_EQ(losses->size(), 3U);

  // The same with logits of every token: B is zero, so the adapter adds nothing.
  const at::NoGradGuard no_grad;
  const Thinker thinker =
      make_thinker(nano(), open_base("nano", at::kCPU, at::kFloat)->weights, nullptr);
  const auto packed = pack_input(nano(), input, at::kCPU, at::kFloat);
  ASSERT_TRUE(packed.has_value()) << packed.error().message;
  const at::Tensor all =
      at::log_softmax(logits(thinker, hidden_states(thinker, *packed, {})).to(at::kDouble), -1);
  std::int64_t row = 0;
  for (std::int64_t b = 0; b < 3; ++b) {
    double sum = 0;
    std::int64_t tokens = 0;
    const std::int64_t length = packed->lengths[static_cast<std::size_t>(b)];
    for (std::int64_t i = 1; i < length; ++i) {
      const auto label = input.labels[b][i].item<std::int64_t>();
      if (label == -100) continue;
      sum -= all[row + i - 1][label].item<double>();
      ++tokens;
    }
    row += length;
    EXPECT_NEAR((*losses)[static_cast<std::size_t>(b)].loss_sum, sum, 1e-4 * sum);
    EXPECT_EQ((*losses)[static_cast<std::size_t>(b)].tokens, tokens);
  }
  EXPECT_EQ((*losses)[0].tokens, 6);  // "a dog" and the end mark
}

TEST(Session, AFreshModelKnowsNothing) {
  const auto session =
      Session::open(options(), Base{nano(), random_nano_weights(), "random"}, BaseFrontEnd{});
  ASSERT_TRUE(session.has_value()) << session.error().message;
  const auto losses = (*session)->evaluate_loss(toy_batch(mixed_samples()));
  ASSERT_TRUE(losses.has_value());
  for (const SampleLoss& sample : *losses) {
    const double mean = sample.loss_sum / static_cast<double>(sample.tokens);
    EXPECT_GT(mean, 4.5);
    EXPECT_LT(mean, 9);  // healthy: near ln(272) = 5.6
  }
}

TEST(Session, ASampleIsTheSameAloneAndInAPaddedBatch) {
  const auto session = open();
  train_a_little(*session);
  const auto together = session->evaluate_loss(toy_batch(mixed_samples(), 1, 37));
  ASSERT_TRUE(together.has_value()) << together.error().message;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto alone = session->evaluate_loss(toy_batch({mixed_samples()[i]}));
    ASSERT_TRUE(alone.has_value()) << alone.error().message;
    EXPECT_NEAR((*together)[i].loss_sum, (*alone)[0].loss_sum, 1e-5 * (*alone)[0].loss_sum);
  }
}

TEST(Session, MediaReachTheAnswer) {
  const auto session = open();
  const auto loss = [&](std::uint64_t media_seed, std::size_t sample) {
    return session->evaluate_loss(toy_batch({mixed_samples()[sample]}, media_seed))
        ->front()
        .loss_sum;
  };
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NE(loss(1, i), loss(2, i)) << "sample " << i;
}

TEST(Session, GradientIsThatOfTheSumOfLosses) {
  // Central differences in float32 along the gradient itself, without dropout.
  SessionOptions o = options();
  o.model.adapter.dropout = 0;
  const auto session = open(o);
  train_a_little(*session);
  const ModelInput input = toy_batch(mixed_samples());
  const auto lane = session->lane_gradient(input, 1, 0);
  ASSERT_TRUE(lane.has_value()) << lane.error().message;
  const double norm = session->gradient_norm(lane->gradient, 1);
  EXPECT_NEAR(norm, lane->gradient.to(at::kDouble).norm().item<double>(), 1e-9 * norm);
  std::vector<NamedTensor> state = session->state();
  const auto loss_at = [&](double distance) {
    std::vector<NamedTensor> moved;
    for (std::size_t i = 0; i < session->parameter_tensors(); ++i) {
      const std::int64_t begin = session->parameter_offsets()[i];
      const at::Tensor g = lane->gradient.narrow(0, begin, state[i].tensor.numel());
      moved.push_back(
          {state[i].name, state[i].tensor + g.view(state[i].tensor.sizes()) * (distance / norm)});
    }
    EXPECT_TRUE(session->load_state(moved, true).has_value());
    const auto losses = session->evaluate_loss(input);
    double sum = 0;
    for (const SampleLoss& s : *losses) sum += s.loss_sum;
    return sum;
  };
  const double step = 1e-3 * std::sqrt(static_cast<double>(session->parameters())) * 0.05;
  const double slope = (loss_at(step) - loss_at(-step)) / (2 * step);
  EXPECT_NEAR(slope, norm, 0.01 * norm);
}

TEST(Session, ReportsWhichTensorsHadAGradient) {
  const auto session = open();
  const auto touched_by = [&](const ToySample& sample, const std::string& part) {
    const auto lane = session->lane_gradient(toy_batch({sample}), 1, 0);
    EXPECT_TRUE(lane.has_value());
    const auto state = session->state();
    bool any = false, all = true;
    for (std::size_t i = 0; i < session->parameter_tensors(); ++i)
      if (state[i].name.find(part) != std::string::npos) {
        any = any || lane->touched[i];
        all = all && lane->touched[i];
      }
    EXPECT_EQ(any, all) << part;
    return any;
  };
  const ToySample text{.prompt = "p", .answer = "a"};
  EXPECT_TRUE(touched_by(text, "base_model.model.model."));
  EXPECT_FALSE(touched_by(text, "audio_tower"));
  EXPECT_FALSE(touched_by(text, "visual"));
  EXPECT_TRUE(touched_by(mixed_samples()[1], "visual"));
  EXPECT_FALSE(touched_by(mixed_samples()[1], "audio_tower"));
  EXPECT_TRUE(touched_by(mixed_samples()[2], "audio_tower"));
}

TEST(Session, ABatchWithoutAnAnswerHasNoGradient) {
  const auto session = open();
  const auto lane = session->lane_gradient(test::toy_prompts({{.prompt = "p"}}), 1, 0);
  ASSERT_TRUE(lane.has_value()) << lane.error().message;
  EXPECT_EQ(lane->samples[0].tokens, 0);
  EXPECT_EQ(lane->gradient.abs().max().item<float>(), 0);
  EXPECT_EQ(std::count(lane->touched.begin(), lane->touched.end(), true), 0);
}

TEST(Session, ScopeLanguageModelLeavesTheTowersFrozen) {
  SessionOptions o = options();
  o.model.adapter.scope = AdapterScope::language_model;
  const auto session = open(o);
  for (const NamedTensor& tensor : session->state())
    EXPECT_THAT(tensor.name, HasSubstr("base_model.model.model.layers."));
  const auto lane = session->lane_gradient(toy_batch(mixed_samples()), 1, 0);
  ASSERT_TRUE(lane.has_value()) << lane.error().message;
  EXPECT_TRUE(std::all_of(lane->touched.begin(), lane->touched.end(), [](bool t) { return t; }));
}

// T-2 rests on these: equal calls give equal bits.
TEST(Determinism, TwoSessionsWithTheSameCallsAgreeInEveryBit) {
  const auto run = [] {
    auto session = open();
    for (std::uint64_t step = 1; step <= 3; ++step) {
      const auto lane = session->lane_gradient(toy_batch(mixed_samples(), step), step, 1);
      EXPECT_TRUE(lane.has_value());
      session->apply_update(lane->gradient, 20, lane->touched, step);
    }
    return session;
  };
  const auto a = run();
  const std::vector<char> shift_the_heap(12345);
  const auto b = run();
  EXPECT_EQ(a->parameter_checksum(), b->parameter_checksum());
  const auto left = a->state(), right = b->state();
  for (std::size_t i = 0; i < left.size(); ++i)
    EXPECT_TRUE(at::equal(left[i].tensor, right[i].tensor)) << left[i].name;
}

TEST(Determinism, ALaneDoesNotDependOnWhatRanBefore) {
  const ModelInput first = toy_batch(mixed_samples(), 1);
  const ModelInput second = toy_batch({mixed_samples()[2], mixed_samples()[0]}, 2);
  const auto a = open(), b = open();
  const auto a0 = a->lane_gradient(first, 7, 0), a1 = a->lane_gradient(second, 7, 1);
  const auto b1 = b->lane_gradient(second, 7, 1);
  ASSERT_TRUE(b->evaluate_loss(second).has_value());
  const auto b0 = b->lane_gradient(first, 7, 0);
  EXPECT_TRUE(at::equal(a0->gradient, b0->gradient));
  EXPECT_TRUE(at::equal(a1->gradient, b1->gradient));
  EXPECT_EQ(a0->samples[0].loss_sum, b0->samples[0].loss_sum);
}

TEST(Determinism, MisalignedInputGivesTheSameBits) {
  const auto session = open();
  const ModelInput input = toy_batch(mixed_samples());
  ModelInput shifted = input;
  const auto misalign = [](const at::Tensor& tensor) {
    at::Tensor buffer = at::empty({tensor.numel() + 1}, tensor.options());
    at::Tensor view = buffer.narrow(0, 1, tensor.numel()).view(tensor.sizes());
    view.copy_(tensor);
    return view;
  };
  shifted.pixel_values = misalign(input.pixel_values);
  shifted.audio_features = misalign(input.audio_features);
  EXPECT_TRUE(at::equal(session->lane_gradient(input, 1, 0)->gradient,
                        session->lane_gradient(shifted, 1, 0)->gradient));
}

TEST(Determinism, DropoutFollowsSeedStepAndLane) {
  SessionOptions other_seed = options();
  other_seed.seed = 4;
  const auto session = open(), reseeded = open(other_seed);
  train_a_little(*session);
  std::vector<NamedTensor> adapter = session->state();
  ASSERT_TRUE(reseeded->load_state(adapter, false).has_value());
  const ModelInput input = toy_batch(mixed_samples());
  const auto loss = [&](Session& s, std::uint64_t step, std::uint32_t lane) {
    return s.lane_gradient(input, step, lane)->samples[0].loss_sum;
  };
  const double base = loss(*session, 5, 2);
  EXPECT_EQ(loss(*session, 5, 2), base);
  EXPECT_NE(loss(*session, 6, 2), base);
  EXPECT_NE(loss(*session, 5, 3), base);
  EXPECT_NE(loss(*reseeded, 5, 2), base);
  EXPECT_NE(session->evaluate_loss(input)->front().loss_sum, base);  // no dropout there
  EXPECT_EQ(session->evaluate_loss(input)->front().loss_sum,
            reseeded->evaluate_loss(input)->front().loss_sum);
}

TEST(Learning, EightSmallSamplesAreMemorised) {
  SessionOptions o = options();
  o.steps = 120;
  o.optimizer.lr = 3e-3;
  o.model.adapter.dropout = 0;
  const auto session = open(o);
  std::vector<ToySample> samples;
  const char* answers[] = {"dog", "cat", "violin", "car", "rain", "bell", "drum", "horn"};
  // The same question for all: only what is seen or heard tells the answers apart.
  for (std::size_t i = 0; i < 8; ++i) {
    samples.push_back({.prompt = "what is it?" + std::string(i % 2, ' '), .answer = answers[i]});
    if (i < 4)
      samples.back().visual = Visual::picture;
    else
      samples.back().mel_frames = 40;
  }
  const auto batch = [&](std::size_t half) {
    std::vector<ModelInput> inputs;
    for (std::size_t i = 4 * half; i < 4 * half + 4; ++i)
      inputs.push_back(toy_batch({samples[i]}, i));
    return inputs;
  };
  std::vector<ModelInput> inputs = batch(0);
  for (const ModelInput& input : batch(1)) inputs.push_back(input);
  const auto mean_loss = [&] {
    double sum = 0, tokens = 0;
    for (const ModelInput& input : inputs) {
      const auto losses = session->evaluate_loss(input);
      sum += losses->front().loss_sum;
      tokens += static_cast<double>(losses->front().tokens);
    }
    return sum / tokens;
  };
  const double before = mean_loss();
  for (std::uint64_t step = 1; step <= o.steps; ++step) {
    at::Tensor gradient = at::zeros({session->parameters()});
    std::vector<bool> touched(session->parameter_tensors());
    double tokens = 0;
    for (std::uint32_t lane = 0; lane < inputs.size(); ++lane) {
      const auto result = session->lane_gradient(inputs[lane], step, lane);
      ASSERT_TRUE(result.has_value()) << result.error().message;
      gradient += result->gradient;
      for (std::size_t i = 0; i < touched.size(); ++i)
        touched[i] = touched[i] || result->touched[i];
      tokens += static_cast<double>(result->samples[0].tokens);
    }
    session->apply_update(gradient, tokens, touched, step);
  }
  const double after = mean_loss();
  std::printf("mean loss %.3f -> %.4f\n", before, after);
  EXPECT_GT(before, 2);
  EXPECT_LT(after, 0.1);
}

TEST(Update, TheFirstStepOfAWarmUpChangesNothingButTheMoments) {
  const auto session = open();
  const std::uint64_t before = session->parameter_checksum();
  const auto lane = session->lane_gradient(toy_batch(mixed_samples()), 1, 0);
  EXPECT_EQ(session->apply_update(lane->gradient, 10, lane->touched, 1), 0);
  EXPECT_EQ(session->parameter_checksum(), before);
  EXPECT_GT(session->apply_update(lane->gradient, 10, lane->touched, 2), 0);
  EXPECT_NE(session->parameter_checksum(), before);
}

TEST(State, ComesBackWithEveryBitAndGoesOnTheSame) {
  const auto original = open();
  train_a_little(*original, 3);
  SessionOptions elsewhere = options();
  elsewhere.seed = 8;
  const auto copy = open(elsewhere);
  EXPECT_NE(copy->parameter_checksum(), original->parameter_checksum());
  const auto loaded = copy->load_state(original->state(), false);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_EQ(copy->parameter_checksum(), original->parameter_checksum());
  // The moments and counters too: the next update gives the same parameters.
  const auto lane = original->lane_gradient(toy_batch(mixed_samples()), 9, 0);
  original->apply_update(lane->gradient, 10, lane->touched, 9);
  copy->apply_update(lane->gradient, 10, lane->touched, 9);
  EXPECT_EQ(copy->parameter_checksum(), original->parameter_checksum());
}

TEST(State, HasThePublishedNames) {
  const auto session = open();
  const auto state = session->state();
  ASSERT_EQ(state.size(), 4 * session->parameter_tensors());
  const std::string name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  EXPECT_EQ(state.front().name, "adapter/" + name);
  EXPECT_EQ(state.front().tensor.sizes(), at::IntArrayRef({16, 128}));
  const auto has = [&](const std::string& wanted) {
    return std::any_of(state.begin(), state.end(),
                       [&](const NamedTensor& t) { return t.name == wanted; });
  };
  EXPECT_TRUE(has("optimizer/" + name + ".exp_avg"));
  EXPECT_TRUE(has("optimizer/" + name + ".exp_avg_sq"));
  EXPECT_TRUE(has("optimizer/" + name + ".step"));
  for (const NamedTensor& t : state) EXPECT_TRUE(t.tensor.is_contiguous()) << t.name;
}

TEST(State, LoadingIsStrictAndNamesEveryMistake) {
  const auto session = open();
  std::vector<NamedTensor> state = session->state();
  const std::string missing = state[3].name, twice = state[4].name, misshapen = state[5].name,
                    wrong_type = state[6].name;
  state[5].tensor = at::zeros({2, 2});
  state[6].tensor = state[6].tensor.to(at::kDouble);
  state.push_back(state[4]);
  state.push_back(
      {"adapter/base_model.model.model.layers.9.mlp.up_proj.lora_A.weight", at::zeros({1})});
  state.erase(state.begin() + 3);
  const std::uint64_t before = session->parameter_checksum();
  for (NamedTensor& t : state)
    if (t.tensor.is_floating_point()) t.tensor = t.tensor + 1;
  const auto loaded = session->load_state(state, false);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, Errc::corrupt);
  EXPECT_THAT(loaded.error().message, HasSubstr("missing: " + missing));
  EXPECT_THAT(loaded.error().message, HasSubstr("given twice: " + twice));
  EXPECT_THAT(loaded.error().message, HasSubstr("wrong shape or type: " + misshapen));
  EXPECT_THAT(loaded.error().message, HasSubstr("wrong shape or type: " + wrong_type));
  EXPECT_THAT(loaded.error().message,
              HasSubstr("surplus: adapter/base_model.model.model.layers.9"));
  EXPECT_EQ(session->parameter_checksum(), before);  // nothing was loaded
}

TEST(State, AnEvaluatorTakesTheAdapterOnly) {
  const auto trained = open(), evaluator = open();
  train_a_little(*trained);
  std::vector<NamedTensor> state = trained->state();
  ASSERT_TRUE(evaluator->load_state(state, true).has_value());
  EXPECT_EQ(evaluator->parameter_checksum(), trained->parameter_checksum());
  state.resize(trained->parameter_tensors());
  EXPECT_TRUE(evaluator->load_state(state, true).has_value());
  EXPECT_FALSE(evaluator->load_state(state, false).has_value());
}

TEST(Precision, Bfloat16LossesAreCloseToFloat32) {
  SessionOptions o = options();
  o.precision = Precision::bfloat16;
  const auto half = open(o), full = open();
  EXPECT_EQ(half->base_hash(), full->base_hash());
  const ModelInput input = toy_batch(mixed_samples());
  const auto rough = half->lane_gradient(input, 1, 0), exact = full->lane_gradient(input, 1, 0);
  ASSERT_TRUE(rough.has_value()) << rough.error().message;
  EXPECT_EQ(rough->gradient.scalar_type(), at::kFloat);
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(rough->samples[i].loss_sum, exact->samples[i].loss_sum,
                0.02 * exact->samples[i].loss_sum);
}

TEST(Open, RefusesWhatItCannotDo) {
  const auto refused = [](auto change) {
    SessionOptions o = options();
    change(o);
    auto session = Session::open(o);
    return session.has_value() ? Error{Errc::ok, ""} : session.error();
  };
  const Error base = refused([](auto& o) { o.model.base = "nanoo"; });
  EXPECT_EQ(base.code, Errc::not_found);
  EXPECT_THAT(base.message, HasSubstr("nano"));
  EXPECT_EQ(refused([](auto& o) { o.model.base = "models/omni"; }).code, Errc::not_found);
  const Error rank = refused([](auto& o) { o.model.adapter.rank = 0; });
  EXPECT_EQ(rank.code, Errc::invalid_argument);
  EXPECT_THAT(rank.message, HasSubstr("model.adapter.rank"));
  EXPECT_EQ(refused([](auto& o) { o.model.adapter.heads = 0; }).code, Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.model.adapter.dropout = 1; }).code, Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.optimizer.lr = std::nan(""); }).code, Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.threads = 0; }).code, Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.steps = 0; }).code, Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.device = "tpu"; }).code, Errc::invalid_argument);
  EXPECT_EQ(refused([](auto& o) { o.device = "cuda:99"; }).code, Errc::unsupported);
}

TEST(Input, MistakesAreErrorsThatNameTheTensor) {
  const auto session = open();
  const auto refused = [&](auto change) {
    ModelInput input = toy_batch(mixed_samples());
    change(input);
    const auto lane = session->lane_gradient(input, 1, 0);
    EXPECT_FALSE(lane.has_value());
    EXPECT_EQ(lane.error().code, Errc::invalid_argument);
    return lane.error().message;
  };
  EXPECT_THAT(refused([](auto& i) { i.input_ids = at::Tensor(); }), HasSubstr("input_ids"));
  EXPECT_THAT(refused([](auto& i) { i.input_ids = i.input_ids.to(at::kInt); }), HasSubstr("Int"));
  EXPECT_THAT(refused([](auto& i) { i.attention_mask = i.attention_mask.narrow(1, 0, 5); }),
              HasSubstr("attention_mask"));
  EXPECT_THAT(refused([](auto& i) { i.attention_mask[0][2] = false; }),
              HasSubstr("sample 0 of the batch has padding between its tokens"));
  EXPECT_THAT(refused([](auto& i) { i.attention_mask[0].fill_(false); }),
              HasSubstr("sample 0 of the batch has no token"));
  EXPECT_THAT(refused([](auto& i) { i.input_ids[0][0] = 272; }), HasSubstr("272"));
  EXPECT_THAT(refused([](auto& i) { i.labels[0].fill_(-7); }), HasSubstr("label -7"));
  EXPECT_THAT(
      refused([](auto& i) { i.pixel_values = i.pixel_values.narrow(0, 0, 64).contiguous(); }),
      HasSubstr("pixel_values has 64"));
  EXPECT_THAT(refused([](auto& i) { i.grid_thw[0][1] = 3; }), HasSubstr("grid_thw"));
  EXPECT_THAT(refused([](auto& i) { i.grid_thw[0][0] = std::int64_t{1} << 62; }),
              HasSubstr("grid_thw"));
  EXPECT_THAT(refused([](auto& i) { i.audio_lengths[0] = 131; }), HasSubstr("audio_lengths"));
  EXPECT_THAT(refused([](auto& i) { i.audio_features = i.audio_features.narrow(1, 0, 80); }),
              HasSubstr("audio_features"));
}

TEST(Threads, EachCallUsesTheSessionsNumber) {
  SessionOptions two = options();
  two.threads = 2;
  const auto one_thread = open(), two_threads = open(two);
  const ModelInput input = toy_batch({mixed_samples()[1]});
  ASSERT_TRUE(one_thread->evaluate_loss(input).has_value());
  EXPECT_EQ(at::get_num_threads(), 1);
  ASSERT_TRUE(two_threads->evaluate_loss(input).has_value());
  EXPECT_EQ(at::get_num_threads(), 2);
  ASSERT_TRUE(one_thread->evaluate_loss(input).has_value());
  EXPECT_EQ(at::get_num_threads(), 1);
}

}  // namespace
}  // namespace crabcast::model

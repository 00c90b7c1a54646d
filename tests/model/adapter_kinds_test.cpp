// A session with each kind of adapter: gradients, masks, updates, state.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "model/adapter.h"
#include "model/adapter_export.h"
#include "model/session.h"
#include "tests/model/toy_batch.h"
#include "tests/support/program.h"

namespace crabcast::model {
namespace {

using test::toy_batch;
using test::ToySample;
using test::Visual;
using ::testing::HasSubstr;

class EveryKind : public ::testing::TestWithParam<AdapterKind> {
 protected:
  static SessionOptions options() {
    SessionOptions o;
    o.model.base = "nano";
    o.model.adapter.kind = GetParam();
    o.steps = 100;
    o.seed = 3;
    return o;
  }
  static std::unique_ptr<Session> open(const SessionOptions& o) {
    auto session = Session::open(o);
    EXPECT_TRUE(session.has_value()) << session.error().message;
    return std::move(*session);
  }
  static std::unique_ptr<Session> open() { return open(options()); }

  static ModelInput input(std::uint64_t seed = 1) {
    return toy_batch({{.prompt = "what barks?",
                       .answer = "a dog",
                       .visual = Visual::video,
                       .frames = 3,
                       .mel_frames = 61},
                      {.prompt = "how many?", .answer = "2", .mel_frames = 130}},
                     seed);
  }
  static LaneResult lane(Session& session, const ModelInput& batch, std::uint64_t step = 1) {
    auto result = session.lane_gradient(batch, step, 0);
    EXPECT_TRUE(result.has_value()) << result.error().message;
    return std::move(*result);
  }
  // Away from the start, so that B is not zero.
  static void train(Session& session, int steps = 2) {
    for (int step = 1; step <= steps; ++step) {
      const LaneResult result = lane(session, input(99), 1000);
      session.apply_update(result.gradient, 10, result.touched, 40);
    }
  }
};

TEST_P(EveryKind, GradientIsTheSlopeOfTheLoss) {
  SessionOptions o = options();
  o.model.adapter.dropout = 0;
  const auto session = open(o);
  train(*session);
  const LaneResult result = lane(*session, input());
  const double norm = session->gradient_norm(result.gradient, 1);
  const std::vector<NamedTensor> state = session->state();
  const auto loss_at = [&](double distance) {
    std::vector<NamedTensor> moved;
    for (std::size_t i = 0; i < session->parameter_tensors(); ++i) {
      const auto& [name, tensor] = state[i];
      const at::Tensor g =
          result.gradient.narrow(0, session->parameter_offsets()[i], tensor.numel());
      moved.push_back({name, tensor + g.view(tensor.sizes()) * (distance / norm)});
    }
    EXPECT_TRUE(session->load_state(moved, true).has_value());
    const auto losses = session->evaluate_loss(input());
    double sum = 0;
    for (const SampleLoss& s : *losses) sum += s.loss_sum;
    return sum;
  };
  const double step = 0.01;
  EXPECT_NEAR((loss_at(step) - loss_at(-step)) / (2 * step), norm, 0.02 * norm);
}

std::vector<NamedTensor> copy_of(std::vector<NamedTensor> state) {
  for (NamedTensor& each : state) each.tensor = each.tensor.clone();
  return state;
}

void expect_equal(const std::vector<NamedTensor>& a, const std::vector<NamedTensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(at::equal(a[i].tensor, b[i].tensor)) << a[i].name;
}

// C-1, T-2: a snapshot is not changed by training, nor training by a snapshot.
TEST_P(EveryKind, SnapshotsAndTrainingDoNotTouchEachOther) {
  const auto session = open(), undisturbed = open();
  std::vector<NamedTensor> held, held_longer, parameters_only;
  for (int round = 0; round < 6; ++round) {
    held = session->state();
    if (round == 1) held_longer = session->state();
    if (round == 2) {
      parameters_only = session->state();
      parameters_only.resize(session->parameter_tensors());
    }
    const auto copy = copy_of(held), longer = copy_of(held_longer), some = copy_of(parameters_only);
    train(*session, 2);
    train(*undisturbed, 2);
    expect_equal(held, copy);
    expect_equal(held_longer, longer);
    expect_equal(parameters_only, some);
    expect_equal(session->state(), undisturbed->state());
    if (round % 2 == 0) held.clear();
  }
}

TEST_P(EveryKind, LoadingLeavesSnapshotsAlone) {
  const auto session = open(), other = open();
  train(*session);
  const auto held = session->state();
  const auto copy = copy_of(held);
  ASSERT_TRUE(session->load_state(other->state(), false));
  expect_equal(held, copy);
  expect_equal(session->state(), other->state());
  ASSERT_TRUE(session->load_state(held, false));
  expect_equal(session->state(), copy);
  train(*session);
  train(*other);
  train(*other);
  expect_equal(session->state(), other->state());
}

TEST_P(EveryKind, ABatchWithoutSoundLeavesTheAudioTowerAlone) {
  const auto session = open();
  const LaneResult result = lane(
      *session, toy_batch({{.prompt = "where?", .answer = "left", .visual = Visual::picture}}));
  const std::vector<NamedTensor> before = session->state();
  session->apply_update(result.gradient, 10, result.touched, 40);
  const std::vector<NamedTensor> after = session->state();
  int in_the_tower = 0;
  for (std::size_t i = 0; i < session->parameter_tensors(); ++i) {
    const std::string& name = before[i].name;
    const bool audio = name.find("audio_tower") != std::string::npos;
    in_the_tower += audio;
    EXPECT_EQ(result.touched[i], !audio) << name;
    EXPECT_TRUE(!audio || at::equal(before[i].tensor, after[i].tensor)) << name;
  }
  EXPECT_GT(in_the_tower, 0);
}

TEST_P(EveryKind, DropoutFollowsSeedStepAndLane) {
  const auto session = open();
  train(*session);
  const auto loss = [&](std::uint64_t step, std::uint32_t at_lane) {
    return session->lane_gradient(input(), step, at_lane)->samples[0].loss_sum;
  };
  const bool drops = has_factors(GetParam());
  EXPECT_EQ(loss(5, 2), loss(5, 2));
  EXPECT_EQ(loss(5, 2) == loss(6, 2), !drops);
  EXPECT_EQ(loss(5, 2) == loss(5, 3), !drops);
  EXPECT_EQ(loss(5, 2) == session->evaluate_loss(input())->front().loss_sum, !drops);
}

TEST_P(EveryKind, EqualCallsGiveEqualBits) {
  const auto run = [] {
    const auto session = open();
    train(*session, 3);
    return session->parameter_checksum();
  };
  EXPECT_EQ(run(), run());
}

TEST_P(EveryKind, StateComesBackWithEveryBitAndGoesOnTheSame) {
  const auto original = open();
  train(*original, 3);
  SessionOptions elsewhere = options();
  elsewhere.seed = 8;
  const auto copy = open(elsewhere);
  const auto loaded = copy->load_state(original->state(), false);
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_EQ(copy->parameter_checksum(), original->parameter_checksum());
  const LaneResult result = lane(*original, input());
  for (Session* session : {original.get(), copy.get()})
    session->apply_update(result.gradient, 10, result.touched, 9);
  EXPECT_EQ(copy->parameter_checksum(), original->parameter_checksum());
  EXPECT_EQ(copy->evaluate_loss(input())->front().loss_sum,
            original->evaluate_loss(input())->front().loss_sum);
}

TEST_P(EveryKind, TheStateOfAnotherKindIsRefused) {
  const auto session = open();
  SessionOptions other = options();
  other.model.adapter.kind =
      GetParam() == AdapterKind::lora ? AdapterKind::full : AdapterKind::lora;
  const std::uint64_t before = session->parameter_checksum();
  const auto loaded = session->load_state(open(other)->state(), false);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().code, Errc::corrupt);
  EXPECT_EQ(session->parameter_checksum(), before);
}

TEST_P(EveryKind, BeginsWithAnAdapterFromAFile) {
  const auto trained = open();
  train(*trained, 3);
  AdapterSource source{options().model.adapter, "nano", trained->base_hash(), {}};
  AdapterFile file;
  for (const auto& [name, tensor] : trained->state())
    if (name.starts_with("adapter/"))
      file.tensors.push_back({name.substr(std::string("adapter/").size()), tensor});
  source.tensors = sources_of(file);
  const crabcast::testing::TemporaryFolder folder;
  ASSERT_TRUE(export_crab(source, folder / "adapter.safetensors").has_value());

  SessionOptions o = options();
  o.model.adapter.init = folder.path().string();
  const auto session = open(o);
  const auto loss = [](Session& s) { return s.evaluate_loss(input())->front().loss_sum; };
  const double without = loss(*session);
  const Status loaded = session->load_initial_adapter();
  ASSERT_TRUE(loaded.has_value()) << loaded.error().message;
  EXPECT_EQ(session->parameter_checksum(), trained->parameter_checksum());
  EXPECT_EQ(loss(*session), loss(*trained));
  EXPECT_NE(loss(*session), without);  // the loaded adapter changes the output

  o.model.adapter.init = "/nowhere/adapter.safetensors";
  const Status missing = open(o)->load_initial_adapter();
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Errc::not_found);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind,
                         ::testing::Values(AdapterKind::ilora, AdapterKind::lora,
                                           AdapterKind::crab_v1, AdapterKind::full),
                         [](const ::testing::TestParamInfo<AdapterKind>& info) {
                           return std::string(to_string(info.param));
                         });

TEST(Full, NeedsFloat32) {
  SessionOptions o;
  o.model.base = "nano";
  o.model.adapter.kind = AdapterKind::full;
  o.precision = Precision::bfloat16;
  const auto session = Session::open(o);
  ASSERT_FALSE(session.has_value());
  EXPECT_EQ(session.error().code, Errc::invalid_argument);
  EXPECT_THAT(session.error().message, HasSubstr("train.precision float32"));
}

TEST(Masks, AreOfTheirOwnForEachModule) {
  const AdapterSet set({nano(), {}, ""}, AdapterSpec{}, 1, at::kCPU);
  std::set<std::uint64_t> keys;
  for (const AdapterModule& m : adapter_modules(nano(), AdapterScope::all))
    EXPECT_TRUE(keys.insert(set.find(m.module)->key).second) << m.module;
}

}  // namespace
}  // namespace crabcast::model

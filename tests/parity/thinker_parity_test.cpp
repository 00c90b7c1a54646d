// The thinker computes what transformers computes, for random tiny models (thinker_golden.py).
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include "model/adamw.h"
#include "model/position_ids.h"
#include "tests/parity/golden.h"

namespace crabcast::model::test {
namespace {

// Relative L2 of the difference. A right model in float32 stays below a fifth of each.
constexpr double kTowerLimit = 1e-5, kHiddenLimit = 2e-5, kLogitsLimit = 2e-5, kLossLimit = 2e-5;
constexpr double kGradientLimit = 3e-4, kUpdateLimit = 1e-3;

double relative(const at::Tensor& ours, const at::Tensor& theirs) {
  const at::Tensor exact = theirs.to(at::kDouble);
  const double scale = exact.norm().item<double>();
  const double difference = (ours.to(at::kDouble) - exact).norm().item<double>();
  return difference == 0 ? 0 : difference / scale;
}

FlatGradient backward(AdaptedThinker& adapted, const PackedInput& packed, const Pass& pass = {}) {
  adapted.adapters.begin_gradient();
  torch::autograd::backward({token_losses(adapted.thinker, packed, pass).sum()});
  return adapted.adapters.end_gradient();
}

class ThinkerParity : public testing::TestWithParam<std::string> {
 protected:
  ThinkerParity() : golden_(GetParam()) { at::set_num_threads(1); }
  ~ThinkerParity() override {
    if (worst_ >= 0) std::printf("  worst %.1e, %s\n", worst_, worst_of_.c_str());
  }

  void expect_close(const std::string& what, const at::Tensor& ours, const at::Tensor& theirs,
                    double limit) {
    ASSERT_EQ(ours.sizes(), theirs.sizes()) << what;
    const double found = relative(ours, theirs);
    EXPECT_LE(found, limit) << what;
    if (found > worst_) {
      worst_ = found;
      worst_of_ = what;
    }
  }

  [[nodiscard]] PackedInput pack(const TensorFile& batch) const {
    auto packed = pack_input(golden_.base->config, model_input(batch), at::kCPU, at::kFloat);
    if (!packed) throw std::runtime_error(packed.error().message);
    return std::move(*packed);
  }

  // With both scopes, on each batch: check(thinker with adapter, packed batch, results, place).
  template <class Check>
  void on_every_batch(const Check& check) {
    for (const AdapterScope scope : {AdapterScope::all, AdapterScope::language_model}) {
      AdaptedThinker adapted(golden_, scope);
      for (const auto& [name, batch] : golden_.batches) {
        const std::string prefix = std::string(to_string(scope)) + "/";
        SCOPED_TRACE(prefix + name);
        check(adapted, pack(batch), batch, prefix, prefix + name);
      }
    }
  }

  // Makes the golden's steps, and compares what they changed with `trained`.
  template <class MakePass>
  void expect_trained(const std::string& what, AdaptedThinker& adapted, const TensorFile& trained,
                      const std::string& prefix, const MakePass& make_pass) {
    const TensorFile& file = golden_.adapter;
    OptimizerSpec spec;
    spec.lr = file.number("lr");
    spec.weight_decay = file.number("weight_decay");
    spec.beta1 = file.number("beta1");
    spec.beta2 = file.number("beta2");
    spec.epsilon = file.number("epsilon");
    const at::Tensor& values = adapted.adapters.values();
    const at::Tensor initial = values.clone();
    AdamW optimizer(spec, adapted.adapters.offsets(), values.options());
    std::istringstream steps(file.metadata.at("steps"));
    std::uint64_t step = 0;
    for (std::string name; steps >> name;) {
      const PackedInput packed = pack(golden_.batches.at(name));
      const FlatGradient gradient = backward(adapted, packed, make_pass(++step));
      const at::NoGradGuard no_grad;
      optimizer.step(values, gradient.values, 1.0 / static_cast<double>(packed.targets.numel()),
                     gradient.touched, spec.lr);
    }
    at::Tensor expected = initial.clone();
    for (std::size_t i = 0; i < adapted.adapters.parameters().size(); ++i)
      adapted.part(expected, i).copy_(trained.at(prefix + adapted.adapters.parameters()[i].name));
    // All tensors together: the smallest updates are near the last bit of what they are added to.
    expect_close(what, values - initial, expected - initial, kUpdateLimit);
  }

  Golden golden_;

 private:
  double worst_ = -1;
  std::string worst_of_;
};

TEST_P(ThinkerParity, PositionIds) {
  ASSERT_FALSE(golden_.batches.empty());
  for (const auto& [name, batch] : golden_.batches) {
    const auto positions = multimodal_positions(golden_.base->config, model_input(batch));
    ASSERT_TRUE(positions.has_value()) << positions.error().message;
    EXPECT_TRUE(at::equal(positions->ids_3BL, batch.at("position_ids"))) << name;
  }
}

TEST_P(ThinkerParity, Towers) {
  const at::NoGradGuard no_grad;
  on_every_batch([&](AdaptedThinker& adapted, const PackedInput& packed, const TensorFile& batch,
                     const std::string& prefix, const std::string& place) {
    if (batch.has(prefix + "audio"))
      expect_close(place + " audio",
                   encode_audio(adapted.thinker.audio, packed.audio_AMF, packed.audio_frames, {}),
                   batch.at(prefix + "audio"), kTowerLimit);
    if (batch.has(prefix + "vision"))
      expect_close(place + " vision",
                   encode_vision(adapted.thinker.vision, packed.pixels_PX, packed.grids, {}),
                   batch.at(prefix + "vision"), kTowerLimit);
  });
}

TEST_P(ThinkerParity, HiddenStates) {
  const at::NoGradGuard no_grad;
  on_every_batch([&](AdaptedThinker& adapted, const PackedInput& packed, const TensorFile& batch,
                     const std::string& prefix, const std::string& place) {
    expect_close(place, hidden_states(adapted.thinker, packed, {}), batch.at(prefix + "hidden"),
                 kHiddenLimit);
  });
}

TEST_P(ThinkerParity, Logits) {
  const at::NoGradGuard no_grad;
  on_every_batch([&](AdaptedThinker& adapted, const PackedInput& packed, const TensorFile& batch,
                     const std::string& prefix, const std::string& place) {
    const at::Tensor hidden = hidden_states(adapted.thinker, packed, {});
    expect_close(place, logits(adapted.thinker, hidden.index_select(0, packed.target_rows)),
                 batch.at(prefix + "logits"), kLogitsLimit);
  });
}

TEST_P(ThinkerParity, Losses) {
  const at::NoGradGuard no_grad;
  on_every_batch([&](AdaptedThinker& adapted, const PackedInput& packed, const TensorFile& batch,
                     const std::string& prefix, const std::string& place) {
    const at::Tensor losses = token_losses(adapted.thinker, packed, {});
    expect_close(place + " tokens", losses, batch.at(prefix + "losses"), kLossLimit);
    expect_close(place + " sum", losses.sum().view({1}), batch.at(prefix + "loss_sum"), kLossLimit);
    expect_close(place + " mean", losses.mean().view({1}), batch.at(prefix + "loss_mean"),
                 kLossLimit);
  });
}

TEST_P(ThinkerParity, Gradients) {
  on_every_batch([&](AdaptedThinker& adapted, const PackedInput& packed, const TensorFile& batch,
                     const std::string& prefix, const std::string& place) {
    const FlatGradient ours = backward(adapted, packed);
    for (std::size_t i = 0; i < ours.touched.size(); ++i) {
      const std::string& name = adapted.adapters.parameters()[i].name;
      const std::string key = prefix + "gradient/" + name;
      EXPECT_EQ(ours.touched[i], batch.has(key)) << name;
      const at::Tensor part = adapted.part(ours.values, i);
      expect_close(place + " " + name, part, batch.has(key) ? batch.at(key) : at::zeros_like(part),
                   kGradientLimit);
    }
  });
}

TEST_P(ThinkerParity, AdaptersAfterThreeSteps) {
  for (const AdapterScope scope : {AdapterScope::all, AdapterScope::language_model}) {
    AdaptedThinker adapted(golden_, scope);
    const std::string prefix(to_string(scope));
    expect_trained(prefix, adapted, golden_.adapter, prefix + "/trained/",
                   [](std::uint64_t) { return Pass{}; });
  }
}

// Dropout too, in the text model: its masks are functions of seed, step, lane, module and head.
TEST_P(ThinkerParity, EveryKindAfterThreeSteps) {
  for (const AdapterKind kind :
       {AdapterKind::ilora, AdapterKind::lora, AdapterKind::crab_v1, AdapterKind::full}) {
    const std::string name(to_string(kind));
    const TensorFile trained = read_tensors(GetParam() + "/adapter_" + name + ".safetensors");
    const auto seed = std::stoull(trained.metadata.at("seed"));
    const auto lane = static_cast<std::uint32_t>(trained.number("lane"));
    AdaptedThinker adapted(golden_, AdapterScope::language_model, kind);
    expect_trained(name, adapted, trained, "", [&](std::uint64_t step) {
      return training_pass(trained.number("rate"), seed, step, lane);
    });
  }
}

TEST_P(ThinkerParity, GreedyAnswers) {
  on_every_batch([&](AdaptedThinker& adapted, const PackedInput&, const TensorFile& batch,
                     const std::string& prefix, const std::string&) {
    const at::Tensor theirs = batch.at(prefix + "generated");
    ModelInput prompts = model_input(batch);
    prompts.labels = at::Tensor();
    prompts.attention_mask = batch.at("prompt_mask").to(at::kBool);
    const auto packed = pack_input(golden_.base->config, prompts, at::kCPU, at::kFloat);
    ASSERT_TRUE(packed.has_value()) << packed.error().message;
    const auto answers = generate_greedily(adapted.thinker, *packed, theirs.size(1));
    ASSERT_EQ(static_cast<std::int64_t>(answers.size()), theirs.size(0));
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const at::Tensor row = theirs[static_cast<std::int64_t>(i)];
      const at::Tensor ids = row.masked_select(row >= 0);
      EXPECT_THAT(answers[i], testing::ElementsAreArray(ids.const_data_ptr<std::int64_t>(),
                                                        static_cast<std::size_t>(ids.numel())))
          << "sample " << i;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Golden, ThinkerParity, testing::ValuesIn(golden_folders()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return std::filesystem::path(info.param).filename().string();
                         });

}  // namespace
}  // namespace crabcast::model::test

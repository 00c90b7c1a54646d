// Answers are those of transformers, and padding on the left changes nothing
// (generation_golden.py).
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>

#include "model/generation.h"
#include "model/position_ids.h"
#include "model/sampling.h"
#include "tests/parity/golden.h"

namespace crabcast::model::test {
namespace {

class GenerationParity : public testing::TestWithParam<std::string> {
 protected:
  GenerationParity() : golden_(GetParam()) { at::set_num_threads(1); }

  [[nodiscard]] PackedInput pack(const ModelInput& input) const {
    auto packed = pack_input(golden_.base->config, input, at::kCPU, at::kFloat);
    if (!packed) throw std::runtime_error(packed.error().message);
    return std::move(*packed);
  }

  // With both scopes, on each batch: check(thinker with adapter, name of the batch, what names of
  // results begin with).
  template <class Check>
  void on_every_batch(const Check& check) {
    ASSERT_FALSE(golden_.batches.empty());
    for (const AdapterScope scope : {AdapterScope::all, AdapterScope::language_model}) {
      const AdaptedThinker adapted(golden_, scope);
      for (const auto& [name, batch] : golden_.batches) {
        const std::string prefix = std::string(to_string(scope)) + "/";
        SCOPED_TRACE(prefix + name);
        check(adapted, name, prefix);
      }
    }
  }

  // Rows of `theirs` are filled up with -1.
  static void expect_answers(const AdaptedThinker& adapted, const PackedInput& prompts,
                             const at::Tensor& theirs, const std::vector<TokenId>& stop = {}) {
    const auto answers =
        generate(adapted.thinker, prompts,
                 {.max_new_tokens = static_cast<int>(theirs.size(1)), .stop = stop});
    ASSERT_TRUE(answers.has_value()) << answers.error().message;
    ASSERT_EQ(static_cast<std::int64_t>(answers->size()), theirs.size(0));
    for (std::size_t i = 0; i < answers->size(); ++i) {
      const at::Tensor row = theirs[static_cast<std::int64_t>(i)];
      const at::Tensor ids = row.masked_select(row >= 0);
      EXPECT_THAT((*answers)[i].ids,
                  testing::ElementsAreArray(ids.const_data_ptr<std::int64_t>(),
                                            static_cast<std::size_t>(ids.numel())))
          << "sample " << i;
      EXPECT_EQ((*answers)[i].ending,
                ids.numel() < theirs.size(1) ? Ending::end_token : Ending::length);
    }
  }

  Golden golden_;
};

TEST_P(GenerationParity, GreedyAnswers) {
  on_every_batch(
      [&](const AdaptedThinker& adapted, const std::string& name, const std::string& prefix) {
        const TensorFile& batch = golden_.batches.at(name);
        ModelInput prompts = model_input(batch);
        prompts.labels = at::Tensor();
        prompts.attention_mask = batch.at("prompt_mask").to(at::kBool);
        expect_answers(adapted, pack(prompts), batch.at(prefix + "generated"));
      });
}

TEST_P(GenerationParity, AnswersToPromptsPaddedOnTheLeftAndTheirStops) {
  on_every_batch(
      [&](const AdaptedThinker& adapted, const std::string& name, const std::string& prefix) {
        const TensorFile more = golden_.more("generation", name);
        ModelInput prompts = model_input(golden_.batches.at(name));
        prompts.input_ids = more.at("prompts");
        prompts.attention_mask = more.at("prompts_mask").to(at::kBool);
        prompts.labels = at::Tensor();
        const PackedInput packed = pack(prompts);
        expect_answers(adapted, packed, more.at(prefix + "answers"));
        const at::Tensor& stop = more.at(prefix + "stop");
        const auto* ids = stop.const_data_ptr<std::int64_t>();
        expect_answers(adapted, packed, more.at(prefix + "answers_with_stop"),
                       {ids, ids + stop.numel()});
      });
}

// All that is computed on is packed, without padding, so equal packing means equal results. That
// transformers' results do not depend on the side either is checked as the goldens are made.
TEST_P(GenerationParity, PaddingOnTheLeftIsPackedAway) {
  for (const auto& [name, batch] : golden_.batches) {
    SCOPED_TRACE(name);
    const TensorFile more = golden_.more("generation", name);
    ModelInput left = model_input(batch);
    left.input_ids = more.at("input_ids");
    left.attention_mask = more.at("attention_mask").to(at::kBool);
    left.labels = more.at("labels");
    const auto positions = multimodal_positions(golden_.base->config, left);
    ASSERT_TRUE(positions.has_value()) << positions.error().message;
    EXPECT_TRUE(at::equal(positions->ids_3BL, more.at("position_ids")));

    const PackedInput ours = pack(left), right = pack(model_input(batch));
    EXPECT_EQ(ours.lengths, right.lengths);
    EXPECT_EQ(ours.next_position, right.next_position);
    EXPECT_EQ(ours.target_counts, right.target_counts);
    for (const auto part :
         {&PackedInput::ids_T, &PackedInput::position_ids_3T, &PackedInput::vision_rows,
          &PackedInput::audio_rows, &PackedInput::target_rows, &PackedInput::targets})
      EXPECT_TRUE(at::equal(ours.*part, right.*part));
  }
}

TEST_P(GenerationParity, TopPKeepsWhatTransformersKeeps) {
  const TensorFile golden = golden_.more("generation", "sampling");
  int cases = 0;
  for (; golden.has(std::to_string(cases) + "/logits"); ++cases) {
    const std::string place = std::to_string(cases) + "/";
    SCOPED_TRACE(place);
    const auto number = [&](const char* name) { return golden.at(place + name).item<double>(); };
    const at::Tensor& theirs = golden.at(place + "kept");
    const at::Tensor ours =
        keep_top_p(golden.at(place + "logits") / number("temperature"), number("top_p"));
    EXPECT_TRUE(at::equal(ours.isfinite(), theirs.isfinite()));
    EXPECT_LE(relative(ours.softmax(-1), theirs.softmax(-1)), 1e-6);
  }
  EXPECT_GT(cases, 3);
}

INSTANTIATE_TEST_SUITE_P(Golden, GenerationParity, testing::ValuesIn(golden_folders()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return std::filesystem::path(info.param).filename().string();
                         });

}  // namespace
}  // namespace crabcast::model::test

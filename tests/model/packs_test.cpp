#include "model/packs.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "model/random.h"
#include "model/session.h"
#include "tests/model/toy_batch.h"

namespace crabcast::model {
namespace {

using test::toy_batch;
using test::ToySample;
using test::Visual;
using ::testing::ElementsAre;

using Layout = std::vector<std::vector<std::size_t>>;

TEST(PackLayout, LongestFirstIntoTheFirstPackWithRoom) {
  EXPECT_THAT(pack_layout({3, 9, 4, 6, 1}, 10),
              ElementsAre(ElementsAre(0), ElementsAre(1, 4), ElementsAre(2, 3)));
  EXPECT_THAT(pack_layout({5, 5, 5, 5}, 10), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
}

TEST(PackLayout, WithoutALimitAllShareOnePack) {
  EXPECT_EQ(pack_layout({3, 9, 4}, 0), (Layout{{0, 1, 2}}));
}

TEST(PackLayout, ATooLongSampleIsAlone) {
  EXPECT_EQ(pack_layout({3, 90, 4}, 10), (Layout{{0, 2}, {1}}));
}

TEST(PackLayout, EverySampleOnceAndNoPackTooLong) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    std::vector<std::int64_t> lengths(1 + random_bits(seed, 0) % 40);
    for (std::size_t i = 0; i < lengths.size(); ++i)
      lengths[i] = static_cast<std::int64_t>(1 + random_bits(seed, i + 1) % 100);
    const auto limit = static_cast<std::int64_t>(50 + random_bits(seed, 99) % 200);
    std::vector<int> seen(lengths.size(), 0);
    const Layout packs = pack_layout(lengths, limit);
    for (const auto& pack : packs) {
      std::int64_t tokens = 0;
      for (const std::size_t sample : pack) {
        ++seen[sample];
        tokens += lengths[sample];
      }
      EXPECT_TRUE(tokens <= limit || pack.size() == 1) << "seed " << seed;
    }
    EXPECT_THAT(seen, ::testing::Each(1)) << "seed " << seed;
    // First fit: any two packs together are longer than the limit.
    const std::int64_t all = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
    EXPECT_LE(static_cast<std::int64_t>(packs.size() / 2) * limit, all) << "seed " << seed;
  }
}

std::vector<ToySample> lane() {
  return {{.prompt = "what barks?",
           .answer = "a dog",
           .visual = Visual::video,
           .frames = 3,
           .mel_frames = 61},
          {.prompt = "say nothing", .answer = "."},
          {.prompt = "where?", .answer = "[10,20,30,40]", .visual = Visual::picture},
          {.prompt = "how many, and why do you think so?", .answer = "2", .mel_frames = 130},
          {.prompt = "both?",
           .answer = "a cat",
           .visual = Visual::video,
           .frames = 4,
           .mel_frames = 200}};
}

TEST(TakeSamples, ASampleIsWhatPackingItAloneGives) {
  const ThinkerConfig config = nano();
  const auto batch = pack_input(config, toy_batch(lane()), at::kCPU, at::kFloat);
  ASSERT_TRUE(batch.has_value()) << batch.error().message;
  for (std::size_t i = 0; i < lane().size(); ++i) {
    const PackedInput taken = take_samples(config, *batch, {i});
    const auto alone = pack_input(config, toy_batch({lane()[i]}), at::kCPU, at::kFloat);
    EXPECT_EQ(taken.lengths, alone->lengths);
    EXPECT_EQ(taken.next_position, alone->next_position);
    EXPECT_EQ(taken.grids, alone->grids);
    EXPECT_EQ(taken.audio_frames, alone->audio_frames);
    EXPECT_EQ(taken.target_counts, alone->target_counts);
    const auto same = [&](at::Tensor PackedInput::*tensor, const char* name) {
      EXPECT_TRUE(at::equal(taken.*tensor, (*alone).*tensor)) << name << " of sample " << i;
    };
    same(&PackedInput::ids_T, "ids");
    same(&PackedInput::position_ids_3T, "positions");
    same(&PackedInput::vision_rows, "vision_rows");
    same(&PackedInput::audio_rows, "audio_rows");
    same(&PackedInput::pixels_PX, "pixels");
    same(&PackedInput::target_rows, "target_rows");
    same(&PackedInput::targets, "targets");
    // The batch pads clips to its longest; what counts is the same.
    for (std::size_t clip = 0; clip < taken.audio_frames.size(); ++clip) {
      const auto at = static_cast<std::int64_t>(clip);
      const auto frames = taken.audio_frames[clip];
      EXPECT_TRUE(at::equal(taken.audio_AMF[at].narrow(1, 0, frames),
                            alone->audio_AMF[at].narrow(1, 0, frames)));
    }
  }
}

std::unique_ptr<Session> session_with(std::int64_t pack_tokens, double dropout) {
  SessionOptions options;
  options.model.base = "nano";
  options.model.adapter.dropout = dropout;
  options.pack_tokens = pack_tokens;
  options.seed = 3;
  auto session = Session::open(options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  // Away from the start, where B is zero and A gets no gradient.
  for (int step = 0; step < 2; ++step) {
    const auto result = (*session)->lane_gradient(toy_batch({lane()[0]}), 1, 0);
    (*session)->apply_update(result->gradient, 6, result->touched, 1);
  }
  return std::move(*session);
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

TEST(Packs, LossAndGradientAreThoseOfSamplesAlone) {
  const auto whole = session_with(0, 0);
  const auto all = whole->lane_gradient(toy_batch(lane()), 7, 1);
  ASSERT_TRUE(all.has_value()) << all.error().message;
  at::Tensor sum = at::zeros_like(all->gradient);
  for (std::size_t i = 0; i < lane().size(); ++i) {
    const auto alone = whole->lane_gradient(toy_batch({lane()[i]}), 7, 1);
    EXPECT_NEAR(all->samples[i].loss_sum, alone->samples[0].loss_sum,
                1e-5 * alone->samples[0].loss_sum);
    sum += alone->gradient;
  }
  EXPECT_LT(relative_difference(all->gradient, sum), 1e-5);

  for (const std::int64_t limit : {1, 120, 200}) {
    const auto packed = session_with(limit, 0)->lane_gradient(toy_batch(lane()), 7, 1);
    ASSERT_TRUE(packed.has_value()) << packed.error().message;
    for (std::size_t i = 0; i < lane().size(); ++i) {
      EXPECT_NEAR(packed->samples[i].loss_sum, all->samples[i].loss_sum,
                  1e-5 * all->samples[i].loss_sum);
      EXPECT_EQ(packed->samples[i].tokens, all->samples[i].tokens);
    }
    EXPECT_LT(relative_difference(packed->gradient, all->gradient), 1e-5) << "limit " << limit;
    EXPECT_EQ(packed->touched, all->touched);
  }
}

TEST(Packs, TheSameLaneGivesTheSameBits) {
  const auto first = session_with(120, 0.1)->lane_gradient(toy_batch(lane()), 7, 1);
  const auto again = session_with(120, 0.1)->lane_gradient(toy_batch(lane()), 7, 1);
  EXPECT_TRUE(at::equal(first->gradient, again->gradient));
}

TEST(Packs, ALimitThatChangesNoPackChangesNoBit) {
  const auto without = session_with(0, 0.1)->lane_gradient(toy_batch(lane()), 7, 1);
  const auto with = session_with(100'000, 0.1)->lane_gradient(toy_batch(lane()), 7, 1);
  EXPECT_TRUE(at::equal(without->gradient, with->gradient));
}

}  // namespace
}  // namespace crabcast::model

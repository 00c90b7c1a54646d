// The making of a base: the same bytes each time, also when it was stopped in between.
#include "actors/compute/base_making.h"

#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "model/safetensors.h"
#include "model/weights.h"
#include "tests/support/temporary_folder.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;

class BaseMakingTest : public ::testing::Test {
 protected:
  BaseMakingTest() {
    // Two stages of two steps.
    recipe_.text = "tiny";
    recipe_.save_every = 1;
    recipe_.check_lessons = 1;
    MakingStage stage{.steps = 2, .batch = 2, .lessons = {{"look", 1}, {"listen", 1}}};
    stage.optimizer.lr = 0.05;  // seen in bfloat16 too, beside the 1 of a norm
    recipe_.stages = {stage, stage};
    recipe_.stages[1].lessons = {{"match", 1}};
  }
  static std::string bytes(const fs::path& folder) {
    std::ifstream in(folder / "model.safetensors", std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  testing::TemporaryFolder root_;
  MakingRecipe recipe_;
};

struct Killed {};

TEST_F(BaseMakingTest, IsTheSameWhenItWasStopped) {
  const auto whole = make_base(recipe_, root_ / "whole", {});
  ASSERT_TRUE(whole) << whole.error().message;
  for (const std::uint64_t at : {1, 2, 3})
    EXPECT_THROW((void)make_base(recipe_, root_ / "stopped",
                                 [&](const MakingProgress& now) {
                                   if (now.step == at) throw Killed();
                                 }),
                 Killed);
  EXPECT_FALSE(fs::exists(root_ / "stopped" / "model.safetensors"));
  const auto stopped = make_base(recipe_, root_ / "stopped", {});
  ASSERT_TRUE(stopped) << stopped.error().message;
  EXPECT_EQ(stopped->hash, whole->hash);
  EXPECT_EQ(bytes(root_ / "stopped"), bytes(root_ / "whole"));
  EXPECT_FALSE(fs::exists(root_ / "stopped" / "making.safetensors"));
}

TEST_F(BaseMakingTest, TrainsEveryTensorThatTheLessonsUse) {
  const auto made = make_base(recipe_, root_ / "made", {});
  ASSERT_TRUE(made) << made.error().message;
  const auto file = model::SafetensorsFile::open(root_ / "made" / "model.safetensors");
  ASSERT_TRUE(file) << file.error().message;
  const auto start = model::random_nano_weights();
  ASSERT_EQ((*file)->entries().size(), start.size());
  for (const auto& entry : (*file)->entries()) {
    EXPECT_EQ(entry.type, at::kBFloat16) << entry.name;
    if (entry.name.find("audio_bos_eos_token") != std::string::npos) continue;
    EXPECT_FALSE(at::equal((*file)->tensor(entry).to(at::kFloat), start.at(entry.name)))
        << entry.name;
  }
  EXPECT_EQ(made->exact.size(), 7U);
}

TEST_F(BaseMakingTest, RefusesTheUnfinishedWorkOfAnotherRecipe) {
  EXPECT_THROW(
      (void)make_base(recipe_, root_.path(), [](const MakingProgress&) { throw Killed(); }),
      Killed);
  recipe_.text = "other";
  const auto other = make_base(recipe_, root_.path(), {});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Errc::already_exists);
  EXPECT_THAT(other.error().message, ::testing::HasSubstr("making.safetensors"));
}

}  // namespace
}  // namespace crabcast::actors

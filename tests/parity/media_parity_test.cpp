// Sound and pictures become what transformers' processors make of them (media_golden.py).
#include <gtest/gtest.h>

#include "data/log_mel.h"
#include "data/patches.h"
#include "tests/parity/golden.h"

namespace crabcast::data {
namespace {

using model::test::TensorFile;

constexpr double kLimit = 1e-4;  // absolute; values are about 1

double worst_difference(const at::Tensor& ours, const at::Tensor& theirs) {
  return ours.numel() == 0 ? 0 : (ours - theirs).abs().max().item<double>();
}

class MediaParity : public testing::TestWithParam<std::string> {
 protected:
  MediaParity()
      : golden_(
            model::test::read_tensors(std::filesystem::path(GetParam()) / "media.safetensors")) {}

  // check(tensor, what comes before its last name) for all tensors that end in `last`, at least
  // one.
  template <class Check>
  void for_each(const std::string& last, const Check& check) {
    bool any = false;
    for (const auto& [name, tensor] : golden_.tensors) {
      if (!name.ends_with(last)) continue;
      SCOPED_TRACE(name);
      check(tensor, name.substr(0, name.size() - last.size()));
      any = true;
    }
    EXPECT_TRUE(any) << "nothing ends in " << last;
  }

  void expect_close(const at::Tensor& ours, const at::Tensor& theirs) {
    ASSERT_EQ(ours.sizes(), theirs.sizes());
    const double found = worst_difference(ours, theirs);
    EXPECT_LE(found, kLimit);
    worst_ = std::max(worst_, found);
  }
  ~MediaParity() override { std::printf("  worst %.1e\n", worst_); }

  const TensorFile golden_;

 private:
  double worst_ = 0;
};

TEST_P(MediaParity, LogMel) {
  for_each("samples", [&](const at::Tensor& samples, const std::string& clip) {
    const at::Tensor& theirs = golden_.at(clip + "log_mel");
    expect_close(log_mel(samples, static_cast<int>(theirs.size(0))), theirs);
  });
}

TEST_P(MediaParity, Patches) {
  for_each("frames", [&](const at::Tensor& frames, const std::string& video) {
    const auto [pixels, grid] = make_patches(frames.unbind(0), model::MediaShape{});
    EXPECT_TRUE(at::equal(grid, golden_.at(video + "grid")));
    expect_close(pixels, golden_.at(video + "pixels"));
  });
}

TEST_P(MediaParity, Resize) {
  for_each("rgb", [&](const at::Tensor& rgb, const std::string& picture) {
    const at::Tensor& theirs = golden_.at(picture + "square");
    EXPECT_TRUE(at::equal(resize_square(rgb, static_cast<int>(theirs.size(1))), theirs));
  });
}

INSTANTIATE_TEST_SUITE_P(Golden, MediaParity, testing::ValuesIn(model::test::golden_folders()),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return std::filesystem::path(info.param).filename().string();
                         });

}  // namespace
}  // namespace crabcast::data

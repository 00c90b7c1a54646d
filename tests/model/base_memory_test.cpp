// How much memory opening a base takes, measured by the kernel.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <fstream>

#include "model/base.h"
#include "tests/model/hf_base.h"

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;  // freed memory stays in quarantine, and shadow memory counts
#else
constexpr bool kSanitized = false;
#endif

namespace crabcast::model {
namespace {

using crabcast::testing::TemporaryFolder;

// A field of /proc/self/status, in bytes.
std::int64_t status_field(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(field + ":")) return std::stoll(line.substr(field.size() + 1)) * 1024;
  ADD_FAILURE() << "no " << field << " in /proc/self/status";
  return 0;
}

// Bytes by which the resident set grows at most while `body` runs.
template <class Body>
std::int64_t peak_growth(Body&& body) {
  ::malloc_trim(0);  // what was freed before would be taken again unseen
  std::ofstream("/proc/self/clear_refs")
      << "5" << std::flush;  // sets VmHWM to what is resident now
  const std::int64_t before = status_field("VmRSS");
  EXPECT_LT(status_field("VmHWM") - before, 8 << 20) << "the high water mark was not reset";
  body();
  return status_field("VmHWM") - before;
}

std::int64_t bytes_of(const WeightMap& weights) {
  std::int64_t sum = 0;
  for (const auto& [name, tensor] : weights) sum += static_cast<std::int64_t>(tensor.nbytes());
  return sum;
}

class BaseMemory : public ::testing::Test {
 protected:
  // 26 million parameters: 105 MB in float32.
  void write(at::ScalarType type) {
    ThinkerConfig config = nano();
    config.text.intermediate_size = 60'000;
    config.text.layers = 1;
    test::write_base(folder_.path(), config, {.shard_bytes = 30'000'000, .type = type});
  }
  // The growth, and the weights that caused it.
  std::pair<double, double> open(at::ScalarType type) {
    Base base;
    const std::int64_t grown = peak_growth([&] {
      auto opened = open_base(folder_.path().string(), at::kCPU, type);
      ASSERT_TRUE(opened.has_value()) << opened.error().message;
      base = std::move(*opened);
    });
    const std::int64_t weights = bytes_of(base.weights);
    RecordProperty("grown", std::to_string(grown));
    RecordProperty("weights", std::to_string(weights));
    std::printf("grown %.1f MB for weights of %.1f MB\n", static_cast<double>(grown) / 1e6,
                static_cast<double>(weights) / 1e6);
    return {static_cast<double>(grown), static_cast<double>(weights)};
  }
  TemporaryFolder folder_;
};

TEST_F(BaseMemory, AConvertedBaseTakesItsOwnSize) {
  if (kSanitized) GTEST_SKIP() << "memory is not what it is without a sanitizer";
  write(at::kBFloat16);
  const auto [grown, weights] = open(at::kFloat);
  EXPECT_GT(weights, 90e6);
  EXPECT_LE(grown, 1.1 * weights);
  EXPECT_GE(grown, 0.9 * weights);  // otherwise nothing was measured
}

TEST_F(BaseMemory, ANarrowedBaseTakesItsOwnSize) {
  if (kSanitized) GTEST_SKIP() << "memory is not what it is without a sanitizer";
  write(at::kFloat);
  const auto [grown, weights] = open(at::kBFloat16);
  EXPECT_LE(grown, 1.1 * weights);
}

TEST_F(BaseMemory, ABaseThatFitsIsShared) {
  if (kSanitized) GTEST_SKIP() << "memory is not what it is without a sanitizer";
  write(at::kFloat);
  const auto [grown, weights] = open(at::kFloat);
  EXPECT_LE(grown, 0.15 * weights);
}

}  // namespace
}  // namespace crabcast::model

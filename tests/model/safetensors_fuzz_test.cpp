// Broken files, made from seeds: whatever opens keeps every promise of SafetensorsFile.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstring>

#include "model/safetensors.h"
#include "tests/model/mutation.h"
#include "tests/support/program.h"

namespace crabcast::model {
namespace {

using crabcast::testing::TemporaryFolder;

constexpr std::uint64_t kFiles = 20'000;

std::string whole_file(const TemporaryFolder& folder) {
  const std::vector<NamedTensor> tensors = {
      {"layers.0.weight", at::arange(48, at::kFloat).view({6, 8})},
      {"layers.0.bias", at::arange(6, at::kBFloat16)},
      {"norm", at::arange(3, at::kByte)},
      {"none", at::empty({0, 4}, at::kHalf)}};
  EXPECT_TRUE(write_safetensors(folder / "whole", tensors, {{"format", "pt"}}).has_value());
  return crabcast::testing::read_file(folder / "whole");
}

// Half of the files keep a header length that fits; some get another one.
std::string broken_file(const std::string& whole, std::uint64_t seed) {
  std::uint64_t length = 0;
  std::memcpy(&length, whole.data(), sizeof length);
  std::string bytes = test::mutate(whole, seed, seed % 16 == 0 ? 0 : sizeof length, length);
  if (seed % 2 == 0 || bytes.size() < sizeof length) return bytes;
  length += bytes.size() - whole.size();
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes;
}

TEST(SafetensorsFuzz, WhateverOpensIsWhole) {
  const TemporaryFolder folder;
  const std::string whole = whole_file(folder);
  const test::MemoryFile memory;
  std::uint64_t opened = 0;
  for (std::uint64_t seed = 1; seed <= kFiles; ++seed) {
    const std::string bytes = broken_file(whole, seed);
    memory.set(bytes);
    const auto file = SafetensorsFile::open(memory.path());
    if (!file) {
      ASSERT_FALSE(file.error().message.empty()) << "seed " << seed;
      continue;
    }
    ++opened;
    std::uint64_t sum = 0;
    for (const auto& entry : (*file)->entries()) {
      const at::Tensor tensor = (*file)->tensor(entry);
      ASSERT_EQ(tensor.nbytes(), entry.end - entry.begin) << "seed " << seed;
      std::vector<std::byte> read(tensor.nbytes());
      ASSERT_TRUE((*file)->read(entry, 0, read).has_value()) << "seed " << seed;
      ASSERT_TRUE(read.empty() ||
                  std::memcmp(read.data(), tensor.const_data_ptr(), read.size()) == 0)
          << "seed " << seed;
      sum += read.size();
    }
    ASSERT_LE(sum, bytes.size()) << "seed " << seed;
  }
  // Neither all harmless nor all broken: both ways through the parser were taken.
  EXPECT_GT(opened, kFiles / 50);
  EXPECT_LT(opened, kFiles * 9 / 10);
  RecordProperty("opened", static_cast<int>(opened));
}

}  // namespace
}  // namespace crabcast::model

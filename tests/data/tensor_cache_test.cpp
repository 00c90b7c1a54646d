#include "data/tensor_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/program.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kLimit = 8 << 20;

TensorCacheOptions options_for(const fs::path& folder, std::uint64_t bytes = kLimit) {
  return {.folder = folder, .leave_free = 0, .bytes = bytes, .look_every = Duration::zero()};
}

std::unique_ptr<TensorCache> open_cache(const fs::path& folder, std::uint64_t bytes = kLimit) {
  auto cache = TensorCache::open(options_for(folder, bytes));
  EXPECT_TRUE(cache.has_value()) << cache.error().message;
  return cache ? std::move(*cache) : nullptr;
}

CacheKey key_of(std::uint64_t number) {
  return CacheKeyHasher().add("test").add(number).key();
}

// 64 KiB that nothing else has.
std::vector<at::Tensor> value_of(std::uint64_t number) {
  return {at::full({128, 128}, static_cast<double>(number), at::kFloat)};
}

bool holds(TensorCache& cache, std::uint64_t number) {
  const auto found = cache.find(key_of(number));
  if (!found) return false;
  EXPECT_EQ(found->size(), 1U);
  EXPECT_TRUE(at::equal(found->front(), value_of(number).front())) << number;
  return true;
}

void insert(TensorCache& cache, std::uint64_t number) {
  const Status inserted = cache.insert(key_of(number), value_of(number));
  ASSERT_TRUE(inserted.has_value()) << inserted.error().message;
}

std::vector<fs::path> files_of_store(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder / "store"))
    if (entry.path().extension() == ".sst") files.push_back(entry.path());
  return files;
}

TEST(TensorCacheKey, FieldsAreToldApart) {
  EXPECT_NE(CacheKeyHasher().add("a").add("bc").key(), CacheKeyHasher().add("ab").add("c").key());
  EXPECT_NE(CacheKeyHasher().add("a").add(1U).key(), CacheKeyHasher().add("a").add(2U).key());
  EXPECT_EQ(CacheKeyHasher().add("a").add(1U).key(), CacheKeyHasher().add("a").add(1U).key());
  EXPECT_EQ(key_of(1).bytes().size(), 16U);
}

TEST(TensorCache, KeepsTypesShapesAndValues) {
  const crabcast::testing::TemporaryFolder folder;
  const std::vector<at::Tensor> tensors = {at::arange(24, at::kByte).view({2, 3, 4}),
                                           at::randn({5, 1}), at::empty({0, 7}, at::kLong),
                                           at::tensor(2.5), at::randn({3}).to(at::kBFloat16)};
  const auto same = [&](TensorCache& cache) {
    const auto found = cache.find(key_of(1));
    ASSERT_TRUE(found.has_value());
    ASSERT_EQ(found->size(), tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ((*found)[i].scalar_type(), tensors[i].scalar_type());
      EXPECT_TRUE(at::equal((*found)[i], tensors[i])) << i;
    }
  };
  {
    auto cache = open_cache(folder.path());
    EXPECT_FALSE(cache->find(key_of(1)).has_value());
    ASSERT_TRUE(cache->insert(key_of(1), tensors));
    same(*cache);
  }
  auto again = open_cache(folder.path());
  same(*again);
  EXPECT_EQ(again->stats().hits, 1U);
}

// Bytes that this process has read from files.
std::uint64_t bytes_read() {
  std::ifstream file("/proc/self/io");
  std::string name;
  std::uint64_t bytes = 0;
  file >> name >> bytes;
  EXPECT_EQ(name, "rchar:");
  return bytes;
}

TEST(TensorCache, ASmallEntryIsReadWithoutItsLargeNeighbours) {
  const crabcast::testing::TemporaryFolder folder;
  constexpr std::uint64_t kPairs = 40;
  {
    auto cache = open_cache(folder.path());
    for (std::uint64_t i = 0; i < kPairs; ++i) {
      insert(*cache, i);  // 64 KiB
      ASSERT_TRUE(cache->insert(key_of(kPairs + i), {at::full({2}, 1.0)}));
    }
  }
  auto cache = open_cache(folder.path());
  const std::uint64_t before = bytes_read();
  for (std::uint64_t i = 0; i < kPairs; ++i)
    EXPECT_TRUE(cache->find(key_of(kPairs + i)).has_value());
  EXPECT_LT(bytes_read() - before, kPairs * (8 << 10));
}

TEST(TensorCache, WhatWasFoundOutlivesTheCache) {
  const crabcast::testing::TemporaryFolder folder;
  std::vector<at::Tensor> found;
  {
    auto cache = open_cache(folder.path());
    insert(*cache, 3);
    ASSERT_TRUE(cache->flush());
    found = *cache->find(key_of(3));
  }
  EXPECT_TRUE(at::equal(found.front(), value_of(3).front()));
}

TEST(TensorCache, StaysWithinItsLimitAndDropsTheOldest) {
  const crabcast::testing::TemporaryFolder folder;
  auto cache = open_cache(folder.path());
  for (std::uint64_t i = 0; i < 512; ++i) insert(*cache, i);  // 32 MiB
  ASSERT_TRUE(cache->flush());
  EXPECT_TRUE(holds(*cache, 511));
  EXPECT_FALSE(holds(*cache, 0));
  EXPECT_LE(cache->stats().bytes, kLimit * 5 / 4);
  EXPECT_GE(cache->stats().bytes, kLimit / 2);
}

TEST(TensorCache, WhatIsUsedStays) {
  const crabcast::testing::TemporaryFolder folder;
  auto cache = open_cache(folder.path());
  for (std::uint64_t i = 0; i < 1024; ++i) {
    insert(*cache, i);
    if (i % 8 == 0) {
      EXPECT_TRUE(holds(*cache, 0)) << "after " << i;
    }
  }
  EXPECT_GT(cache->stats().renewed, 0U);
  EXPECT_LT(cache->stats().renewed, 100U);
  EXPECT_FALSE(holds(*cache, 1));
}

TEST(TensorCache, ADamagedEntryIsNotThere) {
  const crabcast::testing::TemporaryFolder folder;
  {
    auto cache = open_cache(folder.path());
    for (std::uint64_t i = 0; i < 4; ++i) insert(*cache, i);
  }
  const auto files = files_of_store(folder.path());
  ASSERT_EQ(files.size(), 1U);
  {
    std::fstream file(files.front(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(1000);
    file.put('!');
  }
  auto cache = open_cache(folder.path());
  int found = 0;
  for (std::uint64_t i = 0; i < 4; ++i) found += holds(*cache, i) ? 1 : 0;
  EXPECT_EQ(found, 3);
  EXPECT_EQ(cache->stats().damaged, 1U);
}

TEST(TensorCache, AStoreThatCannotBeReadIsEmptied) {
  const crabcast::testing::TemporaryFolder folder;
  {
    auto cache = open_cache(folder.path());
    insert(*cache, 1);
  }
  for (const auto& entry : fs::directory_iterator(folder.path() / "store"))
    if (entry.path().filename().string().starts_with("MANIFEST"))
      std::ofstream(entry.path(), std::ios::trunc) << "no manifest";
  auto cache = open_cache(folder.path());
  ASSERT_NE(cache, nullptr);
  EXPECT_TRUE(cache->stats().emptied);
  EXPECT_FALSE(holds(*cache, 1));
  insert(*cache, 1);
  EXPECT_TRUE(holds(*cache, 1));
}

TEST(TensorCache, SeveralShareOne) {
  const crabcast::testing::TemporaryFolder folder;
  auto owner = open_cache(folder.path());
  insert(*owner, 1);
  ASSERT_TRUE(owner->flush());
  auto reader = open_cache(folder.path());
  EXPECT_TRUE(owner->stats().owner);
  EXPECT_FALSE(reader->stats().owner);
  EXPECT_TRUE(holds(*reader, 1));

  insert(*owner, 2);
  ASSERT_TRUE(owner->flush());
  EXPECT_TRUE(holds(*reader, 2)) << "a reader sees what came after it was opened";

  insert(*reader, 3);
  ASSERT_TRUE(reader->flush());
  EXPECT_TRUE(holds(*owner, 3)) << "the owner takes in what a reader has left";
  ASSERT_TRUE(owner->flush());
  EXPECT_TRUE(holds(*reader, 3));

  owner.reset();
  EXPECT_TRUE(holds(*reader, 2));
  EXPECT_TRUE(reader->stats().owner) << "the next one takes the owner's place";
  insert(*reader, 4);
  EXPECT_TRUE(holds(*reader, 4));
  EXPECT_TRUE(fs::is_empty(folder.path() / "inbox"));
}

TEST(TensorCache, AReaderWhoseOwnerIsStuckFillsNoDisk) {
  const crabcast::testing::TemporaryFolder folder;
  auto owner = open_cache(folder.path());
  auto reader = TensorCache::open(options_for(folder.path()));
  ASSERT_TRUE(reader.has_value());
  Status last;
  for (std::uint64_t i = 0; i < 512 && last; ++i)
    last = (*reader)->insert(key_of(i), value_of(i));  // 32 MiB
  ASSERT_FALSE(last.has_value());
  EXPECT_EQ(last.error().code, Errc::queue_full);
  EXPECT_TRUE(holds(*owner, 0)) << "what was left before is taken in all the same";
}

TEST(TensorCache, LeavesRoomOnTheDiskForOthers) {
  const crabcast::testing::TemporaryFolder folder;
  auto options = options_for(folder.path());
  options.leave_free = 1ULL << 60;
  auto cache = TensorCache::open(options);
  ASSERT_TRUE(cache.has_value()) << cache.error().message;
  const Status inserted = (*cache)->insert(key_of(1), value_of(1));
  ASSERT_FALSE(inserted.has_value());
  EXPECT_EQ(inserted.error().code, Errc::disk_full);
  EXPECT_FALSE(holds(**cache, 1));
}

TEST(TensorCache, RefusesWhatItCannotHold) {
  const crabcast::testing::TemporaryFolder folder;
  EXPECT_EQ(TensorCache::open(options_for(folder.path(), 1000)).error().code,
            Errc::invalid_argument);
  auto cache = open_cache(folder.path());
  const Status inserted = cache->insert(key_of(1), {at::zeros({1 << 20}, at::kFloat)});
  ASSERT_FALSE(inserted.has_value());
  EXPECT_EQ(inserted.error().code, Errc::resource_exhausted);
  const fs::path file = folder.path() / "file";
  std::ofstream(file) << "x";
  EXPECT_FALSE(TensorCache::open(options_for(file)).has_value());
}

}  // namespace
}  // namespace crabcast::data

// Hundreds of broken files: each ends in good time with one clear reason, and the good ones beside
// them can still be read.
#include "tests/data/broken_media.h"

#include <gtest/gtest.h>

#include "data/sample_media.h"
#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using testing::BrokenMedia;
using testing::sample_of;

constexpr auto kDeadline = std::chrono::seconds(10);
constexpr unsigned kSeed = 77;

TEST(BrokenMedia, EachFileHasOneClearReason) {
  const testing::TemporaryFolder folder;
  const BrokenMedia media(folder.path(), kSeed);
  ASSERT_GE(media.files().size(), 200U);
  std::size_t failed = 0;
  for (const auto& file : media.files()) {
    SCOPED_TRACE(file.path.filename().string() + ", seed " + std::to_string(kSeed));
    const auto start = Clock::now();
    const auto read = read_media(sample_of(file.medium, file.path), {}, kDeadline);
    EXPECT_LT(Clock::now() - start, kDeadline + std::chrono::seconds(5));
    if (read) {
      EXPECT_FALSE(file.must_fail) << "it was read";
      continue;
    }
    ++failed;
    EXPECT_EQ(testing::unclear(read.error(), file.path), "");
  }
  EXPECT_GT(failed, 200U);
}

TEST(BrokenMedia, TheGoodFilesTheyWereMadeFromCanBeRead) {
  const testing::TemporaryFolder folder;
  const testing::GoodMedia good(kSeed);
  for (const auto& [name, medium] : testing::media_kinds())
    // A name need not be UTF-8.
    for (const std::string& place : {name, "\xFF\xFE " + name}) {
      testing::write_text(folder / place, {good.file(name).begin(), good.file(name).end()});
      const auto read = read_media(sample_of(medium, folder / place), {}, kDeadline);
      EXPECT_TRUE(read.has_value()) << read.error().message;
    }
}

}  // namespace
}  // namespace crabcast::data

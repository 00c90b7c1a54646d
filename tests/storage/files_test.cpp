#include "storage/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>

#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

mode_t mode_of(const fs::path& file) {
  struct stat about {};
  EXPECT_EQ(::stat(file.c_str(), &about), 0) << file;
  return about.st_mode & 0777;
}

TEST(ReplaceFile, TheNewTextStandsInPlaceOfTheOld) {
  const TempFolder folder;
  const fs::path file = folder / "file";
  ASSERT_TRUE(replace_file(file, std::string(100'000, 'a')));
  ASSERT_TRUE(replace_file(file, "b"));
  EXPECT_EQ(text_of(file), "b");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1) << "nothing is left over";
}

TEST(ReplaceFile, HasTheModeAlsoAfterAnEarlierTryWithAnother) {
  const TempFolder folder;
  const fs::path file = folder / "secret";
  std::ofstream(folder / "secret.new") << "left over";
  ASSERT_EQ(::chmod((folder / "secret.new").c_str(), 0644), 0);
  ASSERT_TRUE(replace_file(file, "s", 0600));
  EXPECT_EQ(mode_of(file), 0600U);
  EXPECT_EQ(text_of(file), "s");
}

TEST(ReplaceFile, AFailureLeavesWhatWasThere) {
  const TempFolder folder;
  EXPECT_EQ(replace_file(folder / "none" / "file", "a").error().code, Errc::not_found);
  const fs::path file = folder / "file";
  fs::create_directories(file / "in the way");
  EXPECT_FALSE(replace_file(file, "a"));
  EXPECT_TRUE(fs::exists(file / "in the way"));
  EXPECT_FALSE(fs::exists(folder / "file.new"));
}

}  // namespace
}  // namespace crabcast::storage

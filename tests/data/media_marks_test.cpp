// Marks of media files: what is noticed, and across which processes.
#include "data/media_marks.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;
using testing::write_text;

struct Folders {
  TemporaryFolder folder;
  fs::path file = folder / "corpus/clip.mp4";
  Folders() { write_text(file, "one"); }

  std::unique_ptr<MediaMarks> open() const {
    auto marks = MediaMarks::open(folder / "corpus", folder / "cache");
    if (!marks) throw std::runtime_error(marks.error().message);
    return std::move(*marks);
  }
  // Never the time that it had.
  void touch() const {
    fs::last_write_time(file, fs::last_write_time(file) + std::chrono::hours(1));
  }
};

Result<MediaState> check(MediaMarks& marks, const fs::path& file) {
  const auto stamp = file_stamp(file);
  if (!stamp) return fail(stamp.error());
  return marks.check({file, *stamp, std::nullopt});
}

TEST(MediaMarks, AChangedFileIsNoticedOnce) {
  const Folders at;
  const auto marks = at.open();
  EXPECT_EQ(check(*marks, at.file), MediaState::unknown);
  EXPECT_EQ(check(*marks, at.file), MediaState::same);
  at.touch();
  EXPECT_EQ(check(*marks, at.file), MediaState::same) << "its bytes are";
  write_text(at.file, "two");
  at.touch();
  EXPECT_EQ(check(*marks, at.file), MediaState::changed);
  EXPECT_EQ(check(*marks, at.file), MediaState::same) << "as it is now";
  write_text(at.file, "longer");
  EXPECT_EQ(check(*marks, at.file), MediaState::changed);
}

TEST(MediaMarks, OutliveTheProcessAndAreSeenByOthers) {
  const Folders at;
  ASSERT_EQ(check(*at.open(), at.file), MediaState::unknown);
  const auto first = at.open();
  EXPECT_EQ(check(*first, at.file), MediaState::same);
  const auto second = at.open();  // the first one holds its own database
  EXPECT_EQ(check(*second, at.file), MediaState::same);
  write_text(at.file, "longer");
  EXPECT_EQ(check(*second, at.file), MediaState::changed);
  EXPECT_EQ(check(*first, at.file), MediaState::changed);
}

TEST(MediaMarks, AHashThatIsGivenIsNotTakenAgain) {
  const Folders at;
  const auto marks = at.open();
  const CacheKey none{1, 2};  // no hash of the file
  EXPECT_EQ(marks->check({at.file, *file_stamp(at.file), none}), MediaState::unknown);
  at.touch();
  EXPECT_EQ(marks->check({at.file, *file_stamp(at.file), none}), MediaState::same);
  at.touch();
  EXPECT_EQ(check(*marks, at.file), MediaState::changed);
}

TEST(MediaMarks, WhatIsNoFileIsAnError) {
  const Folders at;
  const auto marks = at.open();
  EXPECT_EQ(check(*marks, at.folder / "missing").error().code, Errc::not_found);
  ASSERT_EQ(::mkfifo((at.folder / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(check(*marks, at.folder / "fifo").error().code, Errc::data_error);
  EXPECT_EQ(file_hash(at.folder / "fifo").error().code, Errc::data_error);
}

}  // namespace
}  // namespace crabcast::data

// Files that are not what they should be: an error with file, stage and reason, in good time.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <random>

#include "data/decode.h"
#include "tests/data/media_fixture.h"

namespace crabcast::data {
namespace {

using testing::Canvas;
using testing::ClipOptions;
using testing::TemporaryFolder;
using testing::tone;
using testing::write_clip;
using testing::write_picture;
using testing::write_sound;
using testing::write_text;

using Decoder = std::function<Status(const std::filesystem::path&, const DecodeOptions&)>;

template <class T>
Status status_of(const Result<T>& result) {
  return result ? Status{} : Status(fail(result.error()));
}
const Decoder kVideo = [](const auto& path, const auto& options) {
  return status_of(decode_video(path, 10, options));
};
const Decoder kImage = [](const auto& path, const auto& options) {
  return status_of(decode_image(path, options));
};
const Decoder kMask = [](const auto& path, const auto& options) {
  return status_of(decode_mask(path, 0, options));
};
const Decoder kSound = [](const auto& path, const auto& options) {
  return status_of(decode_audio(path, {}, options));
};

void expect_data_error(const Decoder& decode, const std::filesystem::path& path,
                       const std::string& stage, const std::string& says) {
  SCOPED_TRACE(path.filename());
  const auto status = decode(path, {});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::data_error);
  const auto& message = status.error().message;
  EXPECT_EQ(message.rfind(path.string() + ": " + stage, 0), 0U) << message;
  EXPECT_NE(message.find(says), std::string::npos) << message;
}

TEST(DecodeBad, WhatIsNoFile) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "folder.mp4");
  write_text(folder / "empty.mp4", "");
  ASSERT_EQ(::mkfifo((folder / "fifo.mp4").c_str(), 0600), 0);
  for (const auto& decode : {kVideo, kImage, kSound, kMask}) {
    expect_data_error(decode, folder / "missing.mp4", "open", "No such file");
    expect_data_error(decode, folder / "folder.mp4", "open", "is a folder");
    expect_data_error(decode, folder / "empty.mp4", "open", "is empty");
    expect_data_error(decode, folder / "fifo.mp4", "open", "not a regular file");
  }
}

TEST(DecodeBad, WhatIsAnotherKindOfFile) {
  const TemporaryFolder folder;
  write_text(folder / "text.mp4", "this is a note, not a film\n");
  write_text(folder / "playlist.mp4", "#EXTM3U\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n");
  write_text(folder / "concat.mp4", "ffconcat version 1.0\nfile /etc/passwd\n");
  for (const auto* name : {"text.mp4", "playlist.mp4", "concat.mp4"}) {
    expect_data_error(kVideo, folder / name, "open", "no video or audio file");
    expect_data_error(kSound, folder / name, "open", "no video or audio file");
    expect_data_error(kImage, folder / name, "open", "no picture");
  }
  write_picture(folder / "picture.mp4", testing::two_squares(), AV_PIX_FMT_RGB24);
  expect_data_error(kVideo, folder / "picture.mp4", "open", "no video or audio file");
  write_clip(folder / "film.jpg.mp4");
  expect_data_error(kImage, folder / "film.jpg.mp4", "open", "no picture");
  expect_data_error(kSound, folder / "film.jpg.mp4", "demux", "has no audio track");
  write_sound(folder / "sound.wav", 2, [](double t, int) { return tone(t, 440); });
  expect_data_error(kVideo, folder / "sound.wav", "demux", "has no video track");
}

TEST(DecodeBad, WhatWasCutOff) {
  const TemporaryFolder folder;
  ClipOptions h264;
  h264.codec = "libx264";
  write_clip(folder / "film.mp4", h264);
  write_clip(folder / "film.mkv", h264);
  write_picture(folder / "a.png", testing::numbered(5), AV_PIX_FMT_RGB24);
  write_picture(folder / "a.jpg", testing::numbered(5), AV_PIX_FMT_YUVJ420P);
  write_sound(folder / "a.wav", 5, [](double t, int) { return tone(t, 440); });
  for (const double share : {0.9, 0.5, 0.02}) {
    SCOPED_TRACE(share);
    const auto cut = [&](const char* name) {
      const auto path = folder / (std::to_string(share) + name);
      std::filesystem::copy_file(folder / name, path);
      testing::cut_off(path, share);
      return path;
    };
    expect_data_error(kVideo, cut("film.mp4"), "", "");
    expect_data_error(kImage, cut("a.png"), "", "");
    expect_data_error(kImage, cut("a.jpg"), "", "");
    if (share < 0.9) expect_data_error(kSound, cut("a.wav"), "", "");
  }
}

TEST(DecodeBad, AFilmWithTheIndexInFrontAndItsEndMissing) {
  const TemporaryFolder folder;
  const auto path = folder / "front.mp4";
  ClipOptions options;
  options.index_in_front = true;
  write_clip(path, options);
  ASSERT_TRUE(kVideo(path, {}).has_value());
  testing::cut_off(path, 0.8);
  expect_data_error(kVideo, path, "demux", "cut off");
}

TEST(DecodeBad, DamagedDataIsNamedWithItsStage) {
  const TemporaryFolder folder;
  ClipOptions options;
  options.codec = "libx264";
  write_clip(folder / "film.mp4", options);
  std::fstream film(folder / "film.mp4", std::ios::in | std::ios::out | std::ios::binary);
  const auto size = std::filesystem::file_size(folder / "film.mp4");
  film.seekp(static_cast<std::streamoff>(size / 3));
  film << std::string(size / 4, '\x7f');
  film.close();
  expect_data_error(kVideo, folder / "film.mp4", "decode", "h264");
}

TEST(DecodeBad, DeadlineAndLimits) {
  const TemporaryFolder folder;
  write_clip(folder / "film.mp4");
  write_picture(folder / "a.png", testing::two_squares(), AV_PIX_FMT_RGB24);
  write_sound(folder / "a.wav", 2, [](double t, int) { return tone(t, 440); });
  const std::vector<std::pair<Decoder, const char*>> files = {
      {kVideo, "film.mp4"}, {kImage, "a.png"}, {kMask, "a.png"}, {kSound, "a.wav"}};
  for (const auto& [decode, name] : files) {
    SCOPED_TRACE(name);
    DecodeOptions late;
    late.deadline = TimePoint::min();
    const auto status = decode(folder / name, late);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, Errc::timeout);

    DecodeOptions narrow;
    narrow.limits.file_bytes = narrow.limits.picture_bytes = 10;
    const auto too_long = decode(folder / name, narrow);
    ASSERT_FALSE(too_long.has_value());
    EXPECT_NE(too_long.error().message.find("limit"), std::string::npos);
  }
  DecodeOptions few;
  few.limits.pixels = 100;
  few.limits.frames = 100;
  EXPECT_FALSE(kVideo(folder / "film.mp4", few).has_value());
  EXPECT_FALSE(kImage(folder / "a.png", few).has_value());
  few.limits = {};
  few.limits.frames = 5;
  const auto frames = kVideo(folder / "film.mp4", few);
  ASSERT_FALSE(frames.has_value());
  EXPECT_NE(frames.error().message.find("too many frames"), std::string::npos);
}

// A picture whose header claims 60,000 x 60,000 pixels is refused before memory is taken for it.
TEST(DecodeBad, AHugeSizeInTheHeader) {
  const TemporaryFolder folder;
  write_picture(folder / "bomb.png", Canvas(8, 8), AV_PIX_FMT_RGB24);
  std::fstream file(folder / "bomb.png", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(16);
  file.write("\0\0\xEA\x60\0\0\xEA\x60", 8);
  file.close();
  expect_data_error(kImage, folder / "bomb.png", "decode", "");
}

// Any damage: an answer or an error, never a crash, a hang or an exception.
TEST(DecodeBad, RandomDamage) {
  const TemporaryFolder folder;
  ClipOptions h264;
  h264.codec = "libx264";
  h264.frames = 12;
  write_clip(folder / "a.mp4", h264);
  h264.codec = "mpeg4";
  write_clip(folder / "b.avi", h264);
  write_picture(folder / "c.jpg", testing::two_squares(), AV_PIX_FMT_YUVJ420P);
  write_picture(folder / "d.png", testing::two_squares(), AV_PIX_FMT_RGB24);
  write_sound(folder / "e.mp3", 1, [](double t, int) { return tone(t, 440); },
              {"libmp3lame", AV_SAMPLE_FMT_FLTP, 16'000, 1});
  write_sound(folder / "f.wav", 1, [](double t, int) { return tone(t, 440); });
  const std::vector<std::pair<Decoder, const char*>> files = {{kVideo, "a.mp4"}, {kVideo, "b.avi"},
                                                              {kImage, "c.jpg"}, {kMask, "d.png"},
                                                              {kSound, "e.mp3"}, {kSound, "f.wav"}};
  std::mt19937 random(4711);
  int errors = 0;
  for (const auto& [decode, name] : files) {
    std::ifstream in(folder / name, std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(in)), {});
    for (int round = 0; round < 25; ++round) {
      SCOPED_TRACE(std::string(name) + ", seed 4711, round " + std::to_string(round));
      std::string bytes = whole;
      const auto spots = 1 + random() % 20;
      for (std::uint32_t i = 0; i < spots; ++i)
        bytes[random() %
              (round % 2 == 0 ? bytes.size() : std::min<std::size_t>(600, bytes.size()))] =
            static_cast<char>(random());
      if (round % 5 == 0) bytes.resize(random() % bytes.size());
      write_text(folder / "damaged", bytes);
      DecodeOptions options;
      options.deadline = Clock::now() + std::chrono::seconds(10);
      const auto status = decode(folder / "damaged", options);
      if (status) continue;
      ++errors;
      EXPECT_TRUE(status.error().code == Errc::data_error ||
                  status.error().code == Errc::resource_exhausted)
          << status.error().message;
    }
  }
  EXPECT_GT(errors, 30);
}

}  // namespace
}  // namespace crabcast::data

// The parts of the renderer: random numbers, pictures, sounds, encoders, files.

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <sstream>

#include "data/files.h"
#include "data/media_encode.h"
#include "data/scene.h"
#include "data/scene_sound.h"
#include "data/synth_random.h"
#include "tests/data/synth_fixture.h"

namespace crabcast::data {
namespace {

double rms(std::span<const float> samples) {
  double sum = 0;
  for (const float s : samples) sum += double(s) * s;
  return samples.empty() ? 0 : std::sqrt(sum / double(samples.size()));
}

TEST(SynthRandom, StreamsDifferInEveryWordAndStayTheSame) {
  std::set<std::uint64_t> firsts;
  for (std::uint64_t a = 0; a < 10; ++a)
    for (std::uint64_t b = 0; b < 10; ++b)
      for (std::uint64_t c = 0; c < 10; ++c) firsts.insert(Rng{a, b, c}.next());
  EXPECT_EQ(firsts.size(), 1000U);
  EXPECT_EQ((Rng{7, 1}.next()), (Rng{7, 1}.next()));
  EXPECT_NE((Rng{1, 2}.next()), (Rng{2, 1}.next()));
}

TEST(SynthRandom, RangesIncludeTheirEnds) {
  Rng rng{3};
  std::set<int> seen;
  for (int i = 0; i < 500; ++i) seen.insert(rng.range(-1, 2));
  EXPECT_EQ(seen, (std::set<int>{-1, 0, 1, 2}));
  for (int i = 0; i < 500; ++i) {
    const double u = rng.unit();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
  }
}

TEST(Scene, TheBoxOfAMaskIsItsOutermostPixels) {
  const Sprite square{.shape = Shape::square, .x = 0.5, .y = 0.25, .radius = 0.125};
  const auto mask = mask_of(square, 224, 224);
  const auto box = box_of(mask, 224);
  ASSERT_TRUE(box.has_value());
  // 0.9 of a radius of 28 pixels around (112, 56): from 86.8 to 137.2 across, 30.8 to 81.2 down.
  EXPECT_EQ(format_box(*box), "[87,31,136,80]");
  EXPECT_FALSE(box_of(std::vector<std::uint8_t>(224 * 224), 224).has_value());
}

TEST(Scene, EveryShapeFillsItsBoxAndHoldsItsPoints) {
  for (std::size_t k = 0; k < kKindCount; ++k) {
    const KindInfo& kind = info(static_cast<Kind>(k));
    SCOPED_TRACE(kind.name);
    const Sprite sprite{.shape = kind.shape, .x = 0.4, .y = 0.6, .radius = 0.15};
    const auto mask = mask_of(sprite, 224, 224);
    const auto box = box_of(mask, 224);
    ASSERT_TRUE(box.has_value());
    // Scored as a mask, the true box must be worth something.
    EXPECT_GT(mask_box_iou(mask, 224, 224, box), 0.45);
    EXPECT_GT(box->x2 - box->x1, 40);
    std::set<std::pair<int, int>> points;
    std::istringstream text(points_text(mask, 224, *box));
    for (std::string word; text >> word;) {
      int x = -1, y = -1;
      ASSERT_EQ(std::sscanf(word.c_str(), "[%d,%d]", &x, &y), 2) << word;
      EXPECT_NE(mask[static_cast<std::size_t>(y) * 224 + x], 0) << word;
      points.emplace(x, y);
    }
    EXPECT_EQ(points.size(), 3U);
  }
}

TEST(Scene, DrawnPixelsAreTheMask) {
  const Colour red{"red", 255, 0, 0};
  Canvas canvas(64, 64);
  canvas.fill({"", 0, 0, 0}, {"", 0, 0, 0});
  const Sprite star{.shape = Shape::star, .colour = red, .x = 0.5, .y = 0.5, .radius = 0.4};
  canvas.draw(star, false);
  const auto mask = mask_of(star, 64, 64);
  for (std::size_t i = 0; i < mask.size(); ++i)
    ASSERT_EQ(mask[i] != 0, canvas.pixels()[3 * i] >= 127) << "pixel " << i;
}

TEST(Scene, SpritesOutsideThePictureAreCutOff) {
  Canvas canvas(32, 32);
  canvas.draw({.x = -2, .y = 3, .radius = 0.2});
  canvas.draw({.shape = Shape::bar, .x = 1, .y = 1, .radius = 0.5, .angle = 1});
  EXPECT_EQ(canvas.pixels()[0], 0);
}

TEST(Scene, WhatHasNoSizeIsNotDrawn) {
  Canvas canvas(32, 32);
  canvas.fill({"", 90, 90, 90}, {"", 90, 90, 90});
  canvas.draw({.radius = 0.3, .aspect = 0});
  canvas.draw({.radius = 0});
  canvas.draw({.radius = std::nan("")});
  for (const std::uint8_t value : canvas.pixels()) ASSERT_EQ(value, 90);
}

TEST(SceneSound, TimbresAreLoudAndDiffer) {
  std::vector<std::vector<float>> loops;
  for (std::size_t k = 0; k < kKindCount; ++k) {
    Rng rng{5, k};
    loops.push_back(timbre(static_cast<Kind>(k), rng));
    ASSERT_EQ(loops.back().size(), static_cast<std::size_t>(kSoundRate));
    EXPECT_GT(rms(loops.back()), 0.05) << info(static_cast<Kind>(k)).name;
    for (const float s : loops.back()) ASSERT_LE(std::abs(s), 0.96F);
  }
  for (std::size_t a = 0; a < loops.size(); ++a)
    for (std::size_t b = a + 1; b < loops.size(); ++b) {
      double dot = 0;
      for (std::size_t i = 0; i < loops[a].size(); ++i) dot += double(loops[a][i]) * loops[b][i];
      const double cosine = dot / (rms(loops[a]) * rms(loops[b]) * kSoundRate);
      EXPECT_LT(std::abs(cosine), 0.3) << a << " and " << b;
    }
}

TEST(SceneSound, ToneAndHarmonicsHaveTheirFrequencies) {
  Rng rng{1};
  Waveform wave(1, rng);
  constexpr std::array kHarmonics = {1.0, 0.0, 0.5};
  wave.add_tone([](double) { return Waveform::Tone{200, 0.4}; }, kHarmonics);
  const auto samples = wave.samples();
  for (const double hertz : {100.0, 200.0, 400.0, 600.0, 800.0}) {
    double sine = 0, cosine = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const double angle = 2 * 3.14159265358979 * hertz * double(i) / kSoundRate;
      sine += samples[i] * std::sin(angle);
      cosine += samples[i] * std::cos(angle);
    }
    const double gain = 2 * std::sqrt(sine * sine + cosine * cosine) / double(samples.size());
    EXPECT_NEAR(gain, hertz == 200 ? 0.4 : hertz == 600 ? 0.2 : 0, 0.01) << hertz;
  }
}

TEST(SceneSound, ALoopSoundsOnlyInItsInterval) {
  Rng rng{1};
  Waveform wave(4, rng);
  EXPECT_LT(rms(wave.samples()), 0.001);
  EXPECT_GT(rms(wave.samples()), 0.0003);
  wave.add_loop(timbre(Kind::flute, rng), 1, 1, 3);
  const auto second = [&](int s) {
    return rms(wave.samples().subspan(static_cast<std::size_t>(s) * kSoundRate, kSoundRate));
  };
  EXPECT_LT(second(0), 0.001);
  EXPECT_GT(second(1), 0.1);
  EXPECT_GT(second(2), 0.1);
  EXPECT_LT(second(3), 0.001);
  EXPECT_DOUBLE_EQ(wave.seconds(), 4);
}

TEST(MediaEncode, AMissingEncoderIsNamed) {
  VideoFormat format;
  format.encoders = {"no_such_encoder", "nor_this"};
  const Canvas canvas(96, 96);
  const auto result = encode_video(format, 1, [&](int) -> const Canvas& { return canvas; });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, Errc::unsupported);
  EXPECT_NE(result.error().message.find("no_such_encoder, nor_this"), std::string::npos);
}

TEST(MediaEncode, WhatCannotBeEncodedIsAnError) {
  const Canvas canvas(96, 96);
  const auto draw = [&](int) -> const Canvas& { return canvas; };
  VideoFormat odd;
  odd.width = 95;
  EXPECT_EQ(encode_video(odd, 1, draw).error().code, Errc::invalid_argument);
  VideoFormat other;
  other.width = 64;
  EXPECT_EQ(encode_video(other, 1, draw).error().code, Errc::internal);
  VideoFormat container;
  container.container = "no_such_container";
  EXPECT_EQ(encode_video(container, 1, draw).error().code, Errc::unsupported);
  const std::vector<float> silence(100);
  EXPECT_EQ(encode_audio("flac", silence, 16000).error().code, Errc::invalid_argument);
  // The mp3 format has no such rate: the encoder itself refuses.
  const auto refused = encode_audio("mp3", silence, 12345);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::internal);
  EXPECT_NE(refused.error().message.find("opening lib"), std::string::npos);
  EXPECT_EQ(encode_png(std::vector<std::uint8_t>(10), 4, 4).error().code, Errc::invalid_argument);
}

TEST(MediaEncode, EqualInputGivesEqualBytes) {
  Rng rng{2};
  Waveform wave(2, rng);
  wave.add_loop(timbre(Kind::bell, rng), 0.5, 0, 2);
  for (const char* container : {"wav", "mp3"}) {
    const auto a = encode_audio(container, wave.samples(), kSoundRate);
    const auto b = encode_audio(container, wave.samples(), kSoundRate);
    ASSERT_TRUE(a.has_value() && b.has_value());
    EXPECT_EQ(*a, *b) << container;
  }
}

TEST(SynthFiles, AFullDiskIsNamedAsSuch) {
  const Status status = write_file("/dev/full", std::string_view("some bytes"));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Errc::disk_full);
  EXPECT_NE(status.error().message.find("/dev/full"), std::string::npos);
  EXPECT_NE(status.error().message.find("free some space"), std::string::npos);
}

TEST(SynthFiles, AFileReadsBackAsWritten) {
  const testing::TemporaryFolder scratch;
  const std::string text(10000, 'x');
  ASSERT_TRUE(write_file(scratch.path() / "a", std::string_view(text)).has_value());
  EXPECT_EQ(read_file(scratch.path() / "a").value(), text);
  EXPECT_EQ(read_file(scratch.path() / "b").error().code, Errc::not_found);
  EXPECT_EQ(write_file(scratch.path() / "no" / "a", std::string_view(text)).error().code,
            Errc::not_found);
}

TEST(SynthFiles, ALockKeepsTheSecondOut) {
  const testing::TemporaryFolder scratch;
  const auto path = scratch.path() / "a.lock";
  {
    const auto first = FileLock::acquire(path, Duration::zero());
    ASSERT_TRUE(first.has_value()) << first.error().message;
    const auto second = FileLock::acquire(path, Duration::zero());
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::timeout);
  }
  EXPECT_TRUE(FileLock::acquire(path, Duration::zero()).has_value());
}

TEST(SynthFiles, PublishingNeverReplacesWhatIsThere) {
  const testing::TemporaryFolder scratch;
  const auto partial = scratch.path() / "c.partial", folder = scratch.path() / "c";
  ASSERT_TRUE(make_folder(partial).has_value());
  ASSERT_TRUE(write_file(partial / "new", std::string_view("new")).has_value());
  ASSERT_TRUE(make_folder(folder).has_value());
  ASSERT_TRUE(write_file(folder / "old", std::string_view("old")).has_value());
  const Status refused = publish_folder(partial, folder);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Errc::already_exists);
  EXPECT_EQ(contents(folder / "old"), "old");
  std::filesystem::remove(folder / "old");
  ASSERT_TRUE(publish_folder(partial, folder).has_value());
  EXPECT_EQ(contents(folder / "new"), "new");
  EXPECT_FALSE(std::filesystem::exists(partial));
}

}  // namespace
}  // namespace crabcast::data

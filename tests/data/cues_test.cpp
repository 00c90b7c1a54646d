// Cues of motions and expressions: what one sense leaves open, the other one closes.

#include "data/cues.h"

#include <gtest/gtest.h>

#include <bit>

#include "data/scene_voice.h"

namespace crabcast::data {
namespace {

struct Case {
  const char* name;
  const Cues& cues;
  Classes known;
  bool all_shared;  // each class has shared cues in both senses
};

std::vector<Case> cases() {
  const auto all = static_cast<Classes>((1U << 7) - 1);
  return {{"actions", action_cues(), 0xFF, true},
          {"all expressions", emotion_cues(), all, true},
          {"without disgust", emotion_cues(), static_cast<Classes>(all & ~class_bit(6)), false},
          {"without surprise", emotion_cues(), static_cast<Classes>(all & ~class_bit(4)), true}};
}

TEST(Cues, ThePictureAndTheSoundHaveTheAnswerInCommon) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    Rng rng{1};
    for (std::size_t target = 0; target < 8; ++target) {
      if ((c.known & class_bit(target)) == 0) continue;
      for (int i = 0; i < 50; ++i) {
        const DrawnCues drawn = draw_cues(c.cues, c.known, target, kHard, rng);
        EXPECT_EQ(drawn.picture & drawn.sound & c.known, class_bit(target));
        // A shared cue leaves more than one class open: alone it cannot be enough.
        EXPECT_EQ(drawn.senses.sound, std::popcount(Classes(drawn.picture & c.known)) > 1);
        EXPECT_EQ(drawn.senses.picture, std::popcount(Classes(drawn.sound & c.known)) > 1);
      }
    }
  }
}

TEST(Cues, TheStatedShareNeedsBothSenses) {
  for (const Case& c : cases())
    for (const Level& level : {kNormal, kHard}) {
      SCOPED_TRACE(c.name);
      Rng rng{2};
      int both = 0, picture = 0, sound = 0, all = 0;
      for (int i = 0; i < 2000; ++i) {
        const std::size_t target = static_cast<std::size_t>(i) % 8;
        if ((c.known & class_bit(target)) == 0) continue;
        const Senses needed = draw_cues(c.cues, c.known, target, level, rng).senses;
        ++all;
        both += needed == kBothSenses ? 1 : 0;
        picture += needed == Senses{.picture = true} ? 1 : 0;
        sound += needed == Senses{.sound = true} ? 1 : 0;
      }
      EXPECT_EQ(both + picture + sound, all);
      EXPECT_NEAR(double(both) / all, level.both, c.all_shared ? 0.04 : 0.2);
      EXPECT_NEAR(double(picture) / all, (1 - level.both) / 2, c.all_shared ? 0.04 : 0.15);
    }
}

TEST(Cues, WhatLooksAlikeSoundsDifferentInEachWay) {
  // Two classes that share a picture share no sound but one that is clear for neither.
  for (const Cues& cues : {action_cues(), emotion_cues()})
    for (const Classes picture : cues.pictures)
      for (const Classes sound : cues.sounds)
        EXPECT_LE(std::popcount(Classes(picture & sound)), 1) << picture << " " << sound;
}

double energy(Waveform& wave) {
  double sum = 0;
  for (const float s : wave.samples()) sum += double(s) * s;
  return sum;
}

// Energy between two frequencies, by the differences of samples: a rough high-pass.
double roughness(Waveform& wave) {
  const auto samples = wave.samples();
  double sum = 0;
  for (std::size_t i = 1; i < samples.size(); ++i) {
    const double step = samples[i] - samples[i - 1];
    sum += step * step;
  }
  return sum / energy(wave);
}

TEST(Voice, TimbresDifferAndSayNothingOfTheMelody) {
  const auto voice = [](Contour contour, Timbre timbre) {
    Rng person_rng{4}, rng{5};
    const Person person = make_person(person_rng);
    return speak(contour, timbre, person, kNormal, rng);
  };
  for (const Contour contour : {Contour::level, Contour::rising, Contour::falling}) {
    Waveform clear = voice(contour, Timbre::clear), breathy = voice(contour, Timbre::breathy),
             humming = voice(contour, Timbre::humming);
    EXPECT_GT(energy(clear), 100);
    EXPECT_GT(roughness(breathy), 1.5 * roughness(clear));
    EXPECT_GT(roughness(clear), 1.5 * roughness(humming));
  }
}

}  // namespace
}  // namespace crabcast::data

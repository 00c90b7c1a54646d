// Staged scenes: that answers are those of their scenes, and that an answer which is said to need a
// sense cannot be told without it.

#include "data/stage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "data/cues.h"
#include "data/stage_media.h"
#include "data/synth.h"

namespace crabcast::data {
namespace {

constexpr std::uint64_t kScenes = 60;  // of each data set and difficulty

bool is_of_things(const Dataset& set) {
  return set.task != Task::action_recognition && set.task != Task::emotion_recognition &&
         set.task != Task::av_matching;
}

template <class Visit>
void for_plays(const Visit& visit) {
  for (const Difficulty difficulty : {Difficulty::normal, Difficulty::hard})
    for (DatasetRow row = 0; row < datasets().size(); ++row) {
      if (!is_of_things(datasets()[row])) continue;
      for (std::uint64_t index = 0; index < kScenes; ++index) {
        const SynthRequest request{.dataset = row,
                                   .split = index % 4 == 0 ? Split::test : Split::train,
                                   .index = index,
                                   .seed = 3,
                                   .difficulty = difficulty};
        SCOPED_TRACE(std::string(datasets()[row].id) + " " + request.clip() + " " +
                     std::string(to_string(difficulty)));
        const auto play = play_of(request);
        ASSERT_TRUE(play.has_value()) << play.error().message;
        visit(request, *play);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
}

std::string target_text(const SynthRequest& request, const Play& play) {
  return play.fields.at(std::string(request.table().target_field)).get<std::string>();
}

TEST(Stage, TheFinalAnswerIsThatOfTheScene) {
  for_plays([](const SynthRequest& request, const Play& play) {
    const std::string answer = play.answer(play.picture, play.sound);
    const std::string target = target_text(request, play), final = final_answer(target);
    if (request.table().visual == VisualInput::image && answer != "none")
      EXPECT_EQ(final.substr(0, final.find(' ')), answer.substr(0, answer.find(' ')));
    else
      EXPECT_EQ(final, answer);
    EXPECT_FALSE(answer.empty());
    EXPECT_LE(target.size(), 240U) << target;
  });
}

TEST(Stage, NoKindIsSeenOrHeardTwiceAndNothingTouches) {
  for_plays([](const SynthRequest&, const Play& play) {
    std::set<Kind> seen, heard;
    for (const Seen& s : play.picture) EXPECT_TRUE(seen.insert(s.kind()).second);
    for (const Heard& h : play.sound) EXPECT_TRUE(heard.insert(h.kind).second);
    for (std::size_t i = 0; i < play.picture.size(); ++i) {
      const Thing& a = play.picture[i].thing;
      EXPECT_GE(a.x - a.radius, 0);
      EXPECT_LE(a.x + a.radius, 1);
      EXPECT_GE(a.y - a.radius, 0);
      EXPECT_LE(a.y + a.radius, 1);
      for (std::size_t j = 0; j < i; ++j) {
        const Thing& b = play.picture[j].thing;
        EXPECT_GT(std::hypot(a.x - b.x, a.y - b.y), 0.95 * (a.radius + b.radius)) << i << " " << j;
      }
    }
  });
}

// The proof: for each sample that is said to need a sense, there is the same sample but for what
// that sense takes in, with another answer. What the other sense takes in is equal, so a guess from
// it alone is wrong for one of the two.
TEST(Stage, ForEachSenseThatIsNeededThereIsACounterexample) {
  int both = 0, one = 0;
  for_plays([&](const SynthRequest&, const Play& play) {
    const std::string truth = play.answer(play.picture, play.sound);
    const auto differs = [&](const Picture& picture, const Sound& sound) {
      const std::string other = play.answer(picture, sound);
      return !other.empty() && other != truth;
    };
    const auto pictures = other_pictures(play.picture);
    const auto sounds = other_sounds(play.sound);
    EXPECT_EQ(play.senses.picture, std::ranges::any_of(pictures, [&](const Picture& other) {
                return differs(other, play.sound);
              }));
    EXPECT_EQ(play.senses.sound, std::ranges::any_of(sounds, [&](const Sound& other) {
                return differs(play.picture, other);
              }));
    (play.senses == kBothSenses ? both : one) += 1;
  });
  EXPECT_GT(both, 8 * one);  // only questions have answers for which one sense is enough
  EXPECT_GT(one, 20);
}

// What is said not to be needed is not: any other scene's picture, or sound, does as well.
TEST(Stage, WhatIsNotNeededChangesNothing) {
  std::vector<Play> plays;
  for_plays([&](const SynthRequest&, const Play& play) { plays.push_back(play); });
  int compared = 0;
  for (const Play& play : plays) {
    if (play.senses == kBothSenses) continue;
    const std::string truth = play.answer(play.picture, play.sound);
    for (const Play& other : plays) {
      const std::string answer = play.senses.picture ? play.answer(play.picture, other.sound)
                                                     : play.answer(other.picture, play.sound);
      if (answer.empty()) continue;
      ASSERT_EQ(answer, truth) << play.fields.dump();
      ++compared;
    }
  }
  EXPECT_GT(compared, 1000);
}

const MediaFile& file_ending(const Scene& scene, const std::string& ending) {
  const auto at = std::ranges::find_if(
      scene.files, [&](const MediaFile& file) { return file.path.ends_with(ending); });
  EXPECT_NE(at, scene.files.end()) << ending;
  return *at;
}

TEST(Stage, TheSamePictureGoesWithAnySoundByteForByte) {
  for (const char* id : {"avqa_thu", "ave", "s4"}) {
    SCOPED_TRACE(id);
    const Dataset& set = *find_dataset(id);
    const SynthRequest request{.dataset = static_cast<DatasetRow>(&set - datasets().data()),
                               .index = 2,
                               .difficulty = Difficulty::hard};
    const auto made = play_of(request);
    ASSERT_TRUE(made.has_value());
    const auto truth = render_play(request, *made);
    const std::string picture = set.visual == VisualInput::image ? ".jpg" : ".mp4";
    const std::string sound = set.visual == VisualInput::image ? ".wav" : ".mp3";
    const std::string answer = made->answer(made->picture, made->sound);
    ASSERT_TRUE(truth.has_value());

    Play other_sound = *made, other_picture = *made;
    for (const Sound& s : other_sounds(made->sound)) {
      const std::string other = made->answer(made->picture, s);
      if (!other.empty() && other != answer) other_sound.sound = s;
    }
    for (const Picture& p : other_pictures(made->picture)) {
      const std::string other = made->answer(p, made->sound);
      if (!other.empty() && other != answer && p.size() == made->picture.size())
        other_picture.picture = p;
    }
    const auto heard = render_play(request, other_sound),
               seen = render_play(request, other_picture);
    ASSERT_TRUE(heard.has_value() && seen.has_value());
    EXPECT_NE(other_sound.answer(other_sound.picture, other_sound.sound), answer);
    EXPECT_EQ(file_ending(*heard, picture).bytes, file_ending(*truth, picture).bytes);
    EXPECT_NE(file_ending(*heard, sound).bytes, file_ending(*truth, sound).bytes);
    EXPECT_NE(other_picture.answer(other_picture.picture, other_picture.sound), answer);
    EXPECT_NE(file_ending(*seen, picture).bytes, file_ending(*truth, picture).bytes);
    EXPECT_EQ(file_ending(*seen, sound).bytes, file_ending(*truth, sound).bytes);
  }
}

TEST(Stage, ManySoundsOverlapAndManyHaveNoSourceInThePicture) {
  int scenes = 0, several = 0, overlapping = 0, hidden = 0, silent = 0;
  for_plays([&](const SynthRequest& request, const Play& play) {
    if (request.difficulty != Difficulty::hard) return;
    ++scenes;
    several += play.sound.size() > 1 ? 1 : 0;
    const auto heard = sounding(play.picture, play.sound).size();
    hidden += heard < play.sound.size() ? 1 : 0;
    silent += heard < play.picture.size() ? 1 : 0;
    bool meet = false;
    for (std::size_t i = 1; i < play.sound.size(); ++i)
      meet = meet || common(play.sound[0].when, play.sound[i].when).length() > 0;
    overlapping += meet ? 1 : 0;
  });
  EXPECT_GT(several, scenes * 3 / 4);
  EXPECT_GT(overlapping, scenes * 3 / 5);
  EXPECT_GT(hidden, scenes / 2);
  EXPECT_GT(silent, scenes * 3 / 4);
}

TEST(Stage, ClipsOfAMinuteChangeBetweenTheirWindows) {
  EXPECT_EQ(block_time(0, 60), 0);
  EXPECT_EQ(block_time(3, 60), 15);  // halfway between the windows around 12 and 18 s
  EXPECT_EQ(block_time(10, 60), 60);
  EXPECT_EQ(block_time(3, 10), 3);
}

}  // namespace
}  // namespace crabcast::data

// The scenes of lessons and what can be asked about them. Used by lesson.cpp only.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "data/synth_random.h"

namespace crabcast::data {

// "Where is the bell?" "bell at" "[12,40,80,99]"
struct Fact {
  std::string question, label, value;
};

struct LessonScene {
  std::vector<at::Tensor> frames = {};  // uint8 [3, S, S]
  bool video = false;
  std::vector<float> sound = {};
  std::vector<Fact> facts = {};

  void add(std::string question, std::string label, std::string value) {
    facts.push_back({std::move(question), std::move(label), std::move(value)});
  }
};

// lesson_things.cpp
LessonScene look_scene(Rng& rng, int size);
LessonScene listen_scene(Rng& rng);
LessonScene match_scene(Rng& rng, int size);
LessonScene watch_scene(Rng& rng, int size);
// lesson_clips.cpp
LessonScene motion_scene(Rng& rng, int size);
LessonScene face_scene(Rng& rng, int size);
LessonScene events_scene(Rng& rng, int size);

}  // namespace crabcast::data

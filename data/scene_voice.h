// A voice whose melody and whose timbre are chosen apart: the sound of staged expressions.
#pragma once

#include "data/difficulty.h"
#include "data/scene_face.h"

namespace crabcast::data {

// How each syllable moves; wavering goes up and down by turns and says nothing.
enum class Contour { level, rising, falling, wavering };
// clear: vowels of a full voice. breathy: a thin voice in breath. rough: a creaking one. humming:
// closed lips, which say nothing.
enum class Timbre { clear, breathy, rough, humming };

// kFaceSeconds of it; the pace, the height and the loudness are drawn, and say nothing either.
Waveform speak(Contour contour, Timbre timbre, const Person& person, const Level& level, Rng& rng);

}  // namespace crabcast::data

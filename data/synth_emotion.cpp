// meld, mer24, cremad, mafw, dfew: a face and the melody of a voice show one expression.

#include <algorithm>
#include <array>

#include "data/scene_face.h"
#include "data/synth_sample.h"

namespace crabcast::data {
namespace {

// What each data set calls the expressions, in the order of expression(); empty: it does not have it.
struct Names {
  std::string_view dataset;
  std::array<std::string_view, kExpressionCount> words;
};
constexpr std::array<Names, 5> kNames = {
    Names{"meld", {"neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust"}},
    Names{"mer24", {"neutral", "happy", "sad", "angry", "surprise", "worried", ""}},
    Names{"cremad", {"neutral", "happy", "sad", "anger", "", "fear", "disgust"}},
    Names{"mafw", {"neutral", "happiness", "sadness", "anger", "surprise", "fear", "disgust"}},
    Names{"dfew", {"neutral", "happy", "sad", "angry", "surprise", "fear", "disgust"}},
};

}  // namespace

Result<Scene> render_emotion(const SynthRequest& request, Rng& rng) {
  const std::string_view id = request.table().id;
  const auto names = std::ranges::find(kNames, id, &Names::dataset);
  std::vector<std::size_t> known;
  for (std::size_t i = 0; i < kExpressionCount; ++i)
    if (!names->words[i].empty()) known.push_back(i);
  const std::size_t chosen = known[static_cast<std::size_t>(request.turn(int(known.size())))];
  const Expression& face = expression(chosen);
  const std::string_view word = names->words[chosen];

  const bool meld = id == "meld";
  std::string stem = request.clip();
  if (meld) stem = std::string(request.split == Split::train ? "train/" : "test/") + stem;
  const std::string video = stem + ".mp4", audio = stem + (meld ? ".mp3" : ".wav");

  Scene scene;
  const VideoFormat format;
  const Person person = make_person(rng);
  const Canvas behind = background(format.width, format.height, rng);
  CRABCAST_TRY(add_video(scene, "video/" + video, format, kFaceSeconds, behind,
                         [&](Canvas& canvas, double t) { paint_face(canvas, face, person, t); }));
  Waveform wave = speak(face, person, rng);
  CRABCAST_TRY(add_audio(scene, "audio/" + audio, wave));
  scene.fields = {
      {"video_path", video}, {"audio_path", audio}, {"label", make_target(face.evidence, word)},
      {"Emotion", word},     {"discrete", word},    {"emotion", word}};
  return scene;
}

}  // namespace crabcast::data

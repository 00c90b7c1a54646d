// meld, mer24, cremad, mafw, dfew: a face and the melody of a voice show one expression.
#include "data/synth_emotion.h"

#include <algorithm>

namespace crabcast::data {
namespace {

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

const std::array<std::string_view, kExpressionCount>& emotion_words(std::string_view dataset) {
  return std::ranges::find(kNames, dataset, &Names::dataset)->words;
}

std::size_t emotion_of_turn(const SynthRequest& request) {
  const auto& words = emotion_words(request.table().id);
  std::vector<std::size_t> known;
  for (std::size_t i = 0; i < kExpressionCount; ++i)
    if (!words[i].empty()) known.push_back(i);
  return known[static_cast<std::size_t>(request.turn(int(known.size())))];
}

ClipPaths emotion_paths(const SynthRequest& request) {
  const bool meld = request.table().id == "meld";
  std::string stem = request.clip();
  if (meld) stem = std::string(request.split == Split::train ? "train/" : "test/") + stem;
  return {stem + ".mp4", stem + (meld ? ".mp3" : ".wav")};
}

nlohmann::json emotion_fields(const SynthRequest& request, std::string_view word,
                              std::string_view evidence) {
  const ClipPaths paths = emotion_paths(request);
  return {{"video_path", paths.video},
          {"audio_path", paths.audio},
          {"label", make_target(evidence, word)},
          {"Emotion", word},
          {"discrete", word},
          {"emotion", word}};
}

Result<Scene> render_emotion(const SynthRequest& request, Rng& rng) {
  const std::size_t chosen = emotion_of_turn(request);
  const Expression& face = expression(chosen);
  const ClipPaths paths = emotion_paths(request);
  Scene scene;
  const VideoFormat format;
  const Person person = make_person(rng);
  const Canvas behind = background(format.width, format.height, rng);
  CRABCAST_TRY(add_video(scene, "video/" + paths.video, format, kFaceSeconds, behind,
                         [&](Canvas& canvas, double t) { paint_face(canvas, face, person, t); }));
  Waveform wave = speak(face, person, rng);
  CRABCAST_TRY(add_audio(scene, "audio/" + paths.audio, wave));
  scene.fields = emotion_fields(request, emotion_words(request.table().id)[chosen], face.evidence);
  return scene;
}

}  // namespace crabcast::data

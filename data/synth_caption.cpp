// avcap: one sentence says what is seen and which of it is heard.

#include "data/synth_sample.h"

namespace crabcast::data {

Result<Scene> render_caption(const SynthRequest& request, Rng& rng) {
  constexpr double kSeconds = 10;
  std::vector<Thing> things = things_in_a_row(2, rng);
  const std::size_t sounding = rng.chance(0.5) ? 0 : 1;
  set_kind(things, sounding, static_cast<Kind>(request.turn(kKindCount)));
  recolour(things, rng);
  const Thing& heard = things[sounding];
  const Thing& silent = things[1 - sounding];

  const std::string clip = request.clip();
  Scene scene;
  VideoFormat format;
  format.width = format.height = 112;
  const Canvas behind = background(format.width, format.height, rng);
  CRABCAST_TRY(add_video(scene, "video/" + clip + ".mp4", format, kSeconds, behind,
                         [&](Canvas& canvas, double t) {
                           for (const Thing& thing : things) canvas.draw(thing.swaying(t));
                         }));
  Waveform wave(kSeconds, rng);
  wave.add_loop(timbre(heard.kind, rng), 0.8, 0, kSeconds);
  CRABCAST_TRY(add_audio(scene, "audio/" + clip + ".mp3", wave));

  const auto coloured = [](const Thing& thing) {
    return std::string(thing.colour.name == "orange" ? "an " : "a ") +
           std::string(thing.colour.name) + " " + thing.name();
  };
  const std::string sentence = coloured(heard) + " " + std::string(info(heard.kind).verb) +
                               (sounding == 0 ? " left of " : " right of ") + coloured(silent);
  scene.fields = {{"video_path", clip + ".mp4"},
                  {"audio_path", clip + ".mp3"},
                  {"video_id", clip},
                  {"label_content", make_target("I hear a " + heard.name(), sentence)}};
  return scene;
}

}  // namespace crabcast::data

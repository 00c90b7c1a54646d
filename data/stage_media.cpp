#include "data/stage_media.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/synth_picture.h"

namespace crabcast::data {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;

Sprite sprite_at(const Seen& seen, double time) {
  Sprite sprite = seen.thing.sprite();
  const double phase = kTurn * (seen.pace * time + seen.start);
  sprite.x += seen.sway_x * std::sin(phase);
  sprite.y += seen.sway_y * std::sin(1.3 * phase + 1);
  sprite.angle = seen.tilt * std::sin(0.7 * phase);
  return sprite;
}

bool is_long(const SynthRequest& request) {
  return request.table().id == "avqa";
}

double seconds_of(const SynthRequest& request) {
  return is_long(request) ? 60 : 10;
}

Status film_clip(Scene& scene, const SynthRequest& request, const Play& play) {
  Rng rng = request.stream(SynthRequest::Part::picture);
  CRABCAST_TRY(film(scene, "video/" + request.clip() + ".mp4", request, play.picture, rng));
  Rng sound_rng = request.stream(SynthRequest::Part::sound);
  return record(scene, "audio/" + request.clip() + ".mp3", request, play.sound, sound_rng);
}

Status shoot_still(Scene& scene, const SynthRequest& request, const Play& play,
                   const StillPaths& paths) {
  const Level& level = level_of(request.difficulty);
  Rng rng = request.stream(SynthRequest::Part::picture);
  Canvas canvas = textured_background(kStillSide, kStillSide, rng);
  paint_still(canvas, play.picture);
  Camera(level, rng).shoot(canvas, 0);
  CRABCAST_TRY(add_still(scene, paths.picture, canvas));
  if (!play.absent) {
    const auto found = find_thing(play.picture[play.object].thing);
    if (!found) return fail(found.error());
    CRABCAST_TRY(add_mask(scene, paths.mask, found->mask));
  }
  Rng sound_rng = request.stream(SynthRequest::Part::sound);
  Waveform wave = mix(play.sound, level, request.table().audio_parts, true, sound_rng);
  return add_audio(scene, paths.sound, wave);
}

}  // namespace

double block_time(int block, double seconds) {
  if (block <= 0) return 0;
  if (block >= kBlocks) return seconds;
  const double length = seconds / kBlocks;
  return seconds > kBlocks ? length * block - length / 2 : length * block;
}

void paint(Canvas& canvas, const Picture& picture, double time, double seconds) {
  for (const Seen& seen : picture)
    if (block_time(seen.when.from, seconds) <= time && time < block_time(seen.when.to, seconds))
      canvas.draw(sprite_at(seen, time));
}

void paint_still(Canvas& canvas, const Picture& picture) {
  for (const Seen& seen : picture) canvas.draw(seen.thing.sprite());
}

Waveform mix(const Sound& sound, const Level& level, double seconds, bool still, Rng& rng) {
  Waveform wave(seconds, rng);
  const double hiss = rng.between(0, level.hiss) * std::numbers::sqrt3;
  wave.add_noise([&](double) { return hiss; }, rng);
  const auto at = [&](int block) {
    return still ? std::min<double>(block, seconds) : block_time(block, seconds);
  };
  for (const Heard& heard : sound)
    wave.add_loop(timbre(heard.kind, rng), heard.gain, at(heard.when.from), at(heard.when.to));
  return wave;
}

Status film(Scene& scene, const std::string& path, const SynthRequest& request,
            const Picture& picture, Rng& rng) {
  const double seconds = seconds_of(request);
  VideoFormat format;
  format.width = format.height = 112;
  format.frames_per_second = is_long(request) ? 2 : 5;
  const Canvas behind = textured_background(format.width, format.height, rng);
  Camera camera(level_of(request.difficulty), rng);
  return add_video(scene, path, format, seconds, behind, [&](Canvas& canvas, double time) {
    paint(canvas, picture, time, seconds);
    camera.shoot(canvas, time);
  });
}

Status record(Scene& scene, const std::string& path, const SynthRequest& request,
              const Sound& sound, Rng& rng) {
  Waveform wave = mix(sound, level_of(request.difficulty), seconds_of(request), false, rng);
  return add_audio(scene, path, wave);
}

Result<Scene> render_play(const SynthRequest& request) {
  const auto play = play_of(request);
  if (!play) return fail(play.error());
  return render_play(request, *play);
}

Result<Scene> render_play(const SynthRequest& request, const Play& play) {
  const std::string clip = request.clip();
  Scene scene{.fields = play.fields, .senses = play.senses};
  if (request.table().visual == VisualInput::video) {
    scene.fields.update({{"video_path", clip + ".mp4"}, {"audio_path", clip + ".mp3"}});
    if (request.media) CRABCAST_TRY(film_clip(scene, request, play));
    return scene;
  }
  const StillPaths paths = still_paths(request, play.frame, play.object);
  scene.fields.update({{"image_path", paths.picture},
                       {"visual_path", paths.picture},
                       {"audio_path", paths.sound},
                       {"vid", paths.clip},
                       {"uid", paths.uid}});
  if (request.media) CRABCAST_TRY(shoot_still(scene, request, play, paths));
  return scene;
}

}  // namespace crabcast::data

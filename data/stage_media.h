// Staged scenes to media: a picture is filmed without knowing the sound, a sound is mixed without
// knowing the picture.
#pragma once

#include "data/scene_camera.h"
#include "data/stage.h"

namespace crabcast::data {

// Second at which a block begins in a clip of `seconds`. In clips of 60 s block k lies around
// second 6 k, where the k-th picture and the k-th sound window are taken.
double block_time(int block, double seconds);

// A frame at `time` without the camera's part: things stand on what `canvas` shows.
void paint(Canvas& canvas, const Picture& picture, double time, double seconds);
// A still: no sways, so that masks fit.
void paint_still(Canvas& canvas, const Picture& picture);

// `seconds` of the voices; in stills a block is a second.
Waveform mix(const Sound& sound, const Level& level, double seconds, bool still, Rng& rng);

// Files of a clip: a film of `picture`, the sound of `sound`; random numbers for the camera, and
// for the voices.
Status film(Scene& scene, const std::string& path, const SynthRequest& request,
            const Picture& picture, Rng& rng);
Status record(Scene& scene, const std::string& path, const SynthRequest& request,
              const Sound& sound, Rng& rng);

// The row and the media of a play; the row only where the request wants no media. Of two plays
// with the same picture the pictures' bytes are the same, and of two with the same sound the
// sounds'.
Result<Scene> render_play(const SynthRequest& request, const Play& play);

}  // namespace crabcast::data

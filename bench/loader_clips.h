// The clips of `./dev bench loader`: 10 s of video, 320 x 240 pixels at 25 frames/s, as x264 makes
// it without settings (key frames every 250 frames), and 10 s of stereo mp3 at 44.1 kHz.
#pragma once

#include <filesystem>
#include <vector>

#include "data/corpus.h"

namespace crabcast::bench {

// As samples of ks, the recipe of crab-plus. Clips that are in the folder already stay.
std::vector<data::Sample> make_clips(const std::filesystem::path& folder, int count);

}  // namespace crabcast::bench

// Real media files, encoded in memory with the FFmpeg libraries: mp4, avi, wav, mp3, jpg, png.
//
// One thread for each call, bit-exact flags: equal input gives equal bytes with the same libraries.
// Errors: unsupported names the encoders that are missing; internal names the stage that FFmpeg
// refused and its words. Any thread may call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "data/scene.h"
#include "protocol/error.h"

namespace crabcast::data {

using Bytes = std::vector<std::uint8_t>;

struct VideoFormat {
  std::string container = "mp4";                             // "mp4" or "avi"
  std::vector<std::string> encoders = {"libx264", "mpeg4"};  // the first that is there is used
  int width = 96, height = 96;                               // even
  int frames_per_second = 5;
};
// Calls draw(0), draw(1), .. for `frames` pictures; each must have the format's size.
Result<Bytes> encode_video(const VideoFormat& format, int frames,
                           const std::function<const Canvas&(int)>& draw);

// Mono. `container`: "wav" (16 bit) or "mp3" (32 kbit/s).
Result<Bytes> encode_audio(const std::string& container, std::span<const float> samples, int rate);

Result<Bytes> encode_jpeg(const Canvas& picture);
// One channel of 8 bits.
Result<Bytes> encode_png(std::span<const std::uint8_t> grey, int width, int height);

}  // namespace crabcast::data

// Media files to tensors, with the FFmpeg libraries: only the frames and the sound that are asked
// for, in one thread, within a deadline.
//
// What a file holds is told by its content, not by its name. A file can make a call fail but not
// hang or grow without bound: only regular files are opened, no file can name another one, and file
// size, pixels and length are limited.
//
// Errors: data_error "FILE: STAGE: REASON" with STAGE open, demux, decode, audio or mask; timeout
// when the deadline passed; resource_exhausted when the process has no memory or file descriptors
// left, which is not the file's fault.
//
// All functions may be called from any thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "data/datasets.h"
#include "data/stage_times.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::data {

inline constexpr int kSampleRate = 16'000;
// More sound than this is not read: the audio tower takes 30,000 mel frames at most.
inline constexpr int kMaxAudioSeconds = 300;

struct DecodeLimits {
  std::uint64_t file_bytes = 8ULL << 30;
  std::uint64_t picture_bytes = 256ULL << 20;  // of a picture's file
  std::int64_t pixels = 64'000'000;            // of one frame or picture
  std::int64_t frames = 1'000'000;             // of a video
};

struct DecodeOptions {
  TimePoint deadline = TimePoint::max();
  DecodeLimits limits;
  StageTimes* times = nullptr;  // what was spent is added to it
};

struct VideoFrame {
  at::Tensor rgb;      // uint8 [H, W, 3], or what `convert` made of it
  double seconds = 0;  // presentation time since the first frame
};

// `count` frames of the first video track, uniformly by index from the first to the last frame (the
// nearest index, halves to even), in order of presentation; frames repeat when there are fewer.
// Turned upright as the file's display matrix asks. `convert` is called once for each different
// frame, so that full-size frames need not pile up.
Result<std::vector<VideoFrame>> decode_video(
    const std::filesystem::path& path, int count, const DecodeOptions& options = {},
    const std::function<at::Tensor(at::Tensor)>& convert = {});

// The indices that decode_video takes of `frames` frames.
std::vector<std::int64_t> uniform_indices(std::int64_t frames, int count);

// A jpg, png, bmp, webp or tiff picture: uint8 [H, W, 3]. Transparent parts become white. An
// orientation tag is not applied: boxes and masks of the data sets refer to the stored pixels.
Result<at::Tensor> decode_image(const std::filesystem::path& path,
                                const DecodeOptions& options = {});

// A mask: uint8 [H, W], 1 = object (any non-zero value, or palette index, in the file), 0 = not.
// `size` > 0: resized to size x size by the nearest pixel.
Result<at::Tensor> decode_mask(const std::filesystem::path& path);
Result<at::Tensor> decode_mask(const std::filesystem::path& path, int size,
                               const DecodeOptions& options);

struct AudioRequest {
  AudioWindow window = AudioWindow::parts_of_second;
  int parts = 10;       // Dataset::audio_parts
  int frame_index = 0;  // at_frame_index
};

// The first audio track, mixed to mono (mean of the channels) and resampled to 16 kHz, then cut by
// cut_window: float32 [n], n >= 16,000.
Result<at::Tensor> decode_audio(const std::filesystem::path& path, const AudioRequest& request,
                                const DecodeOptions& options = {});

// The window of a clip (mono, 16 kHz). A clip below one second gets silence at its end first; so
// does the result.
std::vector<float> cut_window(std::vector<float> clip, const AudioRequest& request);

}  // namespace crabcast::data

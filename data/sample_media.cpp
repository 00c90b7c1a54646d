#include "data/sample_media.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <vector>

#include "data/decode.h"
#include "data/log_mel.h"
#include "data/media_reader.h"
#include "data/patches.h"

namespace crabcast::data {
namespace {

at::Tensor one(double value, at::ScalarType type) {
  return at::full({1}, value, type);
}

using Path = std::filesystem::path;

class MediaBuilder {
 public:
  MediaBuilder(const Sample& sample, const model::MediaShape& shape, DecodeOptions options)
      : sample_(sample), table_(datasets()[sample.dataset]), shape_(shape), options_(options) {
    options_.times = &out_.times;
  }

  Status add_video(const Path& file, std::int64_t& tokens) {
    const auto frames = decode_video(file, table_.frames, options_, [&](const at::Tensor& rgb) {
      return resize_square(rgb, shape_.image_size);
    });
    if (!frames) return fail(frames.error());
    std::vector<at::Tensor> resized;
    for (const auto& frame : *frames) resized.push_back(frame.rgb);
    tokens = add_frames(resized, shape_.seconds_per_grid);
    return {};
  }

  // A picture is one frame that lasts 0 seconds.
  Status add_image(const Path& file, std::int64_t& tokens) {
    const auto picture = decode_image(file, options_);
    if (!picture) return fail(picture.error());
    tokens = add_frames({resized(*picture)}, 0);
    return {};
  }

  Status add_audio(const Path& file, std::int64_t& tokens) {
    const AudioRequest request{table_.audio, table_.audio_parts, sample_.frame_index};
    const auto sound = decode_audio(file, request, options_);
    if (!sound) return fail(sound.error());
    const StageTimer timer(&out_.times, Stage::log_mel);
    sounds_.push_back(log_mel(*sound, shape_.mel_bins));
    tokens = model::MediaShape::audio_tokens(sounds_.back().size(1));
    return {};
  }

  MediaTokens& tokens() { return out_.tokens; }

  SampleMedia finish() {
    if (!pixels_.empty()) {
      const StageTimer timer(&out_.times, Stage::patches);
      const bool single = pixels_.size() == 1;
      out_.pixel_values = single ? pixels_.front() : at::cat(pixels_);
      out_.grid_thw = at::cat(grids_);
      out_.seconds_per_grid = at::cat(seconds_);
    }
    if (!sounds_.empty()) join_sounds();
    return std::move(out_);
  }

 private:
  at::Tensor resized(const at::Tensor& rgb) {
    const StageTimer timer(&out_.times, Stage::scale);
    return resize_square(rgb, shape_.image_size);
  }

  // The shorter one is padded with zeros.
  void join_sounds() {
    const StageTimer timer(&out_.times, Stage::log_mel);
    std::int64_t longest = 0;
    std::vector<at::Tensor> lengths;
    for (const auto& sound : sounds_) {
      longest = std::max(longest, sound.size(1));
      lengths.push_back(one(static_cast<double>(sound.size(1)), at::kLong));
    }
    out_.audio_lengths = at::cat(lengths);
    if (sounds_.size() == 1) {
      out_.audio_features = sounds_.front().unsqueeze(0);
      return;
    }
    for (auto& sound : sounds_)
      sound = at::constant_pad_nd(sound, {0, longest - sound.size(1)}).unsqueeze(0);
    out_.audio_features = at::cat(sounds_);
  }

  // Returns their tokens.
  std::int64_t add_frames(const std::vector<at::Tensor>& frames, double seconds_per_grid) {
    const StageTimer timer(&out_.times, Stage::patches);
    auto patches = make_patches(frames, shape_);
    pixels_.push_back(std::move(patches.pixel_values));
    grids_.push_back(std::move(patches.grid_thw));
    seconds_.push_back(one(seconds_per_grid, at::kFloat));
    return shape_.vision_tokens(static_cast<int>(frames.size()));
  }

  const Sample& sample_;
  const Dataset& table_;
  const model::MediaShape& shape_;
  DecodeOptions options_;
  SampleMedia out_;
  std::vector<at::Tensor> pixels_, grids_, seconds_, sounds_;  // in the order of the prompt
};

}  // namespace

Result<SampleMedia> read_media(const Sample& sample, const model::MediaShape& shape,
                               Duration deadline,
                               const std::function<void(const std::filesystem::path&)>& before) {
  struct Medium {
    const Path* file;
    Status (MediaBuilder::*add)(const Path&, std::int64_t& tokens);
    std::int64_t MediaTokens::*tokens;
  };
  const Medium media[] = {
      {&sample.video, &MediaBuilder::add_video, &MediaTokens::video},
      {&sample.second_video, &MediaBuilder::add_video, &MediaTokens::second_video},
      {&sample.image, &MediaBuilder::add_image, &MediaTokens::image},
      {&sample.audio, &MediaBuilder::add_audio, &MediaTokens::audio},
      {&sample.second_audio, &MediaBuilder::add_audio, &MediaTokens::second_audio}};
  DecodeOptions options;
  options.deadline = Clock::now() + deadline;
  const Path* reading = &sample.video;
  try {
    MediaBuilder builder(sample, shape, options);
    for (const auto& [file, add, tokens] : media) {
      if (file->empty()) continue;
      reading = file;
      if (before) before(*file);
      CRABCAST_TRY((builder.*add)(*file, builder.tokens().*tokens));
    }
    return builder.finish();
  } catch (const std::bad_alloc&) {
    return fail(Errc::resource_exhausted, reading->string() + ": decode: out of memory");
  } catch (const std::exception& error) {  // LibTorch
    return fail(Errc::data_error, reading->string() + ": decode: " + first_line(error));
  }
}

}  // namespace crabcast::data

#include "data/sample_media.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>

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

class MediaBuilder {
 public:
  MediaBuilder(const Sample& sample, const model::MediaShape& shape, DecodeOptions options)
      : sample_(sample), table_(datasets()[sample.dataset]), shape_(shape), options_(options) {
    options_.times = &out_.times;
  }

  Status add_video() {
    const auto frames =
        decode_video(sample_.video, table_.frames, options_,
                     [&](const at::Tensor& rgb) { return resize_square(rgb, shape_.image_size); });
    if (!frames) return fail(frames.error());
    std::vector<at::Tensor> resized;
    for (const auto& frame : *frames) resized.push_back(frame.rgb);
    out_.tokens.video = add_frames(resized, shape_.seconds_per_grid);
    return {};
  }

  // A picture is one frame that lasts 0 seconds.
  Status add_image() {
    const auto picture = decode_image(sample_.image, options_);
    if (!picture) return fail(picture.error());
    out_.tokens.image = add_frames({resized(*picture)}, 0);
    return {};
  }

  Status add_audio() {
    const AudioRequest request{table_.audio, table_.audio_parts, sample_.frame_index};
    const auto sound = decode_audio(sample_.audio, request, options_);
    if (!sound) return fail(sound.error());
    const StageTimer timer(&out_.times, Stage::log_mel);
    out_.audio_features = log_mel(*sound, shape_.mel_bins).unsqueeze(0);
    const auto length = out_.audio_features.size(2);
    out_.audio_lengths = one(static_cast<double>(length), at::kLong);
    out_.tokens.audio = model::MediaShape::audio_tokens(length);
    return {};
  }

  SampleMedia finish() {
    if (!pixels_.empty()) {
      const StageTimer timer(&out_.times, Stage::patches);
      const bool single = pixels_.size() == 1;
      out_.pixel_values = single ? pixels_.front() : at::cat(pixels_);
      out_.grid_thw = at::cat(grids_);
      out_.seconds_per_grid = at::cat(seconds_);
    }
    return std::move(out_);
  }

 private:
  at::Tensor resized(const at::Tensor& rgb) {
    const StageTimer timer(&out_.times, Stage::scale);
    return resize_square(rgb, shape_.image_size);
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
  std::vector<at::Tensor> pixels_, grids_, seconds_;  // in the order of the prompt
};

}  // namespace

Result<SampleMedia> read_media(const Sample& sample, const model::MediaShape& shape,
                               Duration deadline,
                               const std::function<void(const std::filesystem::path&)>& before) {
  using Path = std::filesystem::path;
  using Add = Status (MediaBuilder::*)();
  const std::pair<const Path*, Add> files[] = {{&sample.video, &MediaBuilder::add_video},
                                               {&sample.image, &MediaBuilder::add_image},
                                               {&sample.audio, &MediaBuilder::add_audio}};
  DecodeOptions options;
  options.deadline = Clock::now() + deadline;
  const Path* reading = &sample.video;
  try {
    MediaBuilder builder(sample, shape, options);
    for (const auto& [path, add] : files) {
      if (path->empty()) continue;
      reading = path;
      if (before) before(*path);
      CRABCAST_TRY((builder.*add)());
    }
    return builder.finish();
  } catch (const std::bad_alloc&) {
    return fail(Errc::resource_exhausted, reading->string() + ": decode: out of memory");
  } catch (const std::exception& error) {  // LibTorch
    return fail(Errc::data_error, reading->string() + ": decode: " + first_line(error));
  }
}

}  // namespace crabcast::data

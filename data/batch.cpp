#include "data/batch.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "data/decode.h"
#include "data/log_mel.h"
#include "data/patches.h"

namespace crabcast::data {
namespace {

constexpr std::int64_t kNotTrained = -100;

at::Tensor one(double value, at::ScalarType type) {
  return at::full({1}, value, type);
}

Result<std::vector<at::Tensor>> read_frames(const std::filesystem::path& video, int count, int size,
                                            const DecodeOptions& options) {
  auto frames =
      decode_video(video, count, options, [&](at::Tensor rgb) { return resize_square(rgb, size); });
  if (!frames) return fail(frames.error());
  std::vector<at::Tensor> resized;
  for (auto& frame : *frames) resized.push_back(std::move(frame.rgb));
  return resized;
}

// Vision media in the order of the prompt.
class Vision {
 public:
  explicit Vision(const model::MediaShape& media) : media_(media) {}

  // Returns its tokens. A picture is one frame that lasts 0 seconds.
  std::int64_t add(const std::vector<at::Tensor>& frames, double seconds_per_grid) {
    auto patches = make_patches(frames, media_);
    pixels_.push_back(std::move(patches.pixel_values));
    grids_.push_back(std::move(patches.grid_thw));
    seconds_.push_back(one(seconds_per_grid, at::kFloat));
    return media_.vision_tokens(static_cast<int>(frames.size()));
  }
  void move_to(Processed& out) const {
    if (pixels_.empty()) return;
    out.pixel_values = at::cat(pixels_);
    out.grid_thw = at::cat(grids_);
    out.seconds_per_grid = at::cat(seconds_);
  }

 private:
  const model::MediaShape& media_;
  std::vector<at::Tensor> pixels_, grids_, seconds_;
};

Result<Processed> process(const Sample& sample, const model::BaseFrontEnd& front_end,
                          std::string_view system, const DecodeOptions& options) {
  const Dataset& table = datasets()[sample.dataset];
  const auto& media = front_end.media;
  const auto& tokenizer = *front_end.tokenizer;
  Processed out;
  out.sample = sample;
  MediaTokens tokens;

  Vision vision(media);
  if (!sample.video.empty()) {
    auto frames = read_frames(sample.video, table.frames, media.image_size, options);
    if (!frames) return fail(frames.error());
    tokens.video = vision.add(*frames, media.seconds_per_grid);
  }
  if (!sample.image.empty()) {
    auto picture = decode_image(sample.image, options);
    if (!picture) return fail(picture.error());
    tokens.image = vision.add({resize_square(*picture, media.image_size)}, 0);
  }
  vision.move_to(out);
  if (!sample.audio.empty()) {
    const AudioRequest request{table.audio, table.audio_parts, sample.frame_index};
    auto sound = decode_audio(sample.audio, request, options);
    if (!sound) return fail(sound.error());
    out.audio_features = log_mel(*sound, media.mel_bins).unsqueeze(0);
    const auto length = out.audio_features.size(2);
    out.audio_lengths = one(static_cast<double>(length), at::kLong);
    tokens.audio = model::MediaShape::audio_tokens(length);
  }
  out.prompt = prompt_tokens(tokenizer, sample.question, tokens, system);
  if (!sample.target.empty()) out.answer = answer_tokens(tokenizer, sample.target);
  return out;
}

// The tensors of one field of all samples, joined; `empty` when none has it.
at::Tensor joined(const std::vector<Processed>& samples, at::Tensor Processed::*field,
                  at::Tensor empty) {
  std::vector<at::Tensor> parts;
  for (const auto& sample : samples)
    if ((sample.*field).defined()) parts.push_back(sample.*field);
  return parts.empty() ? std::move(empty) : at::cat(parts);
}

at::Tensor joined_audio(const std::vector<Processed>& samples, std::int64_t bins) {
  std::int64_t clips = 0, longest = 0;
  for (const auto& sample : samples) {
    if (!sample.audio_features.defined()) continue;
    clips += sample.audio_features.size(0);
    longest = std::max(longest, sample.audio_features.size(2));
  }
  auto all = at::zeros({clips, bins, longest}, at::kFloat);
  std::int64_t at = 0;
  for (const auto& sample : samples) {
    const auto& features = sample.audio_features;
    if (!features.defined()) continue;
    all.narrow(0, at, features.size(0)).narrow(2, 0, features.size(2)).copy_(features);
    at += features.size(0);
  }
  return all;
}

}  // namespace

Result<Processed> process_sample(const Sample& sample, const model::BaseFrontEnd& front_end,
                                 Duration deadline, std::string_view system) {
  DecodeOptions options;
  options.deadline = Clock::now() + deadline;
  try {
    return process(sample, front_end, system, options);
  } catch (const std::bad_alloc&) {
    return fail(Errc::resource_exhausted, "out of memory while a sample was decoded");
  } catch (const std::exception& error) {  // LibTorch
    const auto& file = !sample.video.empty()   ? sample.video
                       : !sample.image.empty() ? sample.image
                                               : sample.audio;
    return fail(Errc::data_error, file.string() + ": decode: " + error.what());
  }
}

Batch make_batch(const std::vector<Processed>& samples, const model::BaseFrontEnd& front_end,
                 BatchUse use) {
  const auto& media = front_end.media;
  const bool train = use == BatchUse::train;
  const auto start = answer_start(*front_end.tokenizer);
  const auto ending = [&](const Processed& sample) -> const std::vector<model::TokenId>& {
    return train ? sample.answer : start;
  };
  const auto rows = static_cast<std::int64_t>(samples.size());
  std::size_t longest = 0;
  for (const auto& sample : samples)
    longest = std::max(longest, sample.prompt.size() + ending(sample).size());
  const auto columns = static_cast<std::int64_t>(longest);

  Batch batch;
  batch.input_ids = at::full({rows, columns}, front_end.tokenizer->special().pad, at::kLong);
  batch.attention_mask = at::zeros({rows, columns}, at::kBool);
  auto labels = at::full({rows, columns}, kNotTrained, at::kLong);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto& sample = samples[static_cast<std::size_t>(row)];
    const auto& end = ending(sample);
    auto* ids = batch.input_ids.mutable_data_ptr<std::int64_t>() + row * columns;
    auto* mask = batch.attention_mask.mutable_data_ptr<bool>() + row * columns;
    auto* label = labels.mutable_data_ptr<std::int64_t>() + row * columns;
    std::copy(sample.prompt.begin(), sample.prompt.end(), ids);
    std::copy(end.begin(), end.end(), ids + sample.prompt.size());
    std::copy(end.begin(), end.end(), label + sample.prompt.size());
    std::fill_n(mask, sample.prompt.size() + end.size(), true);
  }
  if (train) batch.labels = std::move(labels);

  const std::int64_t patch = media.patch_size;
  batch.pixel_values = joined(samples, &Processed::pixel_values,
                              at::empty({0, 3 * media.temporal_patch * patch * patch}, at::kFloat));
  batch.grid_thw = joined(samples, &Processed::grid_thw, at::empty({0, 3}, at::kLong));
  batch.seconds_per_grid =
      joined(samples, &Processed::seconds_per_grid, at::empty({0}, at::kFloat));
  batch.audio_features = joined_audio(samples, media.mel_bins);
  batch.audio_lengths = joined(samples, &Processed::audio_lengths, at::empty({0}, at::kLong));
  return batch;
}

}  // namespace crabcast::data

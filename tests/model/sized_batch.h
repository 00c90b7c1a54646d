// Batches of a given size for what is measured: each sample a video, a sound and text, all equally
// long. What they say means nothing.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <vector>

#include "model/config.h"
#include "model/input.h"

namespace crabcast::model::test {

struct BatchSize {
  std::int64_t samples = 1;
  std::int64_t tokens = 0;                       // of a sample, media included
  std::int64_t trained = 0;                      // the last of them
  std::array<std::int64_t, 3> grid = {1, 8, 8};  // of a video, in patches
  std::int64_t mel_frames = 100;

  [[nodiscard]] std::int64_t patches() const { return grid[0] * grid[1] * grid[2]; }
};

inline std::vector<std::int64_t> ids_of_sample(const ThinkerConfig& config, const BatchSize& size) {
  std::vector<std::int64_t> ids;
  const auto medium = [&ids](std::int64_t begin, std::int64_t token, std::int64_t count,
                             std::int64_t end) {
    ids.push_back(begin);
    ids.insert(ids.end(), static_cast<std::size_t>(count), token);
    ids.push_back(end);
  };
  const SpecialTokens& special = config.special;
  const std::int64_t merge = config.vision.spatial_merge_size;
  medium(special.vision_begin, special.video, size.patches() / (merge * merge), special.vision_end);
  medium(special.audio_begin, special.audio, MediaShape::audio_tokens(size.mel_frames),
         special.audio_end);
  TORCH_CHECK(static_cast<std::int64_t>(ids.size()) + size.trained <= size.tokens, "a sample of ",
              size.tokens, " tokens has no room for its media and answer");
  while (static_cast<std::int64_t>(ids.size()) < size.tokens)
    ids.push_back(static_cast<std::int64_t>(ids.size() * 7 % 200));
  return ids;
}

inline std::vector<std::int64_t> labels_of_sample(const std::vector<std::int64_t>& ids,
                                                  const BatchSize& size) {
  std::vector<std::int64_t> labels(ids.size(), -100);
  std::copy(ids.end() - size.trained, ids.end(), labels.end() - size.trained);
  return labels;
}

inline ModelInput sized_batch(const ThinkerConfig& config, const BatchSize& size) {
  const std::vector<std::int64_t> ids = ids_of_sample(config, size);
  const auto rows = [&](at::ArrayRef<std::int64_t> values) {
    return at::tensor(values, at::kLong).unsqueeze(0).repeat({size.samples, 1});
  };
  ModelInput input;
  input.input_ids = rows(ids);
  input.labels = rows(labels_of_sample(ids, size));
  input.attention_mask = at::ones({size.samples, size.tokens}, at::kBool);
  input.pixel_values = at::randn({size.samples * size.patches(), config.vision.patch_elements()});
  input.grid_thw = rows(size.grid);
  input.seconds_per_grid = at::full({size.samples}, 2.0F);
  input.audio_features = at::randn({size.samples, config.audio.mel_bins, size.mel_frames});
  input.audio_lengths = at::full({size.samples}, size.mel_frames, at::kLong);
  return input;
}

}  // namespace crabcast::model::test

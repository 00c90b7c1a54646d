// Small batches for the tests of model/: text, random pictures, random sound, in nano's shapes.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/input.h"
#include "model/random.h"

namespace crabcast::model::test {

enum class Visual { none, picture, video };

struct ToySample {
  std::string prompt = {}, answer = {};
  Visual visual = Visual::none;
  int frames = 0;               // of a video
  std::int64_t mel_frames = 0;  // 0 = no sound
};

// Media depend on (seed, prompt) only, so a sample is the same alone and in any batch.
class ToyBatch {
 public:
  explicit ToyBatch(std::vector<ToySample> samples, std::uint64_t seed = 1,
                    std::int64_t extra_padding = 0, bool prompts_only = false)
      : special_(nano().special) {
    std::vector<std::vector<std::int64_t>> ids, labels;
    std::vector<at::Tensor> pixels, mels;
    std::vector<std::int64_t> grids, lengths;
    std::vector<float> seconds;
    std::int64_t longest_mel = 0, longest = 0;
    for (const ToySample& s : samples) longest_mel = std::max(longest_mel, s.mel_frames);
    for (const ToySample& s : samples) {
      const std::uint64_t key = combine_key(seed, name_key(s.prompt));
      ids.emplace_back();
      start_turn(ids.back(), "user\n");
      if (s.visual != Visual::none) {
        const bool video = s.visual == Visual::video;
        const std::int64_t steps = video ? (s.frames + 1) / 2 : 1;
        grids.insert(grids.end(), {steps, 8, 8});
        seconds.push_back(video ? 2.0F : 0.0F);
        pixels.push_back(random({steps * 64, nano().vision.patch_elements()}, combine_key(key, 1)));
        media(ids.back(), special_.vision_begin, video ? special_.video : special_.image,
              steps * 16, special_.vision_end);
      }
      if (s.mel_frames > 0) {
        lengths.push_back(s.mel_frames);
        at::Tensor mel = at::zeros({1, 128, longest_mel});
        mel.narrow(2, 0, s.mel_frames).copy_(random({1, 128, s.mel_frames}, combine_key(key, 2)));
        mels.push_back(mel);
        media(ids.back(), special_.audio_begin, special_.audio,
              MediaShape::audio_tokens(s.mel_frames), special_.audio_end);
      }
      text(ids.back(), s.prompt);
      ids.back().push_back(special_.im_end);
      start_turn(ids.back(), "assistant\n");
      labels.emplace_back(ids.back().size(), -100);
      if (!prompts_only) {
        text(ids.back(), s.answer);
        ids.back().push_back(special_.im_end);
        labels.back().insert(labels.back().end(),
                             ids.back().begin() + static_cast<long>(labels.back().size()),
                             ids.back().end());
      }
      longest = std::max(longest, static_cast<std::int64_t>(ids.back().size()));
    }
    const std::int64_t width = longest + extra_padding,
                       count = static_cast<std::int64_t>(ids.size());
    input.input_ids = at::full({count, width}, special_.pad, at::kLong);
    input.attention_mask = at::zeros({count, width}, at::kBool);
    if (!prompts_only) input.labels = at::full({count, width}, -100, at::kLong);
    for (std::int64_t b = 0; b < count; ++b) {
      const auto& row = ids[static_cast<std::size_t>(b)];
      const auto length = static_cast<std::int64_t>(row.size());
      input.input_ids[b].narrow(0, 0, length).copy_(at::tensor(row, at::kLong));
      input.attention_mask[b].narrow(0, 0, length).fill_(true);
      if (!prompts_only)
        input.labels[b]
            .narrow(0, 0, length)
            .copy_(at::tensor(labels[static_cast<std::size_t>(b)], at::kLong));
    }
    input.pixel_values =
        pixels.empty() ? at::empty({0, nano().vision.patch_elements()}) : at::cat(pixels, 0);
    input.grid_thw = at::tensor(grids, at::kLong).view({-1, 3});
    input.seconds_per_grid = at::tensor(seconds, at::kFloat);
    input.audio_features = mels.empty() ? at::empty({0, 128, 0}) : at::cat(mels, 0);
    input.audio_lengths = at::tensor(lengths, at::kLong);
  }

  ModelInput input;

 private:
  static at::Tensor random(std::vector<std::int64_t> shape, std::uint64_t key) {
    at::Tensor tensor = at::empty(shape, at::kFloat);
    fill_uniform(tensor, key, 1.5);
    return tensor;
  }
  static void text(std::vector<std::int64_t>& ids, const std::string& bytes) {
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  }
  void start_turn(std::vector<std::int64_t>& ids, const std::string& role) const {
    ids.push_back(special_.im_start);
    text(ids, role);
  }
  static void media(std::vector<std::int64_t>& ids, TokenId begin, TokenId token,
                    std::int64_t count, TokenId end) {
    ids.push_back(begin);
    ids.insert(ids.end(), static_cast<std::size_t>(count), token);
    ids.push_back(end);
  }

  SpecialTokens special_;
};

inline ModelInput toy_batch(std::vector<ToySample> samples, std::uint64_t seed = 1,
                            std::int64_t extra_padding = 0) {
  return ToyBatch(std::move(samples), seed, extra_padding).input;
}

inline ModelInput toy_prompts(std::vector<ToySample> samples, std::uint64_t seed = 1) {
  return ToyBatch(std::move(samples), seed, 0, true).input;
}

// A video with sound, a picture, and a sound.
inline std::vector<ToySample> mixed_samples() {
  return {{.prompt = "what barks?",
           .answer = "a dog",
           .visual = Visual::video,
           .frames = 3,
           .mel_frames = 61},
          {.prompt = "where?", .answer = "[10,20,30,40]", .visual = Visual::picture},
          {.prompt = "how many, and why do you think so?", .answer = "2", .mel_frames = 130}};
}

}  // namespace crabcast::model::test

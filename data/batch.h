// Samples to one lane's batch: decode, log-mel, patches, prompt, padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/corpus.h"
#include "data/prompt.h"
#include "data/sample_media.h"
#include "model/tokenizer.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::data {

// A decoded sample, ready to be put into a batch. Shapes as in model/input.h.
struct Processed : SampleMedia {
  Sample sample;
  std::vector<model::TokenId> prompt;  // system, user turn with placeholders, "assistant"
  std::vector<model::TokenId> answer;  // newline, target, <|im_end|>: the trained tokens; empty
                                       // when the sample has no target
};

// Adds the sample's texts to its media. `system` is the text of the system turn. Thread-safe.
Processed with_prompt(const Sample& sample, SampleMedia media, const model::BaseFrontEnd& front_end,
                      std::string_view system = kSystemText);

// read_media and with_prompt, in this process.
Result<Processed> process_sample(const Sample& sample, const model::BaseFrontEnd& front_end,
                                 Duration deadline, std::string_view system = kSystemText);

// The tensors of model::ModelInput, by the same names, right padded.
struct Batch {
  at::Tensor input_ids, attention_mask, labels, pixel_values, grid_thw, seconds_per_grid,
      audio_features, audio_lengths;
};
// train: prompt and answer; labels are -100 but for the answer. generate: prompts with the newline
// that starts an answer; labels undefined.
enum class BatchUse { train, generate };
// Media in the order of samples; tensors of media that no sample has are there with size 0.
Batch make_batch(const std::vector<Processed>& samples, const model::BaseFrontEnd& front_end,
                 BatchUse use);

}  // namespace crabcast::data

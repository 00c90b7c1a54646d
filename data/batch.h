// Samples to one lane's batch: decode, log-mel, patches, prompt, padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/corpus.h"
#include "data/prompt.h"
#include "model/tokenizer.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::data {

// A decoded sample, ready to be put into a batch. Shapes as in model/input.h.
struct Processed {
  Sample sample;
  std::vector<model::TokenId> prompt;  // system, user turn with placeholders, "assistant"
  std::vector<model::TokenId> answer;  // newline, target, <|im_end|>: the trained tokens; empty
                                       // when the sample has no target
  at::Tensor pixel_values;             // float32 [P, 3 * T * 14 * 14]
  at::Tensor grid_thw;                 // int64 [M, 3]
  at::Tensor seconds_per_grid;         // float32 [M]
  at::Tensor audio_features;           // float32 [A, mel_bins, F]
  at::Tensor audio_lengths;            // int64 [A]
};

// Decodes the sample's media as its data set asks, and nothing else. data_error with the file, the
// stage (open, demux, decode, audio) and the reason; timeout when the deadline passed. Masks are
// not read: scoring does that (data/answers.h). Thread-safe. FFmpeg runs in the caller's thread;
// LibTorch's operations take as many threads as the process allows them: a process that decodes
// several samples at once calls at::set_num_threads(1). `system` is the text of the system turn.
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

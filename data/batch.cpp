#include "data/batch.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace crabcast::data {
namespace {

constexpr std::int64_t kNotTrained = -100;

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

Processed with_prompt(const Sample& sample, SampleMedia media, const model::BaseFrontEnd& front_end,
                      std::string_view system) {
  const auto& tokenizer = *front_end.tokenizer;
  Processed out{std::move(media), sample, {}, {}};
  out.prompt = prompt_tokens(tokenizer, sample.question, out.tokens, system);
  if (!sample.target.empty()) out.answer = answer_tokens(tokenizer, sample.target);
  return out;
}

Result<Processed> process_sample(const Sample& sample, const model::BaseFrontEnd& front_end,
                                 Duration deadline, std::string_view system) {
  auto media = read_media(sample, front_end.media, deadline);
  if (!media) return fail(media.error());
  return with_prompt(sample, std::move(*media), front_end, system);
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

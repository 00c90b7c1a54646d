// A batch of prompts as the model takes it.
#pragma once

#include "data/batch.h"
#include "model/input.h"

namespace crabcast::actors {

inline model::ModelInput prompt_input(const std::vector<data::Processed>& samples,
                                      const model::BaseFrontEnd& front_end) {
  const data::Batch batch = data::make_batch(samples, front_end, data::BatchUse::generate);
  return {batch.input_ids,      batch.attention_mask, {},
          batch.pixel_values,   batch.grid_thw,       batch.seconds_per_grid,
          batch.audio_features, batch.audio_lengths};
}

}  // namespace crabcast::actors

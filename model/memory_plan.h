// How much memory a session takes to train, computed from shapes: nothing is allocated.
//
// It follows what each layer keeps for its backward pass, tensor by tensor, and the largest
// temporaries on top. tests/model/memory_plan_test.cpp holds it against what is really allocated.
#pragma once

#include <cstdint>

#include "model/config.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

// One lane's batch, without padding.
struct BatchShape {
  std::int64_t tokens = 0;      // of text and placeholders
  std::int64_t targets = 0;     // trained tokens
  std::int64_t patches = 0;     // vision patches before merging
  std::int64_t mel_frames = 0;  // of all clips
};

// Bytes.
struct MemoryPlan {
  std::int64_t base_parameters = 0, trained_parameters = 0;  // elements
  std::uint64_t weights = 0;                                 // the frozen base
  std::uint64_t adapter = 0;                                 // what is trained, float32
  std::uint64_t gradient = 0;                                // float32
  std::uint64_t optimizer = 0;                               // both moments, float32
  std::uint64_t activations = 0;  // at the moment when they and temporaries are largest
  [[nodiscard]] std::uint64_t total() const {
    return weights + adapter + gradient + optimizer + activations;
  }
};

MemoryPlan plan_memory(const ThinkerConfig& config, const AdapterSpec& adapter, Precision precision,
                       Recompute recompute, const BatchShape& batch);

}  // namespace crabcast::model

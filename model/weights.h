// The tensors of a base, by their published names.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "model/config.h"
#include "protocol/error.h"

namespace crabcast::model {

using WeightMap = std::map<std::string, at::Tensor>;

// Where the config ties the head to the embedding, the head's name leads to the embedding.
void tie_head(const ThinkerConfig& config, WeightMap& weights);

// Random weights in nano's shape, float32 on the host: a fixed function of their names, with the
// same bits on every machine. What the making of the shipped base begins with (crabcast base make),
// and what tests of structure take.
WeightMap random_nano_weights();

// The name of a base in checkpoints: XXH3-128 over names, shapes, types and bytes of its tensors as
// they are published, one after another in the order of weight_shapes. So it is the same however
// they are spread over files, and whatever type they are converted to.
class BaseHasher {
 public:
  BaseHasher();
  ~BaseHasher();
  BaseHasher(const BaseHasher&) = delete;
  BaseHasher& operator=(const BaseHasher&) = delete;

  void begin(const WeightShape& weight, at::ScalarType type);  // float32, bfloat16 or float16
  void add(std::span<const std::byte> bytes);                  // of that tensor
  [[nodiscard]] std::string hex() const;                       // 32 digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// corrupt names a tensor that is missing or has another shape.
Result<std::string> hash_base(const ThinkerConfig& config, const WeightMap& weights);

}  // namespace crabcast::model

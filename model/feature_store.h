// Where the outputs of frozen towers are kept: they are the same in every epoch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace crabcast::model {

// XXH3-128 of the tower, its base, and the medium, and of what the last bits of a product depend
// on: type, device and threads. So a tensor that is found has the bits that would be computed now.
struct FeatureKey {
  std::uint64_t high = 0, low = 0;
};

// Called by the session's thread only. A store that cannot answer has nothing; it never fails.
class FeatureStore {
 public:
  virtual ~FeatureStore() = default;
  // [tokens, D] on the host, as it was inserted.
  virtual std::optional<at::Tensor> find(const FeatureKey& key) = 0;
  virtual void insert(const FeatureKey& key, const at::Tensor& features_TD) = 0;
};

}  // namespace crabcast::model

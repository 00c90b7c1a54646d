#include "model/random.h"

namespace crabcast::model {

void fill_uniform(const at::Tensor& tensor, std::uint64_t key, double bound) {
  float* const data = tensor.mutable_data_ptr<float>();
  const std::int64_t count = tensor.numel();
  for (std::int64_t i = 0; i < count; ++i)
    data[i] = static_cast<float>(
        symmetric_uniform(random_bits(key, static_cast<std::uint64_t>(i))) * bound);
}

}  // namespace crabcast::model

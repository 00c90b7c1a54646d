// Adapters with random values, and files of them.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "model/adapter_file.h"
#include "model/adapter_layout.h"
#include "model/named_tensor.h"
#include "model/random.h"
#include "tests/model/torch_fixture.h"

namespace crabcast::model::test {

inline std::vector<NamedTensor> random_adapter(const ThinkerConfig& config, const AdapterSpec& spec,
                                               at::ScalarType type = at::kFloat,
                                               std::uint64_t seed = 1) {
  std::vector<NamedTensor> tensors;
  for (const auto& [name, shape] : trained_parameters(config, spec)) {
    at::Tensor tensor = at::empty(shape, at::kFloat);
    fill_uniform(tensor, combine_key(seed, name_key(name)), 0.1);
    tensors.push_back({name, tensor.to(type)});
  }
  return tensors;
}

// As Crab+ publishes them: a state dict in a file of torch.save.
inline std::string finetune_weights(const std::vector<NamedTensor>& tensors) {
  std::vector<DictTensor> dict;
  std::vector<std::string> storages;
  for (const auto& [name, tensor] : tensors) {
    dict.push_back({name, tensor.sizes().vec(), tensor.strides().vec(),
                    std::to_string(storages.size()), tensor.numel(), 0,
                    tensor.scalar_type() == at::kBFloat16 ? "BFloat16Storage" : "FloatStorage"});
    storages.emplace_back(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
  }
  return make_zip(torch_records(pickled_state_dict(dict), storages));
}

// The same names, each with the same bits; the order may differ.
inline void expect_same_bits(const std::vector<NamedTensor>& found,
                             const std::vector<NamedTensor>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    bool there = false;
    for (const NamedTensor& one : found)
      if (one.name == name) {
        there = true;
        EXPECT_EQ(one.tensor.scalar_type(), tensor.scalar_type()) << name;
        EXPECT_TRUE(at::equal(one.tensor, tensor)) << name;
      }
    EXPECT_TRUE(there) << name;
  }
}

}  // namespace crabcast::model::test

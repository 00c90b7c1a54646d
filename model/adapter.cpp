#include "model/adapter.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "model/random.h"

namespace crabcast::model {

AdapterSet::AdapterSet(std::vector<AdapterModule> modules, const AdapterSpec& spec,
                       std::uint64_t seed, at::Device device)
    : modules_(std::move(modules)) {
  const std::int64_t rank = spec.rank, heads = spec.heads;
  offsets_.push_back(0);
  const auto add = [&](std::size_t module, const std::string& part, std::int64_t rows,
                       std::int64_t columns) {
    parameters_.push_back(
        {modules_[module].published + "." + part + ".weight", {rows, columns}, module});
    offsets_.push_back(offsets_.back() + rows * columns);
  };
  for (std::size_t m = 0; m < modules_.size(); ++m) {
    add(m, "lora_A", rank, modules_[m].in);
    for (std::int64_t i = 0; i < heads; ++i)
      add(m, "lora_B" + std::to_string(i), modules_[m].out, rank);
    add(m, "lora_route", heads, modules_[m].in);
  }

  at::Tensor initial = at::zeros({offsets_.back()}, at::kFloat);
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const Parameter& parameter = parameters_[p];
    if (parameter.name.find(".lora_B") != std::string::npos) continue;
    // Kaiming-uniform with a = sqrt(5): bound = sqrt(6 / ((1 + a^2) * inputs)) = 1 / sqrt(inputs).
    const double bound = 1.0 / std::sqrt(static_cast<double>(parameter.shape[1]));
    fill_uniform(initial.narrow(0, offsets_[p], offsets_[p + 1] - offsets_[p]),
                 combine_key(seed, name_key(parameter.name)), bound);
  }
  values_ = initial.to(device);

  adapters_.resize(modules_.size());
  for (std::size_t m = 0; m < modules_.size(); ++m) {
    ModuleAdapter& adapter = adapters_[m];
    adapter.module = m;
    adapter.key = name_key(modules_[m].published);
    adapter.scale = spec.alpha / static_cast<double>(rank);
    adapter.lora_A_RI = at::empty({rank, modules_[m].in}, at::kFloat);
    adapter.lora_B_NOR = at::empty({heads, modules_[m].out, rank}, at::kFloat);
    adapter.lora_route_NI = at::empty({heads, modules_[m].in}, at::kFloat);
    by_name_.emplace(modules_[m].module, m);
  }
  for_each_leaf([&](at::Tensor& leaf, std::int64_t offset) {
    leaf =
        values_.narrow(0, offset, leaf.numel()).view(leaf.sizes()).detach().set_requires_grad(true);
  });
}

const ModuleAdapter* AdapterSet::find(const std::string& module) const {
  const auto found = by_name_.find(module);
  return found == by_name_.end() ? nullptr : &adapters_[found->second];
}

// The heads of one module lie next to each other, so its B matrices are one leaf.
template <class Visit>
void AdapterSet::for_each_leaf(Visit&& visit) {
  std::int64_t offset = 0;
  for (ModuleAdapter& adapter : adapters_)
    for (at::Tensor* leaf : {&adapter.lora_A_RI, &adapter.lora_B_NOR, &adapter.lora_route_NI}) {
      visit(*leaf, offset);
      offset += leaf->numel();
    }
}

void AdapterSet::begin_gradient() {
  gradient_ = at::zeros_like(values_);
  for_each_leaf([&](at::Tensor& leaf, std::int64_t offset) {
    leaf.mutable_grad() = gradient_.narrow(0, offset, leaf.numel()).view(leaf.sizes());
  });
}

at::Tensor AdapterSet::end_gradient() {
  for_each_leaf([](at::Tensor& leaf, std::int64_t) { leaf.mutable_grad() = at::Tensor(); });
  return std::exchange(gradient_, at::Tensor());
}

}  // namespace crabcast::model

#include "model/adapter.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "model/random.h"

namespace crabcast::model {

AdapterSet::AdapterSet(const Base& base, const std::optional<AdapterSpec>& spec, std::uint64_t seed,
                       at::Device device)
    : parameters_(spec ? trained_parameters(base.config, *spec) : std::vector<Parameter>()),
      offsets_(parameter_offsets(parameters_)),
      values_(at::zeros({offsets_.back()}, at::kFloat)) {
  if (!spec) return;
  if (has_factors(spec->kind)) draw_factors(seed);
  values_ = values_.to(device);
  if (has_factors(spec->kind))
    make_modules(base.config, *spec);
  else
    take_weights(base);
}

void AdapterSet::draw_factors(std::uint64_t seed) {
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const auto& [name, shape] = parameters_[p];
    if (name.find(".lora_B") != std::string::npos) continue;
    // Kaiming-uniform with a = sqrt(5): bound = sqrt(6 / ((1 + a^2) * inputs)) = 1 / sqrt(inputs).
    const double bound = 1.0 / std::sqrt(static_cast<double>(shape[1]));
    fill_uniform(values_.narrow(0, offsets_[p], offsets_[p + 1] - offsets_[p]),
                 combine_key(seed, name_key(name)), bound);
  }
}

void AdapterSet::make_modules(const ThinkerConfig& config, const AdapterSpec& spec) {
  const std::int64_t rank = spec.rank, heads = has_heads(spec.kind) ? spec.heads : 1;
  std::size_t next = 0;
  for (const auto& [module, published, in, out] : adapter_modules(config, spec.scope)) {
    ModuleAdapter adapter;
    adapter.kind = spec.kind;
    adapter.key = name_key(published);
    adapter.scale = spec.alpha / static_cast<double>(rank);
    adapter.lora_A_RI = make_leaf(next++, 1, {rank, in});
    adapter.lora_B_NOR = make_leaf(next, static_cast<std::size_t>(heads), {heads, out, rank});
    next += static_cast<std::size_t>(heads);
    if (has_heads(spec.kind)) adapter.lora_route_NI = make_leaf(next++, 1, {heads, in});
    modules_.emplace(module, std::move(adapter));
  }
}

void AdapterSet::take_weights(const Base& base) {
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const auto& [name, shape] = parameters_[p];
    const at::Tensor& weight = base.weights.at(name);
    values_.narrow(0, offsets_[p], offsets_[p + 1] - offsets_[p]).view(shape).copy_(weight);
    trained_weights_.emplace(name, make_leaf(p, 1, shape));
  }
  tie_head(base.config, trained_weights_);
}

at::Tensor AdapterSet::make_leaf(std::size_t first, std::size_t count,
                                 std::vector<std::int64_t> shape) {
  const std::int64_t begin = offsets_[first], end = offsets_[first + count];
  at::Tensor leaf =
      values_.narrow(0, begin, end - begin).view(shape).detach().set_requires_grad(true);
  // Autograd alone knows what had a part in the loss.
  leaf.register_hook([this, first, count](const at::Tensor& gradient) {
    for (std::size_t p = first; p < first + count && gradient.defined(); ++p)
      gradient_.touched[p] = true;
  });
  leaves_.push_back({leaf, begin});
  return leaf;
}

void AdapterSet::move_to(const at::Tensor& values) {
  const at::NoGradGuard no_grad;
  values_ = values;
  for (Leaf& leaf : leaves_)
    leaf.tensor.set_data(
        values_.narrow(0, leaf.offset, leaf.tensor.numel()).view(leaf.tensor.sizes()));
}

bool AdapterSet::is_shared() const {
  return values_.storage().use_count() > 1 + leaves_.size();
}

WeightMap AdapterSet::weights(const Base& base) const {
  return trained_weights_.empty() ? base.weights : trained_weights_;
}

const ModuleAdapter* AdapterSet::find(const std::string& module) const {
  const auto found = modules_.find(module);
  return found == modules_.end() ? nullptr : &found->second;
}

void AdapterSet::begin_gradient() {
  gradient_ = {at::zeros_like(values_), std::vector<bool>(parameters_.size(), false)};
  for (Leaf& leaf : leaves_)
    leaf.tensor.mutable_grad() =
        gradient_.values.narrow(0, leaf.offset, leaf.tensor.numel()).view(leaf.tensor.sizes());
}

FlatGradient AdapterSet::end_gradient() {
  for (Leaf& leaf : leaves_) leaf.tensor.mutable_grad() = at::Tensor();
  return std::exchange(gradient_, {});
}

}  // namespace crabcast::model

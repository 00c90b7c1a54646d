#include "model/adamw.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace crabcast::model {
namespace {

// The numbers of one step for tensors that have made the same number of steps.
struct StepConstants {
  double gradient_scale, decay, beta1, beta2, root_correction2, step_size, epsilon;
};

// A plain loop on the host: LibTorch's vectorized kernels may round the last elements of a range
// otherwise than the others, and then grouping or sharding would change bits.
void update_on_host(float* p, const float* g, float* m, float* v, std::int64_t count,
                    const StepConstants& c) {
  const auto scale = static_cast<float>(c.gradient_scale), decay = static_cast<float>(c.decay);
  const auto beta1 = static_cast<float>(c.beta1), beta2 = static_cast<float>(c.beta2);
  const auto rest1 = static_cast<float>(1 - c.beta1), rest2 = static_cast<float>(1 - c.beta2);
  const auto root2 = static_cast<float>(c.root_correction2);
  const auto size = static_cast<float>(c.step_size), epsilon = static_cast<float>(c.epsilon);
  for (std::int64_t i = 0; i < count; ++i) {
    const float gradient = g[i] * scale;
    m[i] = m[i] * beta1 + gradient * rest1;
    v[i] = v[i] * beta2 + gradient * gradient * rest2;
    p[i] = p[i] * decay - size * (m[i] / (std::sqrt(v[i]) / root2 + epsilon));
  }
}

void update_on_device(at::Tensor p, const at::Tensor& g, at::Tensor m, at::Tensor v,
                      const StepConstants& c) {
  const at::Tensor gradient = g * c.gradient_scale;
  m.mul_(c.beta1).add_(gradient, 1 - c.beta1);
  v.mul_(c.beta2).addcmul_(gradient, gradient, 1 - c.beta2);
  p.mul_(c.decay).addcdiv_(m, v.sqrt().div_(c.root_correction2).add_(c.epsilon), -c.step_size);
}

}  // namespace

double learning_rate(const OptimizerSpec& spec, std::uint64_t step, std::uint64_t steps) {
  const double done = static_cast<double>(step) - 1, all = static_cast<double>(steps);
  const double warmup = std::ceil(all * spec.warmup);
  if (done < warmup) return spec.lr * done / std::max(1.0, warmup);
  if (spec.schedule == LearningRateSchedule::constant) return spec.lr;
  const double progress = std::min(1.0, (done - warmup) / std::max(1.0, all - warmup));
  return spec.lr * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

double clip_factor(double norm, double limit) {
  return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0;
}

AdamW::AdamW(const OptimizerSpec& spec, std::vector<std::int64_t> offsets,
             at::TensorOptions options)
    : spec_(spec),
      offsets_(std::move(offsets)),
      exp_avg_(at::zeros({offsets_.back()}, options)),
      exp_avg_sq_(at::zeros({offsets_.back()}, options)),
      steps_(offsets_.size() - 1, 0) {}

void AdamW::step(const at::Tensor& parameters, const at::Tensor& gradient, double gradient_scale,
                 const std::vector<bool>& touched, double rate) {
  for (std::size_t i = 0; i < steps_.size();) {
    if (!touched[i]) {
      ++i;
      continue;
    }
    // Neighbours that have made as many steps share one loop.
    std::size_t end = i;
    const std::int64_t before = steps_[i];
    while (end < steps_.size() && touched[end] && steps_[end] == before) ++steps_[end++];
    const auto t = static_cast<double>(before + 1);
    const StepConstants constants{.gradient_scale = gradient_scale,
                                  .decay = 1 - rate * spec_.weight_decay,
                                  .beta1 = spec_.beta1,
                                  .beta2 = spec_.beta2,
                                  .root_correction2 = std::sqrt(1 - std::pow(spec_.beta2, t)),
                                  .step_size = rate / (1 - std::pow(spec_.beta1, t)),
                                  .epsilon = spec_.epsilon};
    const std::int64_t begin = offsets_[i], count = offsets_[end] - begin;
    if (parameters.device().is_cpu())
      update_on_host(parameters.mutable_data_ptr<float>() + begin,
                     gradient.const_data_ptr<float>() + begin,
                     exp_avg_.mutable_data_ptr<float>() + begin,
                     exp_avg_sq_.mutable_data_ptr<float>() + begin, count, constants);
    else
      update_on_device(parameters.narrow(0, begin, count), gradient.narrow(0, begin, count),
                       exp_avg_.narrow(0, begin, count), exp_avg_sq_.narrow(0, begin, count),
                       constants);
    i = end;
  }
}

}  // namespace crabcast::model

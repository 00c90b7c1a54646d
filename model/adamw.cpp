#include "model/adamw.h"

#include <ATen/ATen.h>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "model/cuda/kernels.h"

namespace crabcast::model {
namespace {

using cuda::AdamWConstants;

// A plain loop: LibTorch's vectorized kernels may round the last elements of a range otherwise than
// the others, and then grouping or sharding would change bits.
void update_on_host(float* p, const float* g, float* m, float* v, std::int64_t count,
                    const AdamWConstants& c) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float gradient = g[i] * c.gradient_scale;
    m[i] = m[i] * c.beta1 + gradient * c.rest1;
    v[i] = v[i] * c.beta2 + gradient * gradient * c.rest2;
    p[i] =
        p[i] * c.decay - c.step_size * (m[i] / (std::sqrt(v[i]) / c.root_correction2 + c.epsilon));
  }
}

// Past the caches: what is written here is not read again soon, and need not be read before.
void stream_out(const float* from, std::int64_t count, float* to) {
#ifdef __SSE2__
  std::int64_t i = 0;
  for (; i < count && reinterpret_cast<std::uintptr_t>(to + i) % sizeof(__m128) != 0; ++i)
    to[i] = from[i];
  for (; i + 4 <= count; i += 4) _mm_stream_ps(to + i, _mm_loadu_ps(from + i));
  for (; i < count; ++i) to[i] = from[i];
#else
  std::copy_n(from, count, to);
#endif
}

float* at_element(const at::Tensor& flat, std::int64_t element) {
  return flat.mutable_data_ptr<float>() + element;
}

// For tensors that make their step number `step`, from 1.
AdamWConstants constants_of(const OptimizerSpec& spec, std::int64_t step, double gradient_scale,
                            double rate) {
  const auto t = static_cast<double>(step);
  const auto single = [](double value) { return static_cast<float>(value); };
  return {.gradient_scale = single(gradient_scale),
          .decay = single(1 - rate * spec.weight_decay),
          .beta1 = single(spec.beta1),
          .rest1 = single(1 - spec.beta1),
          .beta2 = single(spec.beta2),
          .rest2 = single(1 - spec.beta2),
          .root_correction2 = single(std::sqrt(1 - std::pow(spec.beta2, t))),
          .step_size = single(rate / (1 - std::pow(spec.beta1, t))),
          .epsilon = single(spec.epsilon)};
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

AdamW::Run AdamW::next_run(std::size_t first, const std::vector<bool>& touched) {
  Run run{first, first, touched[first]};
  const std::int64_t made = steps_[first];
  while (run.end < steps_.size() && touched[run.end] == run.touched &&
         (!run.touched || steps_[run.end] == made)) {
    if (run.touched) ++steps_[run.end];
    ++run.end;
  }
  return run;
}

void AdamW::step(const at::Tensor& parameters, const at::Tensor& gradient, double gradient_scale,
                 const std::vector<bool>& touched, double rate) {
  for (std::size_t i = 0; i < steps_.size();) {
    const Run run = next_run(i, touched);
    i = run.end;
    if (!run.touched) continue;
    const AdamWConstants constants = constants_of(spec_, steps_[run.first], gradient_scale, rate);
    const std::int64_t begin = offsets_[run.first], count = offsets_[run.end] - begin;
    if (parameters.device().is_cpu())
      update_on_host(at_element(parameters, begin), gradient.const_data_ptr<float>() + begin,
                     at_element(exp_avg_, begin), at_element(exp_avg_sq_, begin), count, constants);
    else
      cuda::adamw(parameters.narrow(0, begin, count), gradient.narrow(0, begin, count),
                  exp_avg_.narrow(0, begin, count), exp_avg_sq_.narrow(0, begin, count), constants);
  }
}

void AdamW::step_into(const TrainedBuffers& into, const at::Tensor& parameters,
                      const at::Tensor& gradient, double gradient_scale,
                      const std::vector<bool>& touched, double rate) {
  constexpr std::int64_t kBlock = 2 << 10;  // three of them stay in the first cache
  alignas(64) std::array<float, kBlock> p, m, v;
  for (std::size_t i = 0; i < steps_.size();) {
    const Run run = next_run(i, touched);
    i = run.end;
    const AdamWConstants constants =
        constants_of(spec_, std::max<std::int64_t>(steps_[run.first], 1), gradient_scale, rate);
    for (std::int64_t begin = offsets_[run.first]; begin < offsets_[run.end]; begin += kBlock) {
      const std::int64_t count = std::min(kBlock, offsets_[run.end] - begin);
      std::copy_n(parameters.const_data_ptr<float>() + begin, count, p.data());
      std::copy_n(exp_avg_.const_data_ptr<float>() + begin, count, m.data());
      std::copy_n(exp_avg_sq_.const_data_ptr<float>() + begin, count, v.data());
      if (run.touched)
        update_on_host(p.data(), gradient.const_data_ptr<float>() + begin, m.data(), v.data(),
                       count, constants);
      stream_out(p.data(), count, at_element(into.parameters, begin));
      stream_out(m.data(), count, at_element(into.exp_avg, begin));
      stream_out(v.data(), count, at_element(into.exp_avg_sq, begin));
    }
  }
#ifdef __SSE2__
  _mm_sfence();
#endif
  take_moments(into);
}

void AdamW::take_moments(const TrainedBuffers& buffers) {
  exp_avg_ = buffers.exp_avg;
  exp_avg_sq_ = buffers.exp_avg_sq;
}

}  // namespace crabcast::model

#include <ATen/Dispatch.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "model/cuda/kernels.h"

namespace crabcast::model::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 8;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

template <class T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

// ---- Dropout: a thread for each draw of 64 bits, which decides four elements --------------------

constexpr int kPerDraw = 4;

// random_bits of random.h.
__device__ std::uint64_t random_bits(std::uint64_t key, std::uint64_t index) {
  std::uint64_t x = key + (index + 1) * 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

template <class T>
struct alignas(kPerDraw * sizeof(T)) Four {
  T element[kPerDraw];
};

template <class T>
__device__ T drop(T x, std::uint64_t bits, int i, std::uint32_t threshold, T scale) {
  const bool keep = ((bits >> (16 * i)) & 0xFFFF) >= threshold;
  return keep ? static_cast<T>(x * scale) : static_cast<T>(0.0F);
}

template <class T>
__global__ void dropout_kernel(const T* x, T* out, std::int64_t count, std::uint64_t key,
                               std::uint32_t threshold, T scale, bool aligned) {
  const std::int64_t draw = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t first = draw * kPerDraw;
  if (first >= count) return;
  const std::uint64_t bits = random_bits(key, static_cast<std::uint64_t>(draw));
  if (aligned && first + kPerDraw <= count) {
    Four<T> four = *reinterpret_cast<const Four<T>*>(x + first);
#pragma unroll
    for (int i = 0; i < kPerDraw; ++i)
      four.element[i] = drop(four.element[i], bits, i, threshold, scale);
    *reinterpret_cast<Four<T>*>(out + first) = four;
    return;
  }
  for (int i = 0; i < kPerDraw && first + i < count; ++i)
    out[first + i] = drop(x[first + i], bits, i, threshold, scale);
}

// ---- The gate: a warp for each token ------------------------------------------------------------

template <class S>
__device__ S warp_sum(S value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

__device__ std::int64_t token_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / kWarp;
}

// A thread for each token: heads are few.
template <class T>
__global__ void route_kernel(const T* logits_TN, Sum<T>* p_TN, std::int64_t tokens, int heads) {
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (token >= tokens) return;
  const T* logits = logits_TN + token * heads;
  Sum<T>* p = p_TN + token * heads;
  Sum<T> largest = static_cast<Sum<T>>(logits[0]), sum = 0;
  for (int n = 1; n < heads; ++n) {
    const auto logit = static_cast<Sum<T>>(logits[n]);
    largest = logit > largest ? logit : largest;
  }
  for (int n = 0; n < heads; ++n) sum += p[n] = exp(static_cast<Sum<T>>(logits[n]) - largest);
  for (int n = 0; n < heads; ++n) p[n] /= sum;
}

template <class T>
__global__ void gate_kernel(const Sum<T>* p_TN, const T* z_TR, T* c_TC, std::int64_t tokens,
                            int heads, int rank) {
  const std::int64_t token = token_of_warp();
  if (token >= tokens) return;
  const Sum<T>* p = p_TN + token * heads;
  const T* z = z_TR + token * rank;
  T* c = c_TC + token * heads * rank;
  for (int r = static_cast<int>(threadIdx.x) % kWarp; r < rank; r += kWarp) {
    const auto value = static_cast<Sum<T>>(z[r]);
    for (int n = 0; n < heads; ++n)
      c[static_cast<std::int64_t>(n) * rank + r] = static_cast<T>(p[n] * value);
  }
}

template <class T>
__global__ void gate_backward_kernel(const T* dc_TC, const Sum<T>* p_TN, const T* z_TR,
                                     Sum<T> scale, T* dz_TR, T* dlogits_TN, std::int64_t tokens,
                                     int heads, int rank) {
  const std::int64_t token = token_of_warp();
  if (token >= tokens) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* dc = dc_TC + token * heads * rank;
  const Sum<T>* p = p_TN + token * heads;
  const T* z = z_TR + token * rank;
  T* dlogits = dlogits_TN + token * heads;

  // dp is needed twice, for its mean and for itself; each lane keeps that of its own heads.
  Sum<T> mean = 0, own[2] = {0, 0};
  for (int n = 0; n < heads; ++n) {
    Sum<T> sum = 0;
    for (int r = lane; r < rank; r += kWarp)
      sum += static_cast<Sum<T>>(dc[static_cast<std::int64_t>(n) * rank + r]) *
             static_cast<Sum<T>>(z[r]);
    const Sum<T> dp = scale * warp_sum(sum);
    mean += p[n] * dp;
    if (n % kWarp == lane) own[n / kWarp] = dp;
  }
  for (int n = lane; n < heads; n += kWarp)
    dlogits[n] = static_cast<T>(p[n] * (own[n / kWarp] - mean));

  for (int r = lane; r < rank; r += kWarp) {
    Sum<T> sum = 0;
    for (int n = 0; n < heads; ++n)
      sum += p[n] * static_cast<Sum<T>>(dc[static_cast<std::int64_t>(n) * rank + r]);
    dz_TR[token * rank + r] = static_cast<T>(scale * sum);
  }
}

// ---- AdamW --------------------------------------------------------------------------------------

__global__ void adamw_kernel(float* p, const float* g, float* m, float* v, std::int64_t count,
                             AdamWConstants c) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float gradient = g[i] * c.gradient_scale;
  const float first = m[i] * c.beta1 + gradient * c.rest1;
  const float second = v[i] * c.beta2 + gradient * gradient * c.rest2;
  m[i] = first;
  v[i] = second;
  p[i] = p[i] * c.decay - c.step_size * (first / (sqrtf(second) / c.root_correction2 + c.epsilon));
}

// ---- Launches -----------------------------------------------------------------------------------

constexpr int kMaxHeads = 2 * kWarp;  // as many as a lane can keep: own[2]

unsigned blocks_for(std::int64_t items, std::int64_t per_block) {
  const std::int64_t blocks = (items + per_block - 1) / per_block;
  TORCH_CHECK(blocks <= 0x7FFFFFFF, "a tensor is too large for one kernel: ", items, " items");
  return static_cast<unsigned>(blocks);
}

bool is_aligned(const at::Tensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) %
             (kPerDraw * tensor.element_size()) ==
         0;
}

}  // namespace

void dropout(const at::Tensor& x, std::uint64_t key, std::uint32_t threshold, float keep_scale,
             const at::Tensor& out) {
  if (x.numel() == 0) return;
  const c10::cuda::CUDAGuard guard(x.device());
  const bool aligned = is_aligned(x) && is_aligned(out);
  constexpr int kThreads = 256;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "dropout", [&] {
    dropout_kernel<<<blocks_for(x.numel(), kPerDraw * kThreads), kThreads, 0,
                     c10::cuda::getCurrentCUDAStream()>>>(
        x.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(), x.numel(), key, threshold,
        static_cast<scalar_t>(keep_scale), aligned);
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void route(const at::Tensor& logits_TN, const at::Tensor& p_TN) {
  const std::int64_t tokens = logits_TN.size(0);
  if (tokens == 0) return;
  const c10::cuda::CUDAGuard guard(logits_TN.device());
  constexpr int kThreads = 128;
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, logits_TN.scalar_type(), "route", [&] {
    route_kernel<<<blocks_for(tokens, kThreads), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        logits_TN.const_data_ptr<scalar_t>(), p_TN.mutable_data_ptr<Sum<scalar_t>>(), tokens,
        static_cast<int>(logits_TN.size(1)));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void gate(const at::Tensor& p_TN, const at::Tensor& z_TR, const at::Tensor& c_TC) {
  const std::int64_t tokens = z_TR.size(0);
  if (tokens == 0) return;
  const c10::cuda::CUDAGuard guard(z_TR.device());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, z_TR.scalar_type(), "gate", [&] {
    gate_kernel<<<blocks_for(tokens, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0,
                  c10::cuda::getCurrentCUDAStream()>>>(
        p_TN.const_data_ptr<Sum<scalar_t>>(), z_TR.const_data_ptr<scalar_t>(),
        c_TC.mutable_data_ptr<scalar_t>(), tokens, static_cast<int>(p_TN.size(1)),
        static_cast<int>(z_TR.size(1)));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void gate_backward(const at::Tensor& dc_TC, const at::Tensor& p_TN, const at::Tensor& z_TR,
                   double scale, const at::Tensor& dz_TR, const at::Tensor& dlogits_TN) {
  const std::int64_t tokens = z_TR.size(0), heads = p_TN.size(1);
  TORCH_CHECK(heads <= kMaxHeads, "at most ", kMaxHeads, " heads, not ", heads);
  if (tokens == 0) return;
  const c10::cuda::CUDAGuard guard(z_TR.device());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, z_TR.scalar_type(), "gate_backward", [&] {
    gate_backward_kernel<<<blocks_for(tokens, kWarpsPerBlock), kWarpsPerBlock * kWarp, 0,
                           c10::cuda::getCurrentCUDAStream()>>>(
        dc_TC.const_data_ptr<scalar_t>(), p_TN.const_data_ptr<Sum<scalar_t>>(),
        z_TR.const_data_ptr<scalar_t>(), static_cast<Sum<scalar_t>>(scale),
        dz_TR.mutable_data_ptr<scalar_t>(), dlogits_TN.mutable_data_ptr<scalar_t>(), tokens,
        static_cast<int>(heads), static_cast<int>(z_TR.size(1)));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void adamw(const at::Tensor& parameters, const at::Tensor& gradient, const at::Tensor& exp_avg,
           const at::Tensor& exp_avg_sq, const AdamWConstants& constants) {
  const std::int64_t count = parameters.numel();
  if (count == 0) return;
  const c10::cuda::CUDAGuard guard(parameters.device());
  constexpr int kThreads = 256;
  adamw_kernel<<<blocks_for(count, kThreads), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      parameters.mutable_data_ptr<float>(), gradient.const_data_ptr<float>(),
      exp_avg.mutable_data_ptr<float>(), exp_avg_sq.mutable_data_ptr<float>(), count, constants);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace crabcast::model::cuda

#include "model/gate.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>
#include <vector>

#include "model/cuda/kernels.h"

namespace crabcast::model {
namespace {

template <class T>
using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;

at::ScalarType sum_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Eight sums of every eighth product: an order that the compiler can vectorize.
template <class T>
Sum<T> dot(const T* a, const T* b, std::int64_t count) {
  std::array<Sum<T>, 8> sums{};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (int k = 0; k < 8; ++k)
      sums[static_cast<std::size_t>(k)] +=
          static_cast<Sum<T>>(a[i + k]) * static_cast<Sum<T>>(b[i + k]);
  for (; i < count; ++i) sums[0] += static_cast<Sum<T>>(a[i]) * static_cast<Sum<T>>(b[i]);
  Sum<T> sum = 0;
  for (const Sum<T> part : sums) sum += part;
  return sum;
}

template <class T>
void route_token(const T* logits, Sum<T>* p, std::int64_t heads) {
  Sum<T> largest = static_cast<Sum<T>>(logits[0]), sum = 0;
  for (std::int64_t n = 1; n < heads; ++n)
    largest = std::max(largest, static_cast<Sum<T>>(logits[n]));
  for (std::int64_t n = 0; n < heads; ++n)
    sum += p[n] = std::exp(static_cast<Sum<T>>(logits[n]) - largest);
  for (std::int64_t n = 0; n < heads; ++n) p[n] /= sum;
}

template <class T>
void gate_token(const Sum<T>* p, const T* z, T* c, std::int64_t heads, std::int64_t rank) {
  for (std::int64_t n = 0; n < heads; ++n, c += rank)
    for (std::int64_t r = 0; r < rank; ++r) c[r] = static_cast<T>(p[n] * static_cast<Sum<T>>(z[r]));
}

// `sums` has room for one row of dz, `dp` for one number a head.
template <class T>
void gate_backward_token(const T* dc, const Sum<T>* p, const T* z, Sum<T> scale, T* dz, T* dlogits,
                         std::int64_t heads, std::int64_t rank, std::vector<Sum<T>>& sums,
                         std::vector<Sum<T>>& dp) {
  std::fill(sums.begin(), sums.end(), Sum<T>(0));
  Sum<T> mean = 0;
  for (std::int64_t n = 0; n < heads; ++n, dc += rank) {
    const auto head = static_cast<std::size_t>(n);
    dp[head] = scale * dot(dc, z, rank);
    mean += p[n] * dp[head];
    for (std::int64_t r = 0; r < rank; ++r)
      sums[static_cast<std::size_t>(r)] += p[n] * static_cast<Sum<T>>(dc[r]);
  }
  for (std::int64_t r = 0; r < rank; ++r)
    dz[r] = static_cast<T>(scale * sums[static_cast<std::size_t>(r)]);
  for (std::int64_t n = 0; n < heads; ++n)
    dlogits[n] = static_cast<T>(p[n] * (dp[static_cast<std::size_t>(n)] - mean));
}

// Tokens shared out to the threads; each token is a matter of its own.
template <class Body>
void for_tokens(std::int64_t tokens, std::int64_t elements, const Body& body) {
  constexpr std::int64_t kElementsForThread = 1 << 15;
  at::parallel_for(0, tokens, std::max<std::int64_t>(1, kElementsForThread / elements), body);
}

}  // namespace

at::Tensor route(const at::Tensor& logits_TN) {
  const std::int64_t tokens = logits_TN.size(0), heads = logits_TN.size(1);
  at::Tensor p_TN = at::empty_like(logits_TN, logits_TN.options().dtype(sum_type(logits_TN)));
  if (logits_TN.is_cuda()) {
    cuda::route(logits_TN, p_TN);
    return p_TN;
  }
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, logits_TN.scalar_type(), "route", [&] {
    const auto* logits = logits_TN.const_data_ptr<scalar_t>();
    auto* p = p_TN.mutable_data_ptr<Sum<scalar_t>>();
    for (std::int64_t t = 0; t < tokens; ++t) route_token(logits + t * heads, p + t * heads, heads);
  });
  return p_TN;
}

at::Tensor gate(const at::Tensor& p_TN, const at::Tensor& z_TR) {
  const std::int64_t tokens = z_TR.size(0), heads = p_TN.size(1), rank = z_TR.size(1);
  at::Tensor c_TC = at::empty({tokens, heads * rank}, z_TR.options());
  if (z_TR.is_cuda()) {
    cuda::gate(p_TN, z_TR, c_TC);
    return c_TC;
  }
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, z_TR.scalar_type(), "gate", [&] {
    const auto* p = p_TN.const_data_ptr<Sum<scalar_t>>();
    const auto* z = z_TR.const_data_ptr<scalar_t>();
    auto* c = c_TC.mutable_data_ptr<scalar_t>();
    for_tokens(tokens, heads * rank, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t)
        gate_token(p + t * heads, z + t * rank, c + t * heads * rank, heads, rank);
    });
  });
  return c_TC;
}

GateGradient gate_backward(const at::Tensor& dc_TC, const at::Tensor& p_TN, const at::Tensor& z_TR,
                           double scale) {
  const std::int64_t tokens = z_TR.size(0), heads = p_TN.size(1), rank = z_TR.size(1);
  GateGradient gradient{at::empty_like(z_TR), at::empty({tokens, heads}, z_TR.options())};
  if (z_TR.is_cuda()) {
    cuda::gate_backward(dc_TC, p_TN, z_TR, scale, gradient.dz_TR, gradient.dlogits_TN);
    return gradient;
  }
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, z_TR.scalar_type(), "gate_backward", [&] {
    const auto* dc = dc_TC.const_data_ptr<scalar_t>();
    const auto* p = p_TN.const_data_ptr<Sum<scalar_t>>();
    const auto* z = z_TR.const_data_ptr<scalar_t>();
    auto* dz = gradient.dz_TR.mutable_data_ptr<scalar_t>();
    auto* dlogits = gradient.dlogits_TN.mutable_data_ptr<scalar_t>();
    for_tokens(tokens, heads * rank, [&](std::int64_t begin, std::int64_t end) {
      std::vector<Sum<scalar_t>> sums(static_cast<std::size_t>(rank)),
          dp(static_cast<std::size_t>(heads));
      for (std::int64_t t = begin; t < end; ++t)
        gate_backward_token(dc + t * heads * rank, p + t * heads, z + t * rank,
                            static_cast<Sum<scalar_t>>(scale), dz + t * rank, dlogits + t * heads,
                            heads, rank, sums, dp);
    });
  });
  return gradient;
}

}  // namespace crabcast::model

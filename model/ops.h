// The operations that the text model and both towers share.
//
// Tokens are packed: T rows, the samples (or frames, windows, chunks) one after another, without
// padding. What may see what is said by the lengths of consecutive segments.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace crabcast::model {

// x / sqrt(mean(x^2) + eps) * weight over the last dimension, computed in float32 (float64 stays).
// The gradient reaches x, and the weight where it is trained.
at::Tensor rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps);

// Cosine and sine of each token's angles. Both halves of a head have the same angles, so one is
// kept.
struct Rotary {
  at::Tensor cos_TF, sin_TF;  // F = half the head width
};

// Rotates halves (element i with i + E/2, not 2i with 2i + 1) in the type that the angles have.
at::Tensor rotate(const at::Tensor& x_THE, const Rotary& rotary);

// base^(-2i / width) for i in [0, width / 2), float32.
at::Tensor inverse_frequencies(double base, std::int64_t width, at::Device device);

enum class Mask { none, causal };

// softmax(q k^T / sqrt(E)) v within each segment. k and v may have fewer heads than q (K divides
// H). Segment lengths are positive and add up to T. Returns [T, H * E].
at::Tensor segment_attention(const at::Tensor& q_THE, const at::Tensor& k_TKE,
                             const at::Tensor& v_TKE, const std::vector<std::int64_t>& lengths,
                             Mask mask);

}  // namespace crabcast::model

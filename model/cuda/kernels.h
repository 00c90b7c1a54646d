// Our kernels for GPUs, each with a twin for CPUs in the file that calls it. They run on PyTorch's
// current stream of the tensors' device. A build without CUDA has
// no tensor on a GPU, so there a call is an error of the program: std::logic_error.
//
// Tensors are contiguous and on one GPU; the shapes of the gate are those of gate.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace crabcast::model::cuda {

// Elements whose 16 random bits are below the threshold become zero, the others times keep_scale.
void dropout(const at::Tensor& x, std::uint64_t key, std::uint32_t threshold, float keep_scale,
             const at::Tensor& out);

void route(const at::Tensor& logits_TN, const at::Tensor& p_TN);
void gate(const at::Tensor& p_TN, const at::Tensor& z_TR, const at::Tensor& c_TC);
void gate_backward(const at::Tensor& dc_TC, const at::Tensor& p_TN, const at::Tensor& z_TR,
                   double scale, const at::Tensor& dz_TR, const at::Tensor& dlogits_TN);

// The numbers of one AdamW step, rounded to the type of the arithmetic.
struct AdamWConstants {
  float gradient_scale, decay, beta1, rest1, beta2, rest2, root_correction2, step_size, epsilon;
};
// One AdamW step of all elements; flat float32 tensors of one length.
void adamw(const at::Tensor& parameters, const at::Tensor& gradient, const at::Tensor& exp_avg,
           const at::Tensor& exp_avg_sq, const AdamWConstants& constants);

}  // namespace crabcast::model::cuda

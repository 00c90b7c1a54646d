// What stands for kernels.cu in a build without CUDA.
#include <stdexcept>

#include "model/cuda/kernels.h"

namespace crabcast::model::cuda {
namespace {

[[noreturn]] void refuse() {
  throw std::logic_error("a tensor is on a GPU, but this build has no CUDA: use the preset cuda");
}

}  // namespace

void dropout(const at::Tensor&, std::uint64_t, std::uint32_t, float, const at::Tensor&) {
  refuse();
}
void route(const at::Tensor&, const at::Tensor&) {
  refuse();
}
void gate(const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  refuse();
}
void gate_backward(const at::Tensor&, const at::Tensor&, const at::Tensor&, double,
                   const at::Tensor&, const at::Tensor&) {
  refuse();
}
void adamw(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
           const AdamWConstants&) {
  refuse();
}

}  // namespace crabcast::model::cuda

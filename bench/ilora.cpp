// `./dev bench ilora [cuda]`: one adapted projection, forward and backward, with the product of the
// frozen weight; dropout 0.1. A device name makes it run there, in bfloat16 on a GPU.
//
// Three references in the same LibTorch and with the same threads, differentiated by autograd:
//   loop:   I-LoRA as published, head after head: y += p_i * B_i A dropout(x)
//   lora:   one plain LoRA of rank N * r, which has as many columns as all heads together
//   frozen: x W^T alone, and dy W
// Peak memory is what forward and backward hold beside their inputs at once, seen by an allocator
// that counts (on a GPU: PyTorch's own statistics).
#include "model/ilora.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "bench/figure.h"
#include "bench/measure.h"
#include "tests/support/counting_allocator.h"

#ifdef CRABCAST_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#endif

namespace {

using crabcast::bench::Better;
using crabcast::bench::median;
using crabcast::bench::print_figure;
using crabcast::model::ILora;
using crabcast::test::CountedMemory;

constexpr double kDropout = 0.1, kMiB = 1 << 20;

// ---- What is measured ---------------------------------------------------------------------------

struct Shape {
  const char* name;
  std::int64_t tokens, in, out, rank, heads;
};

struct Problem {
  at::Tensor x_TI, weight_OI, probe_TO;
  ILora adapter;
  at::Tensor lora_A_CI, lora_B_OC;  // the plain one; C = N * R
};

Problem make_problem(const Shape& shape, at::Device device) {
  const at::ScalarType type = device.is_cuda() ? at::kBFloat16 : at::kFloat;
  const auto random = [&](std::vector<std::int64_t> size, at::ScalarType dtype, bool trained) {
    return (at::randn(size, at::TensorOptions(device)) * 0.02).to(dtype).set_requires_grad(trained);
  };
  const auto& [name, tokens, in, out, rank, heads] = shape;
  Problem p;
  p.x_TI = random({tokens, in}, type, true);
  p.weight_OI = random({out, in}, type, false);
  p.probe_TO = random({tokens, out}, type, false);
  // The adapter's parameters are float32, as in training.
  p.adapter = {random({rank, in}, at::kFloat, true), random({heads, out, rank}, at::kFloat, true),
               random({heads, in}, at::kFloat, true), 2.0};
  p.lora_A_CI = random({heads * rank, in}, at::kFloat, true);
  p.lora_B_OC = random({out, heads * rank}, at::kFloat, true);
  return p;
}

at::Tensor ours(const Problem& p) {
  return crabcast::model::ilora_linear(p.x_TI, p.weight_OI, {}, p.adapter, {kDropout, 7});
}

at::Tensor loop(const Problem& p) {
  const auto type = p.x_TI.scalar_type();
  at::Tensor y_TO = at::linear(p.x_TI, p.weight_OI);
  const at::Tensor z_TR =
      at::linear(at::dropout(p.x_TI, kDropout, true), p.adapter.lora_A_RI.to(type));
  const at::Tensor p_TN =
      at::softmax(at::linear(p.x_TI, p.adapter.lora_route_NI.to(type)), -1, at::kFloat).to(type);
  for (std::int64_t i = 0; i < p_TN.size(1); ++i)
    y_TO = y_TO + p.adapter.scale * p_TN.narrow(1, i, 1) *
                      at::linear(z_TR, p.adapter.lora_B_NOR[i].to(type));
  return y_TO;
}

at::Tensor lora(const Problem& p) {
  const auto type = p.x_TI.scalar_type();
  return at::linear(p.x_TI, p.weight_OI) +
         p.adapter.scale *
             at::linear(at::linear(at::dropout(p.x_TI, kDropout, true), p.lora_A_CI.to(type)),
                        p.lora_B_OC.to(type));
}

at::Tensor frozen(const Problem& p) {
  return at::linear(p.x_TI, p.weight_OI);
}

using Layer = at::Tensor (*)(const Problem&);

void synchronize(const Problem& p) {
#ifdef CRABCAST_CUDA
  if (p.x_TI.is_cuda()) c10::cuda::device_synchronize();
#endif
  (void)p;
}

void forward_and_backward(Layer layer, const Problem& p) {
  torch::autograd::backward({layer(p)}, {p.probe_TO});
  for (const at::Tensor& leaf : {p.x_TI, p.adapter.lora_A_RI, p.adapter.lora_B_NOR,
                                 p.adapter.lora_route_NI, p.lora_A_CI, p.lora_B_OC})
    leaf.mutable_grad() = at::Tensor();
}

double milliseconds(Layer layer, const Problem& p) {
  synchronize(p);
  const auto start = std::chrono::steady_clock::now();
  forward_and_backward(layer, p);
  synchronize(p);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

double peak_mib(Layer layer, const Problem& p) {
#ifdef CRABCAST_CUDA
  if (p.x_TI.is_cuda()) {
    namespace allocator = c10::cuda::CUDACachingAllocator;
    constexpr std::size_t all = 0;  // StatType::AGGREGATE
    allocator::resetPeakStats(p.x_TI.device().index());
    const auto before = allocator::getDeviceStats(p.x_TI.device().index()).allocated_bytes[all];
    forward_and_backward(layer, p);
    synchronize(p);
    const auto after = allocator::getDeviceStats(p.x_TI.device().index()).allocated_bytes[all];
    return static_cast<double>(after.peak - before.current) / kMiB;
  }
#endif
  const std::int64_t before = CountedMemory::reset_peak();
  forward_and_backward(layer, p);
  return static_cast<double>(CountedMemory::peak() - before) / kMiB;
}

void measure(const Shape& shape, int rounds, at::Device device) {
  const Problem p = make_problem(shape, device);
  const std::vector<Layer> layers = {ours, loop, lora, frozen};
  std::vector<std::vector<double>> times(layers.size());
  for (int round = -1; round < rounds; ++round)  // the first warms up and does not count
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const double time = milliseconds(layers[i], p);
      if (round >= 0) times[i].push_back(time);
    }
  const double t_ours = median(times[0]), t_loop = median(times[1]), t_lora = median(times[2]),
               t_frozen = median(times[3]);
  const std::string name = std::string("ilora_") + shape.name;
  print_figure(name + "_against_loop", t_ours, t_loop, "ms", Better::less);
  print_figure(name + "_over_frozen_against_lora", t_ours - t_frozen, t_lora - t_frozen, "ms",
               Better::less);
  print_figure(name + "_peak_against_loop", peak_mib(ours, p), peak_mib(loop, p), "MiB",
               Better::less);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "cpu";
  const at::Device device(name);
  if (device.is_cuda() && !at::hasCUDA()) {
    std::fprintf(stderr, "bench ilora: this build or machine has no CUDA device\n");
    return 1;
  }
  const CountedMemory counted;
  at::set_num_threads(static_cast<int>(std::thread::hardware_concurrency()));
  measure({"3584_to_3584", 1024, 3584, 3584, 128, 3}, device.is_cuda() ? 50 : 5, device);
  measure({"3584_to_18944", 1024, 3584, 18944, 128, 3}, device.is_cuda() ? 50 : 3, device);
  measure({"nano_96_to_96", 1024, 96, 96, 8, 3}, 200, device);
  measure({"nano_96_to_256", 1024, 96, 256, 16, 3}, 200, device);
  return 0;
}

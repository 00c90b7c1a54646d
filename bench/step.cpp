// `./dev bench step [NAME]`: one whole training step, forward, backward and AdamW on an I-LoRA
// adapter, against the same step written with transformers and PyTorch (step_reference.py), in
// turn, with the same number of threads.
//
// A batch is four samples of 649 tokens: a video of ten frames (320 tokens), ten seconds of sound
// (250) and text, of which the answer's 40 tokens are trained. Cases: `nano` and `medium` (79
// million parameters), in float32 on the CPU; `7b`, the shapes of Qwen2.5-Omni-7B with random
// weights in bfloat16, which needs a GPU (preset cuda). Without a name: all that this machine can
// run.
//
// docs/benchmarks.md says what the figures mean.
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/figure.h"
#include "bench/measure.h"
#include "model/base.h"
#include "model/front_end.h"
#include "model/session.h"
#include "tests/model/hf_config.h"
#include "tests/model/sized_batch.h"

#ifdef CRABCAST_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#endif

namespace {

namespace fs = std::filesystem;
using crabcast::bench::Better;
using crabcast::bench::median;
using crabcast::bench::must;
using crabcast::bench::print_figure;
using crabcast::bench::status_mib;
using crabcast::model::ModelInput;
using crabcast::model::Session;
using crabcast::model::ThinkerConfig;
using crabcast::model::test::BatchSize;
using nlohmann::json;

constexpr BatchSize kBatch{
    .samples = 4, .tokens = 649, .trained = 40, .grid = {5, 16, 16}, .mel_frames = 1000};
constexpr double kMiB = 1 << 20;

struct Case {
  std::string name;
  ThinkerConfig config;
  std::uint32_t rank;
  std::string device = "cpu";
  int steps = 5, rounds = 2;
  bool reference_recomputes = false;  // where it does not fit otherwise
};

ThinkerConfig medium() {
  ThinkerConfig c = crabcast::model::nano();
  c.text = {.vocab_size = 8192,
            .hidden_size = 512,
            .intermediate_size = 2048,
            .layers = 12,
            .heads = 8,
            .kv_heads = 2,
            .head_dim = 64,
            .mrope_section = {8, 12, 12}};
  c.vision.depth = 8;
  c.vision.hidden_size = 384;
  c.vision.intermediate_size = 1024;
  c.vision.heads = 6;
  c.vision.window_size = 112;
  c.vision.out_hidden_size = c.text.hidden_size;
  c.vision.full_attention_blocks = {3, 7};
  c.audio.layers = 6;
  c.audio.heads = 6;
  c.audio.ffn_dim = 1536;
  c.audio.d_model = 384;
  c.audio.output_dim = c.text.hidden_size;
  return c;
}

// ---- Our side -----------------------------------------------------------------------------------

struct Measured {
  std::vector<double> seconds;
  double peak_mib = 0;
};

// MiB in use now; the peak starts again from here.
double memory_now(bool on_gpu) {
#ifdef CRABCAST_CUDA
  namespace allocator = c10::cuda::CUDACachingAllocator;
  if (on_gpu) {
    allocator::resetPeakStats(0);
    return static_cast<double>(allocator::getDeviceStats(0).allocated_bytes[0].current) / kMiB;
  }
#endif
  (void)on_gpu;
  ::malloc_trim(0);  // what an earlier measurement has freed is not in use
  std::ofstream("/proc/self/clear_refs") << "5";
  return status_mib("VmRSS");
}

double memory_peak(bool on_gpu) {
#ifdef CRABCAST_CUDA
  if (on_gpu)
    return static_cast<double>(
               c10::cuda::CUDACachingAllocator::getDeviceStats(0).allocated_bytes[0].peak) /
           kMiB;
#endif
  (void)on_gpu;
  return status_mib("VmHWM");
}

crabcast::model::Base random_base(const ThinkerConfig& config, at::Device device) {
  const auto options =
      at::TensorOptions(device).dtype(device.is_cuda() ? at::kBFloat16 : at::kFloat);
  crabcast::model::Base base{config, {}, "random"};
  for (const auto& [name, shape] : crabcast::model::weight_shapes(config))
    base.weights[name] =
        shape.size() == 1 ? at::ones(shape, options) : at::randn(shape, options).mul_(0.02);
  return base;
}

Measured measure_ours(const Case& c, int threads, crabcast::Recompute recompute) {
  crabcast::model::SessionOptions options;
  options.model.base = c.name;
  options.model.adapter.rank = c.rank;
  options.model.adapter.alpha = 2.0 * c.rank;
  options.optimizer.clip_norm = 0;
  options.steps = 1000;
  options.device = c.device;
  options.precision =
      c.device == "cpu" ? crabcast::Precision::float32 : crabcast::Precision::bfloat16;
  options.threads = threads;
  options.recompute = recompute;
  const bool on_gpu = c.device != "cpu";
  const auto session =
      must(Session::open(options, random_base(c.config, at::Device(c.device)), {}));
  const ModelInput batch = crabcast::model::test::sized_batch(c.config, kBatch);
  const double before = memory_now(on_gpu);
  Measured measured;
  for (int step = 0; step <= c.steps; ++step) {
    const auto start = std::chrono::steady_clock::now();
    auto lane = must(session->lane_gradient(batch, static_cast<std::uint64_t>(step + 2), 0));
    session->apply_update(lane.gradient, kBatch.samples * kBatch.trained, lane.touched,
                          static_cast<std::uint64_t>(step + 2));
    if (on_gpu) at::detail::getCUDAHooks().deviceSynchronize(0);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    if (step > 0) measured.seconds.push_back(time.count());
  }
  measured.peak_mib = memory_peak(on_gpu) - before;
  return measured;
}

// Gives the GPU's memory to the reference, a process of its own.
void free_cached_memory() {
#ifdef CRABCAST_CUDA
  c10::cuda::CUDACachingAllocator::emptyCache();
#endif
}

// ---- The reference's side -----------------------------------------------------------------------

Measured measure_reference(const Case& c, int threads) {
  const fs::path folder = fs::path("build/bench_step") / c.name;
  fs::create_directories(folder);
  const auto ids = crabcast::model::test::ids_of_sample(c.config, kBatch);
  std::ofstream(folder / "config.json")
      << crabcast::model::test::config_json(c.config, {.nested = false, .rope_parameters = true})
             .dump(1);
  std::ofstream(folder / "step.json")
      << json{{"samples", kBatch.samples},
              {"ids", ids},
              {"labels", crabcast::model::test::labels_of_sample(ids, kBatch)},
              {"grid", kBatch.grid},
              {"patches", kBatch.patches()},
              {"patch_elements", c.config.vision.patch_elements()},
              {"mel_bins", c.config.audio.mel_bins},
              {"mel_frames", kBatch.mel_frames},
              {"rank", c.rank},
              {"heads", 3},
              {"alpha", 2 * c.rank},
              {"dropout", 0.1}};
  const std::string command =
      "CRABCAST_LIBTORCH=" CRABCAST_LIBTORCH " python3 bench/step_reference.py " + folder.string() +
      " " + c.device + " " + std::to_string(threads) + " " + std::to_string(c.steps) +
      (c.reference_recomputes ? " --recompute" : "");
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot start " + command);
  std::string out;
  for (int ch = std::fgetc(pipe); ch != EOF; ch = std::fgetc(pipe)) out += static_cast<char>(ch);
  if (::pclose(pipe) != 0) throw std::runtime_error("the reference failed: " + command);
  const json answer = json::parse(out);
  return {answer["seconds"], answer["peak_mib"]};
}

// ---- Figures ------------------------------------------------------------------------------------

// How many rows a weight is multiplied with in one step.
double rows_of(const Case& c, const std::string& name) {
  const std::int64_t merge = c.config.vision.spatial_merge_size;
  if (name.starts_with("thinker.model.layers.")) return kBatch.samples * kBatch.tokens;
  if (name.starts_with("thinker.lm_head.")) return kBatch.samples * kBatch.trained;
  if (name.starts_with("thinker.visual.merger."))
    return static_cast<double>(kBatch.samples * kBatch.patches() / (merge * merge));
  if (name.starts_with("thinker.visual."))
    return static_cast<double>(kBatch.samples * kBatch.patches());
  if (name.starts_with("thinker.audio_tower.layers."))
    return kBatch.samples * kBatch.mel_frames / 2;
  if (name == "thinker.audio_tower.proj.weight") return kBatch.samples * kBatch.mel_frames / 4;
  return 0;  // embeddings, norms; the convolutions are left out
}

// Operations that a step with a frozen base needs: for each row and weight a multiplication and an
// addition forward, and again backward to the input; for the adapter a third time, to its weights.
// Attention and what is not a matrix product are left out, and so is anything computed twice.
double floating_point_operations(const Case& c) {
  double sum = 0;
  for (const auto& [name, shape] : crabcast::model::weight_shapes(c.config))
    if (shape.size() == 2) sum += 4 * rows_of(c, name) * static_cast<double>(shape[0] * shape[1]);
  for (const auto& module : crabcast::model::adapter_modules(c.config, crabcast::AdapterScope::all))
    sum += 6 * rows_of(c, module.module + ".weight") *
           static_cast<double>(crabcast::model::adapter_parameters({module}, c.rank, 3));
  return sum;
}

constexpr const char* kBeyond = "MiB beyond the weights";

void add(Measured& all, const Measured& round) {
  all.seconds.insert(all.seconds.end(), round.seconds.begin(), round.seconds.end());
  all.peak_mib = std::max(all.peak_mib, round.peak_mib);
}

void run(const Case& c, int threads) {
  using crabcast::Recompute;
  Measured ours, again, reference;
  for (int round = 0; round < c.rounds; ++round) {
    add(ours, measure_ours(c, threads, Recompute::none));
    add(again, measure_ours(c, threads, Recompute::layers));
    free_cached_memory();
    add(reference, measure_reference(c, threads));
  }
  const std::string name = "step_" + c.name;
  const double time = median(ours.seconds), time_again = median(again.seconds),
               time_reference = median(reference.seconds);
  print_figure(name, time * 1e3, time_reference * 1e3, "ms", Better::less);
  print_figure(name + "_peak", ours.peak_mib, reference.peak_mib, kBeyond, Better::less);
  // Ours against ours: what recomputing costs and saves.
  print_figure(name + "_recompute", time_again * 1e3, time * 1e3, "ms", Better::less);
  print_figure(name + "_recompute_peak", again.peak_mib, ours.peak_mib, kBeyond, Better::less);
  if (c.device == "cpu") return;
  constexpr double kTokensOfAStep = kBatch.samples * kBatch.tokens;
  print_figure(name + "_tokens", kTokensOfAStep / time, kTokensOfAStep / time_reference, "tokens/s",
               Better::more);
  const double work = floating_point_operations(c) / 1e12;
  print_figure(name + "_throughput", work / time, work / time_reference, "TFLOP/s", Better::more);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<Case> cases = {{.name = "nano", .config = crabcast::model::nano(), .rank = 16},
                             {.name = "medium", .config = medium(), .rank = 16, .steps = 2}};
  if (at::hasCUDA())
    cases.push_back({.name = "7b",
                     .config = crabcast::model::qwen2_5_omni_7b(),
                     .rank = 128,
                     .device = "cuda:0",
                     .steps = 10,
                     .rounds = 1,
                     .reference_recomputes = true});
  const std::string wanted = argc > 1 ? argv[1] : "";
  bool found = false;
  try {
    for (const Case& c : cases) {
      if (!wanted.empty() && c.name != wanted) continue;
      found = true;
      run(c, static_cast<int>(std::thread::hardware_concurrency()));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench step: %s\n", error.what());
    return 1;
  }
  if (!found) {
    std::fprintf(
        stderr,
        "bench step: there is no case \"%s\" here; choose nano, medium, or 7b on a machine "
        "with a GPU\n",
        wanted.c_str());
    return 1;
  }
  return 0;
}

// `./dev bench load [FOLDER]`: opening a base of 1 GiB in bfloat16, hash included, against read(2)
// of its file in the same run on the same disk. One JSON line a figure.
//   load_bfloat16_*: as it is stored: tensors are views of the mapped file, and each byte is hashed
//   load_float32_*:  converted while it is read, so twice as many bytes are written as read
//   *_disk:          page cache dropped before each side
//   *_cached:        out of the page cache
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include "bench/figure.h"
#include "bench/measure.h"
#include "model/base.h"
#include "model/safetensors.h"
#include "model/weights.h"
#include "tests/model/hf_config.h"
#include "tests/support/temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using namespace crabcast::bench;
using crabcast::model::ThinkerConfig;

constexpr int kRounds = 5;
constexpr std::size_t kPiece = 4 << 20;  // of a plain read
constexpr double kGiB = 1 << 30;

// The language model is as wide as that of the published 3B, and has six layers; towers are nano's.
ThinkerConfig config_of_1gib() {
  ThinkerConfig c = crabcast::model::nano();
  c.text = {.vocab_size = 30'000,
            .hidden_size = 2048,
            .intermediate_size = 11'008,
            .layers = 6,
            .heads = 16,
            .kv_heads = 2,
            .head_dim = 128,
            .mrope_section = {16, 24, 24}};
  c.vision.out_hidden_size = c.audio.output_dim = c.text.hidden_size;
  return c;
}

void write_base(const fs::path& folder, const ThinkerConfig& config) {
  std::ofstream(folder / "config.json") << crabcast::model::test::config_json(config).dump(1);
  std::vector<crabcast::model::NamedTensor> tensors;
  for (const auto& [name, shape] : crabcast::model::weight_shapes(config))
    tensors.push_back({name, at::empty(shape, at::kBFloat16).uniform_(-0.05, 0.05)});
  must(crabcast::model::write_safetensors(folder / "model.safetensors", tensors, {}));
}

double open_base(const fs::path& folder, at::ScalarType type) {
  const auto start = std::chrono::steady_clock::now();
  const auto base = must(crabcast::model::open_base(folder.string(), at::kCPU, type));
  if (base.weights.empty()) throw std::runtime_error("the base is empty");
  return since(start);
}

void measure(const fs::path& folder, at::ScalarType type, bool cold) {
  const fs::path file = folder / "model.safetensors";
  const double gib = static_cast<double>(fs::file_size(file)) / kGiB;
  std::vector<double> ours, reference;
  for (int round = 0; round <= kRounds; ++round) {
    if (cold) drop_page_cache(file);
    const double plain = read_plain(file, kPiece);
    if (cold) drop_page_cache(file);
    const double opened = open_base(folder, type);
    if (round == 0) continue;  // warms up
    ours.push_back(opened);
    reference.push_back(plain);
  }
  const std::string name = std::string("load_") + (type == at::kFloat ? "float32" : "bfloat16") +
                           (cold ? "_disk" : "_cached");
  print_figure(name, gib / median(ours), gib / median(reference), "GiB/s", Better::more);
}

}  // namespace

int main(int argc, char** argv) {
  at::set_num_threads(static_cast<int>(std::thread::hardware_concurrency()));
  try {
    const crabcast::testing::TemporaryFolder folder(argc > 1 ? fs::path(argv[1])
                                                             : fs::temp_directory_path());
    write_base(folder.path(), config_of_1gib());
    for (const auto type : {at::kBFloat16, at::kFloat})
      for (const bool cold : {true, false}) measure(folder.path(), type, cold);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench load: %s\n", error.what());
    return 1;
  }
  return 0;
}

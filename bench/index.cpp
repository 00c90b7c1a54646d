// Starting on a large corpus: time to the first sample, time to resume in the middle, memory.
//
//   bench_index [ROWS]               2,000,000 rows unless said otherwise
//   bench_index open FOLDER STEP     one start, in a process of its own: what the first form calls
//
// Ours opens the index that an earlier start built, makes the sampler and reads a sample's row. The
// references (bench/index_reference.py) are torchdata's StatefulDataLoader over the rows of the
// same JSON file, and MosaicML's StreamingDataset over the same rows as MDS shards. All shuffle,
// none decodes media; each start is a new process, and imports and the start of the interpreter are
// not counted. docs/benchmarks.md says what the figures mean.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/figure.h"
#include "bench/measure.h"
#include "data/corpus.h"
#include "data/sampler.h"

namespace {

namespace fs = std::filesystem;
using crabcast::bench::Better;
using crabcast::bench::print_figure;
using nlohmann::json;

constexpr std::uint64_t kRows = 2'000'000;
constexpr std::uint32_t kBatch = 64;
constexpr int kRounds = 3;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

// Rows like those of the larger data sets, about 200 bytes each.
void write_corpus(const fs::path& folder, std::uint64_t rows) {
  const auto file = folder / "ks" / "train.json", partial = folder / "train.partial";
  if (fs::exists(file)) return;
  fs::create_directories(file.parent_path());
  std::ofstream out(partial);
  out << "[";
  for (std::uint64_t i = 0; i < rows; ++i)
    out << (i == 0 ? "\n" : ",\n") << R"({"video_path": "clip_)" << i << R"(.mp4", "audio_path": ")"
        << "clip_" << i << R"(.wav", "action": "bouncing", "label": "<think>The ball goes up and )"
        << R"(down, and each time it lands there is a sound.</think><answer>bouncing</answer>"})";
  out << "\n]\n";
  out.close();
  if (!out) give_up("cannot write " + partial.string());
  fs::rename(partial, file);
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t pages = 0;
  statm >> pages >> pages;
  return static_cast<double>(pages) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

int open_once(const fs::path& folder, std::uint64_t step) {
  spdlog::set_level(spdlog::level::warn);  // standard output is for the answer
  const double before = resident_mib();
  const auto start = std::chrono::steady_clock::now();
  const auto corpus =
      crabcast::data::Corpus::open(folder, {"action_recognition"}, folder.string() + "-index");
  if (!corpus) give_up(corpus.error().message);
  crabcast::data::SamplerPlan plan;
  plan.global_batch = kBatch;
  plan.mixture.policy = crabcast::MixturePolicy::proportional;
  for (const auto& summary : (*corpus)->summary())
    plan.sources.push_back(
        {summary.dataset, crabcast::data::datasets()[summary.dataset].task, summary.train});
  const auto sampler = crabcast::data::Sampler::create(plan);
  if (!sampler) give_up(sampler.error().message);
  const auto read = [&](std::uint64_t at) {
    const auto draw = sampler->batch(at).front();
    const auto sample = (*corpus)->sample(draw.dataset, crabcast::data::Split::train, draw.index);
    if (!sample) give_up(sample.error().message);
    return sample->index;
  };
  const auto first = read(1);
  const double first_ms = 1e3 * crabcast::bench::since(start);
  const auto again = std::chrono::steady_clock::now();
  const auto resumed = read(step);
  const double resume_ms = 1e3 * crabcast::bench::since(again);
  std::printf("%s\n", json{{"first_ms", first_ms},
                           {"resume_ms", resume_ms},
                           {"start_and_resume_ms", first_ms + resume_ms},
                           {"memory_mib", resident_mib() - before},
                           {"ids", {first, resumed}}}
                          .dump()
                          .c_str());
  return 0;
}

json answer_of(const std::string& command) {
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) give_up("cannot start " + command);
  std::string out;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) out += static_cast<char>(c);
  if (::pclose(pipe) != 0) give_up("failed: " + command);
  return json::parse(out);
}

// The least of several starts: other work disturbs all sides, and helps none.
void keep_least(std::map<std::string, double>& best, const json& answer) {
  for (const auto& [name, value] : answer.items()) {
    if (!value.is_number()) continue;
    const auto [known, fresh] = best.emplace(name, value.get<double>());
    if (!fresh) known->second = std::min(known->second, value.get<double>());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "open")
    return open_once(argv[2], std::strtoull(argv[3], nullptr, 10));
  const std::uint64_t rows = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : kRows;
  if (rows < 10 * kBatch) give_up("give at least 640 rows");
  const fs::path folder = "build/bench/index-" + std::to_string(rows);
  write_corpus(folder, rows);
  const auto step = std::to_string(rows / 2 / kBatch);
  const auto ours = std::string(argv[0]) + " open " + folder.string() + " " + step;
  const auto reference = [&](const std::string& which) {
    return "CRABCAST_LIBTORCH=" CRABCAST_LIBTORCH " python3 bench/index_reference.py " + which +
           " " + folder.string() + " " + step;
  };
  answer_of(ours);  // builds the index, unless it is there
  answer_of(reference("prepare"));
  std::map<std::string, std::map<std::string, double>> best;
  for (int round = 0; round < kRounds; ++round) {
    keep_least(best["ours"], answer_of(ours));
    for (const char* which : {"torchdata", "streaming"})
      keep_least(best[which], answer_of(reference(which)));
  }
  for (const char* which : {"torchdata", "streaming"}) {
    const auto against = std::string("_against_") + which;
    print_figure("index_first_sample" + against, best["ours"]["first_ms"], best[which]["first_ms"],
                 "ms", Better::less);
    print_figure("index_resume" + against, best["ours"]["resume_ms"], best[which]["resume_ms"],
                 "ms", Better::less);
    print_figure("index_memory" + against, best["ours"]["memory_mib"], best[which]["memory_mib"],
                 "MiB", Better::less);
  }
  return 0;
}

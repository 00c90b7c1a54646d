// `./dev bench loader`: from media files to what the towers take, in samples a second, against
// PyTorch's DataLoader with PyAV and with torchcodec (loader_reference.py), in turn, two processes
// each.
//
// Wanted of each clip (loader_clips.h) are ten frames of 224 x 224 pixels in patches and a log-mel
// spectrogram. Processor time, which other programs do not disturb as much, is compared too, and
// ours is told by stage. Then the same samples come out of our cache (loader_cache.h).
//
// docs/benchmarks.md says what the figures mean.
#include <ATen/ops/stack.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/figure.h"
#include "bench/loader_cache.h"
#include "bench/loader_clips.h"
#include "bench/measure.h"
#include "data/decode.h"
#include "data/decode_pool.h"
#include "data/log_mel.h"
#include "data/patches.h"

namespace {

namespace fs = std::filesystem;
namespace data = crabcast::data;
using crabcast::bench::Better;
using crabcast::bench::must;
using crabcast::bench::print_figure;
using nlohmann::json;

constexpr int kClips = 12, kPasses = 2, kRounds = 3, kProcesses = 2;
constexpr auto kDeadline = std::chrono::seconds(60);
const fs::path kFolder = "build/bench_loader";

struct Measured {
  double samples_per_second = 0;
  double processor_ms = 0;  // of all processes, for a sample
};

// ---- Our side -----------------------------------------------------------------------------------

double processor_seconds(const std::vector<pid_t>& processes) {
  double sum = 0;
  for (const pid_t process : processes) {
    clockid_t clock{};
    timespec time{};
    if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0)
      throw std::runtime_error("a decoding process has no clock");
    sum += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  }
  return sum;
}

// Reads all samples `passes` times, as a loader with two decoding threads; adds up the stages.
void read_all(data::DecodePool& pool, const std::vector<data::Sample>& samples, int passes,
              data::StageTimes& stages) {
  const auto total = samples.size() * static_cast<std::size_t>(passes);
  std::atomic<std::size_t> next = 0;
  std::array<data::StageTimes, kProcesses> times{};
  std::vector<std::thread> threads;
  for (auto& own : times)
    threads.emplace_back([&] {
      for (std::size_t i = next++; i < total; i = next++) {
        const auto media = pool.read(samples[i % samples.size()], {}, kDeadline);
        if (!media) {
          std::fprintf(stderr, "bench loader: %s\n", media.error().message.c_str());
          std::exit(1);
        }
        for (std::size_t stage = 0; stage < own.size(); ++stage) own[stage] += media->times[stage];
      }
    });
  for (auto& thread : threads) thread.join();
  for (const auto& own : times)
    for (std::size_t stage = 0; stage < own.size(); ++stage) stages[stage] += own[stage];
}

Measured measure_ours(const std::vector<data::Sample>& samples, data::StageTimes& stages) {
  data::DecodePoolOptions options;
  options.children = kProcesses;
  options.program = fs::read_symlink("/proc/self/exe").parent_path() / "crabcast-compute";
  const auto pool = must(data::DecodePool::start(options));
  data::StageTimes warming_up{};
  read_all(*pool, samples, 1, warming_up);
  auto processes = pool->children();
  processes.push_back(::getpid());
  const double used = processor_seconds(processes);
  const auto start = std::chrono::steady_clock::now();
  read_all(*pool, samples, kPasses, stages);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  const double count = kClips * kPasses;
  return {count / time.count(), (processor_seconds(processes) - used) / count * 1e3};
}

// ---- The reference's side -----------------------------------------------------------------------

Measured measure_reference(const std::string& library) {
  const std::string command = "CRABCAST_LIBTORCH=" CRABCAST_LIBTORCH
                              " python3 bench/loader_reference.py " +
                              library + " " + kFolder.string() + " " + std::to_string(kPasses);
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot start " + command);
  std::string out;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) out += static_cast<char>(c);
  if (::pclose(pipe) != 0)
    throw std::runtime_error("the reference failed: " + command + "\n" + out);
  const json answer = json::parse(out);
  return {answer["samples_per_second"], answer["processor_ms"]};
}

template <class T>
std::vector<T> read_values(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<T> values(bytes.size() / sizeof(T));
  std::copy_n(bytes.data(), values.size() * sizeof(T), reinterpret_cast<char*>(values.data()));
  return values;
}

struct Difference {
  double mean = 0, largest = 0;
};

template <class T>
Difference difference(const at::Tensor& ours, const fs::path& theirs) {
  const auto values = read_values<T>(theirs);
  if (static_cast<std::int64_t>(values.size()) != ours.numel())
    throw std::runtime_error(theirs.string() + " has another number of values than ours");
  const T* own = ours.const_data_ptr<T>();
  Difference found;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double apart = std::abs(static_cast<double>(own[i]) - static_cast<double>(values[i]));
    found.mean += apart / static_cast<double>(values.size());
    found.largest = std::max(found.largest, apart);
  }
  return found;
}

// Other conversions from YUV differ by a few levels; another frame would differ everywhere.
void compare(const data::Sample& sample, const std::string& library) {
  std::vector<at::Tensor> frames;
  for (const auto& frame : must(data::decode_video(sample.video, 10, {}, [](const at::Tensor& rgb) {
         return data::resize_square(rgb, 224);
       })))
    frames.push_back(frame.rgb);
  const auto sound =
      must(data::decode_audio(sample.audio, {data::AudioWindow::parts_of_second, 10, 0}));
  const auto pixels = difference<std::uint8_t>(at::stack(frames), kFolder / (library + ".frames"));
  const auto mel = difference<float>(data::log_mel(sound, 128), kFolder / (library + ".mel"));
  std::fprintf(
      stderr,
      "against %s: pixels differ by %.3f of 255 in the mean, %.0f at most; log-mel by %.4f "
      "in the mean, %.3f at most\n",
      library.c_str(), pixels.mean, pixels.largest, mel.mean, mel.largest);
  if (pixels.mean > 2) throw std::runtime_error("these are other frames than those of " + library);
}

Measured best(const Measured& a, const Measured& b) {
  return {std::max(a.samples_per_second, b.samples_per_second),
          a.processor_ms > 0 ? std::min(a.processor_ms, b.processor_ms) : b.processor_ms};
}

void run() {
  fs::create_directories(kFolder);
  const auto samples = crabcast::bench::make_clips(kFolder, kClips);
  Measured ours, pyav, torchcodec;
  data::StageTimes stages{};
  for (int round = 0; round < kRounds; ++round) {
    ours = best(ours, measure_ours(samples, stages));
    pyav = best(pyav, measure_reference("pyav"));
    torchcodec = best(torchcodec, measure_reference("torchcodec"));
  }
  for (const char* library : {"pyav", "torchcodec"}) compare(samples.front(), library);
  std::fprintf(stderr, "our processor time for a sample:");
  for (std::size_t i = 0; i < stages.size(); ++i)
    std::fprintf(stderr, " %s %.2f ms", std::string(data::kStageNames[i]).c_str(),
                 static_cast<double>(stages[i]) / (kClips * kPasses * kRounds) * 1e-6);
  std::fprintf(stderr, "\n");
  print_figure("loader_against_pyav", ours.samples_per_second, pyav.samples_per_second, "samples/s",
               Better::more);
  print_figure("loader_against_torchcodec", ours.samples_per_second, torchcodec.samples_per_second,
               "samples/s", Better::more);
  print_figure("loader_processor_time", ours.processor_ms,
               std::min(pyav.processor_ms, torchcodec.processor_ms), "ms/sample", Better::less);
  const auto cached = crabcast::bench::measure_cache(samples, kFolder / "cache");
  print_figure("loader_from_cache", cached.samples_per_second,
               best(pyav, torchcodec).samples_per_second, "samples/s", Better::more);
  print_figure("loader_from_cache_against_copy", cached.samples_per_second,
               cached.copies_per_second, "samples/s", Better::more);
}

}  // namespace

int main() {
  try {
    run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench loader: %s\n", error.what());
    return 1;
  }
  return 0;
}

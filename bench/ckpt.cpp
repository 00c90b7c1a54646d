// `./dev bench ckpt [FOLDER] [MIB...]`: how fast a checkpoint is written and read, against plain
// tools in the same run on the same disk; how long it holds up training, and the memory it takes.
// 16 and 256 MiB of state, or the given sizes. One JSON line a figure.
//   write: begin to commit, hashing included, against dd conv=fsync of the same bytes. As in a job,
//          the source hashes (there a worker, here a thread) while the store checks and writes
//   read:  every chunk read and verified, against read(2) of a file of the same size; once from the
//          disk (page cache dropped for the files) and once from the page cache
//   hold_up: what Session::state() and the update behind it take longer than an update alone,
//          against memcpy of as many bytes to where others were before, which a copy would stop for
//   hold_up_first: of a job's first checkpoint, whose memory is new; a second passes between the
//          two, as it does with a step's forward and backward passes
//   memory: what the process grows by from the copy of the state to the durable manifest, the
//          store's side included, against what it may take: the state once more and 64 MiB

#include <ATen/ATen.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <semaphore>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "actors/compute/tensor_stream.h"
#include "bench/figure.h"
#include "bench/measure.h"
#include "model/config.h"
#include "model/session.h"
#include "protocol/checksum.h"
#include "storage/job_store.h"
#include "tests/support/temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using namespace crabcast::bench;
using crabcast::CheckpointId;
using crabcast::kChunkBytes;
using crabcast::actors::TensorStream;
using crabcast::model::NamedTensor;
using crabcast::model::Session;
using crabcast::storage::JobStore;

constexpr double kMiB = 1 << 20;

// The chunks of a checkpoint with their entries, which a thread of its own makes in order.
class Source {
 public:
  explicit Source(const TensorStream& stream)
      : stream_(stream), entries_(stream.chunks()), thread_([this] {
          for (std::uint32_t i = 0; i < entries_.size(); ++i) {
            const auto frame = stream_.chunk(i);
            entries_[i] = crabcast::make_chunk_entry(i, {frame.data(), frame.size()});
            ready_.release();
          }
        }) {}

  // Once for each chunk, in order.
  const crabcast::pb::ChunkEntry& next_entry() {
    ready_.acquire();
    return entries_[next_++];
  }

 private:
  const TensorStream& stream_;
  std::vector<crabcast::pb::ChunkEntry> entries_;
  std::counting_semaphore<> ready_{0};
  std::size_t next_ = 0;
  std::jthread thread_;
};

double write_checkpoint(JobStore& store, std::uint64_t id, const TensorStream& stream) {
  const auto start = std::chrono::steady_clock::now();
  Source source(stream);
  auto writer = must(store.begin_checkpoint(CheckpointId(id)));
  crabcast::pb::CheckpointManifest manifest;
  manifest.set_id(id);
  manifest.set_bytes(stream.bytes());
  for (std::uint32_t i = 0; i < stream.chunks(); ++i) {
    *manifest.add_chunks() = source.next_entry();
    const auto frame = stream.chunk(i);
    must(writer->put_chunk(manifest.chunks(static_cast<int>(i)), {frame.data(), frame.size()}));
  }
  must(writer->commit(manifest));
  return since(start);
}

// Seconds as dd itself reports them, so that starting the program is not counted.
double run_dd(const fs::path& from, const fs::path& to) {
  const std::string command =
      "LC_ALL=C dd if=" + from.string() + " of=" + to.string() + " bs=4M conv=fsync 2>&1";
  FILE* output = ::popen(command.c_str(), "r");
  if (output == nullptr) throw std::runtime_error("cannot run dd");
  double seconds = 0;
  char line[256];
  while (std::fgets(line, sizeof line, output) != nullptr) {
    const std::string text = line;
    const auto at = text.find(" copied, ");
    if (at != std::string::npos) seconds = std::strtod(text.c_str() + at + 9, nullptr);
  }
  if (::pclose(output) != 0 || seconds <= 0) throw std::runtime_error("failed: " + command);
  return seconds;
}

double read_checkpoint(const JobStore& store, std::uint64_t id, std::size_t size) {
  const auto start = std::chrono::steady_clock::now();
  std::size_t bytes = 0;
  must(store.for_each_chunk(CheckpointId(id), [&bytes](const auto& /*entry*/, auto chunk) {
    bytes += chunk.size();
    return true;
  }));
  if (bytes != size) throw std::runtime_error("the checkpoint is not whole");
  return since(start);
}

void print(const std::string& figure, std::size_t size, const std::vector<double>& ours,
           const std::vector<double>& reference) {
  const double mib = static_cast<double>(size) / kMiB;
  print_figure(figure, mib / median(ours), mib / median(reference), "MiB/s", Better::more);
}

std::string label_of(std::size_t size) {
  return std::to_string(size >> 20) + "MiB";
}

void measure_speed(const fs::path& folder, std::size_t size, int rounds) {
  const std::string label = label_of(size);
  const at::Tensor bytes =
      at::empty({static_cast<std::int64_t>(size / sizeof(std::int64_t))}, at::kLong).random_();
  const TensorStream stream({NamedTensor{"state", bytes}});
  const fs::path source = folder / "source";
  const fs::path target = folder / "target";
  FILE* file = std::fopen(source.c_str(), "wb");
  if (file == nullptr || std::fwrite(bytes.const_data_ptr(), 1, size, file) != size ||
      std::fclose(file) != 0) {
    throw std::runtime_error("cannot write " + source.string());
  }
  auto store = must(JobStore::open(folder / ("store-" + label)));
  std::vector<double> ours;
  std::vector<double> reference;
  // The first round warms up and does not count.
  for (int round = 0; round <= rounds; ++round) {
    fs::remove(target);
    double plain = 0, checkpoint = 0;
    // A disk that is slower after a lot of writing is so for both.
    for (const bool now_ours : {round % 2 == 1, round % 2 == 0})
      if (now_ours)
        checkpoint = write_checkpoint(*store, static_cast<std::uint64_t>(round), stream);
      else
        plain = run_dd(source, target);
    must(store->apply_retention({.last = 1, .best = 0}, {}));
    if (round == 0) continue;
    ours.push_back(checkpoint);
    reference.push_back(plain);
  }
  print("ckpt_write_" + label, size, ours, reference);

  for (const bool cold : {true, false}) {
    ours.clear();
    reference.clear();
    for (int round = 0; round <= rounds; ++round) {
      if (cold) {
        drop_page_cache(target);
        for (const auto& entry : fs::directory_iterator(folder / ("store-" + label)))
          if (entry.path().extension() == ".sst") drop_page_cache(entry.path());
      }
      const double plain = read_plain(target, kChunkBytes);
      const double checkpoint = read_checkpoint(*store, static_cast<std::uint64_t>(rounds), size);
      if (round == 0) continue;
      ours.push_back(checkpoint);
      reference.push_back(plain);
    }
    print(std::string("ckpt_read_verify_") + (cold ? "disk_" : "cached_") + label, size, ours,
          reference);
  }
}

// ---- What training notices of it ----------------------------------------------------------------

// A model whose adapter and moments have about this many bytes, random ones.
std::unique_ptr<Session> session_with_state(std::size_t size) {
  crabcast::model::SessionOptions options;
  options.model.base = "nano";
  const auto modules =
      crabcast::model::adapter_modules(crabcast::model::nano(), crabcast::AdapterScope::all);
  constexpr std::uint32_t heads = 8;  // with fewer, 2 GiB need a higher rank than is allowed
  options.model.adapter.heads = heads;
  const std::size_t bytes_of_rank =
      3 * sizeof(float) *
      static_cast<std::size_t>(crabcast::model::adapter_parameters(modules, 2, heads) -
                               crabcast::model::adapter_parameters(modules, 1, heads));
  options.model.adapter.rank = static_cast<std::uint32_t>(size / bytes_of_rank);
  options.threads = static_cast<int>(std::thread::hardware_concurrency());
  auto state = must(Session::open(options))->state();
  for (NamedTensor& each : state)
    if (each.tensor.is_floating_point()) each.tensor = at::rand(each.tensor.sizes());
  auto session = must(Session::open(options));  // one that made no snapshot yet
  must(session->load_state(state, false));
  return session;
}

// Seconds of one optimizer step.
double update(Session& session, const at::Tensor& gradient) {
  const std::vector<bool> touched(session.parameter_tensors(), true);
  const auto start = std::chrono::steady_clock::now();
  session.apply_update(gradient, 1, touched, 1);
  return since(start);
}

void measure_disturbance(const fs::path& folder, std::size_t size, int rounds) {
  const auto session = session_with_state(size);
  auto store = must(JobStore::open(folder / ("state-" + label_of(size))));
  const at::Tensor gradient = at::rand({session->parameters()});
  update(*session, gradient);  // its memory is there from now on
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts again from here
  const double before = status_mib("VmRSS");
  std::vector<double> alone, with_snapshot, copies;
  double growth = 0, state_mib = 0, first = 0;
  for (int round = 0; round <= rounds; ++round) {
    alone.push_back(update(*session, gradient) * 1e3);
    const auto start = std::chrono::steady_clock::now();
    const auto snapshot = session->state();
    const double taken = since(start);
    // In place of forward and backward passes, in which the other buffers are made.
    if (round == 0) std::this_thread::sleep_for(std::chrono::seconds(1));
    with_snapshot.push_back((taken + update(*session, gradient)) * 1e3);
    if (round == 0) first = with_snapshot.front() - alone.front();
    const TensorStream stream(snapshot);
    write_checkpoint(*store, static_cast<std::uint64_t>(round), stream);
    growth = std::max(growth, status_mib("VmHWM") - before);
    state_mib = static_cast<double>(stream.bytes()) / kMiB;
    must(store->apply_retention({.last = 1, .best = 0}, {}));
  }
  const auto state = session->state();
  std::vector<at::Tensor> others;
  for (const NamedTensor& each : state) others.push_back(each.tensor.clone());
  for (int round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < state.size(); ++i)
      std::memcpy(others[i].mutable_data_ptr(), state[i].tensor.const_data_ptr(),
                  state[i].tensor.nbytes());
    copies.push_back(since(start) * 1e3);
  }
  with_snapshot.erase(with_snapshot.begin());
  print_figure("ckpt_hold_up_" + label_of(size),
               std::max(median(with_snapshot) - median(alone), 0.01), median(copies), "ms",
               Better::less);
  print_figure("ckpt_hold_up_first_" + label_of(size), std::max(first, 0.01), median(copies), "ms",
               Better::less);
  print_figure("ckpt_memory_" + label_of(size), growth, state_mib + 64, "MiB", Better::less);
}

}  // namespace

int main(int argc, char** argv) {
  fs::path disk = fs::temp_directory_path();
  std::vector<std::size_t> sizes;  // in MiB
  for (const std::string argument : std::span(argv + 1, static_cast<std::size_t>(argc - 1)))
    if (argument.find_first_not_of("0123456789") == std::string::npos)
      sizes.push_back(std::stoul(argument));
    else
      disk = argument;
  if (sizes.empty()) sizes = {16, 256};
  try {
    const crabcast::testing::TemporaryFolder folder(disk);
    for (const std::size_t size : sizes) {
      const int rounds = size <= 64 ? 15 : size <= 512 ? 7 : 3;
      measure_speed(folder.path(), size << 20, rounds);
      measure_disturbance(folder.path(), size << 20, rounds);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench ckpt: %s\n", error.what());
    return 1;
  }
  return 0;
}

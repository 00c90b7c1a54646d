// `./dev bench ckpt [FOLDER]`: how fast a checkpoint is written and read, against plain tools in
// the same run on the same disk. One JSON line a figure.
//   write: begin to commit, hashing included, against dd conv=fsync of the same bytes. As in a job,
//          the source hashes (there a worker, here a thread) while the store checks and writes
//   read:  every chunk read and verified, against read(2) of a file of the same size; once from the
//          disk (page cache dropped for the files) and once from the page cache

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <semaphore>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/figure.h"
#include "bench/measure.h"
#include "storage/job_store.h"
#include "tests/support/temporary_folder.h"

namespace {

namespace fs = std::filesystem;
using namespace crabcast::bench;
using crabcast::CheckpointId;
using crabcast::kChunkBytes;
using crabcast::storage::JobStore;

constexpr double kMiB = 1 << 20;

std::vector<std::byte> random_bytes(std::size_t size) {
  std::mt19937_64 random(7);
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i + 8 <= size; i += 8) {
    const std::uint64_t word = random();
    std::copy_n(reinterpret_cast<const std::byte*>(&word), 8, bytes.begin() + static_cast<long>(i));
  }
  return bytes;
}

// The chunks of a checkpoint with their entries, which a thread of its own makes in order.
class Source {
 public:
  explicit Source(std::span<const std::byte> bytes)
      : bytes_(bytes), entries_((bytes.size() + kChunkBytes - 1) / kChunkBytes), thread_([this] {
          for (std::uint32_t i = 0; i < entries_.size(); ++i) {
            entries_[i] = crabcast::make_chunk_entry(i, chunk(i));
            ready_.release();
          }
        }) {}

  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(entries_.size()); }
  [[nodiscard]] std::span<const std::byte> chunk(std::uint32_t i) const {
    return bytes_.subspan(i * kChunkBytes, std::min(kChunkBytes, bytes_.size() - i * kChunkBytes));
  }
  // Once for each chunk, in order.
  const crabcast::pb::ChunkEntry& next_entry() {
    ready_.acquire();
    return entries_[next_++];
  }

 private:
  std::span<const std::byte> bytes_;
  std::vector<crabcast::pb::ChunkEntry> entries_;
  std::counting_semaphore<> ready_{0};
  std::size_t next_ = 0;
  std::jthread thread_;
};

double write_checkpoint(JobStore& store, std::uint64_t id, std::span<const std::byte> bytes) {
  const auto start = std::chrono::steady_clock::now();
  Source source(bytes);
  auto writer = must(store.begin_checkpoint(CheckpointId(id)));
  crabcast::pb::CheckpointManifest manifest;
  manifest.set_id(id);
  manifest.set_bytes(bytes.size());
  for (std::uint32_t i = 0; i < source.size(); ++i) {
    *manifest.add_chunks() = source.next_entry();
    must(writer->put_chunk(manifest.chunks(static_cast<int>(i)), source.chunk(i)));
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

void measure(const fs::path& folder, std::size_t size, int rounds) {
  const std::string label = std::to_string(size >> 20) + "MiB";
  const std::vector<std::byte> bytes = random_bytes(size);
  const fs::path source = folder / "source";
  const fs::path target = folder / "target";
  FILE* file = std::fopen(source.c_str(), "wb");
  if (file == nullptr || std::fwrite(bytes.data(), 1, size, file) != size ||
      std::fclose(file) != 0) {
    throw std::runtime_error("cannot write " + source.string());
  }
  auto store = must(JobStore::open(folder / ("store-" + label)));
  std::vector<double> ours;
  std::vector<double> reference;
  // The first round warms up and does not count.
  for (int round = 0; round <= rounds; ++round) {
    fs::remove(target);
    const double plain = run_dd(source, target);
    const double checkpoint = write_checkpoint(*store, static_cast<std::uint64_t>(round), bytes);
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

}  // namespace

int main(int argc, char** argv) {
  try {
    const crabcast::testing::TemporaryFolder folder(argc > 1 ? fs::path(argv[1])
                                                             : fs::temp_directory_path());
    measure(folder.path(), 16ULL << 20, 15);
    measure(folder.path(), 256ULL << 20, 7);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench ckpt: %s\n", error.what());
    return 1;
  }
  return 0;
}

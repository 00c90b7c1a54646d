#include "bench/loader_cache.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>

#include "bench/measure.h"
#include "data/sample_cache.h"

namespace crabcast::bench {
namespace {

using data::SampleMedia;

constexpr int kThreads = 2, kPasses = 50, kRounds = 7;
constexpr std::uint64_t kBytes = 1ULL << 30;

std::vector<at::Tensor> tensors_of(const SampleMedia& media) {
  return {media.pixel_values, media.grid_thw, media.seconds_per_grid, media.audio_features,
          media.audio_lengths};
}

bool same(const SampleMedia& a, const SampleMedia& b) {
  return std::ranges::equal(tensors_of(a), tensors_of(b),
                            [](const at::Tensor& x, const at::Tensor& y) { return x.equal(y); });
}

Result<SampleMedia> read_again() {
  return fail(Errc::not_found, "a sample is not in the cache");
}

// Samples a second; `each` gets the sample's number.
template <class Each>
double speed(std::size_t samples, const Each& each) {
  const std::size_t total = samples * kPasses;
  std::atomic<std::size_t> next = 0;
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i)
      threads.emplace_back([&] {
        std::vector<std::byte> room;
        for (std::size_t at = next++; at < total; at = next++) each(at % samples, room);
      });
  }
  return static_cast<double>(total) / since(start);
}

void copy(const std::vector<at::Tensor>& tensors, std::vector<std::byte>& to) {
  std::size_t bytes = 0;
  for (const auto& tensor : tensors) bytes += tensor.nbytes();
  if (to.size() < bytes) to.resize(bytes);
  std::byte* out = to.data();
  for (const auto& tensor : tensors) {
    std::memcpy(out, tensor.const_data_ptr(), tensor.nbytes());
    out += tensor.nbytes();
  }
}

}  // namespace

CacheSpeed measure_cache(const std::vector<data::Sample>& samples,
                         const std::filesystem::path& folder) {
  std::filesystem::remove_all(folder);
  std::vector<SampleMedia> decoded;
  {
    const auto cache = must(data::SampleCache::open(folder, kBytes));
    for (const auto& sample : samples) {
      const auto decode = [&] { return data::read_media(sample, {}, std::chrono::seconds(60)); };
      decoded.push_back(must(cache->get(sample, {}, decode)).media);
    }
  }
  const auto cache = must(data::SampleCache::open(folder, kBytes));
  for (std::size_t i = 0; i < samples.size(); ++i)
    if (!same(must(cache->get(samples[i], {}, read_again)).media, decoded[i]))
      throw std::runtime_error("a cached sample is not what was decoded");
  std::vector<std::vector<at::Tensor>> tensors;
  for (const auto& media : decoded) tensors.push_back(tensors_of(media));

  CacheSpeed best;
  for (int round = 0; round < kRounds; ++round) {
    best.samples_per_second =
        std::max(best.samples_per_second, speed(samples.size(), [&](std::size_t i, auto& /*room*/) {
                   (void)must(cache->get(samples[i], {}, read_again));
                 }));
    best.copies_per_second =
        std::max(best.copies_per_second,
                 speed(samples.size(), [&](std::size_t i, auto& room) { copy(tensors[i], room); }));
  }
  return best;
}

}  // namespace crabcast::bench

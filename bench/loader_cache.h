// Samples out of the cache that loaders use, against a copy of their bytes from memory to memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <thread>
#include <vector>

#include "bench/measure.h"
#include "data/corpus.h"
#include "data/sample_cache.h"

namespace crabcast::bench {

struct CacheSpeed {
  double samples_per_second = 0;  // out of the cache, each checked
  double copies_per_second = 0;   // memcpy of what a sample holds, to where another one was
};

inline std::vector<at::Tensor> tensors_of(const data::SampleMedia& media) {
  return {media.pixel_values, media.grid_thw, media.seconds_per_grid, media.audio_features,
          media.audio_lengths};
}

inline bool same_media(const data::SampleMedia& a, const data::SampleMedia& b) {
  return std::ranges::equal(tensors_of(a), tensors_of(b),
                            [](const at::Tensor& x, const at::Tensor& y) { return x.equal(y); });
}

inline Result<data::SampleMedia> not_cached() {
  return fail(Errc::not_found, "a sample is not in the cache");
}

// Samples a second, by two threads; `each` gets the sample's number and its thread's room.
template <class Each>
double in_a_second(std::size_t samples, const Each& each) {
  constexpr int kThreads = 2, kPasses = 50;
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

inline void copy_tensors(const std::vector<at::Tensor>& tensors, std::vector<std::byte>& to) {
  std::size_t bytes = 0;
  for (const auto& tensor : tensors) bytes += tensor.nbytes();
  if (to.size() < bytes) to.resize(bytes);
  std::byte* out = to.data();
  for (const auto& tensor : tensors) {
    std::memcpy(out, tensor.const_data_ptr(), tensor.nbytes());
    out += tensor.nbytes();
  }
}

// Decodes the samples into a cache in `folder`, which is emptied first, opens the cache again, and
// then reads them from it and copies them in turn: the best of some rounds. What comes out is
// compared with what was decoded. The files of the cache are in the page cache.
inline CacheSpeed measure_cache(const std::vector<data::Sample>& samples,
                                const std::filesystem::path& folder) {
  constexpr std::uint64_t kBytes = 1ULL << 30;
  constexpr int kRounds = 7;
  std::filesystem::remove_all(folder);
  std::vector<data::SampleMedia> decoded;
  {
    const auto cache = must(data::SampleCache::open(folder, kBytes));
    for (const auto& sample : samples) {
      const auto decode = [&] { return data::read_media(sample, {}, std::chrono::seconds(60)); };
      decoded.push_back(must(cache->get(sample, {}, decode)).media);
    }
  }
  const auto cache = must(data::SampleCache::open(folder, kBytes));
  for (std::size_t i = 0; i < samples.size(); ++i)
    if (!same_media(must(cache->get(samples[i], {}, not_cached)).media, decoded[i]))
      throw std::runtime_error("a cached sample is not what was decoded");
  std::vector<std::vector<at::Tensor>> tensors;
  for (const auto& media : decoded) tensors.push_back(tensors_of(media));

  CacheSpeed best;
  for (int round = 0; round < kRounds; ++round) {
    best.samples_per_second = std::max(
        best.samples_per_second, in_a_second(samples.size(), [&](std::size_t i, auto& /*room*/) {
          (void)must(cache->get(samples[i], {}, not_cached));
        }));
    best.copies_per_second = std::max(best.copies_per_second,
                                      in_a_second(samples.size(), [&](std::size_t i, auto& room) {
                                        copy_tensors(tensors[i], room);
                                      }));
  }
  return best;
}

}  // namespace crabcast::bench

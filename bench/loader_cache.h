// Samples out of the cache that loaders use, against a copy of their bytes from memory to memory.
#pragma once

#include <filesystem>
#include <vector>

#include "data/corpus.h"

namespace crabcast::bench {

struct CacheSpeed {
  double samples_per_second = 0;  // out of the cache, each checked
  double copies_per_second = 0;   // memcpy of what a sample holds, to where another one was
};

// Decodes the samples into a cache in `folder`, which is emptied first, opens the cache again, and
// then reads them from it and copies them in turn, two threads each: the best of some rounds. What
// comes out is compared with what was decoded. The files of the cache are in the page cache.
CacheSpeed measure_cache(const std::vector<data::Sample>& samples,
                         const std::filesystem::path& folder);

}  // namespace crabcast::bench

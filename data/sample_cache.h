// The media of samples, decoded once: a TensorCache keyed by what the files hold and by what was
// asked of them.
//
// What a file holds is told by the hash of its bytes (data/file_content.h), which is itself kept
// under the file's path and stamp, so that a known file is not read again. A file that changes has
// another stamp, and then another hash. Pixels are kept as the bytes
// they were made of: what comes out has the same bits as what went in.
//
// Concurrency: all methods from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "data/file_content.h"
#include "data/sample_media.h"
#include "data/tensor_cache.h"
#include "protocol/error.h"

namespace crabcast::data {

class SampleCache {
 public:
  // Errors as those of TensorCache::open.
  static Result<std::unique_ptr<SampleCache>> open(const std::filesystem::path& folder,
                                                   std::uint64_t bytes);

  struct Answer {
    SampleMedia media;
    bool cached = false;
    std::vector<FileContent> files;  // with hashes, unless what was read could not be kept
  };
  // Out of the cache, or else by `read`, whose error is the answer's. What was read is kept, unless
  // one of the files changed meanwhile. That it cannot be kept is no error: the log says so, once.
  Result<Answer> get(const Sample& sample, const model::MediaShape& shape,
                     const std::function<Result<SampleMedia>()>& read);

 private:
  explicit SampleCache(std::unique_ptr<TensorCache> tensors) : tensors_(std::move(tensors)) {}
  std::optional<CacheKey> known_hash(const FileContent& file);
  void insert(const CacheKey& key, const std::vector<at::Tensor>& tensors);
  void keep(const Sample& sample, const model::MediaShape& shape, const SampleMedia& media,
            std::vector<FileContent>& files);

  std::unique_ptr<TensorCache> tensors_;
  std::atomic<bool> told_ = false;
};

}  // namespace crabcast::data

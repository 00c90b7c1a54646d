// What media files looked like when they were first read: size, modification time and hash, so that
// one that was changed since is noticed and named. Damage is mostly silent to decoders, and a
// changed clip makes a replay another run.
//
// Marks live beside the index of the corpus (data/corpus_index.h), in CACHE/NAME-HASH.media-N:
// RocksDB databases with one writing process each, which takes the first that is free. It also sees
// what the others held when it was opened.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "data/file_content.h"
#include "protocol/error.h"

namespace crabcast::data {

enum class MediaState { unknown, same, changed };  // since it was marked

// All methods from any thread.
class MediaMarks {
 public:
  // `corpus` exists. unavailable when 64 processes of this node have the corpus open.
  static Result<std::unique_ptr<MediaMarks>> open(const std::filesystem::path& corpus,
                                                  const std::filesystem::path& cache);
  virtual ~MediaMarks() = default;
  // Compares the file with its mark, and marks it as it is now. A file that is not marked, or whose
  // size or time differ, is read through where its hash is not given; else this takes microseconds.
  // `unknown`: marked for the first time. Errors as those of file_hash (data/file_content.h).
  virtual Result<MediaState> check(const FileContent& file) = 0;
};

}  // namespace crabcast::data

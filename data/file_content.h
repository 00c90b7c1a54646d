// What media files hold. A file is read through once for it, and those who need to know hand the
// answer on to one another: caches (data/sample_cache.h) and marks (data/media_marks.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "data/cache_key.h"
#include "data/corpus.h"
#include "protocol/error.h"

namespace crabcast::data {

// Another one whenever a file is written or replaced.
struct FileStamp {
  std::uint64_t device = 0, inode = 0, size = 0;
  std::uint64_t mtime_ns = 0;  // since 1970
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};

struct FileContent {
  std::filesystem::path path;
  FileStamp stamp;
  std::optional<CacheKey> hash;  // of its bytes; none while nobody has read them
};

// Of a regular file. data_error: it is none; else as the system says.
Result<FileStamp> file_stamp(const std::filesystem::path& file);
// XXH3-128 of all bytes. data_error when it is no regular file or larger than 8 GiB, which no clip
// is. Whoever reads a file that hangs hangs with it.
Result<CacheKey> file_hash(const std::filesystem::path& file);

// All files of a sample, with stamps. Errors as those of file_stamp.
Result<std::vector<FileContent>> stat_media(const Sample& sample);

}  // namespace crabcast::data

#include "data/file_content.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "data/row_scan.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostBytes = 8ULL << 30;
constexpr std::size_t kPieceBytes = 256 << 10;

}  // namespace

Result<FileStamp> file_stamp(const fs::path& file) {
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0) return fail(error_from_errno(errno, file.string()));
  if (!S_ISREG(status.st_mode))
    return fail(Errc::data_error, file.string() + ": is not a regular file");
  return FileStamp{.device = status.st_dev,
                   .inode = status.st_ino,
                   .size = static_cast<std::uint64_t>(status.st_size),
                   .mtime_ns = static_cast<std::uint64_t>(status.st_mtim.tv_sec) * 1'000'000'000 +
                               static_cast<std::uint64_t>(status.st_mtim.tv_nsec)};
}

Result<CacheKey> file_hash(const fs::path& file) {
  const auto descriptor = open_regular(file);
  if (!descriptor) return fail(descriptor.error());
  CacheKeyHasher hash;
  std::vector<char> piece(kPieceBytes);
  std::uint64_t bytes = 0;
  while (true) {
    const ssize_t got = ::read(descriptor->get(), piece.data(), piece.size());
    if (got == 0) return hash.key();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(error_from_errno(errno, file.string()));
    hash.add_bytes(piece.data(), static_cast<std::size_t>(got));
    bytes += static_cast<std::uint64_t>(got);
    if (bytes > kMostBytes) return fail(Errc::data_error, file.string() + ": is larger than 8 GiB");
  }
}

Result<std::vector<FileContent>> stat_media(const Sample& sample) {
  std::vector<FileContent> files;
  for (const fs::path* file : media_files(sample)) {
    const auto stamp = file_stamp(*file);
    if (!stamp) return fail(stamp.error());
    files.push_back({*file, *stamp, std::nullopt});
  }
  return files;
}

}  // namespace crabcast::data

// Files that are read with care, and files that are written whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "protocol/error.h"

namespace crabcast::model {

// A regular file, open for reading. Safe to use from several threads.
class DiskFile {
 public:
  // Refuses a folder, a pipe and a device (corrupt); never waits for a pipe's writer.
  static Result<DiskFile> open(const std::filesystem::path& path);
  // A file in memory only, with these bytes; `name` is its path in messages.
  static Result<DiskFile> in_memory(const std::filesystem::path& name,
                                    std::span<const std::byte> bytes);
  DiskFile(DiskFile&& other) noexcept;
  DiskFile& operator=(DiskFile&&) = delete;
  ~DiskFile();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }  // when it was opened
  // Exactly as many bytes as `into` takes. corrupt when the file has become too short for that.
  Status read(std::uint64_t offset, std::span<std::byte> into) const;
  // Lets the kernel read these bytes ahead, as far as they exist; returns at once.
  void will_read(std::uint64_t offset, std::uint64_t bytes) const;
  // All of it, read only, as long as the pointer lives; the file itself need not stay open. There
  // must be at least one byte. Touching a page that is no longer in the file raises SIGBUS.
  [[nodiscard]] Result<std::shared_ptr<const std::byte>> map() const;

 private:
  DiskFile(std::filesystem::path path, int descriptor);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

// A file that appears whole or not at all: it is written under another name beside its place, and
// what is not published is removed.
class NewFile {
 public:
  static Result<NewFile> create(const std::filesystem::path& path);
  NewFile(NewFile&& other) noexcept;
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile();

  Status write(std::uint64_t offset, std::span<const std::byte> bytes);
  // fsync, rename (a file that is there is replaced), fsync of the folder. The pages are dropped
  // from the cache, so that who reads the file next reads the disk.
  Status publish();

 private:
  NewFile(std::filesystem::path path, std::filesystem::path partial, int descriptor);

  std::filesystem::path path_, partial_;
  int descriptor_ = -1;
};

// The whole file; corrupt when it has more than `limit` bytes.
Result<std::string> read_whole_file(const std::filesystem::path& path, std::uint64_t limit);
Status write_whole_file(const std::filesystem::path& path, std::string_view text);
Status sync_folder(const std::filesystem::path& folder);

}  // namespace crabcast::model

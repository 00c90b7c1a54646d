// Files and folders that are there as a whole or not at all, for corpora, indexes and caches. Each
// failure names the path and says what to do.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/clock.h"
#include "protocol/descriptor.h"
#include "protocol/error.h"

namespace crabcast::data {

Status make_folder(const std::filesystem::path& folder);
// Whole or an error; a file that is there is replaced. Not synced: see publish_folder.
Status write_file(const std::filesystem::path& path, std::span<const std::uint8_t> bytes);
Status write_file(const std::filesystem::path& path, std::string_view text);
Result<std::string> read_file(const std::filesystem::path& path);
Status remove_folder(const std::filesystem::path& folder);
// Brings everything of `partial`'s file system to disk, renames it to `folder` (absent or empty),
// and syncs the folder above: after a power loss `folder` is whole or not there.
Status publish_folder(const std::filesystem::path& partial, const std::filesystem::path& folder);

// Held until destroyed; freed by the operating system when the process dies.
class FileLock {
 public:
  // timeout after `wait`, naming the file. `waiting` is called again and again meanwhile.
  static Result<FileLock> acquire(const std::filesystem::path& path, Duration wait,
                                  const std::function<void()>& waiting = {});
  // Without waiting: nothing when somebody else holds it.
  static Result<std::optional<FileLock>> try_acquire(const std::filesystem::path& path);

 private:
  explicit FileLock(Descriptor file) : file_(std::move(file)) {}
  Descriptor file_;
};

}  // namespace crabcast::data

#include "storage/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace crabcast::storage {

Status sync_folder(const std::filesystem::path& folder) {
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return fail(error_from_errno(errno, "open " + folder.string()));
  const int result = ::fsync(file);
  const int number = errno;
  ::close(file);
  if (result != 0) return fail(error_from_errno(number, "fsync " + folder.string()));
  return {};
}

Status make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(folder, error);
  if (error) return fail(error_from_errno(error.value(), "find " + folder.string()));
  if (std::filesystem::is_directory(whole, error)) return {};
  const std::filesystem::path parent = whole.parent_path();
  if (parent != whole) CRABCAST_TRY(make_folder(parent));
  std::filesystem::create_directory(whole, error);
  if (error) return fail(error_from_errno(error.value(), "make the folder " + whole.string()));
  return sync_folder(parent);
}

}  // namespace crabcast::storage

#include "storage/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

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

Status replace_file(const std::filesystem::path& path, const std::string& text, mode_t mode) {
  const std::string beside = path.string() + ".new";
  const int file = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (file < 0) return fail(error_from_errno(errno, "open " + beside));
  int number = ::fchmod(file, mode) == 0 ? 0 : errno;  // it may be left from an earlier try
  for (std::size_t done = 0; done < text.size() && number == 0;) {
    const ssize_t written = ::write(file, text.data() + done, text.size() - done);
    if (written >= 0)
      done += static_cast<std::size_t>(written);
    else if (errno != EINTR)
      number = errno;
  }
  if (number == 0 && ::fsync(file) != 0) number = errno;
  if (::close(file) != 0 && number == 0) number = errno;
  if (number == 0 && ::rename(beside.c_str(), path.c_str()) != 0) number = errno;
  if (number != 0) {
    ::unlink(beside.c_str());
    return fail(error_from_errno(number, "write " + path.string()));
  }
  const auto folder = path.parent_path();
  return sync_folder(folder.empty() ? "." : folder);
}

}  // namespace crabcast::storage

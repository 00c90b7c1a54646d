#include "data/files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> file_failure(int number, std::string_view doing, const fs::path& path) {
  Error error = error_from_errno(number, std::string(doing) + " " + path.string());
  switch (error.code) {
    case Errc::disk_full:
      error.message += "; free some space or choose another folder";
      break;
    case Errc::permission_denied:
      error.message += "; choose a folder that you may write to";
      break;
    default:
      break;
  }
  return fail(std::move(error));
}

}  // namespace

Status make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return file_failure(error.value(), "making the folder", folder);
  return {};
}

Status write_file(const fs::path& path, std::span<const std::uint8_t> bytes) {
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (file.get() < 0) return file_failure(errno, "creating", path);
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return file_failure(errno, "writing", path);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  if (::close(file.release()) != 0) return file_failure(errno, "writing", path);
  return {};
}

Status write_file(const fs::path& path, std::string_view text) {
  return write_file(path,
                    std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
}

Result<std::string> read_file(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return file_failure(errno, "opening", path);
  std::string text;
  std::array<char, 4096> block{};
  for (;;) {
    const ssize_t got = ::read(file.get(), block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_failure(errno, "reading", path);
    if (got == 0) return text;
    text.append(block.data(), static_cast<std::size_t>(got));
  }
}

Status remove_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) return file_failure(error.value(), "removing", folder);
  return {};
}

Status publish_folder(const fs::path& partial, const fs::path& folder) {
  {
    const Descriptor inside(::open(partial.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (inside.get() < 0) return file_failure(errno, "opening", partial);
    if (::syncfs(inside.get()) != 0) return file_failure(errno, "syncing", partial);
  }
  if (::rename(partial.c_str(), folder.c_str()) != 0) {
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
      return fail(Errc::already_exists,
                  folder.string() + " holds something else; choose another folder");
    return file_failure(errno, "renaming " + partial.string() + " to", folder);
  }
  const Descriptor above(::open(folder.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (above.get() < 0) return file_failure(errno, "opening", folder.parent_path());
  if (::fsync(above.get()) != 0) return file_failure(errno, "syncing", folder.parent_path());
  return {};
}

Result<std::optional<FileLock>> FileLock::try_acquire(const fs::path& path) {
  Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (file.get() < 0) return file_failure(errno, "creating", path);
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return std::nullopt;
    if (errno != EINTR) return file_failure(errno, "locking", path);
  }
  return FileLock(std::move(file));
}

Result<FileLock> FileLock::acquire(const fs::path& path, Duration wait,
                                   const std::function<void()>& waiting) {
  const TimePoint deadline = Clock::now() + wait;
  while (true) {
    auto lock = try_acquire(path);
    if (!lock) return fail(lock.error());
    if (*lock) return std::move(**lock);
    if (Clock::now() >= deadline)
      return fail(Errc::timeout, "another process holds " + path.string() +
                                     "; wait until it has finished, or stop it");
    if (waiting) waiting();
    // flock has no wait with an end: look again on a timer.
    constexpr int kAgainMs = 50;
    ::poll(nullptr, 0, kAgainMs);
  }
}

}  // namespace crabcast::data

#include "model/disk_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "protocol/format.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> system_failure(const char* doing, const fs::path& path) {
  return fail(error_from_errno(errno, std::string(doing) + " " + path.string()));
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

DiskFile::DiskFile(fs::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}
DiskFile::DiskFile(DiskFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}
DiskFile::~DiskFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<DiskFile> DiskFile::open(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return system_failure("opening", path);
  DiskFile file(path, descriptor);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return system_failure("looking at", path);
  if (!S_ISREG(status.st_mode))
    return fail(Errc::corrupt, path.string() + " is " + kind_of(status.st_mode) + ", not a file");
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

Result<DiskFile> DiskFile::in_memory(const fs::path& name, std::span<const std::byte> bytes) {
  const int descriptor = ::memfd_create(name.filename().c_str(), MFD_CLOEXEC);
  if (descriptor < 0) return system_failure("holding in memory", name);
  DiskFile file(name, descriptor);
  file.size_ = bytes.size();
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_failure("holding in memory", name);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return file;
}

Status DiskFile::read(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t got = ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_failure("reading", path_);
    if (got == 0)
      return fail(Errc::corrupt, path_.string() + " has become shorter while it was in use");
    offset += static_cast<std::uint64_t>(got);
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

void DiskFile::will_read(std::uint64_t offset, std::uint64_t bytes) const {
  // Advice: a file system that takes none is read all the same.
  (void)::posix_fadvise(descriptor_, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                        POSIX_FADV_WILLNEED);
}

Result<std::shared_ptr<const std::byte>> DiskFile::map() const {
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (data == MAP_FAILED) return system_failure("mapping", path_);
  return std::shared_ptr<const std::byte>(
      static_cast<const std::byte*>(data),
      [data, size = size_](const std::byte*) { ::munmap(data, size); });
}

NewFile::NewFile(fs::path path, fs::path partial, int descriptor)
    : path_(std::move(path)), partial_(std::move(partial)), descriptor_(descriptor) {}
NewFile::NewFile(NewFile&& other) noexcept
    : path_(std::move(other.path_)),
      partial_(std::move(other.partial_)),
      descriptor_(std::exchange(other.descriptor_, -1)) {}
NewFile::~NewFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(partial_.c_str());
}

Result<NewFile> NewFile::create(const fs::path& path) {
  fs::path partial = path;
  partial += "." + std::to_string(::getpid()) + ".partial";
  const int descriptor =
      ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor < 0) return system_failure("creating", partial);
  return NewFile(path, std::move(partial), descriptor);
}

Status NewFile::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_failure("writing", path_);
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Status NewFile::publish() {
  if (::fsync(descriptor_) != 0) return system_failure("bringing to disk", path_);
  ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED);
  if (::rename(partial_.c_str(), path_.c_str()) != 0) return system_failure("naming", path_);
  ::close(std::exchange(descriptor_, -1));
  return sync_folder(path_.parent_path());
}

Result<std::string> read_whole_file(const fs::path& path, std::uint64_t limit) {
  auto file = DiskFile::open(path);
  if (!file) return fail(file.error());
  if (file->size() > limit)
    return fail(Errc::corrupt, path.string() + " has " + format_bytes(file->size()) +
                                   ", more than the " + format_bytes(limit) +
                                   " that such a file may have");
  std::string text(file->size(), '\0');
  CRABCAST_TRY(file->read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

Status write_whole_file(const fs::path& path, std::string_view text) {
  auto file = NewFile::create(path);
  if (!file) return fail(file.error());
  CRABCAST_TRY(file->write(0, std::as_bytes(std::span(text))));
  return file->publish();
}

Status sync_folder(const fs::path& folder) {
  const char* name = folder.empty() ? "." : folder.c_str();
  const int descriptor = ::open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return system_failure("opening", folder);
  const int result = ::fsync(descriptor);
  const int number = errno;
  ::close(descriptor);
  errno = number;
  if (result != 0) return system_failure("bringing to disk", folder);
  return {};
}

}  // namespace crabcast::model

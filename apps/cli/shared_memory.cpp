#include "apps/cli/shared_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace crabcast::apps {

Result<SharedMemory> SharedMemory::create() {
  const int descriptor = ::memfd_create("crabcast", 0);  // stays open across exec
  if (descriptor < 0) return fail(error_from_errno(errno, "memory for crabcast-compute"));
  return SharedMemory(descriptor);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

SharedMemory::~SharedMemory() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status SharedMemory::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail(error_from_errno(errno, "memory for crabcast-compute"));
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

std::string SharedMemory::hand_on() && {
  return "/proc/self/fd/" + std::to_string(std::exchange(descriptor_, -1));
}

}  // namespace crabcast::apps

#include "cluster/wake_up.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace crabcast::cluster {

Result<std::shared_ptr<WakeUp>> WakeUp::create() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return fail(error_from_errno(errno, "opening an eventfd"));
  return std::shared_ptr<WakeUp>(new WakeUp(fd));
}

WakeUp::~WakeUp() {
  ::close(fd_);
}

void WakeUp::wake() {
  if (pending_.exchange(true)) return;
  // Cannot fail: the counter is far from its limit, since it is written once for each clear.
  (void)!::eventfd_write(fd_, 1);
}

void WakeUp::clear() {
  eventfd_t count = 0;
  (void)!::eventfd_read(fd_, &count);
  pending_.store(false);
}

}  // namespace crabcast::cluster

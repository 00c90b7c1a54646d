#include "cluster/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace crabcast::cluster {
namespace {

// The secret stands here, before what is shared.
constexpr std::size_t kHead = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

tl::unexpected<Error> failed(Errc code, const std::string& what) {
  return fail(code, what + ": " + std::strerror(errno));
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return number_; }

 private:
  int number_;
};

}  // namespace

std::optional<SharedMemoryTicket> SharedMemoryTicket::parse(std::string_view bytes) {
  SharedMemoryTicket ticket;
  if (bytes.size() != sizeof ticket) return std::nullopt;
  std::memcpy(&ticket, bytes.data(), sizeof ticket);
  return ticket;
}

Result<std::unique_ptr<SharedMemory>> SharedMemory::create(std::size_t bytes) {
  std::unique_ptr<SharedMemory> made(new SharedMemory);
  made->ticket_.pid = static_cast<std::uint32_t>(::getpid());
  made->ticket_.bytes = bytes;
  if (::getrandom(made->ticket_.secret.data(), made->ticket_.secret.size(), 0) !=
      static_cast<ssize_t>(made->ticket_.secret.size()))
    return failed(Errc::resource_exhausted, "no random numbers for shared memory");
  made->descriptor_ = ::memfd_create("crabcast", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  made->ticket_.descriptor = made->descriptor_;
  if (made->descriptor_ < 0 ||
      ::ftruncate(made->descriptor_, static_cast<off_t>(kHead + bytes)) != 0 ||
      ::fcntl(made->descriptor_, F_ADD_SEALS, kSeals) != 0)
    return failed(Errc::resource_exhausted,
                  "no " + std::to_string(bytes) + " bytes of shared memory");
  CRABCAST_TRY(made->map(made->descriptor_, PROT_READ | PROT_WRITE));
  std::memcpy(made->mapped_, made->ticket_.secret.data(), made->ticket_.secret.size());
  return made;
}

Result<std::unique_ptr<SharedMemory>> SharedMemory::open(const SharedMemoryTicket& ticket) {
  const std::string path =
      "/proc/" + std::to_string(ticket.pid) + "/fd/" + std::to_string(ticket.descriptor);
  // Whatever stands behind the number on this machine must not block us.
  const Descriptor opened(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (opened.get() < 0) return failed(Errc::unavailable, path);
  struct stat about {};
  if (::fstat(opened.get(), &about) != 0) return failed(Errc::unavailable, path);
  const int seals = ::fcntl(opened.get(), F_GET_SEALS);
  if (about.st_uid != ::geteuid() || seals < 0 || (seals & F_SEAL_SHRINK) == 0 ||
      ticket.bytes > static_cast<std::uint64_t>(about.st_size) ||
      static_cast<std::uint64_t>(about.st_size) != kHead + ticket.bytes)
    return fail(Errc::corrupt, path + " is not the memory that the ticket is for");
  std::unique_ptr<SharedMemory> view(new SharedMemory);
  view->ticket_ = ticket;
  CRABCAST_TRY(view->map(opened.get(), PROT_READ));
  if (std::memcmp(view->mapped_, ticket.secret.data(), ticket.secret.size()) != 0)
    return fail(Errc::corrupt, path + " does not hold the ticket's secret");
  return view;
}

SharedMemory::~SharedMemory() {
  if (mapped_ != nullptr) ::munmap(mapped_, kHead + ticket_.bytes);
  if (descriptor_ >= 0) ::close(descriptor_);
}

char* SharedMemory::data() const {
  return static_cast<char*>(mapped_) + kHead;
}

Status SharedMemory::map(int descriptor, int protection) {
  void* const mapped =
      ::mmap(nullptr, kHead + ticket_.bytes, protection, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED)
    return failed(Errc::resource_exhausted,
                  "mapping " + std::to_string(ticket_.bytes) + " bytes of shared memory");
  mapped_ = mapped;
  return {};
}

}  // namespace crabcast::cluster

// Memory that one process writes and others on its machine read, without a name in any file system:
// nothing is left behind, however the processes end.
//
// The writer hands out a ticket over a channel that the reader trusts. A reader on another machine,
// in another process namespace or of another user cannot open it, and has to be sent the bytes.
//
// Any thread; data() is plain memory. No synchronization: the writer tells the reader by other
// means (a message) what it may read, and waits to be told before it writes there again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "protocol/error.h"

namespace crabcast::cluster {

// What a reader needs, as bytes of a message (little-endian).
struct SharedMemoryTicket {
  std::uint32_t pid = 0;
  std::int32_t descriptor = -1;  // of that process
  std::uint64_t bytes = 0;
  std::array<std::uint8_t, 16> secret{};  // stands in the memory, too: a proof that it is the one

  [[nodiscard]] std::string_view as_bytes() const {
    return {reinterpret_cast<const char*>(this), sizeof *this};
  }
  static std::optional<SharedMemoryTicket> parse(std::string_view bytes);
};
static_assert(sizeof(SharedMemoryTicket) == 32);

class SharedMemory {
 public:
  // For the writer. resource_exhausted when there is no memory or no descriptor left.
  static Result<std::unique_ptr<SharedMemory>> create(std::size_t bytes);
  // For a reader: what it sees must not be written. unavailable when it is not on this machine or
  // not this user's; corrupt when it is not what the ticket says. Never blocks, and reading it
  // never faults: the writer cannot make it smaller.
  static Result<std::unique_ptr<SharedMemory>> open(const SharedMemoryTicket& ticket);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  [[nodiscard]] char* data() const;
  [[nodiscard]] std::size_t size() const { return ticket_.bytes; }
  [[nodiscard]] const SharedMemoryTicket& ticket() const { return ticket_; }

 private:
  SharedMemory() = default;
  Status map(int descriptor, int protection);

  SharedMemoryTicket ticket_;
  int descriptor_ = -1;  // the writer's
  void* mapped_ = nullptr;
};

}  // namespace crabcast::cluster

// The frames of the ZeroMQ collectives (docs/protocol.md): one ZeroMQ message each, a header and,
// for hello, data and bye, bytes. All numbers are little-endian.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

namespace crabcast::cluster {

inline constexpr std::uint32_t kCollectiveMagic = 0x4c4f4343;  // "CCOL"

enum class FrameKind : std::uint32_t {
  hello = 1,   // `source` has entered `generation`; total = its number of members. The bytes are a
               // SharedMemoryTicket of the memory that it writes for this member, or none
  credit = 2,  // `source` wants `total` bytes in `operation`, and has room for those below
               // `offset`; shared is 1 when it reads the memory of this member's ticket
  data = 3,    // bytes at `offset` of the `total` that `source` sends in `operation`: in the frame,
               // or, when shared is not 0, so many in its memory, at `offset` modulo its size
  bye = 4,     // `source` takes no part any more, in order (total 0) or because something failed
               // (total 1), which ends the operation for everybody; the bytes say why
};

struct FrameHeader {
  std::uint32_t magic = kCollectiveMagic;
  FrameKind kind = FrameKind::hello;
  std::uint32_t source = 0;  // rank of the sender
  std::uint32_t shared = 0;
  std::uint64_t generation = 0;
  std::uint64_t operation = 0;  // counts from 1 in each generation
  std::uint64_t offset = 0;
  std::uint64_t total = 0;
};
static_assert(sizeof(FrameHeader) == 48);

inline std::optional<FrameHeader> parse_frame(const void* data, std::size_t bytes) {
  FrameHeader header;
  if (bytes < sizeof header) return std::nullopt;
  std::memcpy(&header, data, sizeof header);
  if (header.magic != kCollectiveMagic) return std::nullopt;
  return header;
}

}  // namespace crabcast::cluster

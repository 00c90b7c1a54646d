#include "cluster/wire.h"

#include <bit>
#include <cstring>

#include "protocol/ids.h"

namespace crabcast::cluster {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire format is little-endian");

template <class T>
T load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void store(char* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// Field 1 (protocol) as Protobuf bytes. Appended to a message it sets the field: of a field that
// comes twice, the last one counts.
constexpr char kProtocolField[] = {0x08, static_cast<char>(kProtocolVersion)};
static_assert(kProtocolVersion < 128, "the version no longer fits one varint byte");

}  // namespace

std::string make_head() {
  std::string head(kHeadBytes, '\0');
  store(head.data(), kWireMagic);
  return head;
}

void append_envelope(std::string& head, const pb::Envelope& envelope, std::size_t bytes) {
  const bool stamp = envelope.protocol() == 0;
  const std::size_t length = bytes + (stamp ? sizeof kProtocolField : 0);
  const std::size_t start = head.size();
  head.resize(start + sizeof(std::uint32_t) + length);
  char* at = head.data() + start;
  store(at, static_cast<std::uint32_t>(length));
  at += sizeof(std::uint32_t);
  envelope.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(at));
  if (stamp) std::memcpy(at + bytes, kProtocolField, sizeof kProtocolField);
}

void append_raw_frames(std::string& head, std::span<const std::uint64_t> lengths) {
  store(head.data() + 4, static_cast<std::uint32_t>(lengths.size()));
  head.append(reinterpret_cast<const char*>(lengths.data()), lengths.size_bytes());
}

Result<Head> parse_head(const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  if (bytes < kHeadBytes || load<std::uint32_t>(at) != kWireMagic)
    return fail(Errc::corrupt, "a message does not start with a transport head");
  const std::size_t frames = load<std::uint32_t>(at + 4);
  if (frames > kMaxRawFrames || frames * sizeof(std::uint64_t) > bytes - kHeadBytes)
    return fail(Errc::corrupt, "a transport head announces impossible raw frames");
  Head head;
  const char* const lengths = at + bytes - frames * sizeof(std::uint64_t);
  for (at += kHeadBytes; at != lengths;) {
    if (static_cast<std::size_t>(lengths - at) < sizeof(std::uint32_t))
      return fail(Errc::corrupt, "a transport head is cut off");
    const auto length = load<std::uint32_t>(at);
    at += sizeof(std::uint32_t);
    if (static_cast<std::size_t>(lengths - at) < length)
      return fail(Errc::corrupt, "an envelope is cut off");
    head.envelopes.emplace_back(at, length);
    at += length;
  }
  if (head.envelopes.empty()) return fail(Errc::corrupt, "a transport head holds no envelope");
  for (std::size_t i = 0; i < frames; ++i)
    head.raw_frames.push_back(load<std::uint64_t>(lengths + i * sizeof(std::uint64_t)));
  return head;
}

}  // namespace crabcast::cluster

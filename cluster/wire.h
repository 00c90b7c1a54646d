// The bytes of one transport message (docs/protocol.md): a head with one or more envelopes in one
// ZeroMQ frame, then the raw frames of the last envelope, each as its own ZeroMQ message.
//
//   u32 magic "CAST"   u32 raw frames that follow   u64 bytes in these raw frames
//   then for each envelope:   u32 length   the Protobuf bytes
//
// All numbers are little-endian. Envelopes that wait for the same peer share a head: encrypting
// and moving one ZeroMQ frame costs more than a small envelope does. Raw frames are messages of
// their own, so that a long answer shows signs of life with each frame and its size is checked
// before it is stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::cluster {

inline constexpr std::uint32_t kWireMagic = 0x54534143;  // "CAST"
inline constexpr std::size_t kHeadBytes = 16;
inline constexpr std::size_t kMaxRawFrames = 65536;  // for one envelope

// A head without envelopes.
std::string make_head();
// `bytes` is envelope.ByteSizeLong(), which the caller has needed before. An envelope without a
// protocol number gets this program's.
void append_envelope(std::string& head, const pb::Envelope& envelope, std::size_t bytes);
// Says which raw frames follow.
void set_raw_frames(std::string& head, std::size_t count, std::uint64_t bytes);

struct Head {
  std::vector<std::string_view> envelopes;  // into the parsed bytes
  std::uint32_t raw_frames = 0;
  std::uint64_t raw_bytes = 0;
};

// corrupt when the bytes are not a head.
Result<Head> parse_head(const void* data, std::size_t bytes);

}  // namespace crabcast::cluster

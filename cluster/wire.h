// The bytes of one transport message (docs/protocol.md): a head with one or more envelopes in one
// ZeroMQ frame, then the raw frames of the last envelope in pieces.
//
//   u32 magic "CAST"   u32 number of raw frames
//   for each envelope:    u32 length   the Protobuf bytes
//   for each raw frame:   u64 length
//
// All numbers are little-endian. Envelopes that wait for the same peer share a head: encrypting
// and moving one ZeroMQ frame costs more than a small envelope does. A raw frame follows as
// ZeroMQ frames of kPieceBytes each, the last one shorter; an empty one has no piece. Pieces keep
// both sides' encryption busy at once (2 to 3 times faster than one ZeroMQ frame of 32 MiB), show
// signs of life during a long transfer, and let the receiver check sizes before it stores bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::cluster {

inline constexpr std::uint32_t kWireMagic = 0x54534143;  // "CAST"
inline constexpr std::size_t kHeadBytes = 8;
inline constexpr std::size_t kMaxRawFrames = 65536;  // for one envelope
inline constexpr std::size_t kPieceBytes = 256 << 10;

// A head without envelopes.
std::string make_head();
// `bytes` is envelope.ByteSizeLong(), which the caller has needed before. An envelope without a
// protocol number gets this program's.
void append_envelope(std::string& head, const pb::Envelope& envelope, std::size_t bytes);
// Says which raw frames follow; nothing is appended after it.
void append_raw_frames(std::string& head, std::span<const std::uint64_t> lengths);

struct Head {
  std::vector<std::string_view> envelopes;  // into the parsed bytes
  std::vector<std::uint64_t> raw_frames;    // lengths
};

// corrupt when the bytes are not a head.
Result<Head> parse_head(const void* data, std::size_t bytes);

}  // namespace crabcast::cluster

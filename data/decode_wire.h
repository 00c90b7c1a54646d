// Packets and shared memory between a decode pool and its children. Private to data/.
#pragma once

#include <google/protobuf/message_lite.h>

#include <optional>
#include <string>

#include "data/sample_media.h"
#include "protocol/clock.h"
#include "protocol/decode.pb.h"
#include "protocol/descriptor.h"
#include "protocol/error.h"

namespace crabcast::data {

// One packet on a SOCK_SEQPACKET socket; with `descriptor` the receiver gets that file too.
// unavailable: the other side is gone.
Status send_packet(int socket, const google::protobuf::MessageLite& message, int descriptor = -1);

struct Packet {
  std::string bytes;
  Descriptor descriptor;  // -1: none came with it
};
// Nothing when the other side is gone. timeout; corrupt: a packet that is too long.
Result<std::optional<Packet>> receive_packet(int socket, TimePoint deadline);

struct SharedMedia {
  pb::DecodedMedia description;
  Descriptor memory;  // can no longer shrink
};
Result<SharedMedia> share(const SampleMedia& media);
// The tensors lie in the shared memory, which goes with the last of them. corrupt when memory and
// description do not fit.
Result<SampleMedia> take(const pb::DecodedMedia& description, const Descriptor& memory);

}  // namespace crabcast::data

// What actors exchange when the other one may live in another process (docs/protocol.md).
//
// Every such message is a Protobuf envelope. Near or far, an actor receives it as a DeliveryPtr and
// sends it as an OutboundPtr to the handle of the other one; for a remote actor that handle is a
// local proxy that the switchboard spawned.
#pragma once

#include <caf/actor.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/error.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/transport.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::actors {

struct Outbound {
  pb::Envelope envelope;
  std::vector<cluster::Frame> frames;  // raw tensors, in the order of the body's descriptions
};
using OutboundPtr = std::shared_ptr<const Outbound>;

struct Delivery {
  cluster::PeerInfo from;
  std::shared_ptr<const pb::Envelope> envelope;
  std::vector<cluster::Frame> frames;
  caf::actor sender;  // proxy of the actor that sent it
};
using DeliveryPtr = std::shared_ptr<const Delivery>;

// The end of a connection attempt that an actor asked for.
struct Connected {
  std::string endpoint;
  std::shared_ptr<const Result<cluster::PeerInfo>> peer;
};

// An envelope around one body: outbound(pb::Commit{...}). The body's field is found by its type.
OutboundPtr outbound(const google::protobuf::Message& body,
                     std::vector<cluster::Frame> frames = {});

// Sends `body` as the answer to `request`, if its sender waits for one.
void answer(const Delivery& request, const google::protobuf::Message& body,
            std::vector<cluster::Frame> frames = {});
void answer(const Delivery& request, const Error& error);
void answer_with(const Delivery& request, pb::Envelope envelope);  // its body is set

// A Failure body as an Error.
inline Error error_of(const pb::Failure& failure) {
  return {errc_from_number(failure.code()), failure.message()};
}
inline pb::Failure failure_of(const Error& error) {
  pb::Failure failure;
  failure.set_code(static_cast<std::uint32_t>(error.code));
  failure.set_message(error.message);
  return failure;
}

// CAF's error value for ours, and back; an error of CAF's own becomes unavailable, timeout or
// internal.
caf::error to_caf(const Error& error);
Error from_caf(const caf::error& error);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::OutboundPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::DeliveryPtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::Connected)

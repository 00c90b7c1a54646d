// Bytes in and out of the transport's sockets.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "cluster/zmq_transport.h"

namespace crabcast::cluster {
namespace {

// Messages read from one socket before the others get their turn.
constexpr int kReadBurst = 256;
// What the widest vector instructions and a cache line like.
constexpr std::size_t kFrameAlignment = 64;

std::shared_ptr<std::byte> allocate_frame(std::size_t bytes) {
  const std::size_t rounded = (bytes + kFrameAlignment - 1) / kFrameAlignment * kFrameAlignment;
  void* memory = rounded == 0 ? nullptr : std::aligned_alloc(kFrameAlignment, rounded);
  return {static_cast<std::byte*>(memory), std::free};
}

// Keeps bytes alive, and on the peer's account, until ZeroMQ has encrypted them.
struct Hold {
  std::shared_ptr<const void> owner;
  std::shared_ptr<InFlight> in_flight;
  std::size_t messages;
  std::size_t bytes;
};

void release_hold(void*, void* hint) {
  const std::unique_ptr<Hold> hold(static_cast<Hold*>(hint));
  hold->in_flight->release(hold->messages, hold->bytes);
}

// A message that refers to the bytes instead of copying them. `messages` and `account_bytes` are
// what it takes off the peer's account in the end.
zmq::message_t shared_message(std::shared_ptr<const void> owner, const void* data,
                              std::size_t bytes, std::shared_ptr<InFlight> in_flight,
                              std::size_t messages, std::size_t account_bytes) {
  auto hold =
      std::make_unique<Hold>(Hold{std::move(owner), std::move(in_flight), messages, account_bytes});
  // libzmq does not write to the bytes of a message that it sends.
  zmq::message_t message(const_cast<void*>(data), bytes, release_hold, hold.get());
  (void)hold.release();
  return message;
}

}  // namespace

Frame Frame::copy_of(const void* data, std::size_t bytes) {
  if (bytes == 0) return {};
  auto copy = allocate_frame(bytes);
  if (!copy) throw std::bad_alloc();
  std::memcpy(copy.get(), data, bytes);
  const std::byte* start = copy.get();
  return {std::move(copy), start, bytes};
}

// ---- Bytes in ----

void ZmqTransport::read_router() {
  router_watch_->look = true;  // until there is nothing more; the others get their turn between
  for (int i = 0; i < kReadBurst; ++i) {
    zmq::message_t id, payload, extra;
    if (!router_->recv(id, zmq::recv_flags::dontwait)) {
      router_watch_->look = false;
      return;
    }
    bool more = id.more();
    if (more) more = router_->recv(payload, zmq::recv_flags::dontwait) && payload.more();
    // A message in too many parts becomes an empty one, which is refused as malformed.
    if (more) payload.rebuild();
    while (more) more = router_->recv(extra, zmq::recv_flags::dontwait) && extra.more();
    on_routed(id.to_string(), std::move(payload));
  }
}

void ZmqTransport::read_dial(Link& link) {
  link.dial->messages.look = true;
  for (int i = 0; i < kReadBurst && link.dial; ++i) {
    zmq::message_t payload, extra;
    if (!link.dial->socket.recv(payload, zmq::recv_flags::dontwait)) {
      link.dial->messages.look = false;
      return;
    }
    bool more = payload.more();
    if (more) payload.rebuild();
    while (more) more = link.dial->socket.recv(extra, zmq::recv_flags::dontwait) && extra.more();
    on_payload(link, payload);
  }
}

void ZmqTransport::on_routed(const std::string& routing_id, zmq::message_t payload) {
  if (const auto found = by_route_.find(routing_id); found != by_route_.end()) {
    on_payload(*found->second, payload);
    return;
  }
  // A connection without a link may only say Hello. Anything else is what a link that is over
  // still had under way.
  const auto head = parse_head(payload.data(), payload.size());
  pb::Envelope envelope;
  if (was_let_in(payload) && head && head->envelopes.size() == 1 && head->raw_frames.empty() &&
      envelope.ParseFromArray(head->envelopes[0].data(),
                              static_cast<int>(head->envelopes[0].size())) &&
      envelope.has_hello()) {
    const char* fd = zmq_msg_gets(payload.handle(), "__fd");
    on_hello(routing_id, fd ? std::atoi(fd) : -1, envelope);
    return;
  }
  spdlog::debug("dropped a message of {} bytes on a connection that has not said hello",
                payload.size());
}

void ZmqTransport::on_payload(Link& link, const zmq::message_t& payload) {
  link.detector.heard(last_look_);
  if (link.assembly.envelope)
    on_piece(link, payload);
  else
    on_head(link, payload);
}

void ZmqTransport::on_head(Link& link, const zmq::message_t& payload) {
  auto head = parse_head(payload.data(), payload.size());
  if (!head) return fail_link(link, head.error(), true);
  // Never adds up to more than the limit, so the sum cannot overflow.
  std::size_t room = options_.max_message_bytes;
  for (const std::uint64_t length : head->raw_frames) {
    if (length > room)
      return fail_link(link, Error{Errc::corrupt, "a message is larger than max_message_bytes"},
                       true);
    room -= length;
  }
  for (std::size_t i = 0; i < head->envelopes.size(); ++i) {
    auto envelope = std::make_shared<pb::Envelope>();
    const std::string_view bytes = head->envelopes[i];
    if (!envelope->ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return fail_link(link, Error{Errc::corrupt, "an envelope is not valid Protobuf"}, true);
    if (i + 1 == head->envelopes.size() && !head->raw_frames.empty()) {
      link.assembly.envelope = std::move(envelope);
      link.assembly.lengths = std::move(head->raw_frames);
      return next_raw_frame(link);
    }
    on_envelope(link, std::move(envelope), {});
    if (link.state == LinkState::closed) return;
  }
}

// Makes room for the next raw frame that has bytes; delivers the envelope when there is none.
void ZmqTransport::next_raw_frame(Link& link) {
  Assembly& assembly = link.assembly;
  while (assembly.frames.size() < assembly.lengths.size()) {
    const std::size_t length = assembly.lengths[assembly.frames.size()];
    assembly.bytes = allocate_frame(length);
    assembly.filled = 0;
    if (length == 0) {
      assembly.frames.emplace_back();
      continue;
    }
    if (assembly.bytes) return;
    return fail_link(link,
                     Error{Errc::resource_exhausted,
                           "no memory for a raw frame of " + std::to_string(length) + " bytes"},
                     true);
  }
  Assembly done = std::exchange(assembly, {});
  on_envelope(link, std::move(done.envelope), std::move(done.frames));
}

void ZmqTransport::on_piece(Link& link, const zmq::message_t& payload) {
  Assembly& assembly = link.assembly;
  const std::size_t length = assembly.lengths[assembly.frames.size()];
  if (payload.size() != std::min(kPieceBytes, length - assembly.filled))
    return fail_link(link, Error{Errc::corrupt, "a piece of a raw frame has a wrong size"}, true);
  std::memcpy(assembly.bytes.get() + assembly.filled, payload.data(), payload.size());
  assembly.filled += payload.size();
  if (assembly.filled < length) return;
  assembly.frames.emplace_back(assembly.bytes, assembly.bytes.get(), length);
  next_raw_frame(link);
}

void ZmqTransport::on_envelope(Link& link, std::shared_ptr<const pb::Envelope> envelope,
                               std::vector<Frame> frames) {
  switch (envelope->body_case()) {
    case pb::Envelope::kHello:
      // A DEALER's Hello that comes twice on one connection; the first one was answered.
      return;
    case pb::Envelope::kWelcome:
      return on_welcome(link, *envelope);
    case pb::Envelope::kHeartbeat:
      return on_heartbeat(link, envelope->heartbeat());
    case pb::Envelope::kGoodbye:
      return fail_link(link, Error{Errc::unavailable, "it left: " + envelope->goodbye().reason()},
                       false);
    default:
      break;
  }
  if (!link.peer) {
    // Before the Welcome only a refusal can come.
    if (envelope->has_failure())
      return fail_link(
          link, Error{errc_from_number(envelope->failure().code()), envelope->failure().message()},
          false);
    return fail_link(link, Error{Errc::corrupt, "a message came before the handshake"}, true);
  }
  ++link.received;
  if (handlers_.on_message)
    handlers_.on_message({link.peer->info, std::move(envelope), std::move(frames)});
}

// ---- Bytes out ----

void ZmqTransport::flush(Link& link) {
  while (link.state == LinkState::up && link.primary()) {
    auto parcel = link.peer->outbox.pop();
    if (!parcel) return;
    transmit_parcel(link, std::move(parcel));
  }
}

void ZmqTransport::flush_unbounded(Link& link) {
  while (link.state == LinkState::up) {
    auto parcel = link.peer->outbox.pop_unbounded();
    if (!parcel) return;
    transmit_parcel(link, std::move(parcel));
  }
}

void ZmqTransport::transmit_parcel(Link& link, std::unique_ptr<Parcel> parcel) {
  const auto& in_flight = link.peer->outbox.in_flight();
  link.sent += parcel->envelopes;
  std::size_t frame_bytes = 0;
  for (const Frame& frame : parcel->frames) frame_bytes += frame.size();
  auto head = std::make_shared<const std::string>(std::move(parcel->head));
  bool delivered = transmit(link, shared_message(head, head->data(), head->size(), in_flight,
                                                 parcel->envelopes, parcel->bytes - frame_bytes));
  for (const Frame& frame : parcel->frames)
    for (std::size_t at = 0; at < frame.size(); at += kPieceBytes) {
      const std::size_t bytes = std::min(kPieceBytes, frame.size() - at);
      // After a failure the rest is dropped; the message still takes it off the account.
      auto piece = shared_message(frame.owner(), frame.data() + at, bytes, in_flight, 0, bytes);
      if (delivered) delivered = transmit(link, std::move(piece));
    }
  link.detector.sent(last_look_);
}

void ZmqTransport::transmit_own(Link& link, const pb::Envelope& envelope) {
  std::string head = make_head();
  append_envelope(head, envelope, envelope.ByteSizeLong());
  if (transmit(link, zmq::message_t(head))) link.detector.sent(last_look_);
}

bool ZmqTransport::transmit(Link& link, zmq::message_t message) {
  if (!link.dialed()) {
    if (send_to_route(link.routing_id, std::move(message))) return true;
    connection_broke(link);
    return false;
  }
  if (!link.dial) return false;
  link.dial->messages.look = true;
  return link.dial->socket.send(message, zmq::send_flags::dontwait).has_value();
}

bool ZmqTransport::send_to_route(const std::string& routing_id, zmq::message_t message) {
  router_watch_->look = true;
  zmq::message_t id(routing_id);
  if (zmq_msg_send(id.handle(), router_->handle(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
    if (zmq_errno() == EHOSTUNREACH || zmq_errno() == EAGAIN) return false;
    throw zmq::error_t();
  }
  return router_->send(message, zmq::send_flags::dontwait).has_value();
}

}  // namespace crabcast::cluster

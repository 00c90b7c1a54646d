// Envelopes between processes over ZeroMQ ROUTER/DEALER sockets with CURVE (docs/protocol.md).
//
// Operation: a transport owns one I/O thread and all its sockets. `bind` opens a ROUTER; `connect`
// opens a DEALER to a peer's ROUTER and shakes hands (Hello, Welcome: protocol version, process
// name, incarnation). After that the link is symmetric: either side sends by the peer's ProcessId.
// A process opens two transports, one for control and one for bulk data, so that a large batch
// never delays a heartbeat.
//
// Failure: a link that is idle carries heartbeats. A peer that was silent for `peer_timeout`, whose
// connection broke and did not come back within `reconnect_grace`, or that said Goodbye is down:
// on_peer_down is called once, its queue is dropped, and sends to it fail with unavailable. A peer
// that comes back under a new incarnation is reported down first, then up. A malformed message, or
// one that was lost when a connection broke, takes the peer down too: a link that is up has no
// gaps.
//
// Concurrency: all methods may be called from any thread. Handlers run on the I/O thread and must
// not block; they may call anything but connect and stop. After stop() returns no handler runs, and
// none is told of the peers that were up.
//
// Limits: at most `send_queue_messages` and `send_queue_bytes` wait for one peer, then send fails
// with queue_full (what ZeroMQ still holds counts; a message larger than send_queue_bytes goes when
// nothing else waits); a received message larger than `max_message_bytes` closes the link.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cluster/keys.h"
#include "protocol/clock.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"
#include "protocol/ids.h"

namespace crabcast::cluster {

// An immutable run of bytes with shared ownership; copied by reference, sent without a copy. The
// sender must not change the bytes afterwards. Received frames are aligned to 64 bytes.
class Frame {
 public:
  Frame() = default;
  Frame(std::shared_ptr<const void> owner, const void* data, std::size_t bytes)
      : owner_(std::move(owner)), data_(static_cast<const std::byte*>(data)), bytes_(bytes) {}
  // Copies the bytes.
  static Frame copy_of(const void* data, std::size_t bytes);
  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return bytes_; }
  [[nodiscard]] const std::shared_ptr<const void>& owner() const { return owner_; }

 private:
  std::shared_ptr<const void> owner_;
  const std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

struct PeerInfo {
  ProcessId process;
  pb::RoleKind kind = pb::ROLE_UNSPECIFIED;
  std::string node;
  std::uint64_t incarnation = 0;
};

struct Inbound {
  PeerInfo from;
  std::shared_ptr<const pb::Envelope> envelope;
  std::vector<Frame> frames;
};

struct TransportHandlers {
  std::function<void(Inbound)> on_message;
  std::function<void(const PeerInfo&)> on_peer_up;
  std::function<void(const PeerInfo&, const Error& why)> on_peer_down;
};

struct TransportOptions {
  ProcessId process;  // unique in the cluster
  pb::RoleKind kind = pb::ROLE_UNSPECIFIED;
  std::string node;
  Keyring keys;
  Duration heartbeat_every = std::chrono::milliseconds(500);
  Duration peer_timeout = std::chrono::seconds(5);
  Duration reconnect_grace = std::chrono::milliseconds(500);
  std::size_t send_queue_messages = 4096;
  std::size_t send_queue_bytes = 256ULL << 20;
  std::size_t max_message_bytes = 1ULL << 30;
};

class Transport {
 public:
  static Result<std::unique_ptr<Transport>> start(TransportOptions options,
                                                  TransportHandlers handlers);
  virtual ~Transport() = default;

  // Listens; `address` is tcp://HOST:PORT, PORT may be *. Returns the endpoint with the real port.
  // address_in_use names the port.
  virtual Result<std::string> bind(const std::string& address) = 0;
  // Opens a link and waits for the handshake, at most `timeout`. unauthenticated when the other
  // side refused the key, protocol_mismatch, timeout.
  virtual Result<PeerInfo> connect(const std::string& endpoint, Duration timeout) = 0;
  // The same without waiting; `done` runs on the I/O thread.
  virtual void connect_async(const std::string& endpoint, Duration timeout,
                             std::function<void(Result<PeerInfo>)> done) = 0;
  // Puts a message into the peer's queue. Messages to one peer arrive in order, at most once.
  virtual Status send(const ProcessId& peer, const pb::Envelope& envelope,
                      std::vector<Frame> frames = {}) = 0;
  // Says Goodbye and closes the link; no on_peer_down follows here.
  virtual void disconnect(const ProcessId& peer, const std::string& reason) = 0;
  virtual std::vector<PeerInfo> peers() const = 0;
  // Says Goodbye to all, waits at most `linger` for queues to drain, ends the I/O thread.
  virtual void stop(Duration linger = std::chrono::milliseconds(500)) = 0;
};

}  // namespace crabcast::cluster

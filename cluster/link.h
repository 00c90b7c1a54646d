// The transport's view of its connections. Everything here belongs to the holder of the transport's
// io_mutex_, but for what says otherwise.
//
// A Peer is another process; a Link is one path to it, dialed by us or accepted from it. Usually
// there is one. When both processes dial each other there are two: each side sends on the first it
// had (so its messages stay in order) and receives on both. A peer is down as soon as one of its
// links fails, and takes all of them with it.
//
// A link outlives its TCP connection by reconnect_grace: the dialing side opens a new connection
// and says Hello with the same link id. What was under way when the connection broke may be lost;
// each heartbeat carries the number of envelopes sent before it, so a loss is seen, and the peer
// is declared down instead of going on with a gap.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "cluster/curve.h"
#include "cluster/failure_detector.h"
#include "cluster/outbox.h"
#include "cluster/transport.h"

namespace crabcast::cluster {

struct Link;

struct Peer {
  Peer(PeerInfo peer_info, OutboxLimits limits, std::shared_ptr<WakeUp> wake)
      : info(std::move(peer_info)), outbox(limits, std::move(wake)) {}
  const PeerInfo info;       // any thread
  Outbox outbox;             // any thread
  std::vector<Link*> links;  // the first one carries what is sent
};

// A ZeroMQ socket in a loop that sleeps in ::poll. Its descriptor signals only what is new since
// the last call on the socket, and any call may use a signal up. So whoever calls says `look`, and
// the loop does not sleep before it has tried to read again.
struct SocketWatch {
  explicit SocketWatch(zmq::socket_t& socket) : fd(socket.get(zmq::sockopt::fd)) {}
  int fd;
  bool look = true;
};

// One outgoing TCP connection. A new one is made for each attempt, so that nothing of a broken
// connection is sent on the next one.
struct Dial {
  Dial(zmq::context_t& context, const Keyring& keys, std::size_t max_message_bytes);
  zmq::socket_t socket;
  SocketMonitor monitor;
  SocketWatch messages{socket};
  SocketWatch events{monitor.socket()};
  bool secured = false;  // the key handshake is done
};

struct Waiter {
  TimePoint deadline;
  std::function<void(Result<PeerInfo>)> done;
};

// An envelope whose raw frames have not all come yet.
struct Assembly {
  std::shared_ptr<const pb::Envelope> envelope;
  std::vector<std::uint64_t> lengths;  // of all its frames
  std::vector<Frame> frames;           // those that are complete
  std::shared_ptr<std::byte> bytes;    // of the frame that is under way
  std::size_t filled = 0;
};

enum class LinkState { dialing, up, broken, closed };

struct Link {
  Link(std::uint64_t link_id, FailureTimeouts timeouts, TimePoint now)
      : id(link_id), detector(timeouts, now) {}

  const std::uint64_t id;  // chosen by the dialing side
  LinkState state = LinkState::dialing;
  FailureDetector detector;
  std::shared_ptr<Peer> peer;  // from the handshake on
  std::uint64_t sent = 0;      // envelopes, without the transport's own
  std::uint64_t received = 0;
  Assembly assembly;

  // Dialed links
  std::string endpoint;        // empty: accepted
  std::unique_ptr<Dial> dial;  // null between two attempts
  TimePoint redial_at{};
  int failed_handshakes = 0;
  std::string last_problem;  // why the last attempt failed
  std::vector<Waiter> waiters;

  // Accepted links
  std::string routing_id;  // of the ROUTER socket; changes with each connection
  int fd = -1;             // of the connection, as the monitor names it

  [[nodiscard]] bool dialed() const { return !endpoint.empty(); }
  [[nodiscard]] bool primary() const { return peer && peer->links.front() == this; }
};

}  // namespace crabcast::cluster

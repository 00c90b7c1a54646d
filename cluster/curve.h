// What the transport and the collectives share of ZeroMQ: CURVE on both sides, the handler that
// lets authorized keys in (ZAP, RFC 27), and socket monitors.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <zmq.hpp>

#include "cluster/keys.h"
#include "cluster/wake_up.h"
#include "protocol/error.h"

namespace crabcast::cluster {

// Before bind: this side proves itself with the server key and asks the ZAP handler about clients.
void use_server_keys(zmq::socket_t& socket, const Keyring& keys);
// Before connect: this side proves itself with the client key and expects the server's public key.
// $CRABCAST_SOCKS_PROXY, HOST:PORT, makes the connection go through a SOCKS5 proxy.
void use_client_keys(zmq::socket_t& socket, const Keyring& keys);

// True when the ZAP handler let in the connection that this message came on. libzmq 4.3 lets
// everybody in when there is no handler, so the first message of a connection is checked as well.
bool was_let_in(zmq::message_t& message);

// Binds, and returns the endpoint with the real port.
Result<std::string> bind_socket(zmq::socket_t& socket, const std::string& address);

// Lets in the clients of one context whose keys are authorized, and nobody else.
class ZapHandler {
 public:
  // Must exist before the first socket of the context is bound.
  ZapHandler(zmq::context_t& context, std::set<std::string> authorized);
  zmq::socket_t& socket() { return socket_; }
  // Answers what was asked so far; does not wait.
  void answer_pending();

 private:
  std::set<std::string> authorized_;
  zmq::socket_t socket_;
};

// Runs a ZapHandler on a thread of its own, for owners that do not poll all the time.
class ZapThread {
 public:
  static Result<std::unique_ptr<ZapThread>> start(zmq::context_t& context,
                                                  std::set<std::string> authorized);
  ~ZapThread();

 private:
  ZapThread(zmq::context_t& context, std::set<std::string> authorized,
            std::shared_ptr<WakeUp> wake);
  ZapHandler handler_;
  std::shared_ptr<WakeUp> stop_;
  std::thread thread_;
};

struct MonitorEvent {
  std::uint16_t event = 0;  // ZMQ_EVENT_...
  std::int32_t value = 0;   // the connection's file descriptor, or an error number
};

// Tells what happens to a socket's connections. Made before the socket connects or binds, and
// destroyed before it closes: libzmq's own thread waits without end to tell a monitor that is gone,
// and with it every socket of the context stands still.
class SocketMonitor {
 public:
  SocketMonitor(zmq::context_t& context, zmq::socket_t& watched, int events);
  zmq::socket_t& socket() { return socket_; }
  // The next event that is there; does not wait.
  std::optional<MonitorEvent> next();

 private:
  struct EndMonitoring {
    void operator()(void* watched) const;
  };
  zmq::socket_t socket_;
  std::unique_ptr<void, EndMonitoring> watched_;  // after socket_: monitoring ends before it closes
};

}  // namespace crabcast::cluster

// The bridge between CAF and the transport: makes actors of other processes look like local ones.
//
// Operation: `publish` gives a local actor a name that other processes address. `proxy` gives a
// handle for an actor of another process; sending an OutboundPtr to it sends the envelope, and
// `request` waits for the answer like any CAF request (a Failure body arrives as an error). When
// the peer is down its proxies exit with remote_link_unreachable, so `monitor` works near and far.
//
// Failure: a message that nobody waits for and that cannot be sent (its peer's queue is full) takes
// the peer down: an actor that is alive got everything that was sent to it, in order.
//
// Concurrency: all methods from any thread. Deliveries reach published actors as DeliveryPtr.
#pragma once

#include <caf/actor_system.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "actors/messages.h"
#include "cluster/transport.h"

namespace crabcast::actors {

class Switchboard {
 public:
  static Result<std::unique_ptr<Switchboard>> start(caf::actor_system& system,
                                                    cluster::TransportOptions options);
  ~Switchboard();
  Switchboard(const Switchboard&) = delete;
  Switchboard& operator=(const Switchboard&) = delete;

  void publish(const std::string& name, const caf::actor& actor);
  void withdraw(const std::string& name);
  // The same handle for the same peer and name until the peer is down. For a peer that is not
  // connected the proxy is dead at once.
  caf::actor proxy(const ProcessId& peer, const std::string& actor);

  Result<std::string> bind(const std::string& address);
  Result<cluster::PeerInfo> connect(const std::string& endpoint, Duration timeout);
  // `who` receives a Connected.
  void connect_async(const std::string& endpoint, Duration timeout, const caf::actor& who);
  [[nodiscard]] bool connected(const ProcessId& peer) const;
  void disconnect(const ProcessId& peer, const std::string& reason);
  // Sends without a proxy, from any thread.
  Status send(const ProcessId& peer, const Outbound& message);
  // Ends the transport; proxies exit.
  void stop();

 private:
  friend class ProxyActor;
  struct Hub;  // shared with proxies and transport handlers, which may outlive a call
  explicit Switchboard(std::shared_ptr<Hub> hub);
  std::shared_ptr<Hub> hub_;
};

}  // namespace crabcast::actors

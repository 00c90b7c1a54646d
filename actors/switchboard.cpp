#include "actors/switchboard.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <unordered_map>

namespace crabcast::actors {

struct Switchboard::Hub : std::enable_shared_from_this<Hub> {
  explicit Hub(caf::actor_system& s) : system(s) {}

  caf::actor_system& system;
  std::unique_ptr<cluster::Transport> transport;  // set once, before any handler may run `deliver`
  std::mutex mutex;
  bool stopped = false;
  std::map<std::string, caf::actor> published;
  std::map<std::pair<std::string, std::string>, caf::actor> proxies;  // (process, actor)
  std::unordered_map<std::uint64_t, caf::actor> waiting;              // request -> proxy
  std::uint64_t next_request = 1;

  caf::actor proxy(const ProcessId& peer, const std::string& name, bool connected);
  bool is_connected(const ProcessId& peer) const;
  // The name under which a local actor is published; what the other side answers to.
  std::string name_of(const caf::strong_actor_ptr& actor);
  void deliver(cluster::Inbound inbound);
  void peer_down(const ProcessId& peer, const Error& why);
  // A message to it was lost, so it must not seem that it got everything: the peer is down.
  void give_up(const ProcessId& peer, const Error& why);
  std::uint64_t begin_request(const caf::actor& who);
  void end_request(std::uint64_t request);
};

namespace {

using Promise = caf::typed_response_promise<DeliveryPtr>;

}  // namespace

// A remote actor's local stand-in: serializes what it is sent.
class ProxyActor : public caf::event_based_actor {
 public:
  ProxyActor(caf::actor_config& config, std::shared_ptr<Switchboard::Hub> hub, ProcessId peer,
             std::string name)
      : caf::event_based_actor(config),
        hub_(std::move(hub)),
        peer_(std::move(peer)),
        name_(std::move(name)) {}

  const char* name() const override { return "proxy"; }

  caf::behavior make_behavior() override {
    return {
        [this](const OutboundPtr& message) { return transmit(*message); },
        // The answer to a request of ours.
        [this](const DeliveryPtr& answer) { settle(answer); },
    };
  }

  void on_exit() override {
    for (auto& [id, promise] : promises_) {
      hub_->end_request(id);
      promise.deliver(to_caf({Errc::unavailable, peer_.value() + " is gone"}));
    }
    promises_.clear();
  }

 private:
  Promise transmit(const Outbound& message) {
    // Both before the promise is made: it takes the sender out of the mailbox element.
    const bool asks = current_mailbox_element()->mid.is_request();
    const std::string from = hub_->name_of(current_sender());
    auto promise = make_response_promise<DeliveryPtr>();
    pb::Envelope envelope = message.envelope;
    envelope.set_protocol(kProtocolVersion);
    envelope.set_to(name_);
    if (envelope.from().empty()) envelope.set_from(from);
    if (asks) {
      envelope.set_request(hub_->begin_request(caf::actor_cast<caf::actor>(this)));
      promises_.emplace(envelope.request(), promise);
    }
    auto sent = hub_->transport->send(peer_, envelope, message.frames);
    if (!sent && asks) {
      hub_->end_request(envelope.request());
      promises_.erase(envelope.request());
      promise.deliver(to_caf(sent.error()));
    } else if (!sent && sent.error().code != Errc::unavailable) {
      hub_->give_up(peer_, sent.error());
    }
    return promise;
  }

  void settle(const DeliveryPtr& answer) {
    auto found = promises_.find(answer->envelope->answers());
    if (found == promises_.end()) return;  // the requester's timeout was quicker
    auto promise = std::move(found->second);
    promises_.erase(found);
    if (answer->envelope->has_failure())
      promise.deliver(to_caf(error_of(answer->envelope->failure())));
    else
      promise.deliver(answer);
  }

  std::shared_ptr<Switchboard::Hub> hub_;
  ProcessId peer_;
  std::string name_;
  std::map<std::uint64_t, Promise> promises_;
};

bool Switchboard::Hub::is_connected(const ProcessId& peer) const {
  const auto peers = transport->peers();
  return std::any_of(peers.begin(), peers.end(),
                     [&](const auto& known) { return known.process == peer; });
}

std::string Switchboard::Hub::name_of(const caf::strong_actor_ptr& actor) {
  std::lock_guard lock(mutex);
  for (const auto& [name, handle] : published)
    if (actor && handle.address() == caf::actor_cast<caf::actor_addr>(actor)) return name;
  return {};
}

caf::actor Switchboard::Hub::proxy(const ProcessId& peer, const std::string& name, bool connected) {
  std::lock_guard lock(mutex);
  auto& handle = proxies[{peer.value(), name}];
  if (!handle) handle = system.spawn<ProxyActor, caf::hidden>(shared_from_this(), peer, name);
  auto result = handle;
  if (!connected || stopped) {
    caf::anon_send_exit(handle, caf::exit_reason::remote_link_unreachable);
    proxies.erase({peer.value(), name});
  }
  return result;
}

void Switchboard::Hub::deliver(cluster::Inbound inbound) {
  auto delivery = std::make_shared<Delivery>();
  delivery->from = std::move(inbound.from);
  delivery->envelope = std::move(inbound.envelope);
  delivery->frames = std::move(inbound.frames);
  const auto& envelope = *delivery->envelope;
  if (envelope.answers() != 0) {
    caf::actor asker;
    {
      std::lock_guard lock(mutex);
      if (auto found = waiting.find(envelope.answers()); found != waiting.end()) {
        asker = std::move(found->second);
        waiting.erase(found);
      }
    }
    if (asker) caf::anon_send(asker, DeliveryPtr(std::move(delivery)));
    return;
  }
  delivery->sender = proxy(delivery->from.process, envelope.from(), true);
  caf::actor target;
  {
    std::lock_guard lock(mutex);
    if (auto found = published.find(envelope.to()); found != published.end())
      target = found->second;
  }
  if (!target) {
    answer(*delivery, Error{Errc::not_found, "no actor is named '" + envelope.to() + "' here"});
    return;
  }
  caf::anon_send(target, DeliveryPtr(std::move(delivery)));
}

void Switchboard::Hub::give_up(const ProcessId& peer, const Error& why) {
  spdlog::warn("a message to {} could not be sent, so its connection is closed: {}", peer.value(),
               why.message);
  transport->disconnect(peer, "a message could not be sent: " + why.message);
  peer_down(peer, why);
}

void Switchboard::Hub::peer_down(const ProcessId& peer, const Error& why) {
  spdlog::info("peer {} is down: {}", peer.value(), why.message);
  std::lock_guard lock(mutex);
  for (auto it = proxies.begin(); it != proxies.end();) {
    if (it->first.first == peer.value()) {
      caf::anon_send_exit(it->second, caf::exit_reason::remote_link_unreachable);
      it = proxies.erase(it);
    } else {
      ++it;
    }
  }
}

std::uint64_t Switchboard::Hub::begin_request(const caf::actor& who) {
  std::lock_guard lock(mutex);
  const auto id = next_request++;
  waiting.emplace(id, who);
  return id;
}

void Switchboard::Hub::end_request(std::uint64_t request) {
  std::lock_guard lock(mutex);
  waiting.erase(request);
}

Result<std::unique_ptr<Switchboard>> Switchboard::start(caf::actor_system& system,
                                                        cluster::TransportOptions options) {
  auto hub = std::make_shared<Hub>(system);
  std::weak_ptr<Hub> weak = hub;
  cluster::TransportHandlers handlers;
  handlers.on_message = [weak](cluster::Inbound inbound) {
    if (auto alive = weak.lock()) alive->deliver(std::move(inbound));
  };
  handlers.on_peer_down = [weak](const cluster::PeerInfo& peer, const Error& why) {
    if (auto alive = weak.lock()) alive->peer_down(peer.process, why);
  };
  handlers.on_peer_up = [](const cluster::PeerInfo&) {};
  auto transport = cluster::Transport::start(std::move(options), std::move(handlers));
  if (!transport) return fail(transport.error());
  hub->transport = std::move(*transport);
  return std::unique_ptr<Switchboard>(new Switchboard(std::move(hub)));
}

Switchboard::Switchboard(std::shared_ptr<Hub> hub) : hub_(std::move(hub)) {}
Switchboard::~Switchboard() {
  stop();
}

void Switchboard::publish(const std::string& name, const caf::actor& actor) {
  std::lock_guard lock(hub_->mutex);
  hub_->published[name] = actor;
}

void Switchboard::withdraw(const std::string& name) {
  std::lock_guard lock(hub_->mutex);
  hub_->published.erase(name);
}

caf::actor Switchboard::proxy(const ProcessId& peer, const std::string& actor) {
  const bool connected = hub_->is_connected(peer);
  auto handle = hub_->proxy(peer, actor, connected);
  // It may have gone down between the two, when there was no proxy yet to tell.
  if (connected && !hub_->is_connected(peer))
    hub_->peer_down(peer, {Errc::unavailable, "it is gone"});
  return handle;
}

Result<std::string> Switchboard::bind(const std::string& address) {
  return hub_->transport->bind(address);
}

Result<cluster::PeerInfo> Switchboard::connect(const std::string& endpoint, Duration timeout) {
  return hub_->transport->connect(endpoint, timeout);
}

void Switchboard::connect_async(const std::string& endpoint, Duration timeout,
                                const caf::actor& who) {
  hub_->transport->connect_async(
      endpoint, timeout, [endpoint, who](Result<cluster::PeerInfo> peer) {
        auto shared = std::make_shared<const Result<cluster::PeerInfo>>(std::move(peer));
        caf::anon_send(who, Connected{endpoint, std::move(shared)});
      });
}

bool Switchboard::connected(const ProcessId& peer) const {
  return hub_->is_connected(peer);
}

void Switchboard::disconnect(const ProcessId& peer, const std::string& reason) {
  hub_->transport->disconnect(peer, reason);
  hub_->peer_down(peer, {Errc::cancelled, reason});
}

Status Switchboard::send(const ProcessId& peer, const Outbound& message) {
  pb::Envelope envelope = message.envelope;
  envelope.set_protocol(kProtocolVersion);
  return hub_->transport->send(peer, envelope, message.frames);
}

void Switchboard::stop() {
  std::map<std::pair<std::string, std::string>, caf::actor> proxies;
  {
    std::lock_guard lock(hub_->mutex);
    if (hub_->stopped) return;
    hub_->stopped = true;
    proxies.swap(hub_->proxies);
    hub_->published.clear();
    hub_->waiting.clear();
  }
  hub_->transport->stop();
  for (auto& [key, handle] : proxies)
    caf::anon_send_exit(handle, caf::exit_reason::remote_link_unreachable);
}

}  // namespace crabcast::actors

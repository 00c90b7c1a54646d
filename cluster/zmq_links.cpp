// The life of links and peers: dialing, handshake, heartbeats, and the end.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>
#include <utility>

#include "cluster/zmq_transport.h"

namespace crabcast::cluster {
namespace {

constexpr auto kRedialEvery = std::chrono::milliseconds(50);
// A server that closes the connection during the key handshake may have been dying; one that does
// it this often has another key than we think.
constexpr int kMaxFailedHandshakes = 3;
// How long a Goodbye may take to leave after its link was closed.
constexpr auto kGoodbyeLinger = std::chrono::milliseconds(500);
constexpr auto kNoLinger = std::chrono::milliseconds(0);

std::uint64_t random_link_id() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32 | device()) | 1;
}

std::string in_seconds(Duration duration) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  return std::to_string(ms / 1000) + "." + std::to_string(ms % 1000 / 100) + " s";
}

}  // namespace

FailureTimeouts ZmqTransport::timeouts() const {
  return {options_.heartbeat_every, options_.peer_timeout, options_.reconnect_grace};
}

// ---- Dialing ----

void ZmqTransport::begin_dial(const std::string& endpoint, TimePoint deadline,
                              std::function<void(Result<PeerInfo>)> done) {
  if (stopping_) return done(fail(Errc::cancelled, "the transport has stopped"));
  for (const auto& link : links_) {
    if (link->state == LinkState::closed || link->endpoint != endpoint) continue;
    if (link->state == LinkState::up) return done(link->peer->info);
    link->waiters.push_back({deadline, std::move(done)});
    return;
  }
  links_.push_back(std::make_unique<Link>(random_link_id(), timeouts(), Clock::now()));
  Link& link = *links_.back();
  link.endpoint = endpoint;
  link.waiters.push_back({deadline, std::move(done)});
  open_dial(link);
}

void ZmqTransport::open_dial(Link& link) {
  try {
    link.dial = std::make_unique<Dial>(context_, options_.keys, options_.max_message_bytes);
    if (zmq_connect(link.dial->socket.handle(), link.endpoint.c_str()) != 0)
      return fail_link(link,
                       Error{Errc::invalid_argument,
                             "cannot connect to " + link.endpoint + ": expected tcp://HOST:PORT"},
                       false);
  } catch (const zmq::error_t& problem) {
    return fail_link(
        link,
        Error{Errc::resource_exhausted, "connecting to " + link.endpoint + ": " + problem.what()},
        false);
  }
  // libzmq sends it as soon as the key handshake is done.
  say_hello(link);
}

void ZmqTransport::read_dial_monitor(Link& link) {
  while (link.dial) {
    const auto event = link.dial->monitor.next();
    if (!event) return;
    switch (event->event) {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        link.dial->secured = true;
        link.failed_handshakes = 0;
        break;
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        return fail_link(link,
                         Error{Errc::unauthenticated,
                               link.endpoint + " refused this process's key; add client.public to "
                                               "the authorized keys on that side"},
                         false);
      case ZMQ_EVENT_CLOSED:
        return dial_failed(link, "nobody listens there");
      case ZMQ_EVENT_DISCONNECTED:
        if (link.dial->secured) {
          // What was received before the break still counts, a Goodbye above all.
          while (link.dial && link.dial->socket.get(zmq::sockopt::events) & ZMQ_POLLIN)
            read_dial(link);
          if (link.dial) connection_broke(link);
          return;
        }
        [[fallthrough]];
      default:  // the handshake failed, without a reason
        if (++link.failed_handshakes >= kMaxFailedHandshakes)
          return fail_link(link,
                           Error{Errc::unauthenticated,
                                 link.endpoint + " closed the connection during the key handshake; "
                                                 "it does not have the server key in this keyring"},
                           false);
        return dial_failed(link, "it closed the connection during the key handshake");
    }
  }
}

void ZmqTransport::dial_failed(Link& link, const std::string& problem) {
  link.last_problem = problem;
  link.dial.reset();
  link.redial_at = Clock::now() + kRedialEvery;
}

void ZmqTransport::say_hello(Link& link) {
  pb::Envelope envelope;
  envelope.set_request(link.id);
  auto& hello = *envelope.mutable_hello();
  hello.set_process(options_.process.value());
  hello.set_kind(options_.kind);
  hello.set_node(options_.node);
  hello.set_version(std::to_string(kProtocolVersion));
  hello.set_incarnation(incarnation_);
  transmit_own(link, envelope);
}

// ---- Handshake ----

void ZmqTransport::on_hello(const std::string& routing_id, int fd, const pb::Envelope& envelope) {
  // A file descriptor is reused by the next connection, so the end of the one before comes first.
  read_router_monitor();
  const auto refuse = [&](Errc code, const std::string& message) {
    spdlog::warn("refused a link: {}", message);
    pb::Envelope answer;
    answer.set_answers(envelope.request());
    answer.mutable_failure()->set_code(static_cast<std::uint32_t>(code));
    answer.mutable_failure()->set_message(message);
    std::string head = make_head();
    append_envelope(head, answer, answer.ByteSizeLong());
    if (!send_to_route(routing_id, zmq::message_t(head)))
      spdlog::debug("the refused process has gone already");
  };
  const pb::Hello& hello = envelope.hello();
  if (envelope.protocol() != kProtocolVersion)
    return refuse(Errc::protocol_mismatch,
                  hello.process() + " speaks protocol " + std::to_string(envelope.protocol()) +
                      ", " + options_.process.value() + " speaks " +
                      std::to_string(kProtocolVersion) + "; run the same version on both sides");
  if (hello.process().empty() || hello.process() == options_.process.value())
    return refuse(Errc::invalid_argument, "a process named '" + hello.process() +
                                              "' cannot be linked with " +
                                              options_.process.value());

  for (const auto& link : links_) {
    const bool comes_back = !link->dialed() && link->state != LinkState::closed &&
                            link->id == envelope.request() &&
                            link->peer->info.process.value() == hello.process() &&
                            link->peer->info.incarnation == hello.incarnation();
    if (!comes_back) continue;
    by_route_.erase(link->routing_id);
    link->routing_id = routing_id;
    link->fd = fd;
    by_route_[routing_id] = link.get();
    say_welcome(*link);
    return resume(*link);
  }

  links_.push_back(std::make_unique<Link>(envelope.request(), timeouts(), Clock::now()));
  Link& link = *links_.back();
  link.routing_id = routing_id;
  link.fd = fd;
  by_route_[routing_id] = &link;
  say_welcome(link);
  establish(link, {ProcessId(hello.process()), hello.kind(), hello.node(), hello.incarnation()});
}

void ZmqTransport::say_welcome(Link& link) {
  pb::Envelope envelope;
  envelope.set_answers(link.id);
  auto& welcome = *envelope.mutable_welcome();
  welcome.set_process(options_.process.value());
  welcome.set_version(std::to_string(kProtocolVersion));
  welcome.set_incarnation(incarnation_);
  transmit_own(link, envelope);
}

void ZmqTransport::on_welcome(Link& link, const pb::Envelope& envelope) {
  if (!link.dialed() || link.state == LinkState::up || envelope.answers() != link.id)
    return fail_link(link, Error{Errc::corrupt, "a Welcome came that was not asked for"}, true);
  const pb::Welcome& welcome = envelope.welcome();
  if (envelope.protocol() != kProtocolVersion)
    return fail_link(
        link,
        Error{Errc::protocol_mismatch,
              welcome.process() + " speaks protocol " + std::to_string(envelope.protocol()) +
                  ", this process speaks " + std::to_string(kProtocolVersion)},
        true);
  PeerInfo info{ProcessId(welcome.process()), pb::ROLE_UNSPECIFIED, "", welcome.incarnation()};
  if (!link.peer) return establish(link, std::move(info));
  if (link.peer->info.process == info.process && link.peer->info.incarnation == info.incarnation) {
    resume(link);
    return answer_waiters(link, link.peer->info);
  }
  // Another process, or another life of it, answers at this endpoint: the old peer is gone, and
  // who wants the new one connects to it.
  fail_link(link, Error{Errc::unavailable, "it was restarted"}, true);
}

void ZmqTransport::establish(Link& link, PeerInfo info) {
  std::shared_ptr<Peer> known;
  {
    const std::lock_guard lock(peers_mutex_);
    if (const auto found = peers_.find(info.process); found != peers_.end()) known = found->second;
  }
  if (known && known->info.incarnation != info.incarnation) {
    peer_down(known, Error{Errc::unavailable, "it was restarted"}, true);
    known.reset();
  }
  link.state = LinkState::up;
  link.detector.connection_back(Clock::now());
  if (known) {
    link.peer = known;
    known->links.push_back(&link);
    return answer_waiters(link, known->info);
  }
  const OutboxLimits limits{options_.send_queue_messages, options_.send_queue_bytes,
                            options_.max_message_bytes};
  const auto peer = std::make_shared<Peer>(std::move(info), limits, wake_);
  link.peer = peer;
  peer->links.push_back(&link);
  {
    const std::lock_guard lock(peers_mutex_);
    peers_[peer->info.process] = peer;
  }
  if (handlers_.on_peer_up) handlers_.on_peer_up(peer->info);
  answer_waiters(link, peer->info);
}

// The connection is back. What was under way when it broke may be missing: the heartbeat tells.
void ZmqTransport::resume(Link& link) {
  link.state = LinkState::up;
  link.detector.connection_back(Clock::now());
  link.assembly = {};
  say_heartbeat(link);
}

// ---- Heartbeats and the end ----

void ZmqTransport::say_heartbeat(Link& link) {
  pb::Envelope envelope;
  envelope.mutable_heartbeat()->set_sequence(link.sent);
  transmit_own(link, envelope);
}

void ZmqTransport::on_heartbeat(Link& link, const pb::Heartbeat& heartbeat) {
  if (!link.peer || heartbeat.sequence() == link.received) return;
  fail_link(link,
            Error{Errc::unavailable, "messages were lost when its connection broke: " +
                                         std::to_string(heartbeat.sequence()) + " sent, " +
                                         std::to_string(link.received) + " received"},
            true);
}

void ZmqTransport::read_router_monitor() {
  while (const auto event = router_monitor_->next())
    for (const auto& link : links_)
      if (link->state == LinkState::up && !link->dialed() && link->fd == event->value)
        connection_broke(*link);
}

void ZmqTransport::connection_broke(Link& link) {
  if (link.dialed()) {
    link.dial.reset();
    link.redial_at = Clock::now();
    link.last_problem = "the connection broke";
  } else {
    link.fd = -1;
  }
  if (link.state != LinkState::up) return;
  link.state = LinkState::broken;
  link.detector.connection_broke(Clock::now());
}

void ZmqTransport::check_timers(TimePoint now) {
  for (std::size_t i = 0; i < links_.size(); ++i) {
    Link& link = *links_[i];
    if (link.state == LinkState::closed) continue;
    if (link.dialed() && !link.dial && link.redial_at <= now) open_dial(link);
    // Expired waiters get their answer; a link that nobody waits for any more is given up.
    const auto expired =
        std::stable_partition(link.waiters.begin(), link.waiters.end(),
                              [now](const Waiter& waiter) { return waiter.deadline > now; });
    if (expired != link.waiters.end()) {
      std::vector<Waiter> late(std::make_move_iterator(expired),
                               std::make_move_iterator(link.waiters.end()));
      link.waiters.erase(expired, link.waiters.end());
      const Error why{Errc::timeout, "no answer from " + link.endpoint + " in time: " +
                                         (link.last_problem.empty() ? "it did not shake hands"
                                                                    : link.last_problem)};
      for (const Waiter& waiter : late) waiter.done(fail(why));
    }
    if (link.state == LinkState::dialing && link.waiters.empty()) close_link(link, kNoLinger);
    if (!link.peer || link.state == LinkState::closed) continue;

    switch (link.detector.verdict(now)) {
      case FailureDetector::Verdict::alive:
        if (link.state == LinkState::up && link.detector.heartbeat_due(now)) say_heartbeat(link);
        break;
      case FailureDetector::Verdict::silent:
        fail_link(
            link,
            Error{Errc::unavailable, "it was silent for " + in_seconds(link.detector.silence(now))},
            true);
        break;
      case FailureDetector::Verdict::lost:
        fail_link(link,
                  Error{Errc::unavailable, "its connection broke and did not come back within " +
                                               in_seconds(options_.reconnect_grace)},
                  false);
        break;
    }
  }
}

void ZmqTransport::fail_link(Link& link, Error why, bool goodbye) {
  if (link.state == LinkState::closed) return;
  if (why.code == Errc::corrupt)
    spdlog::warn("closed the link to {}: {}",
                 link.peer ? link.peer->info.process.value() : link.endpoint, why.message);
  if (link.peer) return peer_down(link.peer, std::move(why), goodbye);
  if (goodbye) say_goodbye(link, why.message);
  answer_waiters(link, fail(std::move(why)));
  close_link(link, goodbye ? kGoodbyeLinger : kNoLinger);
}

void ZmqTransport::peer_down(const std::shared_ptr<Peer>& peer, Error why, bool goodbye,
                             bool quiet) {
  // A copy, since the caller's may be the link's own.
  const std::shared_ptr<Peer> down = peer;
  {
    const std::lock_guard lock(peers_mutex_);
    const auto found = peers_.find(down->info.process);
    if (found != peers_.end() && found->second == down)
      peers_.erase(found);
    else
      quiet = true;  // disconnect was called: nobody wants to hear of this peer
  }
  down->outbox.close();
  for (Link* link : std::exchange(down->links, {})) {
    if (goodbye && link->state == LinkState::up) say_goodbye(*link, why.message);
    answer_waiters(*link, fail(why));
    close_link(*link, goodbye ? kGoodbyeLinger : kNoLinger);
  }
  if (!quiet && handlers_.on_peer_down) handlers_.on_peer_down(down->info, why);
}

void ZmqTransport::say_goodbye(Link& link, const std::string& reason) {
  pb::Envelope envelope;
  envelope.mutable_goodbye()->set_reason(reason);
  transmit_own(link, envelope);
}

void ZmqTransport::close_link(Link& link, std::chrono::milliseconds linger) {
  link.state = LinkState::closed;
  by_route_.erase(link.routing_id);
  if (!link.dial) return;
  link.dial->socket.set(zmq::sockopt::linger, static_cast<int>(linger.count()));
  link.dial.reset();
}

void ZmqTransport::answer_waiters(Link& link, const Result<PeerInfo>& result) {
  for (const Waiter& waiter : std::exchange(link.waiters, {})) waiter.done(result);
}

void ZmqTransport::remove_closed_links() {
  std::erase_if(links_, [](const auto& link) { return link->state == LinkState::closed; });
}

}  // namespace crabcast::cluster

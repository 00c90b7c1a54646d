#include "cluster/zmq_transport.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

namespace crabcast::cluster {
namespace {

// Heads and pieces that libzmq may hold for us; beyond that TCP slows the sender down.
constexpr int kReceiveHighWater = 64;
// More than the encryption and the routing frame add to a message.
constexpr std::int64_t kFramingSlack = 64 << 10;

std::uint64_t random_incarnation() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32 | device()) | 1;
}

}  // namespace

Dial::Dial(zmq::context_t& context, const Keyring& keys, std::size_t max_message_bytes)
    : socket(context, zmq::socket_type::dealer),
      monitor(context, socket,
              ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                  ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                  ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
  use_client_keys(socket, keys);
  // The peer's Outbox bounds what is handed to libzmq, in bytes; a mark in messages would only
  // make sends fail at an unrelated point.
  socket.set(zmq::sockopt::sndhwm, 0);
  socket.set(zmq::sockopt::rcvhwm, kReceiveHighWater);
  socket.set(zmq::sockopt::maxmsgsize,
             static_cast<std::int64_t>(max_message_bytes) + kFramingSlack);
  socket.set(zmq::sockopt::linger, 0);
  // libzmq must not reconnect by itself: it would send what was queued for the broken connection.
  // (Not -1: libzmq then drops messages that were received but not read yet.)
  socket.set(zmq::sockopt::reconnect_ivl, 24 * 60 * 60 * 1000);
}

Result<std::unique_ptr<Transport>> Transport::start(TransportOptions options,
                                                    TransportHandlers handlers) {
  if (options.process.value().empty())
    return fail(Errc::invalid_argument, "a transport needs the name of its process");
  if (options.keys.client_public.empty() || options.keys.server_public.empty())
    return fail(Errc::invalid_argument, "a transport needs a keyring");
  auto wake = WakeUp::create();
  if (!wake) return fail(wake.error());
  try {
    return std::make_unique<ZmqTransport>(std::move(options), std::move(handlers),
                                          std::move(*wake));
  } catch (const std::exception& problem) {
    return fail(Errc::resource_exhausted, std::string("starting the transport: ") + problem.what());
  }
}

ZmqTransport::ZmqTransport(TransportOptions options, TransportHandlers handlers,
                           std::shared_ptr<WakeUp> wake)
    : options_(std::move(options)),
      handlers_(std::move(handlers)),
      incarnation_(random_incarnation()),
      wake_(std::move(wake)),
      context_(1),
      last_look_(Clock::now()) {
  zap_.emplace(context_, options_.keys.authorized);
  zap_watch_.emplace(zap_->socket());
  thread_ = std::thread([this] { run(); });
}

ZmqTransport::~ZmqTransport() {
  stop(std::chrono::milliseconds(500));
}

// ---- Calls from other threads ----

bool ZmqTransport::post(Command command) {
  {
    const std::lock_guard lock(commands_mutex_);
    if (!accepting_) return false;
    commands_.push_back(std::move(command));
  }
  wake_->wake();
  return true;
}

Result<std::string> ZmqTransport::bind(const std::string& address) {
  if (options_.keys.server_secret.empty())
    return fail(Errc::permission_denied,
                "cannot listen on " + address + ": the keyring has no server.secret");
  if (on_io_thread()) return bind_now(address);
  auto answer = std::make_shared<std::promise<Result<std::string>>>();
  auto result = answer->get_future();
  if (!post([this, address, answer] { answer->set_value(bind_now(address)); }))
    return fail(Errc::cancelled, "the transport has stopped");
  if (result.wait_for(std::chrono::seconds(10)) != std::future_status::ready)
    return fail(Errc::timeout, "listening on " + address + ": a handler blocks the I/O thread");
  return result.get();
}

Result<PeerInfo> ZmqTransport::connect(const std::string& endpoint, Duration timeout) {
  if (on_io_thread())
    return fail(Errc::internal, "connect waits, so a handler must call connect_async instead");
  auto answer = std::make_shared<std::promise<Result<PeerInfo>>>();
  auto result = answer->get_future();
  connect_async(endpoint, timeout,
                [answer](Result<PeerInfo> info) { answer->set_value(std::move(info)); });
  // The I/O thread answers at the deadline; the second on top is for one that a handler blocks.
  if (result.wait_for(timeout + std::chrono::seconds(1)) != std::future_status::ready)
    return fail(Errc::timeout, "connecting to " + endpoint + ": a handler blocks the I/O thread");
  return result.get();
}

void ZmqTransport::connect_async(const std::string& endpoint, Duration timeout,
                                 std::function<void(Result<PeerInfo>)> done) {
  const TimePoint deadline = Clock::now() + timeout;
  const auto shared = std::make_shared<std::function<void(Result<PeerInfo>)>>(std::move(done));
  if (!post([this, endpoint, deadline, shared] { begin_dial(endpoint, deadline, *shared); }))
    (*shared)(fail(Errc::cancelled, "the transport has stopped"));
}

Status ZmqTransport::send(const ProcessId& peer, const pb::Envelope& envelope,
                          std::vector<Frame> frames) {
  switch (envelope.body_case()) {
    case pb::Envelope::kHello:
    case pb::Envelope::kWelcome:
    case pb::Envelope::kHeartbeat:
    case pb::Envelope::kGoodbye:
      return fail(Errc::invalid_argument, "the transport alone sends this kind of envelope");
    default:
      break;
  }
  std::shared_ptr<Peer> target;
  {
    const std::lock_guard lock(peers_mutex_);
    const auto found = peers_.find(peer);
    if (found == peers_.end())
      return fail(Errc::unavailable, "no link to " + peer.value() + "; it is down or was never up");
    target = found->second;
  }
  const auto first = target->outbox.push(envelope, std::move(frames));
  if (!first) return fail(first.error().within("sending to " + peer.value()));
  // With more in the queue the I/O thread is at work already, or ZeroMQ wakes it when there is
  // room; and a handler's messages leave at the end of its round.
  if (*first && !on_io_thread()) flush_or_wake(*target);
  return {};
}

void ZmqTransport::flush_or_wake(Peer& peer) {
  // An idle link is served from here, which saves the switch to the I/O thread. A busy one is not:
  // what waits there is sent together.
  std::unique_lock io_lock(io_mutex_, std::try_to_lock);
  if (!io_lock || peer.links.empty() || peer.outbox.in_flight()->bytes() > 0) return wake_->wake();
  Link& link = *peer.links.front();
  try {
    flush(link);
    // Sending may have used up the signal that something came in.
    const zmq::socket_t* used =
        link.dialed() ? link.dial ? &link.dial->socket : nullptr : &*router_;
    if (link.state == LinkState::up && used != nullptr &&
        (used->get(zmq::sockopt::events) & ZMQ_POLLIN) == 0)
      return;
  } catch (const zmq::error_t& problem) {
    spdlog::debug("sending directly: {}", problem.what());
  }
  wake_->wake();
}

void ZmqTransport::disconnect(const ProcessId& peer, const std::string& reason) {
  std::shared_ptr<Peer> leaving;
  {
    // From here on sends fail, and the peer may come back as a new one.
    const std::lock_guard lock(peers_mutex_);
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return;
    leaving = found->second;
    peers_.erase(found);
  }
  post([this, leaving, reason] {
    if (leaving->links.empty()) return;  // it went down by itself meanwhile
    flush_unbounded(*leaving->links.front());
    peer_down(leaving, Error{Errc::cancelled, reason}, true, true);
  });
}

std::vector<PeerInfo> ZmqTransport::peers() const {
  const std::lock_guard lock(peers_mutex_);
  std::vector<PeerInfo> infos;
  infos.reserve(peers_.size());
  for (const auto& [name, peer] : peers_) infos.push_back(peer->info);
  return infos;
}

void ZmqTransport::stop(Duration linger) {
  const auto request = [this, linger] {
    linger_ = std::chrono::duration_cast<std::chrono::milliseconds>(linger);
    stopping_ = true;
  };
  post(request);
  if (on_io_thread()) {
    spdlog::error("stop was called from a handler: the transport ends, but later than it returns");
    return;
  }
  const std::lock_guard lock(stop_mutex_);
  if (thread_.joinable()) thread_.join();
}

// ---- The loop ----

void ZmqTransport::run() {
  io_thread_ = std::this_thread::get_id();
  std::unique_lock io_lock(io_mutex_);
  try {
    while (!stopping_) {
      try {
        run_once(io_lock);
      } catch (const zmq::error_t& problem) {
        if (problem.num() != EINTR) throw;
        look_at_all_ = true;
      }
    }
  } catch (const std::exception& problem) {
    spdlog::critical("the transport of {} ends: {}", options_.process.value(), problem.what());
  }
  close_all();
}

void ZmqTransport::run_once(std::unique_lock<std::mutex>& io_lock) {
  sleep(io_lock);
  const TimePoint now = Clock::now();
  // A loop that did not come round for so long was not running: peers could not be heard.
  if (now - last_look_ > 2 * options_.heartbeat_every)
    for (const auto& link : links_) link->detector.forgive(now - last_look_);
  last_look_ = now;
  read_sockets();
  run_commands();
  check_timers(Clock::now());
  // Last, so that what handlers have sent leaves in the same round.
  for (std::size_t i = 0; i < links_.size(); ++i) flush(*links_[i]);
  remove_closed_links();
}

// Waits for something to read, a wake-up, or the next deadline, without the lock.
void ZmqTransport::sleep(std::unique_lock<std::mutex>& io_lock) {
  poll_items_.clear();
  watches_.clear();
  polled_.clear();
  bool look = false;
  const bool look_at_all = std::exchange(look_at_all_, false);
  const auto watch = [&](SocketWatch& watched) {
    poll_items_.push_back({watched.fd, POLLIN, 0});
    watches_.push_back(&watched);
    watched.look = watched.look || look_at_all;
    look = look || watched.look;
  };
  watch(*zap_watch_);
  if (router_) {
    watch(*router_watch_);
    watch(*router_monitor_watch_);
  }
  for (const auto& link : links_) {
    if (!link->dial) continue;
    polled_.push_back(link.get());
    watch(link->dial->messages);
    watch(link->dial->events);
  }
  poll_items_.push_back({wake_->fd(), POLLIN, 0});
  const int wait = look ? 0 : static_cast<int>(time_to_next_deadline().count());
  io_lock.unlock();
  ::poll(poll_items_.data(), poll_items_.size(), wait);
  io_lock.lock();
  if (poll_items_.back().revents != 0) wake_->clear();
  // Nothing but this thread opens or closes sockets, so the watches are still there.
  for (std::size_t i = 0; i < watches_.size(); ++i)
    if (poll_items_[i].revents != 0) watches_[i]->look = true;
}

void ZmqTransport::read_sockets() {
  const auto due = [](SocketWatch& watched) { return std::exchange(watched.look, false); };
  if (due(*zap_watch_)) zap_->answer_pending();
  if (router_) {
    // Messages before events: what a peer said last counts more than that it left.
    if (due(*router_watch_)) read_router();
    if (due(*router_monitor_watch_)) read_router_monitor();
  }
  // Links stay until the end of the round, but their connections may be closed or made on the way.
  for (Link* link : polled_) {
    if (link->dial && due(link->dial->messages)) read_dial(*link);
    if (link->dial && due(link->dial->events)) read_dial_monitor(*link);
  }
}

void ZmqTransport::run_commands() {
  std::vector<Command> commands;
  {
    const std::lock_guard lock(commands_mutex_);
    commands.swap(commands_);
  }
  for (const Command& command : commands) command();
}

std::chrono::milliseconds ZmqTransport::time_to_next_deadline() const {
  const TimePoint now = Clock::now();
  TimePoint next = now + options_.heartbeat_every;
  for (const auto& link : links_) {
    if (link->peer) next = std::min(next, link->detector.next_deadline());
    if (link->dialed() && !link->dial) next = std::min(next, link->redial_at);
    for (const Waiter& waiter : link->waiters) next = std::min(next, waiter.deadline);
  }
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - now);
  return std::max(wait, std::chrono::milliseconds(0));
}

// Hands everything to libzmq, says Goodbye, and lets libzmq's linger send it.
void ZmqTransport::close_all() {
  stopping_ = true;
  std::vector<Command> late;
  {
    const std::lock_guard lock(commands_mutex_);
    accepting_ = false;
    late.swap(commands_);
  }
  std::unordered_map<ProcessId, std::shared_ptr<Peer>> peers;
  {
    const std::lock_guard lock(peers_mutex_);
    peers.swap(peers_);
  }
  for (const Command& command : late) command();
  for (const auto& link : links_) {
    answer_waiters(*link, fail(Errc::cancelled, "the transport has stopped"));
    if (link->state == LinkState::up) {
      if (link->primary()) flush_unbounded(*link);
      say_goodbye(*link, "stopped");
    }
    if (link->peer) link->peer->outbox.close();
    close_link(*link, link->state == LinkState::up ? linger_ : std::chrono::milliseconds(0));
  }
  for (const auto& [name, peer] : peers) peer->links.clear();
  links_.clear();
  if (router_) router_->set(zmq::sockopt::linger, static_cast<int>(linger_.count()));
  router_monitor_.reset();
  router_.reset();
  // Ends the key handshakes that are under way, and waits for the lingering sockets.
  zap_.reset();
  context_.close();
}

Result<std::string> ZmqTransport::bind_now(const std::string& address) {
  if (stopping_) return fail(Errc::cancelled, "the transport has stopped");
  try {
    if (!router_) {
      zmq::socket_t router(context_, zmq::socket_type::router);
      use_server_keys(router, options_.keys);
      router.set(zmq::sockopt::sndhwm, 0);  // the peers' Outboxes bound it
      router.set(zmq::sockopt::rcvhwm, kReceiveHighWater);
      router.set(zmq::sockopt::maxmsgsize,
                 static_cast<std::int64_t>(options_.max_message_bytes) + kFramingSlack);
      router.set(zmq::sockopt::linger, 0);
      router.set(zmq::sockopt::router_mandatory, true);  // a lost peer is an error, not a silence
      router.set(zmq::sockopt::backlog, 1024);
      router_monitor_.emplace(context_, router, ZMQ_EVENT_DISCONNECTED);
      router_.emplace(std::move(router));
      router_watch_.emplace(*router_);
      router_monitor_watch_.emplace(router_monitor_->socket());
    }
    router_watch_->look = true;
    return bind_socket(*router_, address);
  } catch (const zmq::error_t& problem) {
    return fail(Errc::resource_exhausted, "listening on " + address + ": " + problem.what());
  }
}

}  // namespace crabcast::cluster

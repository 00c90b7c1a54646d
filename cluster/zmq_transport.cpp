#include "cluster/zmq_transport.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

namespace crabcast::cluster {
namespace {

// Messages read from one socket before the others get their turn.
constexpr int kReadBurst = 256;
// Parcels and raw frames that libzmq may hold for us; beyond that TCP slows the sender down.
constexpr int kReceiveHighWater = 64;
// More than the encryption and the routing frame add to a message.
constexpr std::int64_t kFramingSlack = 64 << 10;

std::uint64_t random_incarnation() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32 | device()) | 1;
}

// Keeps bytes alive, and on the peer's account, until ZeroMQ has encrypted them.
struct Hold {
  std::string head;
  Frame frame;
  std::shared_ptr<InFlight> in_flight;
  std::size_t messages;
  std::size_t bytes;
};

void release_hold(void*, void* hint) {
  const std::unique_ptr<Hold> hold(static_cast<Hold*>(hint));
  hold->in_flight->release(hold->messages, hold->bytes);
}

zmq::message_t message_of(std::unique_ptr<Hold> hold) {
  // libzmq does not write to the bytes of a message that it sends.
  void* data = hold->head.empty() ? const_cast<std::byte*>(hold->frame.data())
                                  : static_cast<void*>(hold->head.data());
  const std::size_t bytes = hold->head.empty() ? hold->frame.size() : hold->head.size();
  zmq::message_t message(data, bytes, release_hold, hold.get());
  (void)hold.release();
  return message;
}

}  // namespace

Frame Frame::copy_of(const void* data, std::size_t bytes) {
  if (bytes == 0) return {};
  const std::shared_ptr<std::byte[]> copy(new std::byte[bytes]);
  std::copy_n(static_cast<const std::byte*>(data), bytes, copy.get());
  return {copy, copy.get(), bytes};
}

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
  thread_ = std::thread([this] { run(); });
}

ZmqTransport::~ZmqTransport() {
  stop(std::chrono::milliseconds(500));
}

// ---- Calls from other threads
// --------------------------------------------------------------------

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
  auto pushed = target->outbox.push(envelope, std::move(frames));
  if (!pushed) return fail(pushed.error().within("sending to " + peer.value()));
  return {};
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

// ---- The loop
// ------------------------------------------------------------------------------------

void ZmqTransport::run() {
  try {
    while (!stopping_) {
      try {
        run_once();
      } catch (const zmq::error_t& problem) {
        if (problem.num() != EINTR) throw;
      }
    }
  } catch (const std::exception& problem) {
    spdlog::critical("the transport of {} ends: {}", options_.process.value(), problem.what());
  }
  close_all();
}

void ZmqTransport::run_once() {
  poll_items_.clear();
  poll_items_.push_back({nullptr, wake_->fd(), ZMQ_POLLIN, 0});
  poll_items_.push_back({zap_->socket().handle(), 0, ZMQ_POLLIN, 0});
  if (router_) {
    poll_items_.push_back({router_->handle(), 0, ZMQ_POLLIN, 0});
    poll_items_.push_back({router_monitor_->socket().handle(), 0, ZMQ_POLLIN, 0});
  }
  const std::size_t first_dial = poll_items_.size();
  polled_.clear();
  for (const auto& link : links_) {
    if (!link->dial) continue;
    polled_.push_back(link.get());
    poll_items_.push_back({link->dial->socket.handle(), 0, ZMQ_POLLIN, 0});
    poll_items_.push_back({link->dial->monitor.socket().handle(), 0, ZMQ_POLLIN, 0});
  }
  zmq::poll(poll_items_, time_to_next_deadline());

  const TimePoint now = Clock::now();
  // A loop that did not come round for so long was not running: peers could not be heard.
  if (now - last_look_ > 2 * options_.heartbeat_every)
    for (const auto& link : links_) link->detector.forgive(now - last_look_);
  last_look_ = now;

  const auto readable = [this](std::size_t i) {
    return (poll_items_[i].revents & ZMQ_POLLIN) != 0;
  };
  if (readable(0)) wake_->clear();
  if (readable(1)) zap_->answer_pending();
  if (router_) {
    // Messages before events: what a peer said last counts more than that it left.
    if (readable(2)) read_router();
    if (readable(3)) read_router_monitor();
  }
  for (std::size_t i = 0; i < polled_.size(); ++i) {
    // Links stay alive until the end of the round, but their connections may be closed on the way.
    Link& link = *polled_[i];
    const std::size_t item = first_dial + 2 * i;
    const auto same = [&] {
      return link.dial && link.dial->socket.handle() == poll_items_[item].socket;
    };
    if (same() && readable(item)) read_dial(link);
    if (same() && readable(item + 1)) read_dial_monitor(link);
  }
  run_commands();
  for (std::size_t i = 0; i < links_.size(); ++i) flush(*links_[i]);
  check_timers(Clock::now());
  remove_closed_links();
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
  router_.reset();
  router_monitor_.reset();
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
    }
    return bind_socket(*router_, address);
  } catch (const zmq::error_t& problem) {
    return fail(Errc::resource_exhausted, "listening on " + address + ": " + problem.what());
  }
}

// ---- Bytes in
// ------------------------------------------------------------------------------------

void ZmqTransport::read_router() {
  zmq::message_t id;
  for (int i = 0; i < kReadBurst && router_->recv(id, zmq::recv_flags::dontwait); ++i) {
    zmq::message_t payload, extra;
    bool more = id.more();
    if (more) more = router_->recv(payload, zmq::recv_flags::dontwait) && payload.more();
    const bool too_many_parts = more;
    while (more) more = router_->recv(extra, zmq::recv_flags::dontwait) && extra.more();
    // A message in too many parts becomes an empty one, which is refused as malformed.
    if (too_many_parts) payload.rebuild();
    on_routed(id.to_string(), std::move(payload));
  }
}

void ZmqTransport::read_dial(Link& link) {
  for (int i = 0; i < kReadBurst && link.dial; ++i) {
    zmq::message_t payload, extra;
    if (!link.dial->socket.recv(payload, zmq::recv_flags::dontwait)) return;
    bool more = payload.more();
    if (more) payload.rebuild();
    while (more) more = link.dial->socket.recv(extra, zmq::recv_flags::dontwait) && extra.more();
    on_payload(link, std::move(payload));
  }
}

void ZmqTransport::on_routed(const std::string& routing_id, zmq::message_t payload) {
  if (const auto found = by_route_.find(routing_id); found != by_route_.end()) {
    on_payload(*found->second, std::move(payload));
    return;
  }
  // A connection without a link may only say Hello. Anything else is what a link that is over
  // still had under way.
  const auto head = parse_head(payload.data(), payload.size());
  pb::Envelope envelope;
  if (was_let_in(payload) && head && head->envelopes.size() == 1 && head->raw_frames == 0 &&
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

void ZmqTransport::on_payload(Link& link, zmq::message_t payload) {
  link.detector.heard(last_look_);
  if (link.assembly.frames_due > 0)
    on_raw_frame(link, std::move(payload));
  else
    on_head(link, payload);
}

void ZmqTransport::on_head(Link& link, const zmq::message_t& payload) {
  const auto head = parse_head(payload.data(), payload.size());
  if (!head) return fail_link(link, head.error(), true);
  if (head->raw_bytes > options_.max_message_bytes ||
      payload.size() > options_.max_message_bytes - head->raw_bytes + kFramingSlack)
    return fail_link(link, Error{Errc::corrupt, "a message is larger than max_message_bytes"},
                     true);
  for (std::size_t i = 0; i < head->envelopes.size(); ++i) {
    auto envelope = std::make_shared<pb::Envelope>();
    const std::string_view bytes = head->envelopes[i];
    if (!envelope->ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
      return fail_link(link, Error{Errc::corrupt, "an envelope is not valid Protobuf"}, true);
    const bool last = i + 1 == head->envelopes.size();
    if (last && head->raw_frames > 0) {
      link.assembly.envelope = std::move(envelope);
      link.assembly.frames_due = head->raw_frames;
      link.assembly.bytes_due = head->raw_bytes;
      return;
    }
    on_envelope(link, std::move(envelope), {});
    if (link.state == LinkState::closed) return;
  }
}

void ZmqTransport::on_raw_frame(Link& link, zmq::message_t payload) {
  Assembly& assembly = link.assembly;
  if (payload.size() > assembly.bytes_due)
    return fail_link(link, Error{Errc::corrupt, "raw frames are larger than announced"}, true);
  assembly.bytes_due -= payload.size();
  const auto owner = std::make_shared<zmq::message_t>(std::move(payload));
  assembly.frames.emplace_back(owner, owner->data(), owner->size());
  if (--assembly.frames_due > 0) return;
  if (assembly.bytes_due != 0)
    return fail_link(link, Error{Errc::corrupt, "raw frames are smaller than announced"}, true);
  Assembly done = std::exchange(assembly, {});
  on_envelope(link, std::move(done.envelope), std::move(done.frames));
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

// ---- Bytes out
// -----------------------------------------------------------------------------------

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
  auto hold = std::make_unique<Hold>();
  hold->head = std::move(parcel->head);
  hold->in_flight = in_flight;
  hold->messages = parcel->envelopes;
  hold->bytes = parcel->bytes - frame_bytes;
  bool delivered = transmit(link, message_of(std::move(hold)));
  for (Frame& frame : parcel->frames) {
    const std::size_t bytes = frame.size();
    // After a failure the rest is dropped; the message still takes it off the account.
    auto message =
        message_of(std::make_unique<Hold>(Hold{{}, std::move(frame), in_flight, 0, bytes}));
    if (delivered) delivered = transmit(link, std::move(message));
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
  return link.dial && link.dial->socket.send(message, zmq::send_flags::dontwait).has_value();
}

bool ZmqTransport::send_to_route(const std::string& routing_id, zmq::message_t message) {
  zmq::message_t id(routing_id);
  if (zmq_msg_send(id.handle(), router_->handle(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
    if (zmq_errno() == EHOSTUNREACH || zmq_errno() == EAGAIN) return false;
    throw zmq::error_t();
  }
  return router_->send(message, zmq::send_flags::dontwait).has_value();
}

}  // namespace crabcast::cluster

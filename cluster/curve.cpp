#include "cluster/curve.h"

#include <spdlog/spdlog.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace crabcast::cluster {
namespace {

constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";
constexpr const char* kZapDomain = "crabcast";
// A stranger that connects and then says nothing is dropped after this long.
constexpr int kHandshakeMs = 5000;
constexpr std::size_t kCurveKeyBytes = 32;

// All parts of one message, if one is there.
std::vector<zmq::message_t> receive_parts(zmq::socket_t& socket) {
  std::vector<zmq::message_t> parts;
  zmq::message_t part;
  while (socket.recv(part, zmq::recv_flags::dontwait)) {
    const bool more = part.more();
    parts.push_back(std::move(part));
    part = zmq::message_t();
    if (!more) break;
  }
  return parts;
}

}  // namespace

void use_server_keys(zmq::socket_t& socket, const Keyring& keys) {
  socket.set(zmq::sockopt::curve_server, true);
  socket.set(zmq::sockopt::curve_secretkey, keys.server_secret);
  socket.set(zmq::sockopt::zap_domain, kZapDomain);
  socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
}

void use_client_keys(zmq::socket_t& socket, const Keyring& keys) {
  socket.set(zmq::sockopt::curve_serverkey, keys.server_public);
  socket.set(zmq::sockopt::curve_publickey, keys.client_public);
  socket.set(zmq::sockopt::curve_secretkey, keys.client_secret);
  socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
  if (const char* proxy = std::getenv("CRABCAST_SOCKS_PROXY"); proxy != nullptr && *proxy != '\0')
    socket.set(zmq::sockopt::socks_proxy, proxy);
}

bool was_let_in(zmq::message_t& message) {
  const char* key = zmq_msg_gets(message.handle(), "User-Id");
  return key != nullptr && *key != '\0';
}

Result<std::string> bind_socket(zmq::socket_t& socket, const std::string& address) {
  if (zmq_bind(socket.handle(), address.c_str()) == 0)
    return socket.get(zmq::sockopt::last_endpoint);
  const int problem = zmq_errno();
  switch (problem) {
    case EADDRINUSE:
      return fail(Errc::address_in_use,
                  "port " + address.substr(address.rfind(':') + 1) + " is taken (" + address +
                      "); choose another port, or end the program that has it");
    case EADDRNOTAVAIL:
    case ENODEV:
      return fail(Errc::invalid_argument,
                  "cannot listen on " + address + ": this machine has no such address");
    case EINVAL:
    case EPROTONOSUPPORT:
      return fail(Errc::invalid_argument,
                  "cannot listen on " + address + ": expected tcp://HOST:PORT (PORT may be *)");
    case EACCES:
      return fail(Errc::permission_denied,
                  "cannot listen on " + address + ": ports below 1024 need privileges");
    default:
      return fail(error_from_errno(problem, "cannot listen on " + address));
  }
}

ZapHandler::ZapHandler(zmq::context_t& context, std::set<std::string> authorized)
    : authorized_(std::move(authorized)), socket_(context, zmq::socket_type::rep) {
  socket_.set(zmq::sockopt::linger, 0);
  socket_.bind(kZapEndpoint);
}

void ZapHandler::answer_pending() {
  // version, sequence, domain, address, identity, mechanism, key
  for (auto parts = receive_parts(socket_); !parts.empty(); parts = receive_parts(socket_)) {
    std::string key;
    if (parts.size() == 7 && parts[0].to_string_view() == "1.0" &&
        parts[2].to_string_view() == kZapDomain && parts[5].to_string_view() == "CURVE" &&
        parts[6].size() == kCurveKeyBytes) {
      std::array<char, 41> text{};
      zmq_z85_encode(text.data(), parts[6].data<std::uint8_t>(), kCurveKeyBytes);
      key = text.data();
    }
    const bool known = !key.empty() && authorized_.contains(key);
    if (!known)
      spdlog::warn("refused a connection from {}: its key {} is not authorized",
                   parts.size() > 3 ? parts[3].to_string() : "an unknown address",
                   key.empty() ? "is malformed and" : key);
    const std::string sequence = parts.size() > 1 ? parts[1].to_string() : "";
    const std::array<std::string, 6> answer = {
        "1.0", sequence, known ? "200" : "400", known ? "OK" : "unknown key", key, ""};
    for (std::size_t i = 0; i < answer.size(); ++i)
      socket_.send(zmq::buffer(answer[i]),
                   i + 1 < answer.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
  }
}

Result<std::unique_ptr<ZapThread>> ZapThread::start(zmq::context_t& context,
                                                    std::set<std::string> authorized) {
  auto wake = WakeUp::create();
  if (!wake) return fail(wake.error());
  return std::unique_ptr<ZapThread>(
      new ZapThread(context, std::move(authorized), std::move(*wake)));
}

ZapThread::ZapThread(zmq::context_t& context, std::set<std::string> authorized,
                     std::shared_ptr<WakeUp> wake)
    : handler_(context, std::move(authorized)), stop_(std::move(wake)) {
  thread_ = std::thread([this] {
    std::array<zmq::pollitem_t, 2> items{
        {{handler_.socket().handle(), 0, ZMQ_POLLIN, 0}, {nullptr, stop_->fd(), ZMQ_POLLIN, 0}}};
    while ((items[1].revents & ZMQ_POLLIN) == 0) {
      try {
        // Ends with the stop event; the timeout only keeps the wait bounded.
        zmq::poll(items, std::chrono::seconds(60));
        handler_.answer_pending();
      } catch (const zmq::error_t& problem) {
        if (problem.num() != EINTR) {
          spdlog::error("the key handler stopped, no new connection is let in: {}", problem.what());
          return;
        }
      }
    }
  });
}

ZapThread::~ZapThread() {
  stop_->wake();
  thread_.join();
}

SocketMonitor::SocketMonitor(zmq::context_t& context, zmq::socket_t& watched, int events)
    : socket_(context, zmq::socket_type::pair) {
  static std::atomic<std::uint64_t> number{0};
  const std::string endpoint = "inproc://crabcast.monitor." + std::to_string(++number);
  if (zmq_socket_monitor(watched.handle(), endpoint.c_str(), events) != 0) throw zmq::error_t();
  watched_.reset(watched.handle());
  socket_.set(zmq::sockopt::linger, 0);
  socket_.connect(endpoint);
}

void SocketMonitor::EndMonitoring::operator()(void* watched) const {
  // Returns when no event is on its way any more.
  if (zmq_socket_monitor(watched, nullptr, 0) != 0)
    spdlog::error("a socket's monitor could not be ended: {}", zmq_strerror(zmq_errno()));
}

std::optional<MonitorEvent> SocketMonitor::next() {
  while (true) {
    const auto parts = receive_parts(socket_);
    if (parts.empty()) return std::nullopt;
    if (parts[0].size() != sizeof(std::uint16_t) + sizeof(std::int32_t)) continue;
    MonitorEvent event;
    const char* at = parts[0].data<char>();
    std::memcpy(&event.event, at, sizeof event.event);
    std::memcpy(&event.value, at + sizeof event.event, sizeof event.value);
    return event;
  }
}

}  // namespace crabcast::cluster

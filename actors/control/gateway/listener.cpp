#include "actors/control/gateway/listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "protocol/format.h"

namespace crabcast::gateway {
namespace {

constexpr int kBacklog = 512;
constexpr int kPauseMs = 100;  // after a failed accept
constexpr std::string_view kBusy =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    "Connection: close\r\nContent-Length: 78\r\n\r\n"
    R"({"error":{"code":"queue_full","message":"too many connections; try again"}}   )";

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<Addresses> look_up(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int problem = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (problem != 0)
    return fail(Errc::invalid_argument,
                "'" + host + ":" + port + "' is no address: " + ::gai_strerror(problem));
  return Addresses(found, &::freeaddrinfo);
}

std::string text_of(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET6)
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text,
                sizeof text);
  else
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text,
                sizeof text);
  return text;
}

bool is_loopback(const sockaddr& address) {
  if (address.sa_family == AF_INET6)
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
  return (ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24) == 127;
}

}  // namespace

Result<Endpoint> parse_endpoint(const std::string& text) {
  const auto colon = text.rfind(':');
  Endpoint endpoint;
  if (colon != std::string::npos) {
    endpoint.host = text.substr(0, colon);
    endpoint.port = text.substr(colon + 1);
  }
  if (endpoint.host.starts_with('[') && endpoint.host.ends_with(']'))
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  const auto port = parse_whole(endpoint.port);
  if (endpoint.host.empty() || !port || *port > 65535)
    return fail(Errc::invalid_argument, "'" + text + "' is not HOST:PORT, such as 127.0.0.1:8080");
  const auto addresses = look_up(endpoint.host, endpoint.port);
  if (!addresses) return fail(addresses.error());
  endpoint.loopback = true;
  for (const addrinfo* one = addresses->get(); one != nullptr; one = one->ai_next)
    endpoint.loopback = endpoint.loopback && is_loopback(*one->ai_addr);
  return endpoint;
}

Result<std::unique_ptr<Listener>> Listener::open(const Endpoint& endpoint, Options options) {
  std::unique_ptr<Listener> listener(new Listener(options));
  CRABCAST_TRY(listener->listen(endpoint));
  return listener;
}

Status Listener::listen(const Endpoint& endpoint) {
  const auto addresses = look_up(endpoint.host, endpoint.port);
  if (!addresses) return fail(addresses.error());
  const addrinfo& first = **addresses;
  const std::string where = endpoint.host + ":" + endpoint.port;
  listening_ = ::socket(first.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int yes = 1;
  if (listening_ < 0 || wake_ < 0 ||
      ::setsockopt(listening_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      ::bind(listening_, first.ai_addr, first.ai_addrlen) != 0 ||
      ::listen(listening_, kBacklog) != 0)
    return fail(error_from_errno(errno, "cannot listen at " + where));
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(listening_, reinterpret_cast<sockaddr*>(&bound), &size) != 0)
    return fail(error_from_errno(errno, "cannot listen at " + where));
  const bool six = bound.ss_family == AF_INET6;
  const auto port = six ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                        : reinterpret_cast<sockaddr_in&>(bound).sin_port;
  address_ =
      (six ? "[" + text_of(bound) + "]" : text_of(bound)) + ":" + std::to_string(ntohs(port));
  return {};
}

Listener::~Listener() {
  stop();
  if (listening_ >= 0) ::close(listening_);
  if (wake_ >= 0) ::close(wake_);
}

void Listener::start(Serve serve, Refused refused) {
  serve_ = std::move(serve);
  refused_ = std::move(refused);
  accepting_ = std::thread([this] { accept_all(); });
}

void Listener::accept_all() {
  while (!stopping_) {
    pollfd ready[] = {{listening_, POLLIN, 0}, {wake_, POLLIN, 0}};
    // For as long as nobody comes: stop() wakes it.
    if (::poll(ready, 2, -1) < 0 && errno != EINTR) return;
    if (stopping_) return;
    join_ended();
    if (!accept_one()) {  // no file descriptors: leave the processor to those that may free some
      pollfd stop{wake_, POLLIN, 0};
      ::poll(&stop, 1, kPauseMs);
    }
  }
}

// False when nothing can be accepted for now.
bool Listener::accept_one() {
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  const int fd = ::accept4(listening_, reinterpret_cast<sockaddr*>(&from), &size,
                           SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM;
  const int yes = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  const std::string address = text_of(from);
  const std::scoped_lock lock(mutex_);
  const bool full = connections_.size() >= options_.connections;
  if (full || by_address_[address] >= options_.connections_each) {
    if (by_address_[address] == 0) by_address_.erase(address);
    (void)::send(fd, kBusy.data(), kBusy.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    ::close(fd);
    refused_(full ? "all" : "address");
    return true;
  }
  ++by_address_[address];
  Connection& one = connections_.emplace_back();
  one.fd = fd;
  one.address = address;
  one.thread = std::thread([this, &one] {
    serve_(one.fd, one.address);
    const std::scoped_lock guard(mutex_);
    ::close(one.fd);
    one.fd = -1;
    if (--by_address_[one.address] == 0) by_address_.erase(one.address);
    one.over = true;
  });
  return true;
}

void Listener::join_ended() {
  std::list<Connection> ended;
  {
    const std::scoped_lock lock(mutex_);
    for (auto it = connections_.begin(); it != connections_.end();) {
      const auto next = std::next(it);
      if (it->over) ended.splice(ended.end(), connections_, it);
      it = next;
    }
  }
  for (auto& one : ended) one.thread.join();
}

std::size_t Listener::open_connections() {
  const std::scoped_lock lock(mutex_);
  std::size_t open = 0;
  for (const auto& one : connections_) open += one.over ? 0 : 1;
  return open;
}

void Listener::stop() {
  stopping_ = true;
  const std::uint64_t one = 1;
  if (wake_ >= 0) (void)!::write(wake_, &one, sizeof one);
  if (accepting_.joinable()) accepting_.join();
  {
    const std::scoped_lock lock(mutex_);
    for (auto& open : connections_)
      if (open.fd >= 0) ::shutdown(open.fd, SHUT_RDWR);
  }
  for (auto& open : connections_)  // nobody else touches the list any more
    if (open.thread.joinable()) open.thread.join();
  connections_.clear();
}

}  // namespace crabcast::gateway

#include "apps/chaos/proxy.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

namespace crabcast::chaos {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr std::size_t kHeldBytes = 4 << 20;  // in one direction; then it is not read from
constexpr int kBacklog = 128;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// What the staged faults ask for, of one node.
struct Weather {
  bool cut_off = false;
  Duration delay{};
};

// Bytes on their way in one direction.
struct Flow {
  struct Piece {
    TimePoint due;
    std::string bytes;
  };
  std::deque<Piece> held;
  std::size_t held_bytes = 0;
  std::size_t written = 0;  // of the first piece
  bool ended = false;       // the reader saw the end
  bool repeat = false, garble = false;
};

struct Connection {
  // `waiting`: the client believes that it is connected, but nothing was dialed yet.
  enum class State { greeting, request, waiting, connecting, open, broken };
  State state = State::greeting;
  std::string source, target;  // nodes
  Fd near, far;
  std::string handshake;
  sockaddr_in address{};
  Flow out, back;  // near to far, far to near

  [[nodiscard]] bool touches(const std::string& node) const {
    return source == node || target == node;
  }
};

class SocksProxy final : public Proxy {
 public:
  ~SocksProxy() override {
    ending_ = true;
    wake();
    if (thread_.joinable()) thread_.join();
  }
  Status open(const std::vector<Node>& nodes);
  [[nodiscard]] std::string endpoint(const std::string& node) const override {
    return "127.0.0.1:" + std::to_string(ports_.at(node));
  }
  void partition(const std::string& node, bool on) override {
    change([&] { weather_[node].cut_off = on; });
  }
  void delay(const std::string& node, Duration by) override {
    change([&] { weather_[node].delay = by; });
  }
  void sever(const std::string& node) override {
    change([&] {
      for (auto& connection : connections_)
        if (connection->state == Connection::State::open && connection->touches(node))
          connection->state = Connection::State::broken;
    });
  }
  void repeat_next(const std::string& node) override {
    each_flow(node, [](Flow& flow) { flow.repeat = true; });
  }
  void garble_next(const std::string& node) override {
    each_flow(node, [](Flow& flow) { flow.garble = true; });
  }

 private:
  template <class Change>
  void change(Change what) {
    {
      const std::scoped_lock lock(mutex_);
      what();
    }
    wake();
  }
  template <class Change>
  void each_flow(const std::string& node, Change what) {
    change([&] {
      for (auto& connection : connections_) {
        if (!connection->touches(node)) continue;
        what(connection->out);
        what(connection->back);
      }
    });
  }
  void wake() const {
    const std::uint64_t one = 1;
    // Full means that it is awake already.
    (void)!::write(wake_.get(), &one, sizeof one);
  }

  void run();
  void accept_from(const std::string& node, int listener);
  void serve(Connection& connection, short near_events, short far_events);
  void read_handshake(Connection& connection);
  void dial(Connection& connection);
  void finish_dial(Connection& connection);
  void pump(Connection& connection, Flow& flow, int from, int to, bool readable);
  [[nodiscard]] bool held_back(const Connection& connection) const;
  [[nodiscard]] Duration delay_of(const Connection& connection) const;

  Fd wake_;
  std::map<std::string, std::uint16_t> ports_;
  std::map<std::string, std::string> by_address_;
  std::vector<std::pair<std::string, Fd>> listeners_;
  std::mutex mutex_;  // guards what follows
  std::map<std::string, Weather> weather_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

Status SocksProxy::open(const std::vector<Node>& nodes) {
  wake_ = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  for (const auto& node : nodes) {
    Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    auto* address = reinterpret_cast<sockaddr*>(&here);
    if (listener.get() < 0 || ::bind(listener.get(), address, size) != 0 ||
        ::listen(listener.get(), kBacklog) != 0 ||
        ::getsockname(listener.get(), address, &size) != 0)
      return fail(error_from_errno(errno, "the proxy of node " + node.name));
    ports_[node.name] = ntohs(here.sin_port);
    by_address_[node.address] = node.name;
    listeners_.emplace_back(node.name, std::move(listener));
  }
  thread_ = std::thread([this] { run(); });
  return {};
}

bool SocksProxy::held_back(const Connection& connection) const {
  if (connection.source == connection.target) return false;
  const auto cut_off = [&](const std::string& node) {
    auto found = weather_.find(node);
    return found != weather_.end() && found->second.cut_off;
  };
  return cut_off(connection.source) || cut_off(connection.target);
}

Duration SocksProxy::delay_of(const Connection& connection) const {
  Duration longest{};
  for (const auto& node : {connection.source, connection.target})
    if (auto found = weather_.find(node); found != weather_.end())
      longest = std::max(longest, found->second.delay);
  return longest;
}

void SocksProxy::run() {
  std::vector<pollfd> polled;
  while (!ending_) {
    polled.clear();
    polled.push_back({wake_.get(), POLLIN, 0});
    for (const auto& [node, listener] : listeners_) polled.push_back({listener.get(), POLLIN, 0});
    const auto first = polled.size();
    std::vector<Connection*> served;
    int wait_ms = 1000;
    {
      const std::scoped_lock lock(mutex_);
      std::erase_if(connections_, [](const auto& connection) {
        return connection->state == Connection::State::broken;
      });
      const auto now = Clock::now();
      for (const auto& connection : connections_) {
        const bool still = held_back(*connection);
        const auto wants = [&](const Flow& in, const Flow& out) {
          short events = 0;
          const auto state = connection->state;
          if (still || state == Connection::State::waiting ||
              state == Connection::State::connecting)
            return events;
          if (!in.ended && in.held_bytes < kHeldBytes) events |= POLLIN;
          if (!out.held.empty()) {
            const auto left =
                std::chrono::ceil<std::chrono::milliseconds>(out.held.front().due - now).count();
            if (left <= 0) events |= POLLOUT;
            wait_ms = std::min(wait_ms, static_cast<int>(std::max<long>(left, 1)));
          }
          return events;
        };
        // A negative descriptor is passed over: a closed one would wake us without end.
        const auto item = [&](const Fd& fd, short events) {
          polled.push_back({events == 0 ? -1 : fd.get(), events, 0});
        };
        item(connection->near, wants(connection->out, connection->back));
        item(connection->far, connection->state == Connection::State::connecting
                                  ? short{POLLOUT}
                                  : wants(connection->back, connection->out));
        served.push_back(connection.get());
      }
    }
    if (::poll(polled.data(), polled.size(), wait_ms) < 0 && errno != EINTR) return;
    std::uint64_t woken = 0;
    (void)!::read(wake_.get(), &woken, sizeof woken);
    const std::scoped_lock lock(mutex_);
    for (std::size_t i = 0; i < served.size(); ++i)
      serve(*served[i], polled[first + 2 * i].revents, polled[first + 2 * i + 1].revents);
    for (std::size_t i = 0; i < listeners_.size(); ++i)
      if (polled[1 + i].revents != 0) accept_from(listeners_[i].first, listeners_[i].second.get());
  }
}

void SocksProxy::accept_from(const std::string& node, int listener) {
  while (true) {
    Fd near(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (near.get() < 0) return;
    auto connection = std::make_unique<Connection>();
    connection->source = node;
    connection->near = std::move(near);
    connections_.push_back(std::move(connection));
  }
}

void SocksProxy::serve(Connection& connection, short near_events, short far_events) {
  switch (connection.state) {
    case Connection::State::greeting:
    case Connection::State::request:
      if (near_events != 0) read_handshake(connection);
      break;
    case Connection::State::waiting:
      dial(connection);
      break;
    case Connection::State::connecting:
      if (far_events != 0) finish_dial(connection);
      break;
    case Connection::State::open:
      if (held_back(connection)) break;
      pump(connection, connection.out, connection.near.get(), connection.far.get(),
           (near_events & (POLLIN | POLLHUP | POLLERR)) != 0);
      pump(connection, connection.back, connection.far.get(), connection.near.get(),
           (far_events & (POLLIN | POLLHUP | POLLERR)) != 0);
      break;
    case Connection::State::broken:
      break;
  }
}

// Client: 5, methods. We: 5, 0. Client: 5, CONNECT, 0, address type, address, port. We: 5, 0, ...
// The answer is always yes: libzmq 4.3.4 ends the process when a proxy that it reached breaks off
// here. What cannot be dialed is closed afterwards.
void SocksProxy::read_handshake(Connection& connection) {
  std::array<char, 512> bytes;
  const auto count = ::recv(connection.near.get(), bytes.data(), bytes.size(), 0);
  if (count == 0 || (count < 0 && errno != EAGAIN)) connection.state = Connection::State::broken;
  if (count <= 0) return;
  auto& text = connection.handshake;
  text.append(bytes.data(), static_cast<std::size_t>(count));
  if (connection.state == Connection::State::greeting) {
    if (text.size() < 2 || text.size() < 2U + static_cast<unsigned char>(text[1])) return;
    text.erase(0, 2U + static_cast<unsigned char>(text[1]));
    if (::send(connection.near.get(), "\x05\x00", 2, MSG_NOSIGNAL) != 2)
      connection.state = Connection::State::broken;
    else
      connection.state = Connection::State::request;
  }
  if (connection.state != Connection::State::request || text.size() < 5) return;
  // By address or, as libzmq does for a dotted one, too, by name.
  const bool by_name = text[3] == 3;
  const auto length = by_name ? 1U + static_cast<unsigned char>(text[4]) : 4U;
  if (text.size() < 4 + length + 2) return;
  auto& address = connection.address;
  address.sin_family = AF_INET;
  if (by_name) {
    if (::inet_pton(AF_INET, text.substr(5, length - 1).c_str(), &address.sin_addr) != 1) {
      connection.state = Connection::State::broken;
      return;
    }
  } else if (text[3] == 1) {
    std::memcpy(&address.sin_addr, text.data() + 4, 4);
  } else {
    connection.state = Connection::State::broken;
    return;
  }
  std::memcpy(&address.sin_port, text.data() + 4 + length, 2);
  text.erase(0, 4 + length + 2);
  std::array<char, INET_ADDRSTRLEN> dotted{};
  ::inet_ntop(AF_INET, &address.sin_addr, dotted.data(), dotted.size());
  if (auto known = by_address_.find(dotted.data()); known != by_address_.end())
    connection.target = known->second;
  // Success; the bound address behind it is looked at by nobody.
  constexpr std::array<char, 10> kYes = {5, 0, 0, 1, 0, 0, 0, 0, 0, 0};
  if (::send(connection.near.get(), kYes.data(), kYes.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kYes.size())) {
    connection.state = Connection::State::broken;
    return;
  }
  connection.state = Connection::State::waiting;
  dial(connection);
}

void SocksProxy::dial(Connection& connection) {
  if (held_back(connection)) return;  // as a SYN that is sent again and again
  connection.state = Connection::State::connecting;
  connection.far = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(connection.far.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(connection.near.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const auto* address = reinterpret_cast<const sockaddr*>(&connection.address);
  if (::connect(connection.far.get(), address, sizeof connection.address) != 0 &&
      errno != EINPROGRESS)
    connection.state = Connection::State::broken;
}

void SocksProxy::finish_dial(Connection& connection) {
  int problem = 0;
  socklen_t size = sizeof problem;
  ::getsockopt(connection.far.get(), SOL_SOCKET, SO_ERROR, &problem, &size);
  connection.state = problem == 0 ? Connection::State::open : Connection::State::broken;
  if (connection.handshake.empty()) return;
  connection.out.held_bytes = connection.handshake.size();
  connection.out.held.push_back({Clock::now(), std::move(connection.handshake)});
}

void SocksProxy::pump(Connection& connection, Flow& flow, int from, int to, bool readable) {
  if (readable && flow.held_bytes < kHeldBytes) {
    std::string bytes(kReadBytes, '\0');
    const auto count = ::recv(from, bytes.data(), bytes.size(), 0);
    if (count > 0) {
      bytes.resize(static_cast<std::size_t>(count));
      if (std::exchange(flow.garble, false)) bytes[bytes.size() / 2] ^= 1;
      const bool twice = std::exchange(flow.repeat, false);
      for (int copies = twice ? 2 : 1; copies > 0; --copies) {
        flow.held_bytes += bytes.size();
        flow.held.push_back({Clock::now() + delay_of(connection), bytes});
      }
    } else if (count == 0) {
      flow.ended = true;
    } else if (errno != EAGAIN) {
      connection.state = Connection::State::broken;
      return;
    }
  }
  while (!flow.held.empty() && flow.held.front().due <= Clock::now()) {
    auto& piece = flow.held.front();
    const auto count = ::send(to, piece.bytes.data() + flow.written,
                              piece.bytes.size() - flow.written, MSG_NOSIGNAL);
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {
      connection.state = Connection::State::broken;
      return;
    }
    flow.written += static_cast<std::size_t>(count);
    if (flow.written < piece.bytes.size()) return;
    flow.held_bytes -= piece.bytes.size();
    flow.held.pop_front();
    flow.written = 0;
  }
  // libzmq never closes one half only.
  if (flow.ended && flow.held.empty()) connection.state = Connection::State::broken;
}

}  // namespace

Result<std::unique_ptr<Proxy>> Proxy::start(const std::vector<Node>& nodes) {
  auto proxy = std::make_unique<SocksProxy>();
  CRABCAST_TRY(proxy->open(nodes));
  return proxy;
}

}  // namespace crabcast::chaos

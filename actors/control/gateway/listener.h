// A listening TCP socket, and a thread for each connection that it accepts.
//
// Bounds: so many connections at once, and so many from one address; one too many is told so and
// closed at once. Running out of file descriptors, or a connection that is gone before it is
// accepted, ends nothing. Concurrency: `serve` runs on many threads at a time.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "protocol/error.h"

namespace crabcast::gateway {

struct Endpoint {
  std::string host;  // 127.0.0.1, ::1, or a name
  std::string port;  // 0: one that is free
  bool loopback = false;
};
// "HOST:PORT" or "[HOST]:PORT"; looks the host's addresses up. invalid_argument.
Result<Endpoint> parse_endpoint(const std::string& text);

class Listener {
 public:
  struct Options {
    std::size_t connections = 256;
    std::size_t connections_each = 64;  // of one address
  };
  using Serve = std::function<void(int fd, const std::string& address)>;  // closes nothing
  using Refused = std::function<void(const std::string& reason)>;

  // address_in_use, permission_denied, ...
  static Result<std::unique_ptr<Listener>> open(const Endpoint& endpoint, Options options);
  ~Listener();
  [[nodiscard]] const std::string& address() const { return address_; }  // "127.0.0.1:8080"
  [[nodiscard]] int fd() const { return listening_; }
  void start(Serve serve, Refused refused);
  std::size_t open_connections();
  // No new connections; those that are open are shut down, and their threads joined.
  void stop();

 private:
  struct Connection {
    int fd = -1;
    std::string address;
    std::atomic<bool> over = false;
    std::thread thread;
  };
  explicit Listener(Options options) : options_(options) {}
  Status listen(const Endpoint& endpoint);
  void accept_all();
  bool accept_one();
  void join_ended();

  const Options options_;
  std::string address_;
  int listening_ = -1;
  int wake_ = -1;
  Serve serve_;
  Refused refused_;
  std::thread accepting_;
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;  // guards what follows
  std::list<Connection> connections_;
  std::map<std::string, std::size_t> by_address_;
};

}  // namespace crabcast::gateway

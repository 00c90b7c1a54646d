// A connection as cpp-httplib reads and writes it, with the limits that the library does not have:
// on the time that a whole request may take, on the size of its head, and on the time that a write
// may wait for a client that does not read. One thread.
#pragma once

#include <httplib.h>

#include <string>

#include "protocol/clock.h"

namespace crabcast::gateway {

struct Limits {
  std::size_t head_bytes = 16 * 1024;  // request line and headers
  std::size_t body_bytes = 1024 * 1024;
  Duration request = std::chrono::seconds(15);  // from its first byte to the end of its body
  Duration idle = std::chrono::seconds(30);     // between two requests
  Duration write = std::chrono::seconds(10);    // of one piece
  std::size_t requests = 1000;                  // on one connection
};

class ConnectionStream final : public httplib::Stream {
 public:
  enum class Trouble { none, head_too_large, too_slow, gone };

  ConnectionStream(int fd, std::string address, const Limits& limits)
      : fd_(fd), address_(std::move(address)), limits_(limits) {}

  // Waits for the first byte of the next request. False: none came, or the client is gone.
  bool wait_for_request();
  // The head is read; what follows is the body.
  void head_is_read() { in_head_ = false; }
  // Exactly so many bytes, of the body. False: see trouble().
  bool read_body(std::string& into, std::size_t bytes);
  // What made reading or writing fail. Nothing is written after that but by `write_raw`.
  [[nodiscard]] Trouble trouble() const { return trouble_; }
  // Part of a request was read, and the rest is missing.
  [[nodiscard]] bool in_request() const { return in_request_; }
  [[nodiscard]] bool peer_is_gone() const;
  void write_raw(std::string_view text);
  // Ends the writing side and reads what the client still sends, for a moment, so that it gets the
  // answer instead of a reset.
  void linger();

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* into, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  // Not the real one: the library compares it with FD_SETSIZE, but nothing here uses select.
  socket_t socket() const override { return 0; }

 private:
  bool wait(short events, TimePoint deadline) const;
  bool fill();

  const int fd_;
  const std::string address_;
  const Limits limits_;
  std::string buffer_;  // read, and not yet taken
  std::size_t taken_ = 0;
  std::size_t head_ = 0;
  bool in_head_ = true;
  bool in_request_ = false;
  TimePoint deadline_;
  Trouble trouble_ = Trouble::none;
};

}  // namespace crabcast::gateway

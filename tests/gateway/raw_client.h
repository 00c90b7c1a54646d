// Bytes to the gateway and back, as no proper client would send them.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "protocol/clock.h"

namespace crabcast::gateway {

class RawClient {
 public:
  // To "127.0.0.1:PORT", from another loopback address if one is given.
  explicit RawClient(const std::string& address, const char* from = nullptr) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in place{};
    place.sin_family = AF_INET;
    if (from != nullptr) {
      ::inet_pton(AF_INET, from, &place.sin_addr);
      (void)::bind(fd_, reinterpret_cast<sockaddr*>(&place), sizeof place);
    }
    ::inet_pton(AF_INET, "127.0.0.1", &place.sin_addr);
    place.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&place), sizeof place) == 0;
  }
  RawClient(const RawClient&) = delete;
  RawClient(RawClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  ~RawClient() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] bool connected() const { return connected_; }

  // False when the gateway has closed the connection.
  bool send(std::string_view text) {
    while (!text.empty()) {
      const auto count = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
  }
  void finish_sending() { ::shutdown(fd_, SHUT_WR); }
  // Up to and with `end`; all that comes before the connection ends, when `end` is empty or
  // missing.
  std::string read_until(const std::string& end, Duration patience = std::chrono::seconds(20)) {
    const auto deadline = Clock::now() + patience;
    for (;;) {
      if (const auto at = end.empty() ? std::string::npos : left_.find(end);
          at != std::string::npos) {
        auto text = left_.substr(0, at + end.size());
        left_.erase(0, text.size());
        return text;
      }
      const auto ms =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
      pollfd ready{fd_, POLLIN, 0};
      char piece[65536];
      ssize_t count = 0;
      if (ms.count() <= 0 || ::poll(&ready, 1, static_cast<int>(ms.count())) <= 0 ||
          (count = ::recv(fd_, piece, sizeof piece, 0)) <= 0)
        return std::exchange(left_, "");
      left_.append(piece, static_cast<std::size_t>(count));
    }
  }
  std::string read_all() { return read_until(""); }
  // The status of the answer to one request; 0 when there is none.
  int status_of(const std::string& request) {
    send(request);
    const auto line = read_until("\r\n");
    return line.starts_with("HTTP/1.1 ") ? std::stoi(line.substr(9)) : 0;
  }

 private:
  int fd_ = -1;
  bool connected_ = false;
  std::string left_;
};

inline std::string get(const std::string& target, const std::string& headers = "") {
  return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n";
}

}  // namespace crabcast::gateway

#include "actors/control/gateway/stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace crabcast::gateway {
namespace {

constexpr std::size_t kPiece = 16 * 1024;
constexpr std::size_t kMostLingering = 8 * 1024 * 1024;
constexpr auto kLinger = std::chrono::seconds(1);

}  // namespace

bool ConnectionStream::wait(short events, TimePoint deadline) const {
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd ready{fd_, events, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(std::min<long long>(left, 60000)));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
  }
}

// Reads what there is, at least one byte.
bool ConnectionStream::fill() {
  buffer_.erase(0, taken_);
  taken_ = 0;
  for (;;) {
    if (!wait(POLLIN, deadline_)) {
      trouble_ = Trouble::too_slow;
      return false;
    }
    char piece[kPiece];
    const auto count = ::recv(fd_, piece, sizeof piece, 0);
    if (count > 0) {
      buffer_.append(piece, static_cast<std::size_t>(count));
      return true;
    }
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    trouble_ = Trouble::gone;
    return false;
  }
}

bool ConnectionStream::wait_for_request() {
  in_head_ = true;
  in_request_ = false;
  head_ = 0;
  deadline_ = Clock::now() + limits_.idle;
  if (taken_ == buffer_.size() && !fill()) return false;
  deadline_ = Clock::now() + limits_.request;
  in_request_ = true;
  return true;
}

ssize_t ConnectionStream::read(char* into, size_t size) {
  if (trouble_ != Trouble::none) return -1;
  if (taken_ == buffer_.size() && !fill()) return trouble_ == Trouble::gone ? 0 : -1;
  const auto count = std::min(size, buffer_.size() - taken_);
  if (in_head_ && (head_ += count) > limits_.head_bytes) {
    trouble_ = Trouble::head_too_large;
    return -1;
  }
  std::copy_n(buffer_.data() + taken_, count, into);
  taken_ += count;
  return static_cast<ssize_t>(count);
}

bool ConnectionStream::read_body(std::string& into, std::size_t bytes) {
  into.resize(bytes);
  for (std::size_t at = 0; at < bytes;) {
    const auto count = read(into.data() + at, bytes - at);
    if (count <= 0) return false;
    at += static_cast<std::size_t>(count);
  }
  return true;
}

ssize_t ConnectionStream::write(const char* from, size_t size) {
  if (trouble_ != Trouble::none) return -1;
  const auto deadline = Clock::now() + limits_.write;
  for (std::size_t sent = 0; sent < size;) {
    const auto count = ::send(fd_, from + sent, size - sent, MSG_NOSIGNAL);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN || !wait(POLLOUT, deadline)) {
      trouble_ = errno == EAGAIN ? Trouble::too_slow : Trouble::gone;
      return -1;
    }
  }
  return static_cast<ssize_t>(size);
}

void ConnectionStream::write_raw(std::string_view text) {
  (void)::send(fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool ConnectionStream::peer_is_gone() const {
  pollfd ready{fd_, POLLRDHUP, 0};
  return ::poll(&ready, 1, 0) > 0 && (ready.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void ConnectionStream::linger() {
  ::shutdown(fd_, SHUT_WR);
  const auto deadline = Clock::now() + kLinger;
  char piece[kPiece];
  for (std::size_t read = 0; read < kMostLingering && wait(POLLIN, deadline);) {
    const auto count = ::recv(fd_, piece, sizeof piece, 0);
    if (count <= 0) return;
    read += static_cast<std::size_t>(count);
  }
}

bool ConnectionStream::is_readable() const {
  return taken_ < buffer_.size() || wait(POLLIN, deadline_);
}
bool ConnectionStream::is_writable() const {
  return trouble_ == Trouble::none && !peer_is_gone();
}
void ConnectionStream::get_remote_ip_and_port(std::string& ip, int& port) const {
  ip = address_;
  port = 0;
}
void ConnectionStream::get_local_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

}  // namespace crabcast::gateway

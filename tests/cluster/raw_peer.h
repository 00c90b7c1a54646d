// Ends of a link that speak ZeroMQ by hand, to say what a real transport never says, and a TCP
// proxy whose connections can be cut.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <string>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "cluster/curve.h"
#include "cluster/wire.h"
#include "protocol/envelope.pb.h"

namespace crabcast::cluster {

inline std::string packed(const pb::Envelope& envelope) {
  std::string head = make_head();
  append_envelope(head, envelope, envelope.ByteSizeLong());
  return head;
}

inline pb::Envelope hello_of(const std::string& process, std::uint32_t protocol = 0) {
  pb::Envelope envelope;
  envelope.set_protocol(protocol);
  envelope.set_request(77);
  envelope.mutable_hello()->set_process(process);
  envelope.mutable_hello()->set_incarnation(5);
  return envelope;
}

inline std::optional<pb::Envelope> first_envelope(const zmq::message_t& message) {
  const auto head = parse_head(message.data(), message.size());
  pb::Envelope envelope;
  if (!head || !envelope.ParseFromArray(head->envelopes[0].data(),
                                        static_cast<int>(head->envelopes[0].size())))
    return std::nullopt;
  return envelope;
}

// Dials a transport and says what the test wants.
class RawDialer {
 public:
  RawDialer(const Keyring& keys, const std::string& endpoint)
      : socket_(context_, zmq::socket_type::dealer) {
    use_client_keys(socket_, keys);
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, 10000);
    socket_.connect(endpoint);
  }
  void send(const std::string& bytes) {
    ASSERT_TRUE(socket_.send(zmq::buffer(bytes), zmq::send_flags::none).has_value());
  }
  // The next envelope, whatever it is.
  std::optional<pb::Envelope> receive() {
    zmq::message_t message;
    if (!socket_.recv(message)) return std::nullopt;
    return first_envelope(message);
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

// Listens, and answers each Hello with one envelope.
class RawListener {
 public:
  RawListener(const Keyring& keys, pb::Envelope answer)
      : zap_(context_, keys.authorized), socket_(context_, zmq::socket_type::router) {
    use_server_keys(socket_, keys);
    socket_.set(zmq::sockopt::linger, 0);
    socket_.bind("tcp://127.0.0.1:*");
    endpoint = socket_.get(zmq::sockopt::last_endpoint);
    thread_ = std::thread([this, answer = std::move(answer)]() mutable { run(std::move(answer)); });
  }
  ~RawListener() {
    done_ = true;
    thread_.join();
  }
  std::string endpoint;

 private:
  void run(pb::Envelope answer) {
    while (!done_) {
      std::vector<zmq::pollitem_t> items{{zap_.socket().handle(), 0, ZMQ_POLLIN, 0},
                                         {socket_.handle(), 0, ZMQ_POLLIN, 0}};
      zmq::poll(items, std::chrono::milliseconds(20));
      zap_.answer_pending();
      zmq::message_t id, payload;
      if (!socket_.recv(id, zmq::recv_flags::dontwait) || !socket_.recv(payload)) continue;
      const auto hello = first_envelope(payload);
      if (!hello || !hello->has_hello()) continue;
      answer.set_answers(hello->request());
      socket_.send(id, zmq::send_flags::sndmore);
      (void)socket_.send(zmq::buffer(packed(answer)), zmq::send_flags::none);
    }
  }
  zmq::context_t context_;
  ZapHandler zap_;
  zmq::socket_t socket_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

// Passes bytes on to a port of this machine. `cut` breaks the connections that are there.
class CuttableProxy {
 public:
  explicit CuttableProxy(const std::string& target_endpoint)
      : target_port_(std::stoi(target_endpoint.substr(target_endpoint.rfind(':') + 1))) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(0);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    socklen_t length = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    endpoint = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] { run(); });
  }
  ~CuttableProxy() {
    done_ = true;
    thread_.join();
    ::close(listener_);
  }
  void cut() { cut_ = true; }
  [[nodiscard]] int accepted() const { return accepted_; }
  std::string endpoint;

 private:
  static sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    return address;
  }
  void accept_one() {
    const int client = ::accept(listener_, nullptr, nullptr);
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(target_port_);
    if (::connect(server, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      ADD_FAILURE() << "the proxy cannot reach its target";
    ends_.push_back(client);
    ends_.push_back(server);  // ends 2i and 2i+1 belong together
    ++accepted_;
  }
  void close_ends() {
    for (const int fd : ends_) ::close(fd);
    ends_.clear();
  }
  bool pass(std::size_t from) {
    char bytes[65536];
    const ssize_t got = ::read(ends_[from], bytes, sizeof bytes);
    if (got <= 0) return false;
    for (ssize_t done = 0; done < got;) {
      const ssize_t put =
          ::send(ends_[from ^ 1], bytes + done, static_cast<std::size_t>(got - done), MSG_NOSIGNAL);
      if (put <= 0) return false;
      done += put;
    }
    return true;
  }
  void run() {
    while (!done_) {
      if (cut_.exchange(false)) close_ends();
      std::vector<pollfd> polled{{listener_, POLLIN, 0}};
      for (const int fd : ends_) polled.push_back({fd, POLLIN, 0});
      ::poll(polled.data(), polled.size(), 5);
      if (polled[0].revents != 0) accept_one();
      for (std::size_t i = 1; i < polled.size(); ++i)
        if (polled[i].revents != 0 && !pass(i - 1)) {
          close_ends();
          break;
        }
    }
    close_ends();
  }
  const int target_port_;
  int listener_ = -1;
  std::vector<int> ends_;
  std::atomic<bool> cut_{false}, done_{false};
  std::atomic<int> accepted_{0};
  std::thread thread_;
};

}  // namespace crabcast::cluster

// Two or more transports in one test, and what they reported.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/transport.h"

namespace crabcast::cluster {

inline constexpr auto kPatience = std::chrono::seconds(20);  // a slow machine is not a failure

// The keys of the tests' cluster; made once.
inline const Keyring& test_keys() {
  static const Keyring keys = make_keyring().value();
  return keys;
}

struct Event {
  enum class Kind { message, up, down } kind;
  PeerInfo peer;
  Error why;
  Inbound inbound;
};

// A transport that keeps its events in order.
class Node {
 public:
  explicit Node(const std::string& name, TransportOptions options = {}) {
    options.process = ProcessId(name);
    if (options.keys.client_public.empty()) options.keys = test_keys();
    TransportHandlers handlers;
    handlers.on_message = [this](Inbound inbound) {
      if (on_message) on_message(inbound);
      put({Event::Kind::message, inbound.from, {}, std::move(inbound)});
    };
    handlers.on_peer_up = [this](const PeerInfo& peer) { put({Event::Kind::up, peer, {}, {}}); };
    handlers.on_peer_down = [this](const PeerInfo& peer, const Error& why) {
      put({Event::Kind::down, peer, why, {}});
    };
    auto started = Transport::start(std::move(options), std::move(handlers));
    if (!started) throw std::runtime_error(started.error().message);
    transport = std::move(*started);
  }
  ~Node() { transport->stop(std::chrono::milliseconds(100)); }

  // Binds on loopback; an empty string when that failed.
  std::string bind() { return transport->bind("tcp://127.0.0.1:*").value_or(""); }

  // The next event; fails the test when there is none in time.
  Event next(Duration patience = kPatience) {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, patience, [this] { return !events_.empty(); })) {
      ADD_FAILURE() << "no event in time";
      return {};
    }
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }
  // True when nothing is reported for that long.
  bool quiet_for(Duration duration) {
    std::unique_lock lock(mutex_);
    return !arrived_.wait_for(lock, duration, [this] { return !events_.empty(); });
  }
  std::size_t events() {
    const std::lock_guard lock(mutex_);
    return events_.size();
  }

  std::function<void(const Inbound&)> on_message;  // set before the first message
  std::unique_ptr<Transport> transport;

 private:
  void put(Event event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    arrived_.notify_one();
  }
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Event> events_;
};

inline pb::Envelope numbered(std::uint64_t number, const std::string& text = "") {
  pb::Envelope envelope;
  envelope.set_request(number);
  envelope.mutable_failure()->set_message(text);
  return envelope;
}

// Sends, and waits while the queue is full.
inline Status send_patiently(Transport& transport, const std::string& peer,
                             const pb::Envelope& envelope, const std::vector<Frame>& frames = {}) {
  const TimePoint deadline = Clock::now() + kPatience;
  while (true) {
    auto sent = transport.send(ProcessId(peer), envelope, frames);
    if (sent || sent.error().code != Errc::queue_full || Clock::now() > deadline) return sent;
    std::this_thread::yield();
  }
}

}  // namespace crabcast::cluster

// A process beside the one under test, over a real transport.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <caf/all.hpp>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "actors/switchboard.h"
#include "cluster/keys.h"
#include "tests/control/store_fixture.h"

namespace crabcast::actors {

inline const cluster::Keyring& keys() {
  static const cluster::Keyring keyring = cluster::make_keyring().value();
  return keyring;
}

// Another process: it keeps what it is sent, and answers as it is told to.
class Peer {
 public:
  using Answer = std::function<void(const Delivery&)>;

  Peer(const std::string& actor, const std::string& node, Answer reply = {}) : actor_(actor) {
    cluster::TransportOptions options;
    static std::atomic<int> number = 0;
    options.process = ProcessId{actor + "@" + node + ":" + std::to_string(++number)};
    options.node = node;
    options.keys = keys();
    board_ = Switchboard::start(system_, std::move(options)).value();
    handle_ = system_.spawn(
        [this](caf::event_based_actor*, const Answer& reply) -> caf::behavior {
          return {[this, reply](const DeliveryPtr& message) {
            if (reply) reply(*message);
            const std::lock_guard lock(mutex_);
            heard_.push_back(message);
            arrived_.notify_all();
          }};
        },
        std::move(reply));
    board_->publish(actor, handle_);
  }
  ~Peer() {
    leave();
    caf::anon_send_exit(handle_, caf::exit_reason::user_shutdown);
  }
  void leave() { board_->stop(); }

  std::string bind() { return board_->bind("tcp://127.0.0.1:*").value(); }
  void connect(const std::string& endpoint, const std::string& actor = "job") {
    other_ = board_->proxy(board_->connect(endpoint, kPatience).value().process, actor);
  }
  void say(const google::protobuf::Message& body) { caf::anon_send(other_, letter(body)); }
  // Returns when the other one has heard it.
  void say_and_wait(const google::protobuf::Message& body) {
    if (const auto answer = ask(body); !answer) ADD_FAILURE() << answer.error().message;
  }
  Result<pb::Envelope> ask(const google::protobuf::Message& body,
                           std::vector<cluster::Frame> frames = {}) {
    caf::scoped_actor self{system_};
    Result<pb::Envelope> result = fail(Errc::timeout, "no answer");
    self->request(other_, kPatience, letter(body, std::move(frames)))
        .receive([&](const DeliveryPtr& answer) { result = *answer->envelope; },
                 [&](const caf::error& error) { result = fail(from_caf(error)); });
    return result;
  }
  // The next message for which `wanted` holds; what came before it is forgotten. Null when none
  // comes.
  DeliveryPtr next(const std::function<bool(const pb::Envelope&)>& wanted) {
    std::unique_lock lock(mutex_);
    DeliveryPtr found;
    arrived_.wait_for(lock, kPatience, [&] {
      while (!found && !heard_.empty()) {
        if (wanted(*heard_.front()->envelope)) found = heard_.front();
        heard_.pop_front();
      }
      return found != nullptr;
    });
    return found;
  }
  // The one to talk to is the one that this came from.
  void talk_to_sender_of(const DeliveryPtr& message) { other_ = message->sender; }

 private:
  OutboundPtr letter(const google::protobuf::Message& body,
                     std::vector<cluster::Frame> frames = {}) const {
    auto message = std::make_shared<Outbound>(*outbound(body, std::move(frames)));
    message->envelope.set_from(actor_);
    return message;
  }

  std::string actor_;
  caf::actor_system_config config_;
  caf::actor_system system_{config_};
  std::unique_ptr<Switchboard> board_;
  caf::actor handle_, other_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<DeliveryPtr> heard_;
};

}  // namespace crabcast::actors

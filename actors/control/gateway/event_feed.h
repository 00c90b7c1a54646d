// The newest events of the registry, followed by one thread however many watch them.
//
// Operation: it asks the controller for what is new twice a second, and keeps the last kKept.
// Nothing is queued for a watcher: each has a number, the last event that it saw, so that a slow
// one costs no memory. Concurrency: all methods from any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "actors/control/gateway/ask.h"

namespace crabcast::gateway {

class EventFeed {
 public:
  static constexpr std::size_t kKept = 2048;
  using EventPtr = std::shared_ptr<const pb::Event>;
  using Asking = std::function<Result<Answer>(const google::protobuf::Message&)>;
  using Heard = std::function<void(const pb::Event&)>;

  EventFeed(Asking ask, Heard heard);
  ~EventFeed();

  struct Batch {
    std::vector<EventPtr> events;
    bool missed = false;  // some after `seq` are not kept any more
  };
  // Waits until there are events after `seq`, or `patience` is over.
  Batch after(std::uint64_t seq, Duration patience);
  std::uint64_t newest();
  // False until the feed knows where the registry ends, which it finds out by asking.
  bool started();
  void stop();
  bool stopped();

 private:
  void follow();
  bool find_end();
  bool read_new();

  const Asking ask_;
  const Heard heard_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<EventPtr> kept_;
  std::uint64_t newest_ = 0;
  bool started_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace crabcast::gateway

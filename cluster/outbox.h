// What waits to be sent to one peer, with its bounds.
//
// Any thread pushes; the transport's I/O thread pops parcels and hands them to ZeroMQ. Envelopes
// are written straight into the parcel that is open at the end of the queue, so a burst becomes a
// few large parcels. Bytes stay on the account until ZeroMQ has let go of them: ZeroMQ's own
// queues are inside the bounds, and its high-water marks are not needed.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cluster/transport.h"
#include "cluster/wake_up.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::cluster {

// One head, and the raw frames of its last envelope.
struct Parcel {
  std::string head;
  std::size_t envelopes = 0;
  std::size_t bytes = 0;  // head and frames
  std::vector<Frame> frames;
};

// What ZeroMQ holds of one peer's messages. Released on ZeroMQ's threads.
class InFlight {
 public:
  explicit InFlight(std::shared_ptr<WakeUp> wake) : wake_(std::move(wake)) {}
  void add(std::size_t messages, std::size_t bytes) {
    messages_ += messages;
    bytes_ += bytes;
  }
  void release(std::size_t messages, std::size_t bytes);
  [[nodiscard]] std::size_t messages() const { return messages_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  // Asks for a wake-up when room was made; true when there is room already.
  bool wait_for_room(std::size_t window_bytes);

 private:
  std::atomic<std::size_t> messages_{0};
  std::atomic<std::size_t> bytes_{0};
  std::atomic<std::size_t> wanted_{
      0};  // wake when fewer bytes than this are held; 0 = nobody waits
  std::shared_ptr<WakeUp> wake_;
};

struct OutboxLimits {
  std::size_t messages = 0;
  std::size_t bytes = 0;  // a single message larger than this goes when nothing else waits
  std::size_t message_bytes = 0;
};

class Outbox {
 public:
  Outbox(OutboxLimits limits, std::shared_ptr<WakeUp> wake);

  // True when nothing else waited: the caller sees to it that the parcel is popped. queue_full,
  // unavailable after close, invalid_argument for a message that no peer would take.
  Result<bool> push(const pb::Envelope& envelope, std::vector<Frame> frames);
  // The next parcel, if there is one and ZeroMQ holds less than its window; nullptr otherwise.
  std::unique_ptr<Parcel> pop();
  // The next parcel, whatever ZeroMQ holds.
  std::unique_ptr<Parcel> pop_unbounded();
  // Drops what waits; later pushes fail.
  void close();
  [[nodiscard]] const std::shared_ptr<InFlight>& in_flight() const { return in_flight_; }

 private:
  const OutboxLimits limits_;
  const std::shared_ptr<InFlight> in_flight_;
  std::mutex mutex_;
  std::deque<std::unique_ptr<Parcel>> parcels_;
  std::size_t messages_ = 0;
  std::size_t bytes_ = 0;
  bool closed_ = false;
  std::atomic<bool> empty_{true};  // lets the I/O thread pass by without the lock
};

}  // namespace crabcast::cluster

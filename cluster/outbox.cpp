#include "cluster/outbox.h"

#include <limits>
#include <utility>

#include "cluster/wire.h"

namespace crabcast::cluster {
namespace {

// A head is closed at this size: large enough that the cost of a ZeroMQ frame and of its
// encryption is spread over many envelopes, small enough to stay in the processor's cache.
constexpr std::size_t kHeadTarget = 64 << 10;
// What ZeroMQ may hold of one peer: keeps its I/O thread busy while ours refills.
constexpr std::size_t kWindowBytes = 4 << 20;

bool sealed(const Parcel& parcel) {
  return !parcel.frames.empty() || parcel.head.size() >= kHeadTarget;
}

}  // namespace

void InFlight::release(std::size_t messages, std::size_t bytes) {
  messages_ -= messages;
  const std::size_t left = bytes_.fetch_sub(bytes) - bytes;
  std::size_t wanted = wanted_.load();
  if (left < wanted && wanted_.compare_exchange_strong(wanted, 0)) wake_->wake();
}

bool InFlight::wait_for_room(std::size_t window_bytes) {
  if (bytes_ < window_bytes) return true;
  // Half the window, so that the I/O thread is woken for a worthwhile amount.
  wanted_ = window_bytes / 2 + 1;
  return bytes_ <= window_bytes / 2;
}

Outbox::Outbox(OutboxLimits limits, std::shared_ptr<WakeUp> wake)
    : limits_(limits), in_flight_(std::make_shared<InFlight>(std::move(wake))) {}

Result<bool> Outbox::push(const pb::Envelope& envelope, std::vector<Frame> frames) {
  const std::size_t envelope_bytes = envelope.ByteSizeLong();
  std::size_t raw_bytes = 0;
  std::vector<std::uint64_t> lengths;
  for (const Frame& frame : frames) {
    raw_bytes += frame.size();
    lengths.push_back(frame.size());
  }
  const std::size_t total = envelope_bytes + raw_bytes;
  if (total > limits_.message_bytes || frames.size() > kMaxRawFrames ||
      envelope_bytes > std::numeric_limits<std::int32_t>::max())
    return fail(Errc::invalid_argument, "a message of " + std::to_string(total) + " bytes in " +
                                            std::to_string(frames.size()) +
                                            " raw frames is larger than a peer takes (" +
                                            std::to_string(limits_.message_bytes) + " bytes)");
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(Errc::unavailable, "the peer is down");
    const std::size_t waiting = messages_ + in_flight_->messages();
    const std::size_t held = bytes_ + in_flight_->bytes();
    if (waiting >= limits_.messages || (waiting > 0 && held + total > limits_.bytes))
      return fail(Errc::queue_full, std::to_string(waiting) + " messages (" + std::to_string(held) +
                                        " bytes) wait already; the peer reads too slowly");
    first = parcels_.empty();
    if (first || sealed(*parcels_.back())) {
      parcels_.push_back(std::make_unique<Parcel>());
      parcels_.back()->head = make_head();
    }
    Parcel& parcel = *parcels_.back();
    const std::size_t before = parcel.head.size();
    append_envelope(parcel.head, envelope, envelope_bytes);
    if (!frames.empty()) append_raw_frames(parcel.head, lengths);
    parcel.frames = std::move(frames);
    ++parcel.envelopes;
    const std::size_t added = parcel.head.size() - before + raw_bytes;
    parcel.bytes += added;
    ++messages_;
    bytes_ += added;
    empty_ = false;
  }
  return first;
}

std::unique_ptr<Parcel> Outbox::pop() {
  if (empty_ || !in_flight_->wait_for_room(kWindowBytes)) return nullptr;
  return pop_unbounded();
}

std::unique_ptr<Parcel> Outbox::pop_unbounded() {
  const std::lock_guard lock(mutex_);
  if (parcels_.empty()) return nullptr;
  auto parcel = std::move(parcels_.front());
  parcels_.pop_front();
  messages_ -= parcel->envelopes;
  bytes_ -= parcel->bytes;
  if (parcels_.empty()) empty_ = true;
  // On the account before the lock is given up, so that push never sees less than there is.
  in_flight_->add(parcel->envelopes, parcel->bytes);
  return parcel;
}

void Outbox::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  parcels_.clear();
  messages_ = 0;
  bytes_ = 0;
  empty_ = true;
}

}  // namespace crabcast::cluster

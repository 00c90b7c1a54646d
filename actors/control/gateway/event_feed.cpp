#include "actors/control/gateway/event_feed.h"

#include <algorithm>

namespace crabcast::gateway {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(500);
constexpr std::uint32_t kPage = 500;

pb::GetEvents query(std::uint64_t after, std::uint32_t limit) {
  pb::GetEvents body;
  body.set_after_seq(after);
  body.set_limit(limit);
  return body;
}

}  // namespace

EventFeed::EventFeed(Asking ask, Heard heard)
    : ask_(std::move(ask)), heard_(std::move(heard)), thread_([this] { follow(); }) {}

EventFeed::~EventFeed() {
  stop();
}

void EventFeed::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void EventFeed::follow() {
  bool found = false;
  for (;;) {
    if (!found) found = find_end();
    const bool more = found && read_new();
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, more ? Duration::zero() : Duration(kPoll),
                          [this] { return stopping_; }))
      return;
  }
}

// The number of the last event: events are numbered without a gap, so a search by halves finds it.
bool EventFeed::find_end() {
  bool failed = false;
  const auto is_after = [&](std::uint64_t seq) {
    const auto answer = ask_(query(seq, 1));
    failed = failed || !answer;
    return answer && (*answer)->event_list().events_size() > 0;
  };
  std::uint64_t below = 0, above = 1;
  while (!failed && is_after(above - 1)) {
    below = above;
    above *= 2;
  }
  // There is an event `below` (or it is 0), and none `above`.
  while (!failed && above - below > 1) {
    const auto middle = below + (above - below) / 2;
    (is_after(middle - 1) ? below : above) = middle;
  }
  if (failed) return false;
  const std::scoped_lock lock(mutex_);
  newest_ = below;
  started_ = true;
  return true;
}

// True when there may be more at once.
bool EventFeed::read_new() {
  const auto answer = ask_(query(newest(), kPage));
  if (!answer) return false;  // it is asked again
  const auto& events = (*answer)->event_list().events();
  for (const auto& event : events) heard_(event);
  const std::scoped_lock lock(mutex_);
  for (const auto& event : events) {
    kept_.push_back(std::make_shared<const pb::Event>(event));
    newest_ = event.seq();
  }
  while (kept_.size() > kKept) kept_.pop_front();
  if (!events.empty()) changed_.notify_all();
  return events.size() == static_cast<int>(kPage);
}

EventFeed::Batch EventFeed::after(std::uint64_t seq, Duration patience) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [&] { return stopping_ || newest_ > seq; });
  Batch batch;
  if (newest_ <= seq) return batch;
  batch.missed = kept_.empty() || kept_.front()->seq() > seq + 1;
  if (batch.missed) return batch;
  const auto first = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const EventPtr& event) { return event->seq() > seq; });
  batch.events.assign(first, kept_.end());
  return batch;
}

std::uint64_t EventFeed::newest() {
  const std::scoped_lock lock(mutex_);
  return newest_;
}

bool EventFeed::stopped() {
  const std::scoped_lock lock(mutex_);
  return stopping_;
}

bool EventFeed::started() {
  const std::scoped_lock lock(mutex_);
  return started_;
}

}  // namespace crabcast::gateway

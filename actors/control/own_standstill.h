// Whether this process itself stood still, so that what it hears of its peers may be its own fault:
// they hear nothing from it for TransportOptions::peer_timeout, give it up, and it learns of that
// when it goes on. Pure; one owner.
#pragma once

#include <utility>

#include "protocol/clock.h"

namespace crabcast::actors {

class OwnStandstill {
 public:
  // A little less than the peers' timeout, which runs from the last heartbeat on.
  static constexpr Duration kGivenUpAfter = std::chrono::milliseconds(4400);
  static constexpr Duration kHearsOfItWithin = std::chrono::seconds(2);

  // At the start, and at every tick of a timer. Returns the time since the one before.
  Duration tick(TimePoint now) {
    note(now);
    return now - std::exchange(last_tick_, now);
  }
  // It went on so short a time ago that it hears only now of peers that gave it up.
  bool is_heard_of(TimePoint now) {
    note(now);  // what they say may come before the tick that is overdue
    return length_ > Duration{} && now - end_ <= kHearsOfItWithin;
  }
  [[nodiscard]] Duration length() const { return length_; }  // of the last one

 private:
  void note(TimePoint now) {
    if (last_tick_ == TimePoint{} || now - last_tick_ < kGivenUpAfter) return;
    end_ = now;
    length_ = now - last_tick_;
  }
  TimePoint last_tick_{}, end_{};
  Duration length_{};
};

}  // namespace crabcast::actors

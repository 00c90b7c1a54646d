// Decides when the peer of one link is down. Pure: time is passed in.
//
// A peer is silent when nothing came from it for `peer_timeout`; it is lost when its connection
// broke and did not come back within `reconnect_grace`. Time in which this process itself did not
// run (it was stopped, or its machine overloaded) is not held against the peer: see `forgive`.
#pragma once

#include <algorithm>
#include <optional>

#include "protocol/clock.h"

namespace crabcast::cluster {

struct FailureTimeouts {
  Duration heartbeat_every;  // an idle link sends something this often
  Duration peer_timeout;     // silence longer than this: down
  Duration reconnect_grace;  // a broken connection may come back this long
};

class FailureDetector {
 public:
  enum class Verdict { alive, silent, lost };

  FailureDetector(FailureTimeouts timeouts, TimePoint now)
      : timeouts_(timeouts), heard_(now), sent_(now) {}

  void heard(TimePoint now) { heard_ = now; }
  void sent(TimePoint now) { sent_ = now; }
  // A second break before the connection came back does not extend the grace.
  void connection_broke(TimePoint now) {
    if (!broke_) broke_ = now;
  }
  void connection_back(TimePoint now) {
    broke_.reset();
    heard_ = now;
  }
  // This process did not look at its sockets for `gap`.
  void forgive(Duration gap) {
    heard_ += gap;
    if (broke_) *broke_ += gap;
  }

  [[nodiscard]] bool heartbeat_due(TimePoint now) const {
    return !broke_ && now - sent_ >= timeouts_.heartbeat_every;
  }
  [[nodiscard]] Verdict verdict(TimePoint now) const {
    if (broke_ && now - *broke_ >= timeouts_.reconnect_grace) return Verdict::lost;
    if (now - heard_ >= timeouts_.peer_timeout) return Verdict::silent;
    return Verdict::alive;
  }
  // When to look again at the latest.
  [[nodiscard]] TimePoint next_deadline() const {
    const TimePoint silence = heard_ + timeouts_.peer_timeout;
    return broke_ ? std::min(silence, *broke_ + timeouts_.reconnect_grace)
                  : std::min(silence, sent_ + timeouts_.heartbeat_every);
  }
  [[nodiscard]] Duration silence(TimePoint now) const { return now - heard_; }

 private:
  FailureTimeouts timeouts_;
  TimePoint heard_;
  TimePoint sent_;
  std::optional<TimePoint> broke_;
};

}  // namespace crabcast::cluster

// Token buckets, one for each key: how often somebody may ask. Pure but for its lock; time is
// passed in. At most kMostKeys are remembered: those that are full again are forgotten first.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "protocol/clock.h"

namespace crabcast::gateway {

struct Rate {
  double per_second = 50;
  double burst = 200;
};

class RateLimit {
 public:
  static constexpr std::size_t kMostKeys = 4096;
  explicit RateLimit(Rate rate) : rate_(rate) {}

  // Takes one from the bucket of `key`. Seconds until there is one again; 0: it was taken.
  double take(const std::string& key, TimePoint now);
  [[nodiscard]] std::size_t keys() const;

 private:
  struct Bucket {
    double left = 0;
    TimePoint at;
  };
  double filled(const Bucket& bucket, TimePoint now) const;
  void forget(TimePoint now);

  const Rate rate_;
  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, Bucket> buckets_;
};

}  // namespace crabcast::gateway

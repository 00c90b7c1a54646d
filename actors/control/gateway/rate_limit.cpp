#include "actors/control/gateway/rate_limit.h"

#include <algorithm>

namespace crabcast::gateway {

double RateLimit::filled(const Bucket& bucket, TimePoint now) const {
  return std::min(rate_.burst, bucket.left + seconds(now - bucket.at) * rate_.per_second);
}

double RateLimit::take(const std::string& key, TimePoint now) {
  const std::scoped_lock lock(mutex_);
  auto found = buckets_.find(key);
  if (found == buckets_.end()) {
    if (buckets_.size() >= kMostKeys) forget(now);
    found = buckets_.emplace(key, Bucket{rate_.burst, now}).first;
  }
  Bucket& bucket = found->second;
  bucket.left = filled(bucket, now);
  bucket.at = now;
  if (bucket.left < 1) return (1 - bucket.left) / rate_.per_second;
  bucket.left -= 1;
  return 0;
}

std::size_t RateLimit::keys() const {
  const std::scoped_lock lock(mutex_);
  return buckets_.size();
}

// Full buckets say nothing. If none is full, the fullest half goes: the busiest stay limited.
void RateLimit::forget(TimePoint now) {
  if (std::erase_if(buckets_, [&](const auto& entry) {
        return filled(entry.second, now) >= rate_.burst;
      }) > 0)
    return;
  std::vector<double> left;
  for (const auto& [key, bucket] : buckets_) left.push_back(filled(bucket, now));
  std::nth_element(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(left.size() / 2),
                   left.end());
  const double median = left[left.size() / 2];
  std::erase_if(buckets_, [&](const auto& entry) { return filled(entry.second, now) >= median; });
}

}  // namespace crabcast::gateway

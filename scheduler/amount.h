// Amounts of cpus, gpus and memory, and quotas on them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "protocol/job_spec.h"

namespace crabcast::scheduler {

// CPU in thousandths, so that sums are exact.
struct Amount {
  std::int64_t cpu_millis = 0;
  std::int64_t gpus = 0;
  std::int64_t memory_bytes = 0;
  friend bool operator==(const Amount&, const Amount&) = default;
  Amount& operator+=(const Amount& o) {
    cpu_millis += o.cpu_millis;
    gpus += o.gpus;
    memory_bytes += o.memory_bytes;
    return *this;
  }
  Amount& operator-=(const Amount& o) {
    cpu_millis -= o.cpu_millis;
    gpus -= o.gpus;
    memory_bytes -= o.memory_bytes;
    return *this;
  }
  [[nodiscard]] bool fits_in(const Amount& room) const {
    return cpu_millis <= room.cpu_millis && gpus <= room.gpus && memory_bytes <= room.memory_bytes;
  }
};
inline Amount operator+(Amount a, const Amount& b) {
  return a += b;
}
inline Amount operator-(Amount a, const Amount& b) {
  return a -= b;
}
inline Amount operator*(Amount a, std::int64_t n) {
  return {a.cpu_millis * n, a.gpus * n, a.memory_bytes * n};
}
// In each dimension the lesser, and the greater.
inline Amount least(const Amount& a, const Amount& b) {
  return {std::min(a.cpu_millis, b.cpu_millis), std::min(a.gpus, b.gpus),
          std::min(a.memory_bytes, b.memory_bytes)};
}
inline Amount most(const Amount& a, const Amount& b) {
  return {std::max(a.cpu_millis, b.cpu_millis), std::max(a.gpus, b.gpus),
          std::max(a.memory_bytes, b.memory_bytes)};
}

Amount amount(const ProcessResources& resources);
// "2.5 CPUs, 1 GPU, 4.0 GiB", without the GPUs when there are none.
std::string to_string(const Amount& amount);

// The largest of the three shares of `whole`; a dimension of which there is nothing counts as 0.
double dominant_share(const Amount& part, const Amount& whole);

// What may be used, or is guaranteed. A dimension that is not named is not judged.
struct Quota {
  std::optional<std::int64_t> cpu_millis = {};
  std::optional<std::int64_t> gpus = {};
  std::optional<std::int64_t> memory_bytes = {};
  friend bool operator==(const Quota&, const Quota&) = default;
  [[nodiscard]] bool empty() const { return !cpu_millis && !gpus && !memory_bytes; }
  [[nodiscard]] bool covers(const Amount& used) const {
    return used.cpu_millis <= cpu_millis.value_or(used.cpu_millis) &&
           used.gpus <= gpus.value_or(used.gpus) &&
           used.memory_bytes <= memory_bytes.value_or(used.memory_bytes);
  }
};
// "8 GPUs, 64.0 GiB": the dimensions that it names; "nothing named" for none.
std::string to_string(const Quota& quota);

}  // namespace crabcast::scheduler

// Steps that are unlike those before them: a loss that jumps, a worker that falls behind. Pure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace crabcast::actors {

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The mean losses of the last steps whose updates were applied, and whether a new one is a spike.
// Made anew from the ledger it is the same, so a spike is one whatever failed before (T-2).
class LossWatch {
 public:
  static constexpr std::size_t kWindow = 50;
  static constexpr std::size_t kLeast = 20;  // steps before anything is a spike

  void reset(const std::vector<double>& losses) { losses_.assign(losses.begin(), losses.end()); }
  void add(double loss) {
    losses_.push_back(loss);
    while (losses_.size() > kWindow) losses_.pop_front();
  }
  // The median that `loss` exceeds more than `factor` times; nothing when it is no spike.
  [[nodiscard]] std::optional<double> spike(double loss, double factor) const {
    if (losses_.size() < kLeast) return std::nullopt;
    const double usual = median({losses_.begin(), losses_.end()});
    return loss > factor * usual ? std::optional(usual) : std::nullopt;
  }

 private:
  std::deque<double> losses_;
};

// Whether a worker takes longer for a lane than the others do, step after step.
class SlowWatch {
 public:
  static constexpr double kSlow = 2, kFineAgain = 1.5;  // times the others' median
  static constexpr std::uint32_t kSteps = 10;           // in a row

  enum class Change { none, became_slow, recovered };
  Change see(double mine, double others) {
    const double ratio = others > 0 ? mine / others : 1;
    if (!slow_) {
      in_a_row_ = ratio > kSlow ? in_a_row_ + 1 : 0;
      if (in_a_row_ < kSteps) return Change::none;
      slow_ = true;
      return Change::became_slow;
    }
    if (ratio > kFineAgain) return Change::none;
    *this = {};
    return Change::recovered;
  }

 private:
  bool slow_ = false;
  std::uint32_t in_a_row_ = 0;
};

}  // namespace crabcast::actors

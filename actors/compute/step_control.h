// Where the training thread waits for the coordinator's word, and where it is told to drop what it
// does because a newer generation is there.
//
// Concurrency: the worker actor calls the first group, the training thread the second.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "protocol/clock.h"
#include "protocol/envelope.pb.h"

namespace crabcast::actors {

class StepControl {
 public:
  enum class Verdict { commit, skip, interrupted, timeout };

  // A newer generation was published: work for older ones is to be dropped.
  void supersede(std::uint64_t generation) {
    std::function<void()> abort;
    {
      std::lock_guard lock(mutex_);
      newest_ = std::max(newest_, generation);
      abort = abort_;
    }
    changed_.notify_all();
    if (abort) abort();
  }
  void stop() { supersede(UINT64_MAX); }
  void commit(const pb::Commit& commit) {
    decide(commit.step(), Verdict::commit, commit.checkpoint());
  }
  void skip(std::uint64_t step) { decide(step, Verdict::skip, 0); }
  [[nodiscard]] std::uint64_t applied() const {
    std::lock_guard lock(mutex_);
    return applied_;
  }
  // The step that waits for its verdict, 0 when none does.
  [[nodiscard]] std::uint64_t pending() const {
    std::lock_guard lock(mutex_);
    return pending_;
  }

  [[nodiscard]] bool superseded(std::uint64_t generation) const {
    std::lock_guard lock(mutex_);
    return newest_ > generation;
  }
  // `abort` is called, on another thread, when `generation` is superseded; at once if it is
  // already.
  void on_supersede(std::uint64_t generation, std::function<void()> abort) {
    bool now = false;
    {
      std::lock_guard lock(mutex_);
      abort_ = abort;
      now = newest_ > generation;
    }
    if (now && abort) abort();
  }
  // A verdict that is there wins over an interruption: a committed step is applied by everybody
  // (T-1).
  Verdict wait(std::uint64_t generation, std::uint64_t step, Duration timeout) {
    std::unique_lock lock(mutex_);
    pending_ = step;
    const auto there = [&] { return decided_ && decided_->step == step; };
    const bool woken =
        changed_.wait_for(lock, timeout, [&] { return there() || newest_ > generation; });
    pending_ = 0;
    if (there()) return decided_->verdict;
    return woken ? Verdict::interrupted : Verdict::timeout;
  }
  // The state was replaced by the one after `step`: older verdicts are void.
  void reset_to(std::uint64_t step) {
    std::lock_guard lock(mutex_);
    applied_ = step;
    decided_.reset();
  }
  void set_applied(std::uint64_t step) {
    std::lock_guard lock(mutex_);
    applied_ = step;
  }
  // Checkpoint that the last verdict asks this member to save; 0 = none.
  [[nodiscard]] std::uint64_t checkpoint_of(std::uint64_t step) const {
    std::lock_guard lock(mutex_);
    return decided_ && decided_->step == step ? decided_->checkpoint : 0;
  }

 private:
  struct Decision {
    std::uint64_t step = 0;
    Verdict verdict{};
    std::uint64_t checkpoint = 0;
  };
  void decide(std::uint64_t step, Verdict verdict, std::uint64_t checkpoint) {
    {
      std::lock_guard lock(mutex_);
      // A skipped step may bring its checkpoint in a Commit of the same number: it stays skipped.
      if (decided_ && decided_->step == step && decided_->verdict == Verdict::skip)
        verdict = Verdict::skip;
      decided_ = Decision{step, verdict, checkpoint};
    }
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t newest_ = 0;
  std::uint64_t applied_ = 0;
  std::uint64_t pending_ = 0;
  std::optional<Decision> decided_;
  std::function<void()> abort_;
};

}  // namespace crabcast::actors

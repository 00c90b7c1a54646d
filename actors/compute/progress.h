// What a member is doing, written by its working thread and read by the actor that reports it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

namespace crabcast::actors {

// Thread-safe.
class Progress {
 public:
  // The start of an operation; a watcher takes a counter that stands still for a hang.
  void begin(std::string operation, std::uint64_t step) {
    std::lock_guard lock(mutex_);
    operation_ = std::move(operation);
    step_ = step;
    ++count_;
  }
  // A long operation got one piece further.
  void advance() { ++count_; }

  struct View {
    std::string doing;
    std::uint64_t step = 0, count = 0;
  };
  [[nodiscard]] View view() const {
    std::lock_guard lock(mutex_);
    return {step_ == 0 ? operation_ : "step " + std::to_string(step_) + ": " + operation_, step_,
            count_};
  }

 private:
  mutable std::mutex mutex_;
  std::string operation_ = "starting";
  std::uint64_t step_ = 0;
  std::atomic<std::uint64_t> count_{0};
};

}  // namespace crabcast::actors

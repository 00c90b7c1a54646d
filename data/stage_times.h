// Processor time of one sample by stage, so that a loader can say which stage limits it.
#pragma once

#include <time.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace crabcast::data {

// demux: opening a file, listing and reading its packets. decode: packets to frames. scale: frames
// to RGB, and to the size of the towers. audio: a sound file to 16 kHz mono, all of it.
enum class Stage { demux, decode, scale, audio, log_mel, patches };
inline constexpr std::array<std::string_view, 6> kStageNames = {"demux", "decode",  "scale",
                                                                "audio", "log_mel", "patches"};

// Nanoseconds by Stage, of the threads that did the work.
using StageTimes = std::array<std::uint64_t, kStageNames.size()>;

// Adds the calling thread's processor time, from here to the end of the scope. Scopes must not
// overlap. Without `times` nothing is measured.
class StageTimer {
 public:
  StageTimer(StageTimes* times, Stage stage)
      : spent_(times == nullptr ? nullptr : &(*times)[static_cast<std::size_t>(stage)]),
        start_(now()) {}
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;
  ~StageTimer() {
    if (spent_ != nullptr) *spent_ += now() - start_;
  }

 private:
  [[nodiscard]] std::uint64_t now() const {
    if (spent_ == nullptr) return 0;
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
  }

  std::uint64_t* spent_;
  std::uint64_t start_;
};

}  // namespace crabcast::data

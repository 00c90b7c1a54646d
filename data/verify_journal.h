// How far a verification got, kept in a file that survives kill -9. Private to data/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "protocol/clock.h"
#include "protocol/descriptor.h"
#include "protocol/error.h"

namespace crabcast::data {

// LIST.partial: a line with what is verified, lines of the list, and lines {"done": N} that say
// that the first N samples are done and all bad ones of them are listed above. What follows the
// last such line counts for nothing. Not thread-safe.
class VerifyJournal {
 public:
  // Takes up what a call with the same `subject` left, or starts anew. already_exists: another
  // process has it open.
  static Result<VerifyJournal> open(const std::filesystem::path& list, const std::string& subject);

  [[nodiscard]] std::uint64_t done() const { return done_; }
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

  void add_bad(std::string line) { lines_.push_back(std::move(line)); }
  // The first `done` samples are done. Written at once, or within a second of calls.
  Status advance(std::uint64_t done);
  Status save();
  // The lines become the list, and the journal goes.
  Status finish();

 private:
  std::filesystem::path list_, path_;
  Descriptor file_;
  std::vector<std::string> lines_;
  std::size_t saved_lines_ = 0;
  std::uint64_t done_ = 0, saved_done_ = 0;
  TimePoint saved_at_{};
};

}  // namespace crabcast::data

// What the offline verbs print beside their results.
#pragma once

#include <cstdint>

#include "apps/cli/exit_codes.h"
#include "protocol/error.h"

namespace crabcast::apps {

// The error on stderr, with `json` on stdout too; returns the exit code.
Exit complain(const Error& error, bool json);

// How far a long verb is: one line on a terminal, drawn again and again; nothing elsewhere.
class Meter {
 public:
  explicit Meter(const char* doing);
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;
  ~Meter();
  void show(std::uint64_t done, std::uint64_t total);  // bytes

 private:
  const char* doing_;
  bool live_, drawn_ = false;
  std::uint64_t shown_ = 0;
};

}  // namespace crabcast::apps

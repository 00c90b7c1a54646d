// The file with queues, quota and users, as the controller follows it: it is read again when it
// changes, and one with mistakes is refused while the last good one stays (docs/scheduling.md).
// Concurrency: one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "protocol/envelope.pb.h"
#include "protocol/error.h"
#include "scheduler/policy.h"

namespace crabcast::actors {

class PolicyFile {
 public:
  // Without a path there is none, and the standard policy holds.
  explicit PolicyFile(std::filesystem::path path);

  // The first time, and whenever it was asked for. not_found; invalid_spec names every mistake.
  Result<scheduler::ClusterPolicy> read();
  // Nothing where the file is as it was when it was read last.
  std::optional<Result<scheduler::ClusterPolicy>> read_if_changed();
  // Puts another text in its place, if it parses; durable when it returns without an error.
  Result<scheduler::ClusterPolicy> replace(const std::string& yaml);
  [[nodiscard]] pb::PolicyText text() const;

 private:
  struct Stamp {
    std::filesystem::file_time_type changed;
    std::uintmax_t bytes = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  [[nodiscard]] std::optional<Stamp> stamp() const;
  Result<scheduler::ClusterPolicy> take(const std::string& yaml);

  std::filesystem::path path_;
  std::optional<Stamp> seen_;
  std::string yaml_;  // the last good one
  std::string refused_;
  std::int64_t loaded_unix_ms_ = 0;
};

}  // namespace crabcast::actors

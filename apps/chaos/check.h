// What must hold after a chaos run: the named invariants (docs/architecture.md), read from the
// job's own store. Functions from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::chaos {

// What a run has come to, so far as it must not depend on faults.
struct Outcome {
  std::vector<std::string> steps;  // each step's samples, losses and checksums, bit for bit
  std::string state;               // step and chunk hashes of the last checkpoint
  std::vector<pb::Event> incidents;
  std::uint32_t checkpoints = 0;
  std::vector<std::string> problems;  // of the store itself
};

// Reads a job's store through, every byte of it. not_found, corrupt.
Result<Outcome> read_outcome(const std::filesystem::path& store);

// T-1, T-2, S-1, S-2: `disturbed` went as `calm` did. Each problem is a sentence.
std::vector<std::string> compare(const Outcome& calm, const Outcome& disturbed);
// H-1: so many incidents for each culprit, at least and at most, and no others.
std::vector<std::string> check_incidents(
    const std::vector<pb::Event>& incidents,
    const std::map<std::string, std::pair<int, int>>& expected);

}  // namespace crabcast::chaos

// What a chaos run stages, read from a YAML file (docs/reliability.md, "Scenarios"). Functions from
// any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/error.h"

namespace crabcast::chaos {

// When a fault strikes; without any of these, right after the one before it.
struct Moment {
  std::optional<std::uint64_t> step;        // this step is committed
  std::optional<std::uint64_t> checkpoint;  // this checkpoint is stored
  double after = 0;                         // so many seconds later
};

struct Fault {
  enum class Kind {
    kill,       // SIGKILL
    stop,       // SIGSTOP, and SIGCONT after `seconds`; 0: never
    slow,       // stopped for most of the time, for `seconds`
    terminate,  // SIGTERM
    memory,     // no more memory than it has now
    partition,  // of a node, for `seconds`
    delay,      // of every byte from and to a node by `milliseconds`, for `seconds`
    sever,      // every connection of a node breaks
    repeat,     // the next bytes on a node's connections come twice
    garble,     // a bit of them is flipped
    corrupt,    // a bit of the newest checkpoint's chunks is flipped
    remove,     // a node's processes are killed and its state folder is deleted
  };
  Kind kind = Kind::kill;
  std::string target;  // role, controller, agent@NODE, or a node; home: the coordinator's node
  Moment moment;
  double seconds = 0;
  double milliseconds = 0;
  [[nodiscard]] bool of_the_network() const {
    return kind >= Kind::partition && kind <= Kind::garble;
  }
};

struct Scenario {
  std::string name;                    // of its file
  std::filesystem::path job;           // a job spec
  std::uint32_t nodes = 1;             // node-1, node-2, ...
  std::vector<Fault> faults;           // in order
  std::vector<std::string> orders;     // protocol/fault_points.h
  std::size_t orders_of_the_file = 0;  // the first ones: each must strike; those drawn may not
  double limit_seconds = 240;
  // Incidents with this culprit, at least and at most; for all others there is what their faults
  // say, and none without one.
  std::map<std::string, std::pair<int, int>> incidents;
  std::string ends = "succeeded";  // state of the job
  bool same_result = true;         // bitwise that of the undisturbed run
};

// Draws what the file leaves to chance from the seed. invalid_argument names file, line and what
// was expected; not_found.
Result<Scenario> read_scenario(const std::filesystem::path& file, std::uint64_t seed);

std::string to_string(const Fault& fault);
// How many incidents the faults and orders must leave when all of them struck, and with which
// culprits.
std::map<std::string, std::pair<int, int>> expected_incidents(const Scenario& scenario);

}  // namespace crabcast::chaos

// Named places in the programs where a test can stage a failure: `crabcast chaos points` lists
// them.
//
// Operation: $CRABCAST_FAULTS holds orders, apart by ';'. Each is
//   ROLE@POINT#N=ACTION    for example  worker-1@collective.all_gather#3=kill
// in the process of that role (or * for any), the N-th time that POINT is passed, this happens:
//   kill         SIGKILL to itself
//   stop         SIGSTOP to itself
//   exit         _exit(70)
//   error:CODE   the operation fails with this Errc, by name
//   delay:MS     the thread sleeps
//   jump:S       from now on wall time is S seconds off (point clock.wall)
//   #N+ instead of #N: the N-th time and each time after it (error and delay only)
// An order is carried out once in a run, also when the process that it killed was started again:
// its claim is a file in the folder $CRABCAST_FAULTS_DIR.
//
// Without the variable a point costs a load and a branch. Not a way to configure anything.
//
// Concurrency: all functions from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.h"

namespace crabcast {

struct FaultPoint {
  std::string_view name;
  std::string_view where;  // in words
};
// All of them; a point that is not listed is refused by arm_faults.
std::span<const FaultPoint> fault_points();

struct FaultOrder {
  enum class Action { kill, stop, exit, error, delay, jump };
  std::string role;  // role id, or *
  std::string point;
  std::uint64_t count = 1;
  bool repeats = false;
  Action action = Action::kill;
  double amount = 0;           // milliseconds or seconds
  Errc code = Errc::io_error;  // with error
  friend bool operator==(const FaultOrder&, const FaultOrder&) = default;
};
// invalid_argument, with what was expected.
Result<std::vector<FaultOrder>> parse_fault_orders(std::string_view text);
std::string to_string(const FaultOrder& order);

// Reads the variables; `role` is this process's. Once, before other threads run. invalid_argument.
Status arm_faults(const std::string& role);

namespace faults {
extern std::atomic<bool> armed;
Status strike(std::string_view point);
// By which staged jumps have moved wall time.
std::int64_t wall_offset_ms();
}  // namespace faults

// The staged error, if an order says so here and now.
inline Status fault_point(std::string_view point) {
  if (!faults::armed.load(std::memory_order_relaxed)) [[likely]]
    return {};
  return faults::strike(point);
}

}  // namespace crabcast

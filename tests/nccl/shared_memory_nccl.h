// NCCL without GPUs: the part of its interface that cluster/nccl calls, for ranks that are threads
// or processes of one machine and exchange bytes in shared memory; and the faults that a test
// stages.
//
// The definitions in shared_memory_nccl.cpp are part of the test program, so they come before those
// of the real library. As in NCCL, with the settings that cluster/nccl chooses: no call waits
// (ncclInProgress); nobody notices that a rank is gone, its partners wait until they abort;
// ncclCommFinalize ends when all ranks have called it. Stricter than NCCL: what it is given must be
// device memory, and a communicator must not be used before it stands.
#pragma once

#include <cstdint>

namespace crabcast::nccl_test {

inline constexpr int kMaxRanks = 4;

enum class Fault : std::uint8_t {
  none,
  hang,          // the operation does not end
  refuse,        // the call that starts the operation fails: ncclInternalError
  remote_error,  // the operation does not end, and its state becomes ncclRemoteError
  die,           // SIGKILL of the own process, in the operation
};

// The next communicator that this thread forms meets the fault in its operation of this number,
// from 1; 0 is the forming. A group is one operation.
void stage(Fault fault, std::uint64_t operation);

// The next unique id of this thread cannot be made.
void stage_no_unique_id();

// How many communicators of this process were closed in order, and how many aborted.
struct Endings {
  int finalized = 0, aborted = 0;
};
Endings endings();

}  // namespace crabcast::nccl_test

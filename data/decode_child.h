// The child's half of a decode pool (data/decode_pool.h): what `crabcast-compute decode-child`
// runs.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace crabcast::data {

struct DecodeChildOptions {
  int socket = -1;
  pid_t parent = 0;                // when it ends, so does this process, whatever it is doing
  std::uint64_t memory_bytes = 0;  // RLIMIT_DATA; 0 = no limit
};

// Decodes what comes over the socket, one sample at a time, until the other side closes it. Takes
// the whole process: it sets its limits and LibTorch's threads. Returns the exit code.
int run_decode_child(const DecodeChildOptions& options);

}  // namespace crabcast::data

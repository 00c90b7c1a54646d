// The Collective over NCCL, for members that own one GPU each (preset cuda).
//
// The communicator is non-blocking: every call into NCCL returns at once and is polled, so that
// `abort` and timeouts work while NCCL waits for a member that is gone. Operations run on a stream
// of the communicator's own and return when their work on the GPU is done; the caller makes sure
// that what it sends is ready (its own stream is synchronized). Buffers in host memory are staged
// through device memory. NCCL refuses two ranks on one GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cluster/collective.h"

namespace crabcast::cluster {

// The bytes that name a new communicator: rank 0 makes them, all ranks pass the same ones.
Result<std::string> make_nccl_unique_id();

// Forms the communicator on the GPU `device`; all ranks call it at the same time. timeout after
// `form_timeout`, cancelled when `give_up`, which is asked while it waits, says so; device_error
// with NCCL's own words for everything else. An operation in which nothing ends for
// `operation_timeout` fails with timeout.
Result<std::unique_ptr<Collective>> make_nccl_collective(const std::string& unique_id, int device,
                                                         std::uint32_t rank, std::uint32_t size,
                                                         Duration form_timeout,
                                                         Duration operation_timeout,
                                                         const std::function<bool()>& give_up);

}  // namespace crabcast::cluster

// The fence of a job's store: how often the controller had started the job when the coordinator was
// started that has the store (docs/protocol.md, "Fences"). Whoever has a lower one writes nothing
// into it any more.
//
// Concurrency: as JobStore's records.
#pragma once

#include <cstdint>

#include "protocol/error.h"
#include "storage/job_store.h"

namespace crabcast::storage {

// 0: it was written before there were fences, or nobody has taken it yet.
Result<std::uint64_t> fence_of(const JobStore& store);
// The store is the fence's from now on. Durable. stale_generation, with both numbers, when a higher
// one has it.
Status take_fence(JobStore& store, std::uint64_t fence);

}  // namespace crabcast::storage

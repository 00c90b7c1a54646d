// Which collective the workers of a generation use: the ZeroMQ one that they formed where they
// compute on CPUs, NCCL where each owns a GPU.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/collective.h"

namespace crabcast::actors {

// `meeting` is the ZeroMQ collective of this generation; on a GPU ("cuda:0") with more than one
// member it carries NCCL's unique id, after which NCCL takes its place. All ranks call it.
// `give_up` is asked while NCCL waits for the other members: true ends the wait with `cancelled`.
// Errors: as of cluster/nccl/nccl_collective.h; unsupported in a build without the preset cuda.
Result<std::unique_ptr<cluster::Collective>> collective_for(
    const std::string& device, std::unique_ptr<cluster::Collective> meeting, Duration form_timeout,
    Duration operation_timeout, const std::function<bool()>& give_up);

}  // namespace crabcast::actors

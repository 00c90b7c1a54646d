// The member processes: what `crabcast-compute role LAUNCH` runs. Each blocks until the job ends
// for it and returns the process's exit code (kMemberDone, kMemberFailed).
#pragma once

#include <caf/actor_system.hpp>

#include "actors/compute/member.h"

namespace crabcast::actors {

int run_worker(caf::actor_system& system, MemberProcess& process);
int run_loader(caf::actor_system& system, MemberProcess& process);
int run_evaluator(caf::actor_system& system, MemberProcess& process);

}  // namespace crabcast::actors

// Reads a job's checkpoints through now and then, so that damage is found before one is needed.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <memory>

#include "protocol/clock.h"
#include "storage/job_store.h"

namespace crabcast::actors {

// To the job actor: a checkpoint is damaged. Said once for each write of a checkpoint.
struct DamageFound {
  storage::VerifyReport report;
};

// On a thread of its own that the kernel serves last, for the disk and for the CPU, so no commit
// and no save waits for it. Every `every` it goes through all checkpoints that are not marked as
// damaged, one after another, in small pieces, from the disk and not from memory.
caf::actor spawn_scrub(caf::actor_system& system, std::shared_ptr<storage::JobStore> store,
                       Duration every, const caf::actor& job);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::DamageFound)

// The job actor: carries out what the JobMachine decides, and is what members, agents and the
// controller talk to. One for each coordinator process.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <memory>
#include <string>

#include "actors/control/job_machine.h"
#include "actors/switchboard.h"
#include "storage/job_store.h"

namespace crabcast::actors {

struct JobOptions {
  pb::RoleLaunch launch;  // of the coordinator
  JobSpec spec;
  JobHistory history;
  std::string control_endpoint;  // what members connect to
  std::string bulk_endpoint;
  Switchboard* control = nullptr;  // outlives the actor
  Switchboard* bulk = nullptr;
  std::shared_ptr<storage::JobStore> store;  // taken for the launch's fence (storage/fence.h)
};

// Ends by itself when the job is over and the controller knows, or did not answer for a while; with
// stale_generation when a later coordinator of the job is at work.
caf::actor spawn_job(caf::actor_system& system, const JobOptions& options);

// What the store says of an earlier coordinator's work. corrupt when a change of the mixture is
// missing.
Result<JobHistory> read_history(const storage::JobStore& store, const MixtureSpec& mixture);

}  // namespace crabcast::actors

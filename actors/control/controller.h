// The controller of a cluster: takes jobs, has them placed, starts their coordinators, answers
// clients. It never touches a tensor or a step; running jobs go on without it.
//
//   controller  root: clients, agents and coordinators talk to it; carries out what the pure
//               ClusterMachine decides
//   registry    owns the RocksDB registry, on a thread of its own
#pragma once

#include <atomic>
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <filesystem>
#include <memory>
#include <string>

#include "actors/switchboard.h"
#include "protocol/clock.h"
#include "storage/registry.h"

namespace crabcast::actors {

struct ControllerOptions {
  std::string endpoint;                // its own, for coordinators
  Switchboard* switchboard = nullptr;  // outlives the actor
  std::shared_ptr<storage::Registry> registry;
  // true (daemon): jobs that an earlier controller left unfinished go on. false (`crabcast run`):
  // they wait, stopped, until somebody runs them again; and any queue is the default one.
  bool recover = true;
  // How long agents and coordinators have to come back.
  Duration recovery = std::chrono::seconds(5);
  // Queues, quota and users (docs/scheduling.md); read again when it changes. Empty: none. One that
  // does not parse ends the actor at once with the mistakes; a later one is refused.
  std::filesystem::path policy = {};
  std::shared_ptr<std::atomic<bool>> recovered;  // set when that is over; may be null
};

caf::actor spawn_controller(caf::actor_system& system, const ControllerOptions& options);

}  // namespace crabcast::actors

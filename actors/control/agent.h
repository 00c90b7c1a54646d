// The agent of a node: starts and reaps the processes of jobs, keeps their logs, and copies of the
// stores of jobs elsewhere (replica_store.h); reports to the controller. It decides nothing about
// training.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "actors/control/state_folder.h"
#include "actors/switchboard.h"

namespace crabcast::actors {

struct AgentOptions {
  std::string node;
  pb::Resources total;
  std::vector<std::string> labels = {};  // name=value
  std::vector<std::string> taints = {};
  std::string version = {};  // of the program
  StateFolder state;
  std::filesystem::path keys;           // keyring folder that its processes use
  std::string bind_host = "127.0.0.1";  // its processes listen there
  std::string endpoint;                 // this agent's own
  std::string bulk_endpoint;            // where it takes copies of stores
  std::string controller_endpoint;
  std::filesystem::path program;          // crabcast
  std::filesystem::path compute_program;  // crabcast-compute
  Switchboard* switchboard = nullptr;     // these outlive the actor
  Switchboard* bulk = nullptr;
};

// Quits with an error that names the cause when it cannot start processes. On exit its processes
// are stopped.
caf::actor spawn_agent(caf::actor_system& system, const AgentOptions& options);

// This machine's cores, GPUs (gpu_slots.h) and memory.
pb::Resources machine_resources();

}  // namespace crabcast::actors

// A controller or an agent with all that it needs around it, in this process: for the daemons and
// for `crabcast run`, which has one of each.
#pragma once

#include <atomic>
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <filesystem>
#include <memory>
#include <string>

#include "actors/control/agent.h"
#include "actors/control/controller.h"
#include "actors/control/gateway/server.h"
#include "actors/control/state_folder.h"
#include "actors/switchboard.h"
#include "protocol/error.h"

namespace crabcast::apps {

// A CAF system with a small thread pool; all actors must have ended before it goes.
class ActorSystem {
 public:
  ActorSystem();
  ~ActorSystem();
  caf::actor_system& system();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class ControllerProcess {
 public:
  // Opens keys and registry, listens at `bind` (tcp://HOST:PORT), writes the endpoint into the
  // state folder. already_exists when another controller holds the registry.
  static Result<std::unique_ptr<ControllerProcess>> start(caf::actor_system& system,
                                                          const actors::StateFolder& state,
                                                          const std::string& bind, bool recover,
                                                          const std::filesystem::path& policy);
  ~ControllerProcess();
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] const caf::actor& actor() const { return actor_; }
  // The HTTP gateway at HOST:PORT, from now on; returns where it listens.
  Result<std::string> serve_http(const std::string& bind);
  void stop();

 private:
  ControllerProcess() = default;
  actors::StateFolder state_;
  std::string endpoint_;
  std::unique_ptr<actors::Switchboard> switchboard_;
  caf::actor actor_;
  std::shared_ptr<std::atomic<bool>> recovered_ = std::make_shared<std::atomic<bool>>(false);
  std::unique_ptr<gateway::Gateway> gateway_;
};

class AgentProcess {
 public:
  // Fills in endpoints, programs and switchboards of `options`.
  static Result<std::unique_ptr<AgentProcess>> start(caf::actor_system& system,
                                                     actors::AgentOptions options,
                                                     const std::filesystem::path& keys);
  ~AgentProcess();
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] const std::string& node() const { return node_; }
  [[nodiscard]] const caf::actor& actor() const { return actor_; }
  void stop();

 private:
  AgentProcess() = default;
  std::string endpoint_, node_;
  std::unique_ptr<actors::Switchboard> switchboard_, bulk_;
  caf::actor actor_;
};

// A name that no other process of the cluster has.
std::string unique_process_name(const std::string& kind);

}  // namespace crabcast::apps

// The state of the agent actor. Only agent*.cpp include this; others see agent.h.
#pragma once

#include <caf/event_based_actor.hpp>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "actors/control/agent.h"
#include "actors/control/gpu_slots.h"
#include "actors/control/replica_store.h"
#include "cluster/child_process.h"

namespace crabcast::actors {

// A child process of the agent ended.
struct Exited {
  cluster::ChildExit exit;
};
using StartAgain = std::shared_ptr<const pb::StartRole>;

struct AgentState {
  static inline const char* name = "agent";
  explicit AgentState(caf::event_based_actor* s) : self(s) {}

  struct Role {
    pb::RoleLaunch launch;
    pid_t pid = 0;
    TimePoint started{};
    std::vector<std::string> gpus;  // its own, by name
    bool stopping = false;
    bool displaced = false;  // it is of a lower fence, and is being killed
  };

  caf::event_based_actor* self;
  AgentOptions options;
  std::unique_ptr<cluster::ChildProcesses> children;
  GpuSlots gpus;
  std::map<std::pair<std::string, std::string>, Role> roles;   // (job, role)
  std::map<std::string, caf::actor> watchers;                  // by job: its coordinator
  std::map<std::string, std::vector<pb::RoleExited>> unheard;  // exits while nobody watched
  std::map<std::string, pb::RoleExited> farewells;  // of coordinators; the controller has not heard
  std::map<std::string, std::uint64_t> fences;      // by job: the highest that was seen
  // By job: StartRoles that wait for displaced processes to end.
  std::map<std::string, std::vector<DeliveryPtr>> waiting;
  caf::actor controller;
  caf::actor stores;  // the replica store
  StoresHeld held;    // null until it has looked

  // messages (agent.cpp)
  void deliver(const DeliveryPtr& message);
  void connect_to_controller();
  void connected(const Connected& result);
  void stores_held(const StoresHeld& stores);
  void register_here();
  void report();
  // processes (agent_roles.cpp)
  void order_start(const DeliveryPtr& message);
  void start_when_restored(const DeliveryPtr& message);
  void start_and_answer(const Delivery& message);
  Result<pb::RoleStarted> start(pb::RoleLaunch launch);
  void start_again(const pb::RoleLaunch& launch);
  Status stop(const pb::StopRole& stop);
  void exited(const cluster::ChildExit& exit);
  bool restart_coordinator(Role& role, const pb::RoleExited& notice);
  void tell_controller(const pb::RoleExited& farewell);
  void watch(const std::string& job, const caf::actor& who);
  // Whoever has a lower fence than one that was seen gives no orders: stale_generation. A higher
  // one ends the job's processes of a lower one.
  Status check_fence(const std::string& job, std::uint64_t fence);
  void fence_seen(const FenceSeen& seen);
  [[nodiscard]] bool being_displaced(const std::string& job) const;
  // logs (agent_roles.cpp)
  void read_log(const Delivery& request) const;
  static std::string log_tail(const pb::RoleLaunch& launch);
  static pb::RoleStarted describe(const Role& role);
};

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::Exited)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::StartAgain)

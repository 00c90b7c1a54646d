#include "actors/control/agent.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <caf/all.hpp>
#include <thread>

#include "actors/control/agent_state.h"

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;

constexpr auto kReportEvery = std::chrono::seconds(1);
constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr auto kReconnectEvery = std::chrono::seconds(1);

}  // namespace

void AgentState::deliver(const DeliveryPtr& message) {
  const auto& envelope = *message->envelope;
  switch (envelope.body_case()) {
    case pb::Envelope::kStartRole:
      order_start(message);
      break;
    case pb::Envelope::kStopRole: {
      const auto& order = envelope.stop_role();
      Status stopped = check_fence(order.job(), order.fence());
      if (stopped) stopped = stop(order);
      if (stopped)
        answer(*message, pb::Done{});
      else
        answer(*message, stopped.error());
      break;
    }
    case pb::Envelope::kWatchRoles: {
      const auto& order = envelope.watch_roles();
      const Status mine = check_fence(order.job(), order.fence());
      if (!mine) return answer(*message, mine.error());
      watch(order.job(), message->sender);
      answer(*message, pb::Done{});
      break;
    }
    case pb::Envelope::kGetLog:
      read_log(*message);
      break;
    case pb::Envelope::kDone:
      break;
    default:
      answer(*message, Error{Errc::unsupported, "an agent takes no such message"});
  }
}

void AgentState::connect_to_controller() {
  options.switchboard->connect_async(options.controller_endpoint, kConnectTimeout,
                                     caf::actor_cast<caf::actor>(self));
}

void AgentState::connected(const Connected& result) {
  if (!result.peer->has_value()) {
    spdlog::warn("controller at {}: {}", result.endpoint, result.peer->error().message);
    self->delayed_send(self, kReconnectEvery, Connected{result.endpoint, nullptr});
    return;
  }
  controller = options.switchboard->proxy((*result.peer)->process, "controller");
  self->monitor(controller);
  register_here();
}

// The controller must not place a job before it knows who holds its store.
void AgentState::stores_held(const StoresHeld& stores) {
  const bool first = !held.stores;
  held = stores;
  if (first) connect_to_controller();
}

void AgentState::register_here() {
  pb::RegisterAgent hello;
  hello.set_node(options.node);
  hello.set_endpoint(options.endpoint);
  *hello.mutable_total() = options.total;
  hello.set_version(options.version);
  for (const auto& label : options.labels) hello.add_labels(label);
  for (const auto& taint : options.taints) hello.add_taints(taint);
  for (const auto& [key, role] : roles) *hello.add_running() = describe(role);
  hello.set_bulk_endpoint(options.bulk_endpoint);
  for (const auto& store : *held.stores) *hello.add_replicas() = store;
  self->send(controller, outbound(hello));
  for (const auto& [job, farewell] : farewells) tell_controller(farewell);
}

void AgentState::report() {
  if (!controller) return;
  pb::AgentReport report;
  report.set_node(options.node);
  for (const auto& [key, role] : roles) *report.add_running() = describe(role);
  for (const auto& store : *held.stores) *report.add_replicas() = store;
  self->send(controller, outbound(report));
}

namespace {

caf::behavior agent(caf::stateful_actor<AgentState>* self, const AgentOptions& options) {
  auto& state = self->state;
  state.options = options;
  auto names = machine_gpus();
  if (names.size() > options.total.gpus()) names.resize(options.total.gpus());
  state.gpus = GpuSlots(std::move(names));
  auto me = caf::actor_cast<caf::actor>(self);
  // Weak: the exit handler runs on another thread and must not keep the actor alive.
  caf::actor_addr address = me.address();
  auto children = cluster::ChildProcesses::create([address](cluster::ChildExit exit) {
    if (auto agent = caf::actor_cast<caf::actor>(address)) caf::anon_send(agent, Exited{exit});
  });
  if (!children) {
    self->quit(to_caf(children.error()));
    return {};
  }
  state.children = std::move(*children);
  state.stores = spawn_replica_store(self->system(), options.state, options.node, me);
  self->link_to(state.stores);
  options.switchboard->publish("agent", me);
  options.bulk->publish("replicas", state.stores);
  self->set_down_handler([self, &state](const caf::down_msg& down) {
    if (state.controller && down.source == state.controller.address()) {
      state.controller = nullptr;
      self->delayed_send(self, kReconnectEvery,
                         Connected{state.options.controller_endpoint, nullptr});
    }
    std::erase_if(state.watchers,
                  [&](const auto& entry) { return entry.second.address() == down.source; });
  });
  self->delayed_send(self, kReportEvery, tick_atom::value);
  return {
      [&state](const DeliveryPtr& message) { state.deliver(message); },
      [&state](const Exited& exited) { state.exited(exited.exit); },
      [&state](const Connected& result) {
        // Without a result it is our own reminder to try again.
        if (!result.peer) return state.connect_to_controller();
        state.connected(result);
      },
      [&state](const StartAgain& again) { state.start_again(again->launch()); },
      [&state](const StoresHeld& stores) { state.stores_held(stores); },
      [&state](const FenceSeen& seen) { state.fence_seen(seen); },
      [self, &state](tick_atom) {
        self->delayed_send(self, kReportEvery, tick_atom::value);
        state.report();
      },
  };
}

}  // namespace

caf::actor spawn_agent(caf::actor_system& system, const AgentOptions& options) {
  return system.spawn(agent, options);
}

pb::Resources machine_resources() {
  pb::Resources total;
  total.set_cpus(std::max(1U, std::thread::hardware_concurrency()));
  total.set_gpus(static_cast<std::uint32_t>(machine_gpus().size()));
  total.set_memory_bytes(static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                         static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE)));
  return total;
}

}  // namespace crabcast::actors

// The job actor and the agents of its nodes: orders to start and stop, and what runs where.
#include <caf/all.hpp>

#include "actors/control/job_state.h"

namespace crabcast::actors {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(20);

// The role that a message to an agent is about.
const std::string& role_of(const Outbound& message) {
  const auto& envelope = message.envelope;
  return envelope.has_start_role() ? envelope.start_role().launch().slot().role()
                                   : envelope.stop_role().role();
}

}  // namespace

std::string JobState::node_of(const Delivery& message) const {
  for (const auto& [node, agent] : agents)
    if (agent.handle && agent.handle == message.sender) return node;
  return {};
}

// It runs there already when we begin to watch. If the role moved to another node since, what was
// left behind must not act any more.
void JobState::role_started(const std::string& node, const pb::RoleStarted& started) {
  if (node == machine->node_of(started.role()))
    machine->adopt_process(started.role(), started.pid(), now());
  else if (!node.empty())
    act(StopProcess{started.role(), node});
}

// Orders that wait for their agent are void: the role starts elsewhere, runs, or is stopped.
void JobState::forget_starts(const std::string& role) {
  for (auto& [node, agent] : agents)
    std::erase_if(agent.waiting, [&](const OutboundPtr& order) {
      return order->envelope.has_start_role() && role_of(*order) == role;
    });
}

void JobState::to_agent(const std::string& node, OutboundPtr message) {
  auto& agent = agents[node];
  if (agent.handle) return give_order(node, message);
  std::erase_if(agent.waiting, [&](const OutboundPtr& order) {  // it is repeated
    return order->envelope.has_stop_role() && message->envelope.has_stop_role() &&
           role_of(*order) == role_of(*message);
  });
  agent.waiting.push_back(std::move(message));
}

void JobState::give_order(const std::string& node, const OutboundPtr& message) {
  const bool starts = message->envelope.has_start_role();
  self->request(agents.at(node).handle, kStartTimeout, message)
      .then(
          [this, node](const DeliveryPtr& answer) {
            const auto& started = answer->envelope->role_started();  // empty: it was stopped
            if (node == machine->node_of(started.role()))
              machine->on_started(started.role(), started.pid());
          },
          [this, node, starts, role = role_of(*message)](const caf::error& error) {
            const auto why = from_caf(error);
            if (displaced(why)) return;
            if (node != machine->node_of(role)) return;  // the role moved since
            if (starts)
              machine->on_start_failed(role, why, now());
            else if (why.code == Errc::not_found)
              machine->on_nothing_to_stop(role, now());
            carry_out();
          });
}

}  // namespace crabcast::actors

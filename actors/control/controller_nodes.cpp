// The controller: nodes that come and go, and which of them hold the stores of jobs.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/controller_state.h"
#include "actors/control/held_stores.h"

namespace crabcast::actors {

void ControllerState::agent_joined(const Delivery& message) {
  const auto& body = message.envelope->register_agent();
  if (auto known = agents.find(body.node());
      known != agents.end() && known->second.handle != message.sender) {
    answer(message, Error{Errc::already_exists, "a node is named " + body.node() + " already"});
    spdlog::warn("a second agent says that it is node {}; refused", body.node());
    return;
  }
  auto& agent = agents[body.node()];
  agent.handle = message.sender;
  agent.total = body.total();
  agent.endpoint = body.endpoint();
  agent.bulk_endpoint = body.bulk_endpoint();
  for (const auto& store : body.replicas()) agent.stores[store.job()] = store;
  agent.running = {body.running().begin(), body.running().end()};
  self->monitor(agent.handle);
  answer(message, pb::Done{});
  spdlog::info("node {} joined: {} cpus, {} gpus", body.node(), body.total().cpus(),
               body.total().gpus());
  // Before the scheduler knows the node: it would place a job there whose store is elsewhere, or
  // one that runs there.
  adopt_again(body.node());
  bind_waiting_jobs();
  scheduler::Node node;
  node.id = NodeId{body.node()};
  node.total = scheduler::amount(
      ProcessResources{body.total().cpus(), body.total().gpus(), body.total().memory_bytes()});
  self->send(scheduler, NodeJoined{node});
  tell_nodes_for_replicas();
}

void ControllerState::agent_reported(const pb::AgentReport& report) {
  const auto found = agents.find(report.node());
  if (found == agents.end()) return;
  found->second.running = {report.running().begin(), report.running().end()};
  found->second.stores.clear();
  for (const auto& store : report.replicas()) found->second.stores[store.job()] = store;
  bind_waiting_jobs();
}

// It runs where its record says. While the controller recovers, more of its nodes may come back.
void ControllerState::adopt(Job& job) {
  ++job.queued;
  const JobId id{job.record.job()};
  self->send(scheduler, JobAdopted{request_of(job), placement_of(job)});
  for (const auto& slot : job.record.placement())
    if (!recovering && !agents.contains(slot.node()))
      self->send(scheduler, RoleGone{id, slot.role()});
}

// Jobs that were to be placed again, and whose coordinators never ended: only the connection did.
void ControllerState::adopt_again(const std::string& node) {
  for (const auto& role : agents.at(node).running) {
    const auto found = jobs.find(role.job());
    if (found == jobs.end()) continue;
    Job& job = found->second;
    coordinator_runs(job, role);
    if (job.coordinator_pid != role.pid() || job.record.state() != pb::JOB_PENDING) continue;
    event(role.job(), pb::SEVERITY_INFO, "node_back", "node " + node + " with its coordinator");
    job.record.set_state(pb::JOB_STARTING);  // until the coordinator registers
    store(job);
    adopt(job);
  }
}

void ControllerState::down(const caf::down_msg& message) {
  for (auto it = agents.begin(); it != agents.end(); ++it) {
    if (it->second.handle.address() != message.source) continue;
    const std::string node = it->first;
    agents.erase(it);
    return agent_left(node);
  }
  for (auto& [id, job] : jobs)
    if (job.coordinator && job.coordinator.address() == message.source) job.coordinator = nullptr;
}

void ControllerState::agent_left(const std::string& node) {
  spdlog::warn("node {} is gone", node);
  bind_waiting_jobs();
  self->send(scheduler, NodeLeft{NodeId{node}});
  for (auto& [id, job] : jobs) {
    if (!active(job.record.state())) continue;
    for (const auto& slot : job.record.placement()) {
      if (slot.node() != node) continue;
      if (slot.kind() == pb::ROLE_COORDINATOR) {
        // Its processes died with the agent. It goes on where a copy of its store is.
        tell_of_lost_node(
            job, node,
            "the agent of node " + node + " is gone, and with it the coordinator of the job");
        job.coordinator = nullptr;
        self->send(scheduler, JobGone{JobId{id}});
        enqueue(job);
        store(job);
        break;
      }
      self->send(scheduler, RoleGone{JobId{id}, slot.role()});
    }
  }
  tell_nodes_for_replicas();
}

// ---- stores -----------------------------------------------------------------------------------

pb::ReplicaNodes ControllerState::nodes_for_replicas(const Job& job) const {
  pb::ReplicaNodes nodes;
  for (const auto& [name, agent] : agents) {
    if (name == node_of_coordinator(job) || agent.bulk_endpoint.empty()) continue;
    auto& node = *nodes.add_nodes();
    node.set_node(name);
    node.set_bulk_endpoint(agent.bulk_endpoint);
  }
  return nodes;
}

void ControllerState::tell_nodes_for_replicas() {
  for (const auto& [id, job] : jobs)
    if (job.coordinator) self->send(job.coordinator, outbound(nodes_for_replicas(job)));
}

std::set<NodeId> ControllerState::nodes_with_store(const std::string& job) const {
  const pb::HeldReplica* newest = nullptr;
  std::set<NodeId> nodes;
  for (const auto& [name, agent] : agents) {
    const auto store = agent.stores.find(job);
    if (store == agent.stores.end()) continue;
    if (newest && is_newer(*newest, store->second)) continue;
    if (!newest || is_newer(store->second, *newest)) nodes.clear();
    newest = &store->second;
    nodes.insert(NodeId{name});
  }
  return nodes;
}

bool ControllerState::fits_its_store(const Job& job, const scheduler::Placement& placement) const {
  const auto nodes = nodes_with_store(job.record.job());
  return nodes.empty() ||
         std::none_of(placement.roles.begin(), placement.roles.end(), [&](const auto& role) {
           return role.kind == pb::ROLE_COORDINATOR && !nodes.contains(role.node);
         });
}

void ControllerState::bind_waiting_jobs() {
  for (auto& [id, job] : jobs) {
    if (job.record.state() != pb::JOB_PENDING) continue;
    auto nodes = nodes_with_store(id);
    if (nodes == job.held_to) continue;
    job.held_to = std::move(nodes);
    self->send(scheduler, JobHeldTo{JobId{id}, job.held_to});
  }
}

std::string ControllerState::node_of_coordinator(const Job& job) {
  for (const auto& slot : job.record.placement())
    if (slot.kind() == pb::ROLE_COORDINATOR) return slot.node();
  return {};
}

scheduler::Placement ControllerState::placement_of(const Job& job) {
  scheduler::Placement placement{JobId{job.record.job()}, {}};
  for (const auto& slot : job.record.placement())
    placement.roles.push_back({slot.role(), slot.kind(), NodeId{slot.node()},
                               scheduler::amount({slot.resources().cpus(), slot.resources().gpus(),
                                                  slot.resources().memory_bytes()})});
  return placement;
}

}  // namespace crabcast::actors

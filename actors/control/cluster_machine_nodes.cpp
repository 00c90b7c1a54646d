// The controller's decisions: nodes that come, go and are drained, and which of them hold the
// stores of jobs.
#include <algorithm>
#include <utility>

#include "actors/control/cluster_machine.h"
#include "actors/control/held_stores.h"

namespace crabcast::actors {

void ClusterMachine::agent_joined(PeerNumber peer, RequestNumber request,
                                  const pb::RegisterAgent& body, Moment now) {
  const std::string& name = body.node();
  if (const auto known = nodes_.find(name); known != nodes_.end() && known->second.agent != peer)
    return refuse(request, {Errc::already_exists, "a node is named " + name + " already"});
  Node& node = nodes_[name];
  node.agent = peer;
  node.total = body.total();
  node.endpoint = body.endpoint();
  node.bulk_endpoint = body.bulk_endpoint();
  node.version = body.version();
  node.labels = {body.labels().begin(), body.labels().end()};
  node.taints = {body.taints().begin(), body.taints().end()};
  node.running = {body.running().begin(), body.running().end()};
  node.last_seen_unix_ms = now.unix_ms;
  pb::NodeRecord& record = known_[name];
  record.set_node(name);
  *record.mutable_total() = body.total();
  record.set_agent_endpoint(body.endpoint());
  record.set_version(body.version());
  record.set_last_seen_unix_ms(now.unix_ms);
  *record.mutable_labels() = body.labels();
  store_node(name);
  answer(request, pb::Done{});
  // Before the scheduler knows the node: it would place a job there whose store is elsewhere, or
  // one that runs there.
  adopt_again(name, now);
  take_stores(node, body.replicas());
  tell_scheduler_of(name);
  tell_nodes_for_replicas();
  if (record.draining()) move_away(name, now);
}

void ClusterMachine::tell_scheduler_of(const std::string& name) {
  const Node& node = nodes_.at(name);
  scheduler::Node seen;
  seen.id = NodeId{name};
  seen.total = scheduler::amount(
      ProcessResources{node.total.cpus(), node.total.gpus(), node.total.memory_bytes()});
  seen.labels = node.labels;
  seen.taints = node.taints;
  for (const std::string& problem : node.problems) seen.taints.push_back("sick: " + problem);
  seen.draining = known_.at(name).draining();
  scheduler_.upsert_node(std::move(seen));
}

void ClusterMachine::agent_reported(const pb::AgentReport& report, Moment now) {
  const auto found = nodes_.find(report.node());
  if (found == nodes_.end()) return;
  Node& node = found->second;
  node.running = {report.running().begin(), report.running().end()};
  node.last_seen_unix_ms = now.unix_ms;
  take_stores(node, report.replicas());
  std::vector<std::string> problems(report.problems().begin(), report.problems().end());
  if (problems != node.problems) {
    node.problems = std::move(problems);
    tell_scheduler_of(report.node());
  }
}

void ClusterMachine::agent_left(const std::string& node, Moment now) {
  take_stores(nodes_.at(node), {});
  nodes_.erase(node);
  scheduler_.remove_node(NodeId{node});  // the roles there are gone, too
  for (auto& [id, job] : jobs_) {
    if (!is_active(job.record.state()) || node_of_coordinator(job) != node) continue;
    // Its processes died with the agent. It goes on where a copy of its store is.
    incident_of_lost_node(
        job, node, "the agent of node " + node + " is gone, and with it the coordinator of the job",
        now);
    enqueue(job, now);
    store(job);
  }
  tell_nodes_for_replicas();
}

// ---- jobs that run already ----------------------------------------------------------------------

// It runs where its record says, on those of its nodes that are here.
void ClusterMachine::adopt(Job& job) {
  const JobId id{job.record.job()};
  scheduler_.remove_job(id);
  scheduler_.adopt(request_of(job), placement_of(job));
  for (const auto& slot : job.record.placement())
    if (!recovering_ && !nodes_.contains(slot.node())) scheduler_.release_role(id, slot.role());
}

// Jobs that were to be placed again, and whose coordinators never ended: only the connection did.
void ClusterMachine::adopt_again(const std::string& node, Moment now) {
  for (const auto& role : nodes_.at(node).running) {
    const auto found = jobs_.find(role.job());
    if (found == jobs_.end() || role.kind() != pb::ROLE_COORDINATOR) continue;
    Job& job = found->second;
    if (role.fence() != job.record.attempts() || job.record.state() != pb::JOB_PENDING) continue;
    event(job, pb::SEVERITY_INFO, "node_back", "node " + node + " with its coordinator", now);
    job.record.set_state(pb::JOB_STARTING);  // until the coordinator registers
    job.record.set_placed_unix_ms(now.unix_ms);
    store(job);
    adopt(job);
  }
}

// By what the agent of its node says.
bool ClusterMachine::coordinator_lives(const Job& job) const {
  const auto node = nodes_.find(node_of_coordinator(job));
  if (node == nodes_.end()) return false;
  const auto& running = node->second.running;
  return std::any_of(running.begin(), running.end(), [&](const pb::RoleStarted& role) {
    return role.job() == job.record.job() && role.kind() == pb::ROLE_COORDINATOR &&
           role.fence() == job.record.attempts();
  });
}

// ---- draining -----------------------------------------------------------------------------------

void ClusterMachine::drain(RequestNumber request, const pb::DrainNode& body, Moment now) {
  const auto known = known_.find(body.node());
  if (known == known_.end())
    return refuse(request,
                  {Errc::not_found, "no node is named '" + body.node() + "'; see crabcast nodes"});
  known->second.set_draining(body.drain());
  known->second.set_drain_reason(body.drain() ? body.reason() : "");
  store_node(body.node(), request);
  if (!nodes_.contains(body.node())) return;
  tell_scheduler_of(body.node());
  if (body.drain()) move_away(body.node(), now);
}

// Whole jobs whose coordinator is there, with a checkpoint; of other jobs, the roles.
void ClusterMachine::move_away(const std::string& node, Moment now) {
  for (auto& [id, job] : jobs_) {
    if (!is_active(job.record.state())) continue;
    if (node_of_coordinator(job) == node) {
      send_away(job, Leaving::drained, "node " + node + " is drained", now);
      continue;
    }
    std::set<std::string> roles;
    for (const auto& slot : job.record.placement())
      if (slot.node() == node) roles.insert(slot.role());
    if (!roles.empty()) take_away(job, roles);
  }
}

// ---- stores -----------------------------------------------------------------------------------

pb::ReplicaNodes ClusterMachine::nodes_for_replicas(const Job& job) const {
  pb::ReplicaNodes nodes;
  for (const auto& [name, node] : nodes_) {
    if (name == node_of_coordinator(job) || node.bulk_endpoint.empty()) continue;
    auto& each = *nodes.add_nodes();
    each.set_node(name);
    each.set_bulk_endpoint(node.bulk_endpoint);
  }
  return nodes;
}

void ClusterMachine::tell_nodes_for_replicas() {
  for (const auto& [id, job] : jobs_)
    if (job.coordinator != 0) tell(job.coordinator, nodes_for_replicas(job));
}

// The nodes that have the newest store of the job; empty: nobody has any.
std::set<NodeId> ClusterMachine::nodes_with_store(const std::string& job) const {
  const pb::HeldReplica* newest = nullptr;
  std::set<NodeId> nodes;
  for (const auto& [name, node] : nodes_) {
    const auto store = node.stores.find(job);
    if (store == node.stores.end()) continue;
    if (newest && is_newer(*newest, store->second)) continue;
    if (!newest || is_newer(store->second, *newest)) nodes.clear();
    newest = &store->second;
    nodes.insert(NodeId{name});
  }
  return nodes;
}

// Waiting jobs whose stores came, went or grew are bound anew.
void ClusterMachine::take_stores(Node& node, const HeldReplicas& stores) {
  std::set<std::string> changed;
  for (const auto& [job, store] : node.stores) changed.insert(job);
  auto before = std::exchange(node.stores, {});
  for (const auto& store : stores) {
    const auto old = before.find(store.job());
    const bool same =
        old != before.end() && !is_newer(store, old->second) && !is_newer(old->second, store);
    if (same)
      changed.erase(store.job());
    else
      changed.insert(store.job());
    node.stores[store.job()] = store;
  }
  for (const std::string& id : changed)
    if (const auto found = jobs_.find(id);
        found != jobs_.end() && found->second.record.state() == pb::JOB_PENDING)
      scheduler_.hold_to(JobId{id}, nodes_with_store(id));
}

void ClusterMachine::store_node(const std::string& node, RequestNumber request) {
  writes_[next_write_] = {"", Purpose::acknowledge, request, 0, node};
  actions.push_back(StoreNode{next_write_++, known_.at(node)});
}

}  // namespace crabcast::actors

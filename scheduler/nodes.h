// The nodes of the cluster, numbered, with what is used on each: what placement looks at.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/scheduler.h"

namespace crabcast::scheduler {

struct Job;
using Slot = std::uint32_t;  // a node's number; kept when it leaves and joins again
// Which nodes a job may use, by labels and taints: a number for each distinct demand.
using Demand = std::uint32_t;

struct RoleOnNode {
  Job* job = nullptr;
  Amount need;
};

class Nodes {
 public:
  void upsert(Node node);
  void remove(Slot slot);  // what is used there counts as gone

  [[nodiscard]] std::optional<Slot> find(const NodeId& id) const;
  Slot slot_of(const NodeId& id);  // a node that has not joined has no room
  [[nodiscard]] const Node& node(Slot slot) const { return entries_[slot].node; }
  [[nodiscard]] bool joined(Slot slot) const { return entries_[slot].joined; }
  [[nodiscard]] std::vector<Slot> in_order() const;  // all that joined, by name

  void use(Slot slot, Job* job, const Amount& need);
  void release(Slot slot, Job* job, const Amount& need);
  [[nodiscard]] const std::vector<RoleOnNode>& roles_on(Slot slot) const {
    return entries_[slot].roles;
  }

  // Free room by slot; below zero where more is used than the node has.
  [[nodiscard]] const std::vector<Amount>& free() const { return free_; }
  // Each usable node empty.
  [[nodiscard]] std::vector<Amount> empty_room() const;
  // Over nodes that take new roles, whatever their taints.
  [[nodiscard]] const Amount& free_sum() const { return free_sum_; }
  // Over healthy nodes: what shares are measured by.
  [[nodiscard]] const Amount& total() const { return total_; }
  [[nodiscard]] std::size_t healthy() const { return healthy_; }
  [[nodiscard]] std::size_t count() const { return joined_; }
  // Changes with every node that joins, leaves or becomes another.
  [[nodiscard]] std::uint64_t version() const { return version_; }

  Demand demand(const std::vector<std::string>& labels, const std::vector<std::string>& tolerates);
  // The nodes that such jobs may use, by name.
  [[nodiscard]] const std::vector<Slot>& usable(Demand demand) const;
  // 0: without a rack.
  [[nodiscard]] std::uint32_t rack(Slot slot) const { return entries_[slot].rack; }
  [[nodiscard]] std::size_t racks() const { return racks_.size(); }
  [[nodiscard]] const std::string& rack_name(std::uint32_t rack) const;

 private:
  struct Entry {
    Node node;
    bool joined = false;
    std::uint32_t rack = 0;
    Amount used;
    std::vector<RoleOnNode> roles;
  };
  struct DemandEntry {
    std::vector<std::string> labels, tolerates;
    std::uint64_t version = 0;  // of the nodes that `usable` was made from
    std::vector<Slot> usable;
  };

  void update_free(Slot slot);
  void leave_sums(const Entry& entry);
  [[nodiscard]] static bool takes_roles(const Entry& entry);
  [[nodiscard]] static bool suits(const Node& node, const DemandEntry& demand);

  std::vector<Entry> entries_;
  std::map<NodeId, Slot> slots_;
  std::vector<Amount> free_;
  Amount free_sum_, total_;
  std::size_t healthy_ = 0, joined_ = 0;
  std::uint64_t version_ = 1;
  std::map<std::string, std::uint32_t> racks_;
  std::map<std::pair<std::vector<std::string>, std::vector<std::string>>, Demand> demand_numbers_;
  mutable std::vector<DemandEntry> demands_;
};

}  // namespace crabcast::scheduler

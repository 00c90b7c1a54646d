#include "scheduler/nodes.h"

#include <algorithm>

namespace crabcast::scheduler {
namespace {

constexpr std::string_view kRackLabel = "rack=";

Amount not_negative(const Amount& amount) {
  return most(amount, {});
}

// A taint may carry a reason for people: "sick: GPU 3 fell off the bus".
std::string_view taint_name(std::string_view taint) {
  return taint.substr(0, taint.find(": "));
}

template <class Range, class Value>
bool holds(const Range& range, const Value& value) {
  return std::find(range.begin(), range.end(), value) != range.end();
}

}  // namespace

void Nodes::upsert(Node node) {
  const Slot slot = slot_of(node.id);
  Entry& entry = entries_[slot];
  if (entry.joined) leave_sums(entry);
  entry.node = std::move(node);
  entry.joined = true;
  entry.rack = 0;
  for (const std::string& label : entry.node.labels)
    if (label.starts_with(kRackLabel))
      entry.rack = racks_.emplace(label.substr(kRackLabel.size()), racks_.size() + 1).first->second;
  ++joined_;
  if (entry.node.healthy) {
    ++healthy_;
    total_ += entry.node.total;
  }
  free_[slot] = entry.node.total - entry.used;
  if (takes_roles(entry)) free_sum_ += not_negative(free_[slot]);
  ++version_;
}

void Nodes::remove(Slot slot) {
  Entry& entry = entries_[slot];
  if (entry.joined) leave_sums(entry);
  entry = Entry{{entry.node.id, {}, true, {}, {}, false}, false, 0, {}, {}};
  free_[slot] = {};
  ++version_;
}

void Nodes::leave_sums(const Entry& entry) {
  const auto slot = static_cast<Slot>(&entry - entries_.data());
  if (takes_roles(entry)) free_sum_ -= not_negative(free_[slot]);
  if (entry.node.healthy) {
    --healthy_;
    total_ -= entry.node.total;
  }
  --joined_;
}

std::optional<Slot> Nodes::find(const NodeId& id) const {
  const auto found = slots_.find(id);
  return found == slots_.end() ? std::nullopt : std::optional(found->second);
}

Slot Nodes::slot_of(const NodeId& id) {
  const auto [found, is_new] = slots_.emplace(id, static_cast<Slot>(entries_.size()));
  if (is_new) {
    entries_.emplace_back().node.id = id;
    free_.emplace_back();
  }
  return found->second;
}

std::vector<Slot> Nodes::in_order() const {
  std::vector<Slot> order;
  for (const auto& [id, slot] : slots_)
    if (entries_[slot].joined) order.push_back(slot);
  return order;
}

void Nodes::use(Slot slot, Job* job, const Amount& need) {
  Entry& entry = entries_[slot];
  entry.roles.push_back({job, need});
  entry.used += need;
  update_free(slot);
}

void Nodes::release(Slot slot, Job* job, const Amount& need) {
  Entry& entry = entries_[slot];
  const auto found =
      std::find_if(entry.roles.begin(), entry.roles.end(),
                   [&](const RoleOnNode& role) { return role.job == job && role.need == need; });
  if (found == entry.roles.end()) return;
  entry.roles.erase(found);
  entry.used -= need;
  update_free(slot);
}

void Nodes::update_free(Slot slot) {
  const Entry& entry = entries_[slot];
  const Amount free = (entry.joined ? entry.node.total : Amount{}) - entry.used;
  if (takes_roles(entry)) {
    free_sum_ -= not_negative(free_[slot]);
    free_sum_ += not_negative(free);
  }
  free_[slot] = free;
}

std::vector<Amount> Nodes::empty_room() const {
  std::vector<Amount> room(entries_.size());
  for (std::size_t i = 0; i < room.size(); ++i)
    if (takes_roles(entries_[i])) room[i] = entries_[i].node.total;
  return room;
}

bool Nodes::takes_roles(const Entry& entry) {
  return entry.joined && entry.node.healthy && !entry.node.draining;
}

bool Nodes::suits(const Node& node, const DemandEntry& demand) {
  return std::all_of(demand.labels.begin(), demand.labels.end(),
                     [&](const std::string& label) { return holds(node.labels, label); }) &&
         std::all_of(node.taints.begin(), node.taints.end(), [&](const std::string& taint) {
           return holds(demand.tolerates, taint_name(taint));
         });
}

Demand Nodes::demand(const std::vector<std::string>& labels,
                     const std::vector<std::string>& tolerates) {
  const auto [found, is_new] =
      demand_numbers_.emplace(std::pair(labels, tolerates), static_cast<Demand>(demands_.size()));
  if (is_new) demands_.push_back({labels, tolerates, 0, {}});
  return found->second;
}

const std::vector<Slot>& Nodes::usable(Demand number) const {
  DemandEntry& demand = demands_[number];
  if (demand.version == version_) return demand.usable;
  demand.version = version_;
  demand.usable.clear();
  for (const auto& [id, slot] : slots_)
    if (takes_roles(entries_[slot]) && suits(entries_[slot].node, demand))
      demand.usable.push_back(slot);
  return demand.usable;
}

const std::string& Nodes::rack_name(std::uint32_t rack) const {
  return std::find_if(racks_.begin(), racks_.end(),
                      [&](const auto& entry) { return entry.second == rack; })
      ->first;
}

}  // namespace crabcast::scheduler

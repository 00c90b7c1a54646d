#include "actors/control/replication.h"

#include <algorithm>
#include <utility>

#include "protocol/checksum.h"

namespace crabcast::actors {
namespace {

std::uint64_t rank_of(const std::string& job, const std::string& node) {
  const std::string both = job + "/" + node;
  return checksum64(std::as_bytes(std::span(both)));
}

}  // namespace

void Replication::on_nodes(const std::set<std::string>& nodes) {
  for (auto& [name, node] : nodes_)
    if (!nodes.contains(name)) node.here = false;
  for (const auto& name : nodes) {
    auto& node = nodes_[name];
    if (!std::exchange(node.here, true)) node.failures = 0;  // it is another one, perhaps
    if (node.failures == 0) node.retry_at = {};
  }
}

void Replication::on_stored(std::uint64_t checkpoint) {
  newest_ = checkpoint;
  readable_ = true;
}

void Replication::on_voided(std::uint64_t after, std::uint64_t newest) {
  on_stored(newest);
  for (auto& [name, node] : nodes_) {
    const auto first = node.holds.upper_bound(after);
    node.ahead = node.ahead || first != node.holds.end() || node.copying.value_or(0) > after;
    node.holds.erase(first, node.holds.end());
  }
  if (safe_ <= after) return;
  safe_ = 0;
  find_safe();
}

void Replication::on_unreadable(std::uint64_t checkpoint) {
  if (checkpoint == newest_) readable_ = false;
}

void Replication::on_opened(const std::string& node, const std::set<std::uint64_t>& equal,
                            bool ahead) {
  nodes_[node].holds = equal;
  nodes_[node].ahead = ahead;
  find_safe();
}

void Replication::on_copied(const std::string& node, std::uint64_t checkpoint,
                            const std::set<std::uint64_t>& kept) {
  auto& it = nodes_[node];
  std::erase_if(it.holds, [&](std::uint64_t id) { return !kept.contains(id); });
  if (checkpoint > 0) it.holds.insert(checkpoint);
  it.copying.reset();
  it.ahead = false;
  it.failures = 0;
  find_safe();
}

void Replication::on_failed(const std::string& node, TimePoint now) {
  auto& it = nodes_[node];
  it.copying.reset();
  it.failures = std::min(it.failures + 1, kTries);
  it.retry_at = now + (it.failures == kTries ? kRest : kFirstBackOff * (1U << (it.failures - 1)));
}

void Replication::on_interrupted(const std::string& node) {
  nodes_[node].copying.reset();
}

std::vector<std::string> Replication::chosen(TimePoint now) const {
  std::vector<std::pair<std::uint64_t, std::string>> ranked;
  for (const auto& [name, node] : nodes_)
    if (node.here && (node.failures < kTries || node.retry_at <= now))
      ranked.emplace_back(rank_of(job_, name), name);
  std::sort(ranked.begin(), ranked.end());
  ranked.resize(std::min<std::size_t>(ranked.size(), replicas_));
  std::vector<std::string> names;
  for (auto& [rank, name] : ranked) names.push_back(std::move(name));
  return names;
}

std::vector<Replication::Copy> Replication::due(TimePoint now) {
  std::vector<Copy> copies;
  for (const auto& name : chosen(now)) {
    auto& node = nodes_[name];
    if (node.copying || node.retry_at > now) continue;
    const bool lacks = newest_ > 0 && readable_ && !node.holds.contains(newest_);
    if (!lacks && !node.ahead) continue;
    node.copying = lacks ? newest_ : 0;
    copies.push_back({name, *node.copying});
  }
  return copies;
}

std::vector<std::string> Replication::holders(std::uint64_t checkpoint) const {
  std::vector<std::string> names;
  for (const auto& [name, node] : nodes_)
    if (node.holds.contains(checkpoint)) names.push_back(name);
  return names;
}

// A copy on a node that is away is as durable as before, so it counts.
void Replication::find_safe() {
  std::map<std::uint64_t, std::uint32_t> stores;  // that hold it, besides the own one
  for (const auto& [name, node] : nodes_)
    for (const auto id : node.holds) ++stores[id];
  for (auto it = stores.rbegin(); it != stores.rend() && it->first > safe_; ++it)
    if (1 + it->second >= quorum_) safe_ = it->first;
}

std::set<std::uint64_t> Replication::in_use() const {
  std::set<std::uint64_t> ids;
  if (safe_ > 0) ids.insert(safe_);
  for (const auto& [name, node] : nodes_)
    if (node.copying.value_or(0) > 0) ids.insert(*node.copying);
  return ids;
}

bool Replication::idle() const {
  return std::none_of(nodes_.begin(), nodes_.end(),
                      [](const auto& entry) { return entry.second.copying.has_value(); });
}

}  // namespace crabcast::actors

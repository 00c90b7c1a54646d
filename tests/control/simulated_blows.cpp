// What befalls the cast.
#include "tests/control/simulated_cast.h"

namespace crabcast::actors {
namespace {

constexpr auto kCoordinatorGrace = std::chrono::seconds(60);

}  // namespace

void Cast::kill(const std::string& role) {
  trace("kill " + role);
  if (auto p = process(role)) end_process(p, "killed by SIGKILL");
}

void Cast::hang(const std::string& role) {
  trace("hang " + role);
  if (auto p = process(role)) p->hung = true;
}

void Cast::freeze(const std::string& role) {
  trace("freeze " + role);
  auto p = process(role);
  if (!p) return;
  p->frozen = true;
  at(options.pace.silence, [this, p] { break_link(p, {}); });
}

void Cast::drain(const std::string& role) {
  trace("drain " + role);
  auto p = process(role);
  if (!p || !p->works()) return;
  say(p, [this](JobMachine& machine, const std::string& sender) {
    machine.on_draining(sender, "its node is drained", now_);
  });
}

void Cast::scale(const std::vector<std::string>& removed, std::uint32_t workers_min) {
  trace("scale down");
  if (!coordinator_up_) return;
  tell([&](JobMachine& machine) { machine.on_scaled(removed, workers_min, now_); });
}

void Cast::break_link(const std::string& role, Duration noticed_after) {
  trace("break the link of " + role);
  if (auto p = process(role)) break_link(p, noticed_after);
}

void Cast::break_link(const ProcessPtr& p, Duration noticed_after) {
  if (p->link == 0) return;
  const auto link = std::exchange(p->link, 0);
  at(noticed_after + stretched(options.pace.link), [this, p, link] { link_is_down(p, link); });
  at(stretched(options.pace.reconnect), [this, p] {
    if (p->alive && !p->frozen) connect(p);
  });
}

// As the job actor sees it: only the connection over which the member registered counts.
void Cast::link_is_down(const ProcessPtr& p, std::uint64_t link) {
  auto member = members_.find(p->role());
  if (!coordinator_up_ || member == members_.end() || member->second != std::pair(p->pid, link))
    return;
  members_.erase(member);
  tell([&](JobMachine& machine) { machine.on_gone(p->role(), kConnectionLost, false, now_); });
  expect_told(p);
}

void Cast::fail_collective(const std::string& role) {
  trace("fail the collective of " + role);
  if (auto p = process(role); p && p->run && p->works())
    fault(p, p->run, Errc::unavailable, "the collective failed");
}

void Cast::restart_coordinator(Duration away, bool write_survives) {
  trace("restart the coordinator");
  if (finish || !coordinator_up_) return;
  if (const auto record = std::exchange(writing_, std::nullopt); record && write_survives)
    ledger.push_back(*record);
  ++coordinator_;
  coordinator_up_ = false;
  for (auto& [node, agent] : agents_) {
    agent.connected = false;
    ++agent.link;
    agent.waiting.clear();
  }
  members_.clear();
  for (const auto& [pid, p] : processes_) {
    p->link = 0;
    p->told = !p->alive;
  }
  at(kCoordinatorGrace, [this, life = coordinator_] {
    if (life != coordinator_) return;  // it is back
    for (const auto& p : running()) end_process(p, "ended with exit code 1");
  });
  at(away, [this] { begin_coordinator(); });
  at(away + milliseconds(20), [this] {
    for (const auto& p : running())
      if (!p->frozen)
        at(stretched(options.pace.reconnect), [this, p] {
          if (p->alive && p->link == 0) connect(p);
        });
  });
}

void Cast::lose_agent(Duration away, const std::string& node) {
  trace("lose the agent of " + node);
  Agent& agent = agents_[node];
  if (!agent.connected || !coordinator_up_) return;
  agent.connected = false;
  ++agent.link;
  agent_is_down(node);
  at(away, [this, node] { connect_agent(node); });
}

void Cast::kill_agent(Duration away, const std::string& node) {
  trace("kill the agent of " + node);
  Agent& agent = agents_[node];
  if (!agent.alive) return;
  const bool watched = std::exchange(agent.connected, false);
  agent.alive = false;
  ++agent.link;
  for (const auto& [role, p] : std::map(agent.running))
    stop_living(p, stretched(options.pace.grace));
  agent.unheard.clear();
  at(stretched(options.pace.grace), [this, node, away, watched, life = coordinator_] {
    if (watched && life == coordinator_) agent_is_down(node);
    at(away, [this, node] {
      agents_[node].alive = true;
      connect_agent(node);
    });
  });
}

void Cast::lose_node_of_coordinator(Duration away, bool write_survives) {
  trace("lose the node of the coordinator");
  if (finish || !coordinator_up_) return;
  Agent& agent = agents_["node-a"];
  for (const auto& [role, p] : std::map(agent.running)) stop_living(p, {});
  agent.unheard.clear();
  restart_coordinator(away, write_survives);
}

void Cast::repeat_late(const std::string& role, Duration delay) {
  auto p = process(role);
  if (!p || !p->last_said) return;
  at(delay, [this, role, what = p->last_said] {
    if (coordinator_up_ && members_.contains(role))
      tell([&](JobMachine& machine) { what(machine, role); });
  });
}

void Cast::repeat_exit_late(const std::string& role, Duration delay) {
  trace("repeat the end of " + role);
  auto last = last_exit_.find(role);
  if (last == last_exit_.end()) return;
  at(delay, [this, notice = last->second, life = coordinator_] {
    if (life == coordinator_ && coordinator_up_) notice();
  });
}

}  // namespace crabcast::actors

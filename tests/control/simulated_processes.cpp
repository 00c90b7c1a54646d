// Agents, and the processes that they run, with their connections.
#include <algorithm>

#include "tests/control/simulated_cast.h"

namespace crabcast::actors {
namespace {

constexpr auto kProgressEvery = milliseconds(500);

}  // namespace

// ---- agents -----------------------------------------------------------------------------------

void Cast::connect_agent(const std::string& node) {
  agents_.try_emplace(node);
  at(stretched(options.pace.agent), [this, node, life = coordinator_] {
    if (life == coordinator_) agent_connected(node);
  });
}

// It names what it runs, then the ends that nobody heard of; then it is given what waits for it.
void Cast::agent_connected(const std::string& node) {
  Agent& agent = agents_[node];
  if (!coordinator_up_ || finish || !agent.alive || agent.connected) return;
  trace("the agent of " + node + " is connected");
  agent.connected = true;
  for (const auto& [role, p] : std::map(agent.running)) role_started(node, p);
  for (auto& notice : std::exchange(agent.unheard, {})) notice();
  for (auto& order : std::exchange(agent.waiting, {})) order.carry_out();
}

void Cast::agent_is_down(const std::string& node) {
  std::set<std::string> known;
  for (const auto& role : machine_->roles_on(node))
    if (state_of(role) == pb::ACTOR_FAILED) known.insert(role);
  tell([&](JobMachine& machine) { machine.on_node_gone(node, now_); });
  for (const auto& role : machine_->roles_on(node))
    for (const auto& [pid, p] : processes_)
      if (!known.contains(role) && p->role() == role && p->slot.node() == node) expect_told(p);
}

void Cast::give(Order order) {
  Agent& agent = agents_[order.node];
  if (!agent.connected) return agent.waiting.push_back(std::move(order));
  agent.order_free = std::max(agent.order_free, now_ + stretched(options.pace.agent));
  at(agent.order_free - now_,
     [this, order = std::move(order), link = agent.link, life = coordinator_] {
       if (!agents_[order.node].alive) return;
       if (link == agents_[order.node].link) return order.carry_out();
       // The connection broke meanwhile: the order came through or not, its answer did not.
       if (life == coordinator_ && !order.starts.empty() &&
           machine_->node_of(order.starts) == order.node)
         tell([&](JobMachine& machine) {
           machine.on_start_failed(order.starts, {Errc::unavailable, "its agent is gone"}, now_);
         });
       if (random_() % 2 == 0) order.carry_out();
     });
}

void Cast::forget_starts(const std::string& role) {
  for (auto& [node, agent] : agents_)
    std::erase_if(agent.waiting, [&](const Order& order) { return order.starts == role; });
}

void Cast::role_started(const std::string& node, const ProcessPtr& p) {
  if (machine_->node_of(p->role()) == node)
    return tell([&](JobMachine& machine) { machine.adopt_process(p->role(), p->pid, now_); });
  give({node, "", [this, p] { end_process(p, "killed by SIGKILL"); }});  // it moved since
}

void Cast::role_exited(const ProcessPtr& p, const std::string& evidence) {
  if (machine_->node_of(p->role()) != p->slot.node()) return;
  // It was lost already, and its successor may have been started without a word.
  const bool known = state_of(p->role()) == pb::ACTOR_FAILED;
  tell([&](JobMachine& machine) { machine.on_gone(p->role(), evidence, true, now_, p->pid); });
  unreachable_.erase(p->role());  // its agent is there
  if (!known) expect_told(p);
}

// ---- processes --------------------------------------------------------------------------------

std::shared_ptr<Cast::Process> Cast::process(const std::string& role) const {
  const auto on = [&](const Agent& agent) {
    auto found = agent.running.find(role);
    return found == agent.running.end() ? nullptr : found->second;
  };
  if (auto home = agents_.find(machine_->node_of(role)); home != agents_.end())
    if (auto p = on(home->second)) return p;
  for (const auto& [node, agent] : agents_)
    if (auto p = on(agent)) return p;
  return nullptr;
}

std::vector<std::shared_ptr<Cast::Process>> Cast::running() const {
  std::vector<ProcessPtr> all;
  for (const auto& [node, agent] : agents_)
    for (const auto& [role, p] : agent.running) all.push_back(p);
  return all;
}

std::string Cast::doing(const std::string& role) const {
  auto p = process(role);
  return p ? p->what : "";
}

void Cast::doing(Process& p, const std::string& what) {
  p.what = what;
  ++p.progress;
}

std::vector<std::string> Cast::living(pb::RoleKind kind) const {
  std::vector<std::string> roles;
  for (const auto& p : running())
    if (p->slot.kind() == kind) roles.push_back(p->role());
  return roles;
}

std::vector<std::string> Cast::within_reach() const {
  std::vector<std::string> roles;
  for (const auto& [node, agent] : agents_)
    for (const auto& [role, p] : agent.running)
      if (agent.connected) roles.push_back(role + " on " + node);
  return roles;
}

void Cast::start_process(const pb::RoleSlot& slot) {
  const auto& role = slot.role();
  const auto refuse = [&](Errc code, const std::string& why) {
    if (coordinator_up_ && machine_->node_of(role) == slot.node())
      tell([&](JobMachine& machine) { machine.on_start_failed(role, {code, why}, now_); });
  };
  auto& running = agents_[slot.node()].running;
  if (running.contains(role)) return refuse(Errc::already_exists, role + " runs here already");
  if (cannot_start.contains(role)) return refuse(Errc::io_error, "no such program");
  auto p = std::make_shared<Process>();
  p->slot = slot;
  p->pid = next_pid_++;
  p->state = expected_state(0);
  p->told = going_.contains(role);
  running[role] = p;
  processes_[p->pid] = p;
  auto& notice_free = agents_[slot.node()].notice_free;
  notice_free = std::max(notice_free, now_ + stretched(options.pace.agent));
  at(notice_free - now_, [this, p, link = agents_[slot.node()].link] {
    if (link == agents_[p->slot.node()].link && coordinator_up_ &&
        machine_->node_of(p->role()) == p->slot.node())
      tell([&](JobMachine& machine) { machine.on_started(p->role(), p->pid); });
  });
  if (never_start.contains(role)) return;
  at(stretched(options.pace.start), [this, p] {
    if (p->alive) connect(p);
  });
}

void Cast::connect(const ProcessPtr& p) {
  if (!coordinator_up_) {
    at(options.pace.reconnect, [this, p] {
      if (p->alive && p->link == 0) connect(p);
    });
    return;
  }
  p->link = next_link_++;
  p->out_free = std::max(p->out_free, now_ + stretched(options.pace.link));
  at(p->out_free - now_, [this, p, link = p->link] {
    if (!coordinator_up_ || (p->alive && p->link != link)) return;
    if (machine_->node_of(p->role()) != p->slot.node()) return;  // its role moved since
    pb::RegisterMember body;
    body.set_role(p->role());
    body.set_kind(p->slot.kind());
    body.set_pid(p->pid);
    body.set_bulk_endpoint("bulk:" + std::to_string(p->pid));
    body.set_generation(p->newest);
    body.set_holds_state(p->applied > 0);
    body.set_state_step(p->applied);
    body.set_pending_step(p->pending);
    if (p->slot.kind() != pb::ROLE_LOADER) {
      auto base = options.base.find(p->role());
      body.set_base_hash(base == options.base.end() ? "base" : base->second);
    }
    if (p->slot.kind() != pb::ROLE_WORKER) body.mutable_corpus()->set_fingerprint(7);
    if (p->slot.kind() == pb::ROLE_LOADER) body.mutable_corpus()->set_steps(options.epoch_steps);
    if (machine_->on_registered(body, now_)) {
      members_[p->role()] = {p->pid, link};
      forget_starts(p->role());
    }
    carry_out();
  });
  report_progress(p, p->link);
}

void Cast::report_progress(const ProcessPtr& p, std::uint64_t link) {
  if (!p->alive || p->frozen || p->link != link) return;
  pb::MemberProgress body;
  body.set_role(p->role());
  body.set_doing(p->what);
  body.set_progress(p->progress);
  auto last = p->last_said;
  say(p, [this, body](JobMachine& machine, const std::string& sender) {
    if (sender == body.role()) machine.on_progress(body, now_);
  });
  p->last_said = std::move(last);
  at(kProgressEvery, [this, p, link] { report_progress(p, link); });
}

// H-1: a process whose end was noticed was spoken of.
void Cast::expect_told(const ProcessPtr& p) const {
  EXPECT_TRUE(p->told || leaving()) << p->role() << " (" << p->pid << ")";
}

pb::ActorState Cast::state_of(const std::string& role) const {
  const auto status = machine_->status(now_, 0);
  for (const auto& actor : status.actors())
    if (actor.name() == role) return actor.state();
  return pb::ACTOR_UNSPECIFIED;
}

bool Cast::all_registered() const {
  const auto status = machine_->status(now_, 0);
  return std::all_of(status.actors().begin(), status.actors().end(), [&](const auto& actor) {
    return actor.state() == pb::ACTOR_HEALTHY && alive(actor.name());
  });
}

// Its agent sees it at once. What it said last arrives; its connection may come back for a while.
void Cast::end_process(ProcessPtr p, const std::string& evidence) {
  if (!p->alive) return;
  const bool clean = evidence == "exit code 0";
  stop_living(p, clean ? stretched(options.pace.link) : stretched(options.pace.grace));
  auto notice = [this, p, evidence] { role_exited(p, evidence); };
  last_exit_[p->role()] = notice;
  auto& notice_free = agents_[p->slot.node()].notice_free;
  notice_free = std::max(notice_free, now_ + stretched(options.pace.agent));
  at(notice_free - now_, [this, notice, node = p->slot.node()] {
    Agent& agent = agents_[node];
    if (agent.connected && coordinator_up_)
      notice();
    else if (agent.alive)
      agent.unheard.push_back(notice);
  });
}

void Cast::stop_living(ProcessPtr p, Duration link_noticed_after) {
  const auto link = std::exchange(p->link, 0);
  const auto role = p->role();
  p->alive = false;
  agents_[p->slot.node()].running.erase(role);
  if (link != 0)
    at(std::max(p->out_free - now_, link_noticed_after),
       [this, p, link] { link_is_down(p, link); });
  // Those that wait for it in a collective find out.
  for (auto& [key, meeting] : meetings_)
    for (auto& [waiting, entry] : meeting) {
      const auto other = process(waiting);
      const auto run = entry.first;
      if (!other || other->run != run || run->generation.number() != key.first) continue;
      const auto& members = run->generation.members();
      if (std::any_of(members.begin(), members.end(),
                      [&](const auto& member) { return member.role() == role; }))
        later(stretched(options.pace.peer_death), other, run,
              [this, other, run] { fault(other, run, Errc::unavailable, "a peer is gone"); });
    }
}

void Cast::say(const ProcessPtr& p, Said what) {
  if (p->link == 0) return;
  p->last_said = what;
  p->out_free = std::max(p->out_free, now_ + stretched(options.pace.link));
  at(p->out_free - now_, [this, p, what = std::move(what), link = p->link, life = coordinator_] {
    if (life != coordinator_ || !coordinator_up_) return;
    auto member = members_.find(p->role());
    const bool known = member != members_.end() && member->second == std::pair(p->pid, link);
    tell([&](JobMachine& machine) { what(machine, known ? p->role() : std::string{}); });
  });
}

}  // namespace crabcast::actors

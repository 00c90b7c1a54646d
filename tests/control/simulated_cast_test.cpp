// The simulated cast itself, and the run in which nothing goes wrong.
#include "tests/control/simulated_cast.h"

#include <algorithm>

namespace crabcast::actors {
namespace {

constexpr auto kProgressEvery = milliseconds(500);
constexpr auto kReconnectEvery = milliseconds(300);

pb::RoleSlot make_slot(const std::string& role, pb::RoleKind kind, const std::string& node) {
  pb::RoleSlot slot;
  slot.set_role(role);
  slot.set_kind(kind);
  slot.set_node(node);
  return slot;
}

std::vector<pb::RoleSlot> placement_of(const JobSpec& spec) {
  std::vector<pb::RoleSlot> slots = {make_slot("coordinator", pb::ROLE_COORDINATOR, "node-a")};
  const auto add = [&](const std::string& kind, pb::RoleKind number, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i)
      slots.push_back(make_slot(kind + "-" + std::to_string(i), number, "node-a"));
  };
  add("worker", pb::ROLE_WORKER, spec.resources.workers_max);
  add("loader", pb::ROLE_LOADER, spec.resources.loaders);
  add("evaluator", pb::ROLE_EVALUATOR, spec.resources.evaluators);
  return slots;
}

}  // namespace

Cast::Cast(CastOptions o) : options(std::move(o)), random_(options.seed) {
  placement_ = placement_of(options.spec);
  begin_coordinator();
  tick();
}

// ---- time -------------------------------------------------------------------------------------

void Cast::at(Duration delay, std::function<void()> action) {
  queue_.emplace(now_ + delay, std::move(action));
}

Duration Cast::stretched(Duration time) {
  if (options.pace.jitter <= 0) return time;
  const double part = static_cast<double>(random_() % 1000) / 1000.0;
  return std::chrono::duration_cast<Duration>(time * (1 + options.pace.jitter * part));
}

bool Cast::step_once() {
  if (queue_.empty()) return false;
  auto first = queue_.begin();
  now_ = first->first;
  auto action = std::move(first->second);
  queue_.erase(first);
  action();
  return true;
}

void Cast::run_for(Duration time) {
  const auto until = now_ + time;
  while (!queue_.empty() && queue_.begin()->first <= until) step_once();
  now_ = until;
}

bool Cast::run_until(const std::function<bool()>& done, Duration limit) {
  const auto until = now_ + limit;
  while (!finish && !done() && now_ < until && !testing::Test::HasFailure())
    if (!step_once()) return false;
  return done() || finish.has_value();
}

void Cast::tick() {
  if (coordinator_up_) tell([this](JobMachine& machine) { machine.on_tick(now_); });
  if (!finish) at(options.pace.tick, [this] { tick(); });
}

// ---- the coordinator --------------------------------------------------------------------------

JobHistory Cast::history() const {
  JobHistory history;
  if (!ledger.empty()) {
    history.last_commit = ledger.back().step();
    history.last_skipped = ledger.back().skipped();
    history.last_generation = ledger.back().generation();
  }
  for (const auto& [id, state] : store) history.checkpoints.insert(id);
  for (const auto& event : all("evaluated")) history.evaluated.insert(std::stoull(event.subject()));
  return history;
}

void Cast::begin_coordinator() {
  ++coordinator_;
  coordinator_up_ = true;
  machine_ =
      std::make_unique<JobMachine>("job-1", options.spec, placement_, history(), options.timeouts);
  tell([this](JobMachine& machine) { machine.start(now_); });
  at(stretched(options.pace.agent), [this] { agent_connected(); });
}

void Cast::agent_connected() {
  if (!coordinator_up_) return;
  agent_up_ = true;
  for (const auto& [role, p] : running_)
    tell([&](JobMachine& machine) { machine.adopt_process(role, p->pid, now_); });
  for (auto& notice : std::exchange(unheard_, {})) notice();
  for (auto& order : std::exchange(agent_orders_, {})) order();
}

void Cast::tell(const std::function<void(JobMachine&)>& what) {
  what(*machine_);
  carry_out();
}

void Cast::carry_out() {
  for (auto actions = machine_->take_actions(); !actions.empty();
       actions = machine_->take_actions())
    for (const auto& action : actions) {
      EXPECT_FALSE(finish) << "an action after Finish, of kind " << action.index();
      std::visit([this](const auto& one) { act(one); }, action);
    }
}

void Cast::act(const SendTo& action) {
  auto member = members_.find(action.role);
  if (member == members_.end()) return;
  const auto [pid, link] = member->second;
  const auto p = processes_.at(pid);
  const auto& envelope = action.envelope;
  if (envelope.has_generation()) check_generation(action.role, envelope.generation());
  if (envelope.has_commit())
    EXPECT_LE(envelope.commit().step(), ledger.size()) << "T-1: a Commit that is not durable";
  if (envelope.has_skip_step())
    EXPECT_LE(envelope.skip_step().step(), ledger.size()) << "T-1: a skip that is not durable";
  if (envelope.has_evaluate())
    evaluations.emplace_back(action.role, envelope.evaluate().checkpoint());
  p->in_free = std::max(p->in_free, now_ + stretched(options.pace.link));
  at(p->in_free - now_, [this, p, envelope, over = link] {
    if (p->link == over && p->alive && !p->frozen) receive(p, envelope);
  });
}

void Cast::check_generation(const std::string& to, const pb::Generation& generation) {
  const auto text = generation.SerializeAsString();
  const auto [known, fresh] = generation_text_.emplace(generation.number(), text);
  EXPECT_TRUE(fresh || known->second == text)
      << "two generations with the number " << generation.number();
  EXPECT_FALSE(finish);
  EXPECT_EQ(generation.first_step(), ledger.size() + 1);
  bool named = false;
  std::vector<int> lanes(options.spec.train.lanes, 0);
  for (const auto& member : generation.members()) {
    named = named || member.role() == to;
    for (std::uint32_t i = 0; i < member.lanes(); ++i) ++lanes.at(member.first_lane() + i);
  }
  EXPECT_TRUE(named) << to << " got a generation without it";
  EXPECT_EQ(lanes, std::vector<int>(options.spec.train.lanes, 1)) << "lanes are no partition";
  if (!fresh) return;
  if (!generations.empty()) EXPECT_GT(generation.number(), generations.back().number());
  generations.push_back(generation);
}

void Cast::act(const WriteCommit& action) {
  check_record(action.record);
  ledger_free_ = std::max(ledger_free_, now_ + stretched(options.pace.ledger));
  writing_ = action.record;
  at(ledger_free_ - now_, [this, record = action.record, life = coordinator_] {
    if (life != coordinator_) return;  // the coordinator died before it was written
    writing_.reset();
    EXPECT_EQ(record.step(), ledger.size() + 1) << "the ledger is not contiguous";
    ledger.push_back(record);
    tell([&](JobMachine& machine) { machine.on_commit_durable(record.step(), now_); });
  });
}

void Cast::check_record(const pb::CommitRecord& record) {
  EXPECT_EQ(record.step(), ledger.size() + 1);
  for (const auto& generation : generations) {
    if (generation.number() != record.generation()) continue;
    for (const auto& member : generation.members())
      EXPECT_TRUE(reported_.contains({record.generation(), record.step(), member.role()}))
          << "T-1: step " << record.step() << " is committed without " << member.role();
  }
  EXPECT_EQ(record.skipped(), options.non_finite.contains(record.step()));
  EXPECT_EQ(record.parameter_checksum(), expected_state(record.step() - 1)) << "T-2";
  ASSERT_EQ(record.samples_size(), static_cast<int>(options.spec.train.lanes));
  for (int lane = 0; lane < record.samples_size(); ++lane) {
    EXPECT_EQ(record.samples(lane).dataset(), static_cast<std::uint32_t>(lane));
    EXPECT_EQ(record.samples(lane).index(), record.step());
  }
}

void Cast::act(const RewindLedger& action) {
  EXPECT_LE(action.step, ledger.size());
  rewinds.push_back(action.step);
  ledger.resize(std::min<std::size_t>(action.step, ledger.size()));
}

void Cast::act(const StartProcess& action) {
  ++starts[action.slot.role()];
  to_agent([this, slot = action.slot] { start_process(slot); });
}

void Cast::act(const StopProcess& action) {
  // A loss is counted when it is decided, not when it is carried out.
  const bool decided = !events.empty() && events.back().subject() == action.role &&
                       events.back().kind().ends_with("_lost");
  if (auto found = running_.find(action.role); decided && found != running_.end())
    count_lost(found->second);
  to_agent([this, role = action.role] {
    if (auto found = running_.find(role); found != running_.end())
      end_process(found->second, "killed by SIGKILL");
  });
}

void Cast::to_agent(std::function<void()> order) {
  auto carried = [this, order = std::move(order), life = coordinator_] {
    if (life == coordinator_) order();
  };
  if (agent_up_)
    at(stretched(options.pace.agent), std::move(carried));
  else
    agent_orders_.push_back(std::move(carried));
}

void Cast::act(const FindCheckpoint&) {
  at(stretched(options.pace.ledger), [this, life = coordinator_] {
    if (life != coordinator_) return;
    std::optional<std::uint64_t> newest;
    for (const auto& [id, state] : store)
      if (!corrupt.contains(id)) newest = id;
    tell([&](JobMachine& machine) { machine.on_checkpoint_found(newest, now_); });
  });
}

void Cast::act(const ApplyRetention& action) {
  while (store.size() > options.spec.checkpoint.keep_last) {
    auto oldest = std::find_if(store.begin(), store.end(), [&](const auto& entry) {
      return !action.in_use.contains(entry.first);
    });
    if (oldest == store.end() || oldest->first == store.rbegin()->first) return;
    store.erase(oldest);
  }
}

void Cast::act(const Finish& action) {
  finish = action;
}

void Cast::stop(bool keep) {
  if (!coordinator_up_) return at(options.pace.tick, [this, keep] { stop(keep); });
  tell([&](JobMachine& machine) { machine.on_stop(keep, "asked by a test", now_); });
}

void Cast::add_worker(const std::string& role, const std::string& node) {
  placement_.push_back(make_slot(role, pb::ROLE_WORKER, node));
  if (!coordinator_up_) return;
  tell([&](JobMachine& machine) { machine.on_placement({placement_.back()}, now_); });
}

void Cast::fatal_fault(const std::string& role, Errc code, const std::string& message) {
  pb::MemberFault body;
  body.set_role(role);
  body.set_code(static_cast<std::uint32_t>(code));
  body.set_message(message);
  body.set_operation("open the corpus");
  body.set_fatal(true);
  tell([&](JobMachine& machine) { machine.on_fault(role, body, now_); });
}

// ---- what befalls the cast ----------------------------------------------------------------------

void Cast::kill(const std::string& role) {
  if (auto found = running_.find(role); found != running_.end())
    end_process(found->second, "killed by SIGKILL");
}

void Cast::hang(const std::string& role) {
  if (auto p = process(role)) p->hung = true;
}

void Cast::freeze(const std::string& role) {
  auto p = process(role);
  if (!p) return;
  p->frozen = true;
  at(options.pace.silence, [this, role] { break_link(role); });
}

void Cast::break_link(const std::string& role, Duration noticed_after) {
  auto p = process(role);
  if (!p || p->link == 0) return;
  const auto link = std::exchange(p->link, 0);
  at(noticed_after + stretched(options.pace.link), [this, p, link] { link_is_down(p, link); });
  at(stretched(kReconnectEvery), [this, p] {
    if (p->alive && !p->frozen) connect(p);
  });
}

// As the job actor sees it: only the connection over which the member registered counts.
void Cast::link_is_down(const ProcessPtr& p, std::uint64_t link) {
  auto member = members_.find(p->role());
  if (!coordinator_up_ || member == members_.end() || member->second != std::pair(p->pid, link))
    return;
  members_.erase(member);
  count_lost(p);
  tell([&](JobMachine& machine) {
    machine.on_gone(p->role(), "its connection was lost", false, now_);
  });
}

void Cast::fail_collective(const std::string& role) {
  if (auto p = process(role); p && p->run && p->works())
    fault(p, p->run, Errc::unavailable, "the collective failed");
}

void Cast::restart_coordinator(Duration away, bool write_survives) {
  if (finish || !coordinator_up_) return;
  if (const auto record = std::exchange(writing_, std::nullopt); record && write_survives)
    ledger.push_back(*record);
  ++coordinator_;
  coordinator_up_ = agent_up_ = false;
  agent_orders_.clear();
  members_.clear();
  lost.clear();  // an incident that was open is forgotten with the coordinator
  std::erase_if(events, [](const auto& event) { return event.kind() == "incident"; });
  for (const auto& [role, p] : running_) {
    p->link = 0;
    p->counted = false;
  }
  at(away, [this] { begin_coordinator(); });
  at(away + milliseconds(20), [this] {
    for (const auto& [role, p] : std::map(running_))
      if (!p->frozen)
        at(stretched(kReconnectEvery), [this, p] {
          if (p->alive && p->link == 0) connect(p);
        });
  });
}

void Cast::lose_agent(Duration away) {
  if (!agent_up_ || !coordinator_up_) return;
  agent_up_ = false;
  for (const auto& role : machine_->roles_on("node-a")) {
    if (auto found = running_.find(role); found != running_.end()) count_lost(found->second);
    tell([&](JobMachine& machine) {
      machine.on_gone(role, "the agent of node node-a is gone", true, now_);
    });
  }
  at(away, [this] { agent_connected(); });
}

void Cast::repeat_late(const std::string& role, Duration delay) {
  auto p = process(role);
  if (!p || !p->last_said) return;
  at(delay, [this, role, what = p->last_said] {
    if (coordinator_up_ && members_.contains(role))
      tell([&](JobMachine& machine) { what(machine, role); });
  });
}

// ---- processes --------------------------------------------------------------------------------

std::shared_ptr<Cast::Process> Cast::process(const std::string& role) const {
  auto found = running_.find(role);
  return found == running_.end() ? nullptr : found->second;
}

std::string Cast::doing(const std::string& role) const {
  auto p = process(role);
  return p ? p->what : "";
}

void Cast::doing(Process& p, const std::string& what) {
  p.what = what;
  ++p.progress;
}

std::vector<pb::Event> Cast::all(const std::string& kind) const {
  std::vector<pb::Event> found;
  for (const auto& event : events)
    if (event.kind() == kind) found.push_back(event);
  return found;
}

std::vector<std::string> Cast::living(pb::RoleKind kind) const {
  std::vector<std::string> roles;
  for (const auto& [role, p] : running_)
    if (p->slot.kind() == kind) roles.push_back(role);
  return roles;
}

void Cast::start_process(const pb::RoleSlot& slot) {
  const auto& role = slot.role();
  const auto refuse = [&](Errc code, const std::string& why) {
    tell([&](JobMachine& machine) { machine.on_start_failed(role, {code, why}, now_); });
  };
  if (running_.contains(role)) return refuse(Errc::already_exists, role + " runs here already");
  if (cannot_start.contains(role)) {
    if (!leaving()) ++lost[role];
    return refuse(Errc::io_error, "no such program");
  }
  auto p = std::make_shared<Process>();
  p->slot = slot;
  p->pid = next_pid_++;
  p->state = expected_state(0);
  running_[role] = p;
  processes_[p->pid] = p;
  at(stretched(options.pace.agent), [this, p, life = coordinator_] {
    if (life == coordinator_)
      tell([&](JobMachine& machine) { machine.on_started(p->role(), p->pid); });
  });
  if (never_start.contains(role)) return;
  at(stretched(options.pace.start), [this, p] {
    if (p->alive) connect(p);
  });
}

void Cast::connect(const ProcessPtr& p) {
  if (!coordinator_up_) {
    at(kReconnectEvery, [this, p] {
      if (p->alive && p->link == 0) connect(p);
    });
    return;
  }
  p->link = next_link_++;
  p->out_free = std::max(p->out_free, now_ + stretched(options.pace.link));
  at(p->out_free - now_, [this, p, link = p->link] {
    if (!coordinator_up_ || (p->alive && p->link != link)) return;
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
    members_[p->role()] = {p->pid, link};
    tell([&](JobMachine& machine) { machine.on_registered(body, now_); });
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

void Cast::count_lost(const ProcessPtr& p) {
  if (p->counted || leaving()) return;
  p->counted = true;
  ++lost[p->role()];
}

// The machine has sent everybody away.
bool Cast::leaving() const {
  if (finish) return true;
  const auto status = machine_->status(now_, 0);
  return std::any_of(status.actors().begin(), status.actors().end(),
                     [](const auto& actor) { return actor.state() == pb::ACTOR_DRAINING; });
}

bool Cast::all_registered() const {
  const auto status = machine_->status(now_, 0);
  return std::all_of(status.actors().begin(), status.actors().end(), [&](const auto& actor) {
    return actor.state() == pb::ACTOR_HEALTHY && running_.contains(actor.name());
  });
}

void Cast::end_process(const ProcessPtr& p, const std::string& evidence) {
  if (!p->alive) return;
  const auto link = std::exchange(p->link, 0);
  const auto role = p->role();
  p->alive = false;
  running_.erase(role);
  auto exit_notice = [this, p, role, evidence] {
    count_lost(p);
    tell([&](JobMachine& machine) { machine.on_gone(role, evidence, true, now_, p->pid); });
  };
  at(stretched(options.pace.agent), [this, exit_notice] {
    if (agent_up_)
      exit_notice();
    else
      unheard_.push_back(exit_notice);
  });
  if (link != 0)
    at(std::max(p->out_free - now_, stretched(options.pace.link)),
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

void Cast::receive(const ProcessPtr& p, const pb::Envelope& envelope) {
  if (envelope.has_generation()) {
    const auto generation = envelope.generation();
    p->newest = std::max(p->newest, generation.number());
    p->tasks.push_back([this, p, generation] {
      if (p->newest == generation.number()) begin_run(p, generation);
    });
    // A verdict that is there wins over the interruption.
    const bool decided = p->pending != 0 && p->decided && p->decided->step == p->pending;
    if (p->run && p->run->interruptible && !decided && p->works()) end_run(p);
    next_task(p);
  } else if (envelope.has_commit()) {
    receive_commit(p, envelope.commit());
  } else if (envelope.has_skip_step()) {
    p->decided = Process::Decision{envelope.skip_step().step(), true, 0};
    if (p->pending == envelope.skip_step().step()) decide(p);
  } else if (envelope.has_evaluate()) {
    p->evaluations.push_back(envelope.evaluate());
    evaluate_next(p);
  } else if (envelope.has_leave_job()) {
    if (p->works()) at(stretched(options.pace.link), [this, p] { end_process(p, "exit code 0"); });
  }
}

// ---- tests ------------------------------------------------------------------------------------

namespace {

CastOptions small_job() {
  CastOptions options;
  options.spec.name = "job";
  options.spec.train.steps = 8;
  options.spec.train.lanes = 3;
  options.spec.resources.workers_max = 2;
  options.spec.checkpoint.every_steps = 4;
  options.spec.evaluate.every_steps = 4;
  return options;
}

TEST(SimulatedCast, PlaysAWholeJob) {
  Cast cast(small_job());
  ASSERT_TRUE(cast.run_to_end());
  EXPECT_EQ(cast.finish->state, pb::JOB_SUCCEEDED);
  EXPECT_EQ(cast.committed(), 8U);
  EXPECT_EQ(cast.store.size(), 2U);
  EXPECT_TRUE(cast.living(pb::ROLE_WORKER).empty());
}

TEST(SimulatedCast, TheSameSeedPlaysTheSameRun) {
  const auto play = [](std::uint64_t seed) {
    auto options = small_job();
    options.seed = seed;
    options.pace.jitter = 3;
    Cast cast(options);
    EXPECT_TRUE(cast.run_to_end());
    return cast.now();
  };
  EXPECT_EQ(play(5), play(5));
  EXPECT_NE(play(5), play(6));
}

}  // namespace
}  // namespace crabcast::actors

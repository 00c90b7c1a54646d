// Time, and the job actor with its stores: it carries out what the machine decides, and checks it.
#include "tests/control/simulated_cast.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "protocol/sums.h"

namespace crabcast::actors {
namespace {

pb::RoleSlot make_slot(const std::string& role, pb::RoleKind kind, const std::string& node) {
  pb::RoleSlot slot;
  slot.set_role(role);
  slot.set_kind(kind);
  slot.set_node(node);
  return slot;
}

std::vector<pb::RoleSlot> placement_of(const CastOptions& options) {
  std::vector<pb::RoleSlot> slots = {make_slot("coordinator", pb::ROLE_COORDINATOR, "node-a")};
  const auto add = [&](const std::string& kind, pb::RoleKind number, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto role = kind + "-" + std::to_string(i);
      slots.push_back(
          make_slot(role, number, options.on_node_b.contains(role) ? "node-b" : "node-a"));
    }
  };
  const auto& spec = options.spec;
  add("worker", pb::ROLE_WORKER, spec.resources.workers_max);
  add("loader", pb::ROLE_LOADER, spec.resources.loaders);
  add("evaluator", pb::ROLE_EVALUATOR, spec.resources.evaluators);
  return slots;
}

std::string text_of(const JobAction& action) {
  if (const auto* send = std::get_if<SendTo>(&action))
    return "to " + send->role + ": " + send->envelope.ShortDebugString();
  if (const auto* publish = std::get_if<PublishGeneration>(&action))
    return "publish " + publish->generation.ShortDebugString();
  if (const auto* write = std::get_if<WriteCommit>(&action))
    return "write commit " + std::to_string(write->record.step());
  if (const auto* rewind = std::get_if<RewindLedger>(&action))
    return "rewind to " + std::to_string(rewind->step);
  if (const auto* voids = std::get_if<VoidCheckpoints>(&action))
    return "void checkpoints after " + std::to_string(voids->after);
  if (const auto* record = std::get_if<RecordRollbacks>(&action))
    return record->rollbacks.ShortDebugString();
  if (const auto* event = std::get_if<RecordEvent>(&action)) return event->event.ShortDebugString();
  if (const auto* start = std::get_if<StartProcess>(&action))
    return "start " + start->slot.role() + " on " + start->slot.node();
  if (const auto* stop = std::get_if<StopProcess>(&action)) return "stop " + stop->role;
  if (std::holds_alternative<FindCheckpoint>(action)) return "find checkpoint";
  if (std::holds_alternative<ApplyRetention>(action)) return "apply retention";
  return "finish";
}

}  // namespace

Cast::Cast(CastOptions o) : options(std::move(o)), random_(options.seed) {
  placement_ = placement_of(options);
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
  return done();
}

void Cast::trace(const std::string& line) const {
  static const bool wanted = std::getenv("CRABCAST_TRACE") != nullptr;
  if (!wanted) return;
  std::printf("%10.3f %s\n", crabcast::seconds(now_.time_since_epoch()), line.c_str());
}

void Cast::tick() {
  if (coordinator_up_) tell([this](JobMachine& machine) { machine.on_tick(now_); });
  if (!finish) at(options.pace.tick, [this] { tick(); });
}

// ---- the coordinator --------------------------------------------------------------------------

JobHistory Cast::history() const {
  JobHistory history;
  if (!ledger.empty()) {
    if (ledger.front().has_corpus()) history.corpus = ledger.front().corpus();
    history.last_commit = ledger.back().step();
    history.last_skipped = ledger.back().skipped();
    history.last_generation = ledger.back().generation();
  }
  history.generation = stored_generation;
  history.restarts =
      static_cast<std::uint32_t>(count("restart") + count("disagreement") + count("rollback"));
  history.rollbacks = rollbacks;
  history.losses = losses_up_to(history.last_commit);
  for (const auto& [id, state] : store) history.checkpoints.insert(id);
  for (const auto& event : events) note_losses(history.open_losses, event);
  for (const auto& event : all("evaluated")) history.evaluated.insert(std::stoull(event.subject()));
  return history;
}

std::vector<double> Cast::losses_up_to(std::uint64_t step) const {
  std::vector<double> losses;
  for (const auto& record : ledger)
    if (record.step() <= step && !record.skipped()) losses.push_back(mean_loss(record.losses()));
  const std::size_t more = losses.size() - std::min(losses.size(), LossWatch::kWindow);
  losses.erase(losses.begin(), losses.begin() + static_cast<std::ptrdiff_t>(more));
  return losses;
}

void Cast::begin_coordinator() {
  ++coordinator_;
  coordinator_up_ = true;
  machine_ =
      std::make_unique<JobMachine>("job-1", options.spec, placement_, history(), options.timeouts);
  const bool first = coordinator_ == 1;
  tell([&](JobMachine& machine) {
    machine.start(now_);
    if (!first) machine.on_restarted("killed by SIGKILL", 0.5, now_);
  });
  for (const auto& slot : placement_) connect_agent(slot.node());
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
      trace(text_of(action));
      std::visit([this](const auto& one) { act(one); }, action);
    }
}

void Cast::act(const SendTo& action) {
  const auto& envelope = action.envelope;
  const auto verdict_on = std::max(envelope.commit().step(), envelope.skip_step().step());
  EXPECT_LE(verdict_on, ledger.size()) << "T-1: a verdict that is not durable";
  if (envelope.has_evaluate())
    evaluations.emplace_back(action.role, envelope.evaluate().checkpoint());
  if (envelope.has_leave_job()) expect_the_end_of(action.role);
  send(action.role, envelope);
}

// It is told to go, so that its end is no loss.
void Cast::expect_the_end_of(const std::string& role) {
  going_.insert(role);
  for (const auto& [pid, p] : processes_) p->told = p->told || p->role() == role;
}

void Cast::send(const std::string& role, const pb::Envelope& envelope) {
  auto member = members_.find(role);
  if (member == members_.end()) return;
  const auto [pid, link] = member->second;
  const auto p = processes_.at(pid);
  p->in_free = std::max(p->in_free, now_ + stretched(options.pace.link));
  at(p->in_free - now_, [this, p, envelope, over = link] {
    if (p->link == over && p->alive && !p->frozen) receive(p, envelope);
  });
}

void Cast::act(const PublishGeneration& action) {
  check_generation(action.generation);
  generations.push_back(action.generation);
  in_ledger_order([this, action] {
    stored_generation = action.generation.number();
    pb::Envelope envelope;
    *envelope.mutable_generation() = action.generation;
    for (const auto& role : action.roles) send(role, envelope);
  });
}

void Cast::check_generation(const pb::Generation& generation) {
  EXPECT_GT(generation.number(), stored_generation) << "a number that was given away";
  EXPECT_EQ(generation.first_step(), ledger.size() + 1);
  std::vector<int> lanes(options.spec.train.lanes, 0);
  for (const auto& member : generation.members())
    for (std::uint32_t i = 0; i < member.lanes(); ++i) ++lanes.at(member.first_lane() + i);
  EXPECT_EQ(lanes, std::vector<int>(options.spec.train.lanes, 1)) << "lanes are no partition";
}

void Cast::act(const WriteCommit& action) {
  check_record(action.record);
  writing_ = action.record;
  in_ledger_order([this, record = action.record] {
    writing_.reset();
    EXPECT_EQ(record.step(), ledger.size() + 1) << "the ledger is not contiguous";
    ledger.push_back(record);
    tell([&](JobMachine& machine) { machine.on_commit_durable(record.step(), now_); });
  });
}

// The ledger writes one thing after the other; what it has not written dies with its coordinator.
void Cast::in_ledger_order(std::function<void()> then) {
  ledger_free_ = std::max(ledger_free_, now_ + stretched(options.pace.ledger));
  at(ledger_free_ - now_, [this, then = std::move(then), life = coordinator_] {
    if (life == coordinator_) then();
  });
}

void Cast::check_record(const pb::CommitRecord& record) {
  EXPECT_EQ(record.step(), ledger.size() + 1);
  // A number that was not given away may have been used once before.
  const auto generation =
      std::find_if(generations.rbegin(), generations.rend(),
                   [&](const auto& one) { return one.number() == record.generation(); });
  ASSERT_NE(generation, generations.rend());
  for (const auto& member : generation->members())
    EXPECT_TRUE(reported_.contains({record.generation(), record.step(), member.role()}))
        << "T-1: step " << record.step() << " is committed without " << member.role();
  EXPECT_EQ(record.skipped(), leaves_state(record.step()));
  EXPECT_EQ(record.parameter_checksum(), expected_state(record.step() - 1)) << "T-2";
  ASSERT_EQ(record.samples_size(), static_cast<int>(options.spec.train.lanes));
  for (int lane = 0; lane < record.samples_size(); ++lane) {
    EXPECT_EQ(record.samples(lane).dataset(), static_cast<std::uint32_t>(lane));
    EXPECT_EQ(record.samples(lane).index(), record.step());
  }
}

void Cast::act(const WriteQuarantine&) {
  ADD_FAILURE() << "no sample of this cast is bad";
}

void Cast::act(const RewindLedger& action) {
  EXPECT_LE(action.step, ledger.size());
  rewinds.push_back(action.step);
  ledger.resize(std::min<std::size_t>(action.step, ledger.size()));
}

void Cast::act(const VoidCheckpoints& action) {
  store.erase(store.upper_bound(action.after), store.end());
  ++void_saves_;
}

// From now on the steps of the new range leave the state as it is.
void Cast::act(const RecordRollbacks& action) {
  rollbacks = action.rollbacks;
  if (rollbacks.under_way())
    states_.resize(std::min<std::size_t>(states_.size(), rollbacks.trusted_up_to() + 1));
}

void Cast::act(const RecordEvent& action) {
  events.push_back(action.event);
  const auto& role = action.event.subject();
  if (action.event.kind() == "scaled_down") expect_the_end_of(role);
  if (action.event.kind() == "incident") unreachable_.erase(role);
  if (action.event.kind() == "node_lost") {  // it takes over what is said of unreachable members
    ++lost[role];
    for (const auto& [victim, node] : std::map(unreachable_))
      if (role == "agent@" + node && unreachable_.erase(victim) > 0 && --lost[victim] == 0)
        lost.erase(victim);
    return;
  }
  if (action.event.kind() == "coordinator_stalled") ++lost[role];
  if (!action.event.kind().ends_with("_lost")) return;
  expect_the_end_of(role);
  if (action.event.severity() == pb::SEVERITY_INFO) return;  // another incident tells of it
  const auto& message = action.event.message();
  ++lost[role];
  if (message.starts_with(kConnectionLost)) unreachable_[role] = machine_->node_of(role);
}

void Cast::act(const StartProcess& action) {
  const auto& role = action.slot.role();
  ++starts[role];
  unreachable_.erase(role);
  going_.erase(role);
  forget_starts(role);
  give({action.slot.node(), role, [this, slot = action.slot] { start_process(slot); }});
}

void Cast::act(const StopProcess& action) {
  forget_starts(action.role);
  give({action.node, "", [this, action, life = coordinator_] {
          auto& running = agents_[action.node].running;
          if (auto p = running.find(action.role); p != running.end())
            end_process(p->second, "killed by SIGKILL");
          else if (life == coordinator_ && machine_->node_of(action.role) == action.node)
            tell([&](JobMachine& machine) { machine.on_nothing_to_stop(action.role, now_); });
        }});
}

void Cast::act(const FindCheckpoint& action) {
  in_ledger_order([this, at_most = action.at_most] {
    std::optional<std::uint64_t> newest;
    for (const auto& [id, state] : store)
      if (id <= at_most && !corrupt.contains(id)) newest = id;
    tell([&](JobMachine& machine) {
      machine.on_checkpoint_found(newest, now_, {}, losses_up_to(newest.value_or(0)));
    });
  });
}

// The newest ones, those in use, and the newest that verifies; when none does, all.
void Cast::act(const ApplyRetention& action) {
  std::set<std::uint64_t> kept = action.in_use;
  bool verified = false;
  std::uint32_t newest = 0;
  for (auto it = store.rbegin(); it != store.rend(); ++it) {
    const auto id = it->first;
    if (newest++ < options.spec.checkpoint.keep_last) kept.insert(id);
    if (!verified && !corrupt.contains(id)) kept.insert(id);
    verified = verified || !corrupt.contains(id);
  }
  if (verified)
    std::erase_if(store, [&](const auto& entry) { return !kept.contains(entry.first); });
}

void Cast::act(const Finish& action) {
  finish = action;
}

std::vector<pb::Event> Cast::all(const std::string& kind) const {
  std::vector<pb::Event> found;
  for (const auto& event : events)
    if (event.kind() == kind) found.push_back(event);
  return found;
}

// ---- what the controller asks for -------------------------------------------------------------

void Cast::stop(bool keep) {
  trace(keep ? "stop" : "cancel");
  if (!coordinator_up_) return at(options.pace.tick, [this, keep] { stop(keep); });
  tell([&](JobMachine& machine) { machine.on_stop(keep, "asked by a test", now_); });
}

void Cast::place(const std::string& role, const std::string& node) {
  auto slot = make_slot(role, pb::ROLE_WORKER, node);
  auto known = std::find_if(placement_.begin(), placement_.end(),
                            [&](const auto& one) { return one.role() == role; });
  if (known == placement_.end()) {
    placement_.push_back(slot);
  } else {
    slot.set_kind(known->kind());
    *known = slot;
    for (const auto& p : running()) p->told = p->told || p->role() == role;  // left behind there
  }
  if (!coordinator_up_) return;
  connect_agent(node);
  tell([&](JobMachine& machine) { machine.on_placement({slot}, now_); });
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

}  // namespace crabcast::actors

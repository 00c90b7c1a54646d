// The members of the simulated cast: a worker's training, and an evaluator's work.
#include <algorithm>

#include "tests/control/simulated_cast.h"

namespace crabcast::actors {
namespace {

constexpr auto kPoll = milliseconds(50);
constexpr auto kCollectiveMargin = std::chrono::seconds(5);  // over hang_after
constexpr auto kFormTimeout = std::chrono::seconds(60);
constexpr auto kVerdictTimeout = std::chrono::seconds(75);

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = a + 0x9e3779b97f4a7c15ULL * (b + 1);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

std::uint64_t Cast::expected_state(std::uint64_t step) {
  if (states_.empty()) states_.push_back(42);
  while (states_.size() <= step) {
    const auto n = states_.size();
    states_.push_back(leaves_state(n) ? states_.back() : mixed(states_.back(), n));
  }
  return states_[step];
}

// The step's update is left out.
bool Cast::leaves_state(std::uint64_t step) const {
  for (const auto& range : rollbacks.ranges())
    if (range.first_step() <= step && step <= range.last_step()) return true;
  if (options.spec.failure.non_finite != NonFinitePolicy::skip) return false;
  if (options.non_finite.contains(step)) return true;
  const auto spike = options.spikes.find(step);
  if (spike == options.spikes.end() || !options.spec.failure.loss_spike) return false;
  LossWatch watch;
  watch.reset(losses_up_to(step - 1));
  return watch.spike(spike->second, *options.spec.failure.loss_spike).has_value();
}

// ---- messages ------------------------------------------------------------------------------

void Cast::receive(const ProcessPtr& p, const pb::Envelope& envelope) {
  if (envelope.has_generation()) {
    const auto generation = envelope.generation();
    p->newest = std::max(p->newest, generation.number());
    p->tasks.push_back([this, generation](const ProcessPtr& self) {
      if (self->newest == generation.number()) begin_run(self, generation);
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

// ---- workers ----------------------------------------------------------------------------------

void Cast::receive_commit(const ProcessPtr& p, const pb::Commit& commit) {
  if (commit.step() <= p->applied) {
    if (commit.checkpoint() == 0) return;
    p->tasks.push_back(
        [this, id = commit.checkpoint()](const ProcessPtr& self) { save(self, id); });
    return next_task(p);
  }
  const bool skip = p->decided && p->decided->step == commit.step() && p->decided->skip;
  p->decided = Process::Decision{commit.step(), skip, commit.checkpoint()};
  if (p->pending == commit.step()) decide(p);
}

void Cast::next_task(const ProcessPtr& p) {
  if (!p->works() || p->run || p->tasks.empty()) return;
  auto task = std::move(p->tasks.front());
  p->tasks.pop_front();
  task(p);
  if (!p->run) next_task(p);
}

void Cast::later(Duration time, const ProcessPtr& p, const RunPtr& run,
                 std::function<void()> then) {
  at(time, [this, p, run, then = std::move(then)] {
    if (!p->works() || p->run != run || run->over) return;
    if (p->newest > run->generation.number() && p->pending == 0) return end_run(p);
    then();
  });
}

void Cast::begin_run(const ProcessPtr& p, const pb::Generation& generation) {
  auto run = std::make_shared<Run>();
  run->generation = generation;
  for (const auto& member : generation.members())
    if (member.role() == p->role()) run->me = member;
  p->run = run;
  doing(*p, "load state");
  const auto before = generation.first_step() - 1;
  if (!run->me.needs_state()) {
    if (p->applied != before)
      return fault(p, run, Errc::internal,
                   "holds the state after step " + std::to_string(p->applied) + ", not " +
                       std::to_string(before));
    return loaded(p, run);
  }
  if (generation.state_source() == "peer") {
    run->interruptible = true;
    return load_from_peer(p, run);
  }
  later(stretched(options.pace.load), p, run, [this, p, run, before] {
    if (run->generation.state_source() == "checkpoint") {
      auto found = store.find(run->generation.source_checkpoint());
      if (found == store.end() || corrupt.contains(found->first))
        return fault(p, run, Errc::not_found, "the checkpoint cannot be read");
      p->state = found->second;
    } else {
      if (p->applied != 0)
        return fault(p, run, Errc::internal, "asked to begin afresh after steps", true);
      p->state = expected_state(0);
    }
    p->applied = before;
    p->decided.reset();
    loaded(p, run);
  });
}

void Cast::load_from_peer(const ProcessPtr& p, const RunPtr& run) {
  later(kPoll, p, run, [this, p, run] {
    auto offer = offers_.find(run->generation.number());
    if (offer == offers_.end()) return load_from_peer(p, run);
    p->state = offer->second;
    p->applied = run->generation.first_step() - 1;
    p->decided.reset();
    loaded(p, run);
  });
}

void Cast::loaded(const ProcessPtr& p, const RunPtr& run) {
  const auto before = run->generation.first_step() - 1;
  EXPECT_EQ(p->state, expected_state(before)) << p->role() << ", T-2: after step " << before;
  p->wrong = false;
  if (run->generation.source_role() == p->role()) offers_[run->generation.number()] = p->state;
  say(p, [this, number = run->generation.number(), before](JobMachine& machine,
                                                           const std::string& sender) {
    pb::GenerationReady ready;
    ready.set_generation(number);
    ready.set_state_step(before);
    ready.set_load_seconds(0.1);
    machine.on_generation_ready(sender, ready, now_);
  });
  doing(*p, "form");
  join(p, run, "form", [this, run](const ProcessPtr& each) {
    begin_step(each, each->run, each->run->generation.first_step());
  });
}

// Waits until all members of the generation have come to the same place.
void Cast::join(const ProcessPtr& p, const RunPtr& run, const std::string& where,
                std::function<void(const ProcessPtr&)> then) {
  run->interruptible = true;
  auto& meeting = meetings_[{run->generation.number(), where}];
  meeting[p->role()] = {run, std::move(then)};
  const auto& members = run->generation.members();
  bool all = true;
  for (const auto& member : members) {
    auto other = process(member.role());
    auto here = meeting.find(member.role());
    const bool present = here != meeting.end() && other && other->run == here->second.first;
    all = all && present;
    if (!other)
      later(stretched(options.pace.peer_death), p, run,
            [this, p, run] { fault(p, run, Errc::unavailable, "a peer is gone"); });
  }
  if (!all) {
    const auto hang = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(options.spec.failure.hang_after_seconds));
    const bool forming = where == "form";
    later(forming ? Duration(kFormTimeout) : hang + kCollectiveMargin, p, run,
          [this, p, run, where, step = run->step] {
            if (run->interruptible && run->step == step && p->pending == 0)
              fault(p, run, Errc::timeout, "no peer came to: " + where);
          });
    return;
  }
  auto everybody = std::exchange(meeting, {});
  meetings_.erase({run->generation.number(), where});
  for (auto& [role, entry] : everybody) {
    auto other = process(role);
    entry.first->interruptible = false;
    later(stretched(options.pace.link), other, entry.first,
          [other, go = entry.second] { go(other); });
  }
}

void Cast::begin_step(const ProcessPtr& p, const RunPtr& run, std::uint64_t step) {
  if (step > run->generation.steps()) {
    doing(*p, "finished; waits for the job to end (wait for commit)");
    return end_run(p);
  }
  run->step = step;
  run->interruptible = true;
  const auto text = "step " + std::to_string(step) + ": ";
  if (p->what != text + "wait for batch") doing(*p, text + "wait for batch");
  const auto loaders = living(pb::ROLE_LOADER);
  const bool batch = std::any_of(loaders.begin(), loaders.end(), [&](const auto& role) {
    return process(role)->works() && process(role)->link != 0;
  });
  if (!batch) return later(kPoll, p, run, [this, p, run, step] { begin_step(p, run, step); });
  run->interruptible = false;
  doing(*p, text + "forward and backward");
  later(stretched(options.pace.compute), p, run, [this, p, run, text] {
    doing(*p, text + "reduce");
    join(p, run, "reduce " + std::to_string(run->step),
         [this](const ProcessPtr& each) { report_step(each, each->run); });
  });
}

void Cast::report_step(const ProcessPtr& p, const RunPtr& run) {
  pb::StepReady ready;
  ready.set_generation(run->generation.number());
  ready.set_step(run->step);
  ready.set_finite(!options.non_finite.contains(run->step));
  ready.set_gradient_checksum(mixed(7, run->step));
  if (auto wrong = wrong_once.find(p->role());
      wrong != wrong_once.end() && wrong->second == run->step) {
    ready.set_gradient_checksum(1);
    wrong_once.erase(wrong);
  }
  ready.set_parameter_checksum(p->state);
  for (std::uint32_t i = 0; i < run->me.lanes(); ++i) {
    auto& lane = *ready.add_lanes();
    lane.set_lane(run->me.first_lane() + i);
    auto& sample = *lane.add_samples();
    sample.set_dataset(lane.lane());
    sample.set_index(run->step);
    auto& loss = *lane.add_losses();
    loss.set_task("task");
    const auto spike = options.spikes.find(run->step);
    loss.set_loss_sum(spike == options.spikes.end() ? 1.0 / static_cast<double>(run->step)
                                                    : spike->second);
    loss.set_tokens(1);
    loss.set_samples(1);
  }
  p->pending = run->step;
  doing(*p, "step " + std::to_string(run->step) + ": wait for commit");
  run->interruptible = true;
  say(p, [this, ready](JobMachine& machine, const std::string& sender) {
    if (!sender.empty()) reported_.emplace(ready.generation(), ready.step(), sender);
    machine.on_step_ready(sender, ready, now_);
  });
  if (p->decided && p->decided->step == p->pending) return decide(p);
  later(kVerdictTimeout, p, run, [this, p, run, step = run->step] {
    if (p->pending == step) fault(p, run, Errc::timeout, "the coordinator did not decide");
  });
}

void Cast::decide(const ProcessPtr& p) {
  const auto run = p->run;
  doing(*p, "step " + std::to_string(run->step) + ": optimizer");
  later(stretched(options.pace.optimizer), p, run, [this, p, run] {
    if (p->pending != run->step || !p->decided || p->decided->step != run->step) return;
    p->pending = 0;
    run->interruptible = false;
    if (!p->decided->skip) p->state = mixed(p->state, run->step);
    p->applied = run->step;
    if (auto wrong = wrong_update_once.find(p->role());
        wrong != wrong_update_once.end() && wrong->second == run->step) {
      wrong_update_once.erase(wrong);
      p->wrong = true;
      ++p->state;
    }
    EXPECT_TRUE(p->wrong || p->state == expected_state(p->applied))
        << p->role() << ", T-2: step " << p->applied;
    if (p->decided->checkpoint != 0) save(p, p->decided->checkpoint);
    if (p->newest > run->generation.number()) return end_run(p);
    begin_step(p, run, run->step + 1);
  });
}

void Cast::end_run(const ProcessPtr& p) {
  if (p->run) p->run->over = true;
  p->run = nullptr;
  p->pending = 0;
  at({}, [this, p] { next_task(p); });
}

void Cast::fault(const ProcessPtr& p, const RunPtr& run, Errc code, const std::string& message,
                 bool fatal) {
  EXPECT_FALSE(fatal) << p->role() << ": " << message;
  pb::MemberFault body;
  body.set_role(p->role());
  body.set_generation(run->generation.number());
  body.set_code(static_cast<std::uint32_t>(code));
  body.set_message(message);
  body.set_operation(p->what);
  body.set_fatal(fatal);
  say(p, [this, body](JobMachine& machine, const std::string&) {
    machine.on_fault(body.role(), body, now_);
  });
  end_run(p);
}

// Into the store of the coordinator that is there when it begins; the job actor hears of its end a
// little later.
void Cast::save(const ProcessPtr& p, std::uint64_t id) {
  const auto step = p->applied;
  const auto state = p->state;
  if (saves_never_end) return;
  at(stretched(options.pace.save),
     [this, p, id, step, state, life = coordinator_, voids = void_saves_] {
       if (voids != void_saves_) return;
       if (!p->alive || p->frozen || finish || life != coordinator_ || !coordinator_up_) return;
       const bool fails = failing_saves > 0;
       if (fails) --failing_saves;
       EXPECT_EQ(step, id) << "checkpoint " << id << " holds another step's state";
       if (!fails) {
         store[id] = state;
         corrupt.erase(id);
       }
       at(stretched(options.pace.link), [this, id, fails, life] {
         if (life != coordinator_ || !coordinator_up_) return;
         tell([&](JobMachine& machine) {
           if (fails)
             machine.on_checkpoint_failed(id, {Errc::disk_full, "no space left"}, now_);
           else
             machine.on_checkpoint_stored(id, now_);
         });
       });
     });
}

void Cast::evaluate_next(const ProcessPtr& p) {
  if (p->evaluating || p->evaluations.empty()) return;
  p->evaluating = true;
  doing(*p, "evaluate");
  at(stretched(options.pace.evaluate), [this, p] {
    if (!p->works()) return;
    const auto checkpoint = p->evaluations.front().checkpoint();
    p->evaluations.pop_front();
    p->evaluating = false;
    pb::EvaluationDone done;
    if (store.contains(checkpoint) && !corrupt.contains(checkpoint)) {
      done.mutable_record()->set_checkpoint(checkpoint);
      done.mutable_record()->set_mean(0.5);
    } else {
      done.mutable_failure()->set_message("cannot read checkpoint " + std::to_string(checkpoint));
    }
    doing(*p, "wait for a checkpoint");
    say(p, [this, done](JobMachine& machine, const std::string& sender) {
      machine.on_evaluation(sender, done, now_);
    });
    evaluate_next(p);
  });
}

}  // namespace crabcast::actors

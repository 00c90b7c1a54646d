// Thousands of random histories of small jobs: whatever happens to the cast and whenever, the job
// ends, its ledger is contiguous, and each loss is told once. What must hold at each moment is
// checked by the cast itself.
//
// CRABCAST_SEED=N plays history N alone, with CRABCAST_HISTORIES=M those from N to N+M-1.
// CRABCAST_TRACE=1 prints all that the machine decides.
#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>

#include "tests/control/cast_helpers.h"

namespace crabcast::actors {
namespace {

constexpr std::uint64_t kHistories = 10'000;
constexpr std::uint32_t kNoLimit = 1000;  // of restarts

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed) {}
  // In [from, to].
  std::uint64_t roll(std::uint64_t from, std::uint64_t to) {
    return from + random_() % (to - from + 1);
  }
  bool chance(int percent) { return roll(1, 100) <= static_cast<std::uint64_t>(percent); }
  Duration between(Duration from, Duration to) {
    return from + Duration(static_cast<Duration::rep>(
                      roll(0, static_cast<std::uint64_t>((to - from).count()))));
  }
  template <class T>
  const T& one_of(const std::vector<T>& all) {
    return all[roll(0, all.size() - 1)];
  }

 private:
  std::mt19937_64 random_;
};

std::uint64_t total_steps(const CastOptions& options) {
  return options.spec.train.steps.value_or(options.epoch_steps);
}

CastOptions random_job(Dice& dice, std::uint64_t seed) {
  CastOptions options;
  options.seed = seed;
  auto& spec = options.spec;
  spec.name = "job";
  spec.train.steps = dice.roll(4, 30);
  spec.resources.workers_max = static_cast<std::uint32_t>(dice.roll(1, 4));
  spec.resources.workers_min = static_cast<std::uint32_t>(dice.roll(1, spec.resources.workers_max));
  spec.train.lanes = static_cast<std::uint32_t>(dice.roll(4, 8));
  spec.resources.loaders = static_cast<std::uint32_t>(dice.roll(1, 2));
  spec.resources.evaluators = static_cast<std::uint32_t>(dice.roll(0, 2));
  spec.checkpoint.every_steps = dice.roll(1, 6);
  spec.checkpoint.keep_last = static_cast<std::uint32_t>(dice.roll(1, 3));
  spec.evaluate.every_steps = spec.checkpoint.every_steps * dice.roll(1, 3);
  spec.failure.restarts = dice.chance(10) ? static_cast<std::uint32_t>(dice.roll(0, 6)) : kNoLimit;
  spec.failure.hang_after_seconds = 4;
  options.timeouts = {.gather = seconds(3),
                      .registration = seconds(8),
                      .form = seconds(4),
                      .checkpoint = seconds(20),
                      .evaluation = seconds(15),
                      .leave = seconds(2),
                      .stuck_least = seconds(2),
                      .losses_without_progress = 1000};
  auto& pace = options.pace;
  pace.jitter = static_cast<double>(dice.roll(0, 6));
  pace.tick = milliseconds(200);
  pace.compute = dice.between(milliseconds(5), milliseconds(80));
  pace.ledger = dice.between(milliseconds(1), milliseconds(40));
  pace.save = dice.between(milliseconds(20), milliseconds(900));
  pace.evaluate = dice.between(milliseconds(100), milliseconds(1500));
  pace.load = dice.between(milliseconds(10), milliseconds(200));
  pace.start = dice.between(milliseconds(50), milliseconds(900));
  for (std::uint32_t i = 0; i < spec.resources.workers_max; ++i)
    if (dice.chance(30)) options.on_node_b.insert("worker-" + std::to_string(i));
  if (dice.chance(20)) options.on_node_b.insert("loader-0");
  if (dice.chance(20)) {
    options.epoch_steps = *spec.train.steps;
    spec.train.steps.reset();
    spec.train.epochs = 1;
  }
  for (std::uint64_t step = 1; step <= total_steps(options); ++step)
    if (dice.chance(4)) options.non_finite.insert(step);
  if (dice.chance(30)) {
    spec.failure.non_finite = NonFinitePolicy::rollback;
    spec.failure.rollback_steps = dice.roll(1, 12);
  }
  if (dice.chance(30)) {
    spec.failure.loss_spike = 4;
    for (std::uint64_t step = 1; step <= total_steps(options); ++step)
      if (dice.chance(3)) options.spikes[step] = 100;
  }
  return options;
}

// A node goes away with its processes. The controller may find another one for them.
void lose_node_b(Cast& cast, Dice& dice) {
  const auto roles = cast.machine().roles_on("node-b");
  if (roles.empty()) return;
  cast.kill_agent(dice.between(milliseconds(50), seconds(6)), "node-b");
  if (!dice.chance(50)) return;
  cast.at(dice.between(milliseconds(600), seconds(6)), [&cast, roles] {
    for (const auto& role : roles)
      if (!cast.leaving()) cast.place(role, "node-a");
  });
}

// One blow, now.
void strike(Cast& cast, Dice& dice) {
  if (cast.leaving()) return;
  std::vector<std::string> roles;
  const auto status = cast.status();
  for (const auto& actor : status.actors()) roles.push_back(actor.name());
  const auto& role = dice.one_of(roles);
  const auto away = dice.between(milliseconds(50), seconds(3));
  switch (dice.roll(0, 23)) {
    case 0:
    case 1:
    case 2:
      return cast.kill(role);
    case 3:
      for (const auto& worker : cast.living(pb::ROLE_WORKER)) cast.kill(worker);
      return;
    case 4:
    case 5:
      return cast.hang(role);
    case 6:
      return cast.freeze(role);
    case 7:
      return cast.break_link(role);
    case 8:
      return cast.break_link(role, dice.between(milliseconds(0), seconds(2)));
    case 9:
      return cast.fail_collective(role);
    case 10:
      return cast.repeat_late(role, dice.between(milliseconds(0), seconds(5)));
    case 11:
      return cast.repeat_exit_late(role, dice.between(milliseconds(0), seconds(5)));
    case 12:
      cast.failing_saves += static_cast<int>(dice.roll(1, 2));
      return;
    case 13:
      cast.wrong_once[role] = cast.committed() + dice.roll(1, 3);
      return;
    case 14:
      return cast.restart_coordinator(away, dice.chance(50));
    case 15:  // possibly for longer than its members wait
      return cast.restart_coordinator(dice.chance(20) ? away + minutes(1) : away, dice.chance(50));
    case 16:
      return cast.lose_node_of_coordinator(away, dice.chance(50));
    case 17:
      return cast.lose_agent(away, dice.chance(50) ? "node-a" : "node-b");
    case 18:
      return lose_node_b(cast, dice);
    case 19:
      if (!cast.store.empty()) cast.corrupt.insert(cast.store.rbegin()->first);
      return;
    case 20:
    case 21:
      return cast.drain(role);
    case 22:
      if (role.starts_with("worker-") && role != "worker-0") cast.scale({role}, 1);
      return;
    default: {
      const std::string next = "worker-" + std::to_string(cast.options.spec.resources.workers_max);
      if (cast.options.spec.resources.workers_max >= cast.options.spec.train.lanes) return;
      ++cast.options.spec.resources.workers_max;
      return cast.place(next);
    }
  }
}

void expect_good_end(Cast& cast, bool stopped) {
  const auto state = cast.finish->state;
  const auto& error = cast.finish->error;
  const bool small_budget = cast.options.spec.failure.restarts < kNoLimit;
  if (small_budget && state == pb::JOB_FAILED) {
    EXPECT_TRUE(error.code == Errc::budget_exhausted || error.code == Errc::corrupt ||
                error.code == Errc::non_finite)
        << error.message;
  } else if (stopped) {
    EXPECT_TRUE(state == pb::JOB_STOPPED || state == pb::JOB_CANCELLED ||
                state == pb::JOB_SUCCEEDED)
        << pb::JobState_Name(state);
  } else {
    EXPECT_EQ(state, pb::JOB_SUCCEEDED) << pb::JobState_Name(state) << ": " << error.message;
  }
  EXPECT_EQ(steps_of(cast), one_to(cast.committed()));
  if (state == pb::JOB_SUCCEEDED) {
    const auto total = total_steps(cast.options);
    EXPECT_EQ(cast.committed(), total);
    EXPECT_TRUE(cast.store.contains(total)) << "C-2: the result is stored";
  }
  // H-1
  std::map<std::string, int> incidents;
  for (const auto& event : cast.all("incident")) ++incidents[event.incident().culprit()];
  EXPECT_EQ(incidents, cast.lost);
  EXPECT_THAT(cast.within_reach(), testing::IsEmpty()) << "nobody is left behind";
}

void play(std::uint64_t seed) {
  Dice dice(seed);
  Cast cast(random_job(dice, seed));
  const auto blows = dice.roll(0, 8);
  for (std::uint64_t i = 0; i < blows; ++i)
    cast.at(dice.between(milliseconds(0), seconds(15)), [&] { strike(cast, dice); });
  const auto stops = dice.chance(20) ? dice.roll(1, 2) : 0;
  for (std::uint64_t i = 0; i < stops; ++i)
    cast.at(dice.between(milliseconds(0), seconds(15)), [&cast, keep = dice.chance(80)] {
      if (!cast.finish) cast.stop(keep);
    });
  ASSERT_TRUE(cast.run_to_end(minutes(60)))
      << "the job does not end; it is at step " << cast.committed() << ":\n"
      << cast.status().DebugString();
  cast.run_for(minutes(3));  // late messages change nothing
  expect_good_end(cast, stops > 0);
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(JobMachineProperty, EveryHistoryEndsWell) {
  const bool chosen = std::getenv("CRABCAST_SEED") != nullptr;
  const auto first = number_from("CRABCAST_SEED", 1);
  const auto histories = number_from("CRABCAST_HISTORIES", chosen ? 1 : kHistories);
  for (auto seed = first; seed < first + histories; ++seed) {
    SCOPED_TRACE("replay with CRABCAST_SEED=" + std::to_string(seed));
    play(seed);
    if (!HasFailure()) continue;
    std::printf("failed: CRABCAST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    return;
  }
}

}  // namespace
}  // namespace crabcast::actors

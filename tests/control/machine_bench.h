// A JobMachine on the bench: told what happened call by call, it shows what it asks for, a line
// each.
#pragma once

#include <gmock/gmock.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/control/job_machine.h"

namespace crabcast::actors {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline pb::RoleSlot slot(const std::string& role, pb::RoleKind kind,
                         const std::string& node = "node-a") {
  pb::RoleSlot slot;
  slot.set_role(role);
  slot.set_kind(kind);
  slot.set_node(node);
  return slot;
}

// A machine with two workers and a loader, and what it asked for since the last look.
struct Bench {
  explicit Bench(JobHistory history = {}, std::uint32_t evaluators = 0) {
    JobSpec spec;
    spec.name = "job";
    spec.train.steps = 10;
    spec.train.lanes = 2;
    spec.resources.workers_max = 2;
    spec.resources.evaluators = evaluators;
    spec.checkpoint.every_steps = 5;
    spec.evaluate.every_steps = 5;
    std::vector slots{slot("worker-0", pb::ROLE_WORKER), slot("worker-1", pb::ROLE_WORKER),
                      slot("loader-0", pb::ROLE_LOADER)};
    for (std::uint32_t i = 0; i < evaluators; ++i)
      slots.push_back(slot("evaluator-" + std::to_string(i), pb::ROLE_EVALUATOR));
    machine.emplace("job-1", spec, std::move(slots), std::move(history));
    machine->start(now);
  }

  static pb::RegisterMember registration(const std::string& role, int pid) {
    pb::RegisterMember body;
    body.set_role(role);
    body.set_pid(pid);
    return body;
  }
  bool reg(const std::string& role, int pid = 0) {
    return machine->on_registered(registration(role, pid), now);
  }
  // Of a worker that kept its state through a coordinator's restart.
  void reg_with_state(const std::string& role, int pid, std::uint64_t step) {
    auto body = registration(role, pid);
    body.set_holds_state(true);
    body.set_state_step(step);
    machine->on_registered(body, now);
  }
  void doing(const std::string& role, const std::string& what) {
    pb::MemberProgress progress;
    progress.set_role(role);
    progress.set_doing(what);
    machine->on_progress(progress, now);
  }
  void evaluated(const std::string& role, std::uint64_t checkpoint) {
    pb::EvaluationDone done;
    done.mutable_record()->set_checkpoint(checkpoint);
    machine->on_evaluation(role, done, now);
  }
  void ready(const std::string& role, std::uint64_t generation = 1, std::uint64_t step = 0) {
    pb::GenerationReady body;
    body.set_generation(generation);
    body.set_state_step(step);
    machine->on_generation_ready(role, body, now);
  }
  void fault(const std::string& role, std::uint64_t generation) {
    pb::MemberFault body;
    body.set_generation(generation);
    machine->on_fault(role, body, now);
  }
  void step(const std::string& role, std::uint64_t generation, std::uint64_t step) {
    pb::StepReady body;
    body.set_generation(generation);
    body.set_step(step);
    body.set_finite(true);
    machine->on_step_ready(role, body, now);
  }
  void run() {
    reg("loader-0");
    reg("worker-0", 10);
    reg("worker-1", 11);
    ready("worker-0");
    ready("worker-1");
    take();
  }

  // What it asked for, one line each: "commit 1 to worker-0".
  std::vector<std::string> take() {
    std::vector<std::string> lines;
    for (const auto& action : machine->take_actions()) {
      if (const auto* send = std::get_if<SendTo>(&action)) {
        const auto& envelope = send->envelope;
        const std::string to = " to " + send->role;
        if (envelope.has_commit())
          lines.push_back((envelope.commit().checkpoint() != 0 ? "save " : "commit ") +
                          std::to_string(envelope.commit().step()) + to);
        if (envelope.has_evaluate())
          lines.push_back("evaluate " + std::to_string(envelope.evaluate().checkpoint()) + to);
        if (envelope.has_skip_step())
          lines.push_back("skip " + std::to_string(envelope.skip_step().step()) + to);
        if (envelope.has_leave_job()) lines.push_back("leave" + to);
      } else if (const auto* publish = std::get_if<PublishGeneration>(&action)) {
        for (const auto& role : publish->roles)
          lines.push_back("generation " + std::to_string(publish->generation.number()) + " to " +
                          role);
      } else if (const auto* write = std::get_if<WriteCommit>(&action)) {
        lines.push_back("write " + std::to_string(write->record.step()));
      } else if (const auto* start = std::get_if<StartProcess>(&action)) {
        lines.push_back("start " + start->slot.role() + " on " + start->slot.node());
      } else if (const auto* stop = std::get_if<StopProcess>(&action)) {
        lines.push_back("stop " + stop->role + " on " + stop->node);
      } else if (const auto* event = std::get_if<RecordEvent>(&action)) {
        if (event->event.kind() == "incident")
          lines.push_back("incident " + event->event.subject());
        if (event->event.kind() == "standstill") lines.push_back("standstill");
      } else if (std::holds_alternative<Finish>(action)) {
        lines.push_back("finish");
      } else if (const auto* find = std::get_if<FindCheckpoint>(&action)) {
        lines.push_back("find checkpoint up to " + std::to_string(find->at_most));
      } else if (const auto* retain = std::get_if<ApplyRetention>(&action)) {
        for (const auto id : retain->in_use) lines.push_back("keep " + std::to_string(id));
      } else if (const auto* rewind = std::get_if<RewindLedger>(&action)) {
        lines.push_back("rewind to " + std::to_string(rewind->step));
      }
    }
    return lines;
  }
  // In ticks, as in the job actor: a long silence of its own is forgiven.
  std::vector<std::string> after(Duration time) {
    for (const TimePoint end = now + time; now < end;) {
      now = std::min<TimePoint>(now + milliseconds(500), end);
      machine->on_tick(now);
    }
    return take();
  }
  pb::ActorStatus actor(const std::string& role) const {
    const auto status = machine->status(now, 0);
    for (const auto& actor : status.actors())
      if (actor.name() == role) return actor;
    return {};
  }

  TimePoint now{std::chrono::hours(1)};
  std::optional<JobMachine> machine;
};

}  // namespace crabcast::actors

// The job actor: how it carries out what the JobMachine decided.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/job_state.h"
#include "actors/control/store_actors.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kEventsKept = 4096;  // while the controller is away

}  // namespace

void JobState::carry_out() {
  if (displaced_by) return;
  for (auto actions = machine->take_actions(); !actions.empty(); actions = machine->take_actions())
    for (const auto& action : actions) std::visit([this](const auto& a) { act(a); }, action);
}

void JobState::act(const SendTo& action) {
  auto message = std::make_shared<Outbound>();
  message->envelope = action.envelope;
  send(action.role, std::move(message));
}

void JobState::send(const std::string& role, OutboundPtr message) {
  if (auto found = members.find(role); found != members.end())
    self->send(found->second, std::move(message));
}

// No later coordinator may give the number away again, even if no commit ever carries it.
void JobState::act(const PublishGeneration& action) {
  const auto number = action.generation.number();
  newest_generation = number;
  write(
      "generation " + std::to_string(number), StoreValue{kGenerationKey, std::to_string(number)},
      [this, roles = action.roles, message = outbound(action.generation)] {
        for (const auto& role : roles) send(role, message);
      },
      [this, number](const Error& error) {
        machine->on_generation_failed(number, error, now());
        carry_out();
      },
      [this, number] { return number == newest_generation; });
}

void JobState::act(const WriteCommit& action) {
  auto record = std::make_shared<pb::CommitRecord>(action.record);
  record->set_unix_ms(unix_ms_now());
  record->set_fence(options.launch.fence());
  const auto step = record->step();
  write(
      "step " + std::to_string(step), AppendCommit{std::move(record)},
      [this, step] {
        machine->on_commit_durable(step, now());
        carry_out();
      },
      [this, step](const Error& error) {
        machine->on_commit_failed(step, error, now());
        carry_out();
      });
}

void JobState::act(const WriteQuarantine& action) {
  write(
      "bad samples", StoreQuarantine{action.samples},
      [this] {
        machine->on_quarantine_durable(now());
        carry_out();
      },
      [this](const Error& error) {
        machine->on_quarantine_failed(error, now());
        carry_out();
      });
}

void JobState::act(const RewindLedger& action) {
  self->request(ledger, kStoreTimeout, RewindTo{action.step})
      .then([this, action] { drop_copies(action.step); },
            [this](const caf::error& error) {
              spdlog::critical("the ledger cannot be rewound: {}", from_caf(error).message);
              self->quit(caf::exit_reason::unhandled_exception);
            });
}

void JobState::act(const VoidCheckpoints& action) {
  self->send(checkpoints, DropCheckpoints{action.after});
  self->request(ledger, kStoreTimeout, DropCheckpoints{action.after})
      .then([this, action] { drop_copies(action.after); },
            [this](const caf::error& error) {
              spdlog::critical("void checkpoints cannot be deleted: {}", from_caf(error).message);
              self->quit(caf::exit_reason::unhandled_exception);
            });
}

// Before the ledger is rewound: otherwise the steps would come again with their updates.
void JobState::act(const RecordRollbacks& action) {
  self->request(ledger, kStoreTimeout,
                StoreValue{kRollbacksKey, action.rollbacks.SerializeAsString()})
      .then([] {},
            [this](const caf::error& error) {
              spdlog::critical("a rollback cannot be recorded: {}", from_caf(error).message);
              self->quit(caf::exit_reason::unhandled_exception);
            });
}

void JobState::act(const RecordEvent& action) {
  auto event = action.event;
  event.set_unix_ms(unix_ms_now());
  event.set_job(options.launch.job());
  const auto level = event.severity() == pb::SEVERITY_ERROR     ? spdlog::level::err
                     : event.severity() == pb::SEVERITY_WARNING ? spdlog::level::warn
                                                                : spdlog::level::info;
  spdlog::log(level, "{} {}: {}", event.kind(), event.subject(), event.message());
  self->request(ledger, kStoreTimeout, AppendEvent{std::make_shared<const pb::Event>(event)})
      .then([] {},
            [](const caf::error& error) {
              spdlog::error("an event was not stored: {}", from_caf(error).message);
            });
  unreported.push_back(std::move(event));
  if (unreported.size() > kEventsKept) unreported.pop_front();
}

void JobState::act(const StartProcess& action) {
  forget_starts(action.slot.role());
  pb::StartRole start;
  auto& launch = *start.mutable_launch();
  launch.set_job(options.launch.job());
  *launch.mutable_slot() = action.slot;
  launch.set_spec_yaml(options.launch.spec_yaml());
  launch.set_coordinator_endpoint(options.control_endpoint);
  launch.set_coordinator_bulk_endpoint(options.bulk_endpoint);
  launch.set_restarts(action.restarts);
  launch.set_fence(options.launch.fence());
  to_agent(action.slot.node(), outbound(start));
}

void JobState::act(const StopProcess& action) {
  forget_starts(action.role);
  pb::StopRole stop;
  stop.set_job(options.launch.job());
  stop.set_role(action.role);
  stop.set_fence(options.launch.fence());
  to_agent(action.node, outbound(stop));
}

void JobState::act(const FindCheckpoint& action) {
  const auto& mixture = machine->spec().data.mixture;
  const auto adapt_every =
      mixture.policy == MixturePolicy::adaptive ? mixture.adapt_every_steps : 0;
  self->request(ledger, kStoreTimeout, FindNewest{action.at_most, adapt_every})
      .then(
          [this](const FoundCheckpoint& found) {
            for (const auto& problem : found.problems) {
              pb::Event event;
              event.set_kind("checkpoint_corrupt");
              event.set_severity(pb::SEVERITY_ERROR);
              event.set_subject(options.launch.job());
              event.set_message(problem);
              act(RecordEvent{event});
            }
            machine->on_checkpoint_found(found.id, now(), found.window, found.losses);
            carry_out();
          },
          [this](const caf::error& error) {
            spdlog::critical("checkpoints cannot be read: {}", from_caf(error).message);
            self->quit(caf::exit_reason::unhandled_exception);
          });
}

void JobState::act(const ApplyRetention& action) {
  Retain retain{action.in_use};
  retain.in_use.insert(replication.in_use.begin(), replication.in_use.end());
  self->request(ledger, kStoreTimeout, std::move(retain))
      .then([] {},
            [](const caf::error& error) {
              spdlog::warn("old checkpoints were not deleted: {}", from_caf(error).message);
            });
}

}  // namespace crabcast::actors

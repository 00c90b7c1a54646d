// The two actors that own a job's store, each on a thread of its own, so that a chunk of a
// checkpoint never delays the commit of a step.
//
//   ledger       commits, events, evaluations, retention, pins  <- the job actor
//   checkpoints  chunks in and out                              <- workers and evaluators (bulk)
//
// Every write says how durable it is; a failed one is answered as an error.
#pragma once

#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/control/mixture.h"
#include "actors/messages.h"
#include "protocol/job_spec.h"
#include "storage/job_store.h"

namespace crabcast::actors {

// To the ledger. Answered with nothing or an error, unless said otherwise.
struct AppendCommit {
  std::shared_ptr<const pb::CommitRecord> record;
};
struct StoreQuarantine {
  std::vector<pb::BadSample> samples;
};
struct RewindTo {
  std::uint64_t step = 0;
};
struct DropCheckpoints {  // to both: what is being written is given up
  std::uint64_t after = 0;
};
struct AppendEvent {
  std::shared_ptr<const pb::Event> event;
};
struct StoreEvaluation {
  std::shared_ptr<const pb::EvaluationRecord> record;
};
struct StoreValue {
  std::string key, value;
};
struct SetPin {
  std::uint64_t checkpoint = 0;
  std::optional<pb::CheckpointPin> pin;  // nothing: it is unpinned
};
struct MarkDamaged {
  storage::VerifyReport report;
};
struct Retain {
  std::set<std::uint64_t> in_use;
};
struct FindNewest {  // answered with FoundCheckpoint
  std::uint64_t at_most = UINT64_MAX;
  std::uint64_t adapt_every = 0;  // of the mixture; 0: it does not change
};
struct FoundCheckpoint {
  std::optional<std::uint64_t> id;
  std::vector<std::string> problems;  // of newer ones that did not verify
  TaskLosses window;                  // up to it, since the last change of the mixture before it
  std::vector<double> losses;         // up to it, for the LossWatch
};

// From the checkpoints actor to the job actor.
struct CheckpointOutcome {
  std::uint64_t id = 0;
  std::optional<Error> error;
};

// Sums of the losses of the steps after `after`, up to `until`.
Result<TaskLosses> losses_between(const storage::JobStore& store, std::uint64_t after,
                                  std::uint64_t until);

// The mean losses of the last steps up to `until` whose updates were applied, for the LossWatch.
Result<std::vector<double>> losses_for_watch(const storage::JobStore& store, std::uint64_t until);

caf::actor spawn_ledger(caf::actor_system& system, std::shared_ptr<storage::JobStore> store,
                        const CheckpointSpec& retention);
// `metadata` (spec hash) is checked against each manifest; `job` hears of each outcome.
caf::actor spawn_checkpoints(caf::actor_system& system, std::shared_ptr<storage::JobStore> store,
                             const std::string& spec_hash, const caf::actor& job);

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::AppendCommit)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::StoreQuarantine)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::RewindTo)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::DropCheckpoints)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::AppendEvent)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::StoreEvaluation)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::StoreValue)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::SetPin)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::MarkDamaged)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::Retain)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::FindNewest)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::FoundCheckpoint)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::CheckpointOutcome)

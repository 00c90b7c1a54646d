// A worker's side of the batches: asks loaders ahead of time, keeps what came, hands it out.
//
// Flow control: what is asked for and what has come stays within a BatchBudget, but for the batch
// that the worker waits for now. A batch is asked for again when its loader is gone. Order and
// content do not depend on which loader serves or when.
// Concurrency: `set_loaders` and `wake` from any thread, all else from the training thread.
#pragma once

#include <caf/actor.hpp>
#include <memory>
#include <string>
#include <vector>

#include "actors/compute/batch_budget.h"
#include "actors/compute/member.h"
#include "model/input.h"

namespace crabcast::actors {

struct ReceivedBatch {
  model::ModelInput input;
  std::vector<pb::SampleRef> samples;
  std::vector<std::string> tasks;  // of each sample
  std::vector<pb::Substitution> substitutions;
  pb::LoaderWork work;  // waited_for and at_hand are what this worker saw
  std::vector<pb::BadSample> bad;
};

class BatchClient {
 public:
  BatchClient(caf::actor_system& system, MemberProcess& process, const BatchBudget& budget);
  ~BatchClient();

  void set_loaders(std::vector<pb::LoaderEntry> loaders);
  // Asks for the batch unless it was; false when there is no room for it.
  bool want(std::uint64_t step, std::uint32_t lane);
  // Takes it, asks for it if nobody did, waits for it. cancelled when `give_up` says so (asked
  // every 50 ms and on `wake`), timeout, data_error when the loader cannot make it.
  Result<ReceivedBatch> get(std::uint64_t step, std::uint32_t lane, Duration timeout,
                            const std::function<bool()>& give_up);
  // Drops what is not of these lanes or of an earlier step.
  void keep_only(std::uint32_t first_lane, std::uint32_t lanes, std::uint64_t from_step);
  void wake();

 private:
  friend class BatchActor;
  struct Shared;
  std::shared_ptr<Shared> shared_;
  caf::actor actor_;
};

}  // namespace crabcast::actors

// A worker's side of the batches: asks loaders ahead of time, keeps what came, hands it out.
//
// Flow control: at most `credit` batches are asked for or kept; a batch is asked for again when its
// loader is gone. Order and content do not depend on which loader serves or when.
// Concurrency: `want`, `get` and `forget_before` from the training thread, `set_loaders` from any.
#pragma once

#include <caf/actor.hpp>
#include <memory>
#include <string>
#include <vector>

#include "actors/compute/member.h"
#include "model/input.h"

namespace crabcast::actors {

struct ReceivedBatch {
  model::ModelInput input;
  std::vector<pb::SampleRef> samples;
  std::vector<std::string> tasks;  // of each sample
  std::vector<pb::Substitution> substitutions;
  std::vector<pb::BadSample> bad;
};

class BatchClient {
 public:
  BatchClient(caf::actor_system& system, MemberProcess& process, std::size_t credit);
  ~BatchClient();

  void set_loaders(std::vector<pb::LoaderEntry> loaders);
  // Asks for the batch unless it was; false when the credit is used up.
  bool want(std::uint64_t step, std::uint32_t lane);
  // Waits for it. cancelled when `give_up` says so (asked every 50 ms and on `wake`), timeout,
  // data_error when the loader cannot make it.
  Result<ReceivedBatch> get(std::uint64_t step, std::uint32_t lane, Duration timeout,
                            const std::function<bool()>& give_up);
  void forget_before(std::uint64_t step);
  void wake();

 private:
  friend class BatchActor;
  struct Shared;
  std::shared_ptr<Shared> shared_;
  caf::actor actor_;
};

}  // namespace crabcast::actors

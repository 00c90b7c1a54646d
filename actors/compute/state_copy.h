// The training state on its way from worker to worker.
#pragma once

#include <caf/actor_system.hpp>
#include <functional>
#include <string>
#include <vector>

#include "actors/compute/progress.h"
#include "actors/compute/state_transfer.h"
#include "actors/compute/tensor_stream.h"
#include "actors/switchboard.h"

namespace crabcast::actors {

// A copy of the state after one step, in the making. What has come stays when its source dies, so
// that the next source, or the same one in the next generation, sends only what is missing.
//
// Memory: the state, and kChunksInFlight chunks. Concurrency: one thread.
class StateCopy {
 public:
  // Fetches what is missing from the worker at this endpoint. corrupt: a chunk changed on its way;
  // cancelled: `interrupted` said so; else what the connection said.
  Status fetch(caf::actor_system& system, Switchboard& bulk, Progress& progress,
               const std::string& bulk_endpoint, std::uint64_t generation, std::uint64_t step,
               const std::function<bool()>& interrupted);
  [[nodiscard]] std::uint32_t missing() const;
  [[nodiscard]] std::uint32_t chunks() const { return static_cast<std::uint32_t>(have_.size()); }
  // The state; the copy is empty afterwards.
  std::vector<model::NamedTensor> take();

 private:
  Status begin(const pb::StateReply& table);

  pb::StateReply table_;
  std::vector<model::NamedTensor> tensors_;
  TensorStream stream_;
  std::vector<bool> have_;
};

// The other side: serves one snapshot to those that join a generation. Any thread.
class StateOffer {
 public:
  StateOffer(const StateSnapshot& snapshot, std::uint64_t generation);
  // Answers a StateRequest or a StateChunkRequest. stale_generation when it is about another state.
  void serve(const Delivery& request) const;
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

 private:
  std::uint64_t generation_ = 0;
  TensorStream stream_;
  pb::StateReply table_;
};

}  // namespace crabcast::actors

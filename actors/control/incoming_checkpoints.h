// Checkpoints on their way into a store, chunk by chunk, each from one sender at a time: what the
// coordinator's store takes from workers, and a copy of it from the coordinator.
//
// Concurrency: one owner thread, which is one that may write the store's checkpoints.
#pragma once

#include <caf/actor_addr.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "cluster/transport.h"
#include "storage/job_store.h"

namespace crabcast::actors {

class IncomingCheckpoints {
 public:
  // Whoever wrote this checkpoint before writes no longer.
  Status begin(storage::JobStore& store, std::uint64_t id, const caf::actor_addr& sender);
  [[nodiscard]] bool has(std::uint64_t id) const { return writers_.contains(id); }
  // invalid_argument: the checkpoint is not the sender's. Nobody writes into somebody else's.
  [[nodiscard]] Status check_sender(std::uint64_t id, const caf::actor_addr& sender) const;
  // Of one that was begun. After an error there is nothing more to be done than `drop`.
  Status put_chunk(const pb::CheckpointChunk& chunk, const std::vector<cluster::Frame>& frames);
  Status commit(const pb::CheckpointManifest& manifest);  // it is no longer on its way

  void drop(std::uint64_t id) { writers_.erase(id); }
  void drop_after(std::uint64_t id) { writers_.erase(writers_.upper_bound(id), writers_.end()); }
  void drop_from(const caf::actor_addr& sender);

 private:
  struct Writer {
    std::unique_ptr<storage::CheckpointWriter> file;
    caf::actor_addr sender;
  };
  std::map<std::uint64_t, Writer> writers_;  // by checkpoint
};

}  // namespace crabcast::actors

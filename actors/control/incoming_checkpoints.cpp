#include "actors/control/incoming_checkpoints.h"

#include <string>

namespace crabcast::actors {

Status IncomingCheckpoints::begin(storage::JobStore& store, std::uint64_t id,
                                  const caf::actor_addr& sender) {
  auto file = store.begin_checkpoint(CheckpointId{id});
  if (!file) return fail(file.error());
  writers_[id] = {std::move(*file), sender};
  return {};
}

Status IncomingCheckpoints::check_sender(std::uint64_t id, const caf::actor_addr& sender) const {
  const auto found = writers_.find(id);
  if (found != writers_.end() && found->second.sender == sender) return {};
  return fail(Errc::invalid_argument,
              "checkpoint " + std::to_string(id) + " is not being written by this sender");
}

Status IncomingCheckpoints::put_chunk(const pb::CheckpointChunk& chunk,
                                      const std::vector<cluster::Frame>& frames) {
  if (frames.size() != 1) return fail(Errc::invalid_argument, "a chunk is followed by one frame");
  const auto& frame = frames.front();
  return writers_.at(chunk.id()).file->put_chunk(chunk.entry(), {frame.data(), frame.size()});
}

Status IncomingCheckpoints::commit(const pb::CheckpointManifest& manifest) {
  CRABCAST_TRY(writers_.at(manifest.id()).file->commit(manifest));
  writers_.erase(manifest.id());
  return {};
}

void IncomingCheckpoints::drop_from(const caf::actor_addr& sender) {
  std::erase_if(writers_, [&](const auto& entry) { return entry.second.sender == sender; });
}

}  // namespace crabcast::actors

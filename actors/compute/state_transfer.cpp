#include "actors/compute/state_transfer.h"

#include <caf/all.hpp>
#include <deque>

#include "actors/compute/tensor_frames.h"
#include "actors/compute/tensor_stream.h"
#include "protocol/checksum.h"
#include "protocol/envelopes.h"

namespace crabcast::actors {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(10);
constexpr auto kStoreTimeout = std::chrono::seconds(60);  // one chunk, fsync included
constexpr std::size_t kChunksInFlight = 4;

// The store's proxy; connects again when the coordinator was restarted.
Result<caf::actor> checkpoint_store(MemberProcess& process) {
  if (!process.bulk->connected(process.coordinator_bulk.process)) {
    auto peer = process.bulk->connect(process.launch.coordinator_bulk_endpoint(), kConnectTimeout);
    if (!peer) return fail(peer.error().within("checkpoint store"));
    process.coordinator_bulk = *peer;
  }
  return process.bulk->proxy(process.coordinator_bulk.process, "checkpoints");
}

Result<DeliveryPtr> ask(caf::scoped_actor& self, const caf::actor& who, const OutboundPtr& what,
                        Duration timeout) {
  Result<DeliveryPtr> result = fail(Errc::internal, "no answer");
  self->request(who, timeout, what)
      .receive([&](const DeliveryPtr& answer) { result = answer; },
               [&](const caf::error& error) { result = fail(from_caf(error)); });
  return result;
}

pb::CheckpointManifest make_manifest(const StateSnapshot& snapshot, std::uint64_t id,
                                     const std::string& base_hash) {
  pb::CheckpointManifest manifest;
  manifest.set_id(id);
  manifest.set_step(snapshot.step);
  manifest.set_generation(snapshot.generation);
  manifest.set_base_hash(base_hash);
  manifest.set_manifest_version(1);
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : snapshot.tensors) {
    auto& entry = *manifest.add_tensors();
    entry.set_name(name);
    entry.set_dtype(dtype_of(tensor));
    for (const auto size : tensor.sizes()) entry.add_shape(size);
    entry.set_offset(offset);
    entry.set_bytes(tensor.nbytes());
    offset += tensor.nbytes();
  }
  manifest.set_bytes(offset);
  return manifest;
}

}  // namespace

Status save_checkpoint(caf::actor_system& system, MemberProcess& process,
                       const StateSnapshot& snapshot, std::uint64_t id,
                       const std::string& base_hash) {
  auto store = checkpoint_store(process);
  if (!store) return fail(store.error());
  caf::scoped_actor self{system};
  auto manifest = make_manifest(snapshot, id, base_hash);
  pb::CheckpointBegin begin;
  begin.set_id(id);
  begin.set_step(snapshot.step);
  begin.set_generation(snapshot.generation);
  begin.set_bytes(manifest.bytes());
  if (auto begun = ask(self, *store, outbound(begin), kStoreTimeout); !begun)
    return fail(begun.error());

  using Answer = decltype(self->request(*store, Duration{kStoreTimeout}, OutboundPtr{}));
  std::deque<Answer> in_flight;
  Status status;
  const auto take_oldest = [&] {
    in_flight.front().receive([](const DeliveryPtr&) {},
                              [&](const caf::error& error) {
                                if (status) status = fail(from_caf(error));
                              });
    in_flight.pop_front();
  };
  const TensorStream stream(snapshot.tensors);
  for (std::uint32_t index = 0; status && index < stream.chunks(); ++index) {
    auto frame = stream.chunk(index);
    pb::CheckpointChunk chunk;
    chunk.set_id(id);
    *chunk.mutable_entry() = make_chunk_entry(index, {frame.data(), frame.size()});
    *manifest.add_chunks() = chunk.entry();
    in_flight.push_back(
        self->request(*store, Duration{kStoreTimeout}, outbound(chunk, {std::move(frame)})));
    if (in_flight.size() >= kChunksInFlight) take_oldest();
  }
  while (!in_flight.empty()) take_oldest();
  if (!status) return status;
  pb::CheckpointSeal seal;
  *seal.mutable_manifest() = std::move(manifest);
  if (auto sealed = ask(self, *store, outbound(seal), kStoreTimeout); !sealed)
    return fail(sealed.error());
  return {};
}

Result<LoadedCheckpoint> load_checkpoint(caf::actor_system& system, MemberProcess& process,
                                         std::uint64_t id,
                                         const std::function<bool(const std::string&)>& wanted) {
  auto store = checkpoint_store(process);
  if (!store) return fail(store.error());
  caf::scoped_actor self{system};
  pb::CheckpointRead read;
  read.set_id(id);
  auto opened = ask(self, *store, outbound(read), kStoreTimeout);
  if (!opened) return fail(opened.error());
  LoadedCheckpoint loaded;
  loaded.manifest = (*opened)->envelope->checkpoint_opened().manifest();

  // Each wanted tensor gets its memory first; chunks are then copied to where they belong.
  TensorStream stream;
  for (const auto& entry : loaded.manifest.tensors()) {
    if (!wanted(entry.name())) continue;
    auto tensor = empty_tensor(
        entry.dtype(), {entry.shape().data(), static_cast<std::size_t>(entry.shape_size())});
    if (!tensor) return fail(tensor.error().within(entry.name()));
    if (tensor->nbytes() != entry.bytes())
      return fail(Errc::corrupt, entry.name() + " has " + std::to_string(entry.bytes()) +
                                     " bytes in the checkpoint, which do not fit its shape");
    stream.add(entry.offset(), *tensor);
    loaded.tensors.push_back({entry.name(), std::move(*tensor)});
  }
  std::uint64_t begin = 0;
  for (const auto& entry : loaded.manifest.chunks()) {
    const std::uint64_t end = begin + entry.bytes();
    if (stream.touches(begin, end)) {
      pb::ChunkRead request;
      request.set_id(loaded.manifest.id());
      request.set_index(entry.index());
      auto data = ask(self, *store, outbound(request), kStoreTimeout);
      if (!data) return fail(data.error());
      if ((*data)->frames.size() != 1) return fail(Errc::corrupt, "a chunk came without its bytes");
      const auto& frame = (*data)->frames.front();
      const std::span bytes(frame.data(), frame.size());
      CRABCAST_TRY(check_chunk(entry, bytes, "checkpoint " + std::to_string(loaded.manifest.id())));
      stream.fill(begin, bytes);
    }
    begin = end;
    process.progress->advance();
  }
  return loaded;
}

}  // namespace crabcast::actors

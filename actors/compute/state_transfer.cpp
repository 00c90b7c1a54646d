#include "actors/compute/state_transfer.h"

#include <caf/all.hpp>
#include <cstring>
#include <deque>

#include "actors/compute/tensor_frames.h"
#include "protocol/checksum.h"
#include "protocol/envelopes.h"

namespace crabcast::actors {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(10);
constexpr auto kStoreTimeout = std::chrono::seconds(60);  // one chunk, fsync included
constexpr auto kPeerTimeout = std::chrono::seconds(60);
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

// The checkpoint's byte stream, cut into chunks without a copy where a chunk lies inside one
// tensor.
class ChunkCutter {
 public:
  explicit ChunkCutter(const std::vector<model::NamedTensor>& tensors) : tensors_(tensors) {}

  // The next chunk, at most kChunkBytes; empty at the end.
  cluster::Frame next() {
    std::shared_ptr<std::string> joined;
    while (at_ < tensors_.size()) {
      const auto& tensor = tensors_[at_].tensor;
      const auto left = tensor.nbytes() - offset_;
      const auto* data = static_cast<const char*>(tensor.const_data_ptr()) + offset_;
      if (!joined && left >= kChunkBytes) {
        advance(kChunkBytes);
        return {std::make_shared<at::Tensor>(tensor), data, kChunkBytes};
      }
      if (!joined) {
        joined = std::make_shared<std::string>();
        joined->reserve(kChunkBytes);
      }
      const auto take = std::min(left, kChunkBytes - joined->size());
      joined->append(data, take);
      advance(take);
      if (joined->size() == kChunkBytes) break;
    }
    if (!joined || joined->empty()) return {};
    return {joined, joined->data(), joined->size()};
  }

 private:
  void advance(std::size_t bytes) {
    offset_ += bytes;
    if (offset_ == tensors_[at_].tensor.nbytes()) {
      ++at_;
      offset_ = 0;
    }
  }
  const std::vector<model::NamedTensor>& tensors_;
  std::size_t at_ = 0;
  std::size_t offset_ = 0;
};

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
  ChunkCutter cutter(snapshot.tensors);
  std::uint32_t index = 0;
  for (auto frame = cutter.next(); status && frame.size() > 0; frame = cutter.next()) {
    pb::CheckpointChunk chunk;
    chunk.set_id(id);
    *chunk.mutable_entry() = make_chunk_entry(index++, {frame.data(), frame.size()});
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
  struct Target {
    std::uint64_t begin, end;
    char* data;
  };
  std::vector<Target> targets;
  for (const auto& entry : loaded.manifest.tensors()) {
    if (!wanted(entry.name())) continue;
    const std::string zeros(entry.bytes(), '\0');
    auto tensor = from_bytes(entry.dtype(),
                             {entry.shape().data(), static_cast<std::size_t>(entry.shape_size())},
                             std::as_bytes(std::span(zeros)));
    if (!tensor) return fail(tensor.error().within(entry.name()));
    targets.push_back({entry.offset(), entry.offset() + entry.bytes(),
                       static_cast<char*>(tensor->mutable_data_ptr())});
    loaded.tensors.push_back({entry.name(), std::move(*tensor)});
  }
  std::uint64_t begin = 0;
  for (const auto& entry : loaded.manifest.chunks()) {
    const std::uint64_t end = begin + entry.bytes();
    const bool needed = std::any_of(targets.begin(), targets.end(), [&](const Target& target) {
      return target.begin < end && target.end > begin;
    });
    if (needed) {
      pb::ChunkRead request;
      request.set_id(loaded.manifest.id());
      request.set_index(entry.index());
      auto data = ask(self, *store, outbound(request), kStoreTimeout);
      if (!data) return fail(data.error());
      if ((*data)->frames.size() != 1) return fail(Errc::corrupt, "a chunk came without its bytes");
      const auto& frame = (*data)->frames.front();
      const auto received = make_chunk_entry(entry.index(), {frame.data(), frame.size()});
      if (received.xxh3_high() != entry.xxh3_high() || received.xxh3_low() != entry.xxh3_low() ||
          received.bytes() != entry.bytes())
        return fail(Errc::corrupt, "chunk " + std::to_string(entry.index()) + " of checkpoint " +
                                       std::to_string(loaded.manifest.id()) +
                                       " changed on its way");
      for (const auto& target : targets) {
        const auto from = std::max(begin, target.begin);
        const auto to = std::min(end, target.end);
        if (from < to)
          std::memcpy(target.data + (from - target.begin), frame.data() + (from - begin),
                      to - from);
      }
    }
    begin = end;
    process.progress->advance();
  }
  return loaded;
}

Result<std::vector<model::NamedTensor>> copy_from_peer(caf::actor_system& system,
                                                       MemberProcess& process,
                                                       const std::string& bulk_endpoint,
                                                       std::uint64_t generation,
                                                       std::uint64_t step) {
  auto peer = process.bulk->connect(bulk_endpoint, kConnectTimeout);
  if (!peer) return fail(peer.error().within("peer " + bulk_endpoint));
  caf::scoped_actor self{system};
  pb::StateRequest request;
  request.set_generation(generation);
  request.set_step(step);
  auto reply =
      ask(self, process.bulk->proxy(peer->process, "peer"), outbound(request), kPeerTimeout);
  if (!reply) return fail(reply.error().within("state of " + peer->process.value()));
  const auto& body = (*reply)->envelope->state_reply();
  Checksum64 checksum;
  for (const auto& frame : (*reply)->frames) checksum.add({frame.data(), frame.size()});
  if (checksum.value() != body.checksum() || body.step() != step)
    return fail(Errc::corrupt, "the state from " + peer->process.value() + " changed on its way");
  return from_frames(body.tensors(), (*reply)->frames);
}

OutboundPtr make_state_reply(const StateSnapshot& snapshot, std::uint64_t request) {
  auto message = std::make_shared<Outbound>();
  pb::StateReply body;
  body.set_step(snapshot.step);
  Checksum64 checksum;
  for (const auto& [name, tensor] : snapshot.tensors) {
    *body.add_tensors() = describe(name, tensor);
    message->frames.push_back(to_frame(tensor));
    checksum.add(bytes_of(tensor));
  }
  body.set_checksum(checksum.value());
  set_body(message->envelope, body);
  message->envelope.set_answers(request);
  return message;
}

}  // namespace crabcast::actors

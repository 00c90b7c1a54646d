#include "actors/compute/state_copy.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <deque>

#include "actors/compute/tensor_frames.h"
#include "protocol/checksum.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(10);
constexpr auto kChunkTimeout = std::chrono::seconds(20);
constexpr std::size_t kChunksInFlight = 8;

bool same_tables(const pb::StateReply& a, const pb::StateReply& b) {
  return a.step() == b.step() && a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

Status StateCopy::begin(const pb::StateReply& table) {
  if (!have_.empty() && same_tables(table, table_)) return {};
  *this = {};
  table_ = table;
  std::uint64_t offset = 0;
  for (const auto& desc : table.tensors()) {
    auto tensor = empty_tensor(desc.dtype(),
                               {desc.shape().data(), static_cast<std::size_t>(desc.shape_size())});
    if (!tensor) return fail(tensor.error().within(desc.name()));
    stream_.add(offset, *tensor);
    offset += tensor->nbytes();
    tensors_.push_back({desc.name(), std::move(*tensor)});
  }
  if (stream_.chunks() != static_cast<std::uint32_t>(table.chunks_size()))
    return fail(Errc::corrupt, "a state of " + std::to_string(offset) + " bytes came with " +
                                   std::to_string(table.chunks_size()) + " chunks");
  have_.assign(static_cast<std::size_t>(table.chunks_size()), false);
  return {};
}

std::uint32_t StateCopy::missing() const {
  return static_cast<std::uint32_t>(std::count(have_.begin(), have_.end(), false));
}

std::vector<model::NamedTensor> StateCopy::take() {
  auto tensors = std::move(tensors_);
  *this = {};
  return tensors;
}

Status StateCopy::fetch(caf::actor_system& system, Switchboard& bulk, Progress& progress,
                        const std::string& bulk_endpoint, std::uint64_t generation,
                        std::uint64_t step, const std::function<bool()>& interrupted) {
  auto peer = bulk.connect(bulk_endpoint, kConnectTimeout);
  if (!peer) return fail(peer.error().within("peer " + bulk_endpoint));
  const auto source = bulk.proxy(peer->process, "peer");
  const std::string what = "the state of " + peer->process.value();
  caf::scoped_actor self{system};
  pb::StateRequest request;
  request.set_generation(generation);
  request.set_step(step);
  Status status;
  self->request(source, kChunkTimeout, outbound(request))
      .receive([&](const DeliveryPtr& answer) { status = begin(answer->envelope->state_reply()); },
               [&](const caf::error& error) { status = fail(from_caf(error).within(what)); });
  if (!status) return status;
  if (missing() < chunks())
    spdlog::info("{} of {} chunks of the state are there already", chunks() - missing(), chunks());

  const auto take = [&](const DeliveryPtr& answer) -> Status {
    const auto index = answer->envelope->state_chunk().index();
    if (answer->frames.size() != 1 || index >= have_.size())
      return fail(Errc::corrupt, "a chunk of " + what + " came without its bytes");
    const auto& frame = answer->frames.front();
    CRABCAST_TRY(
        check_chunk(table_.chunks(static_cast<int>(index)), {frame.data(), frame.size()}, what));
    stream_.fill(index * std::uint64_t{kChunkBytes}, {frame.data(), frame.size()});
    have_[index] = true;
    progress.advance();
    return fault_point("state.copy");
  };
  using Answer = decltype(self->request(source, Duration{kChunkTimeout}, OutboundPtr{}));
  std::deque<Answer> in_flight;
  const auto take_oldest = [&] {
    in_flight.front().receive(
        [&](const DeliveryPtr& answer) {
          if (Status taken = take(answer); !taken && status) status = std::move(taken);
        },
        [&](const caf::error& error) {
          if (status) status = fail(from_caf(error).within(what));
        });
    in_flight.pop_front();
  };
  for (std::uint32_t index = 0; status && index < chunks(); ++index) {
    if (have_[index]) continue;
    if (interrupted()) status = fail(Errc::cancelled, "a newer generation is there");
    if (!status) break;
    pb::StateChunkRequest chunk;
    chunk.set_generation(generation);
    chunk.set_step(step);
    chunk.set_index(index);
    in_flight.push_back(self->request(source, Duration{kChunkTimeout}, outbound(chunk)));
    if (in_flight.size() >= kChunksInFlight) take_oldest();
  }
  while (!in_flight.empty()) take_oldest();
  return status;
}

StateOffer::StateOffer(const StateSnapshot& snapshot, std::uint64_t generation)
    : generation_(generation), stream_(snapshot.tensors) {
  table_.set_step(snapshot.step);
  for (const auto& [name, tensor] : snapshot.tensors)
    *table_.add_tensors() = describe(name, tensor);
  for (std::uint32_t index = 0; index < stream_.chunks(); ++index) {
    const auto frame = stream_.chunk(index);
    *table_.add_chunks() = make_chunk_entry(index, {frame.data(), frame.size()});
  }
}

void StateOffer::serve(const Delivery& request) const {
  const auto& envelope = *request.envelope;
  const bool chunk = envelope.has_state_chunk_request();
  const auto generation =
      chunk ? envelope.state_chunk_request().generation() : envelope.state_request().generation();
  const auto step = chunk ? envelope.state_chunk_request().step() : envelope.state_request().step();
  if (generation != generation_ || step != table_.step())
    return answer(request, Error{Errc::stale_generation,
                                 "the state that is held is the one after step " +
                                     std::to_string(table_.step()) + " of generation " +
                                     std::to_string(generation_)});
  if (!chunk) return answer(request, table_);
  const auto index = envelope.state_chunk_request().index();
  if (index >= stream_.chunks())
    return answer(request,
                  Error{Errc::invalid_argument,
                        "the state has only " + std::to_string(stream_.chunks()) + " chunks"});
  if (const Status staged = fault_point("state.serve"); !staged)
    return answer(request, staged.error());
  pb::StateChunk body;
  body.set_index(index);
  answer(request, body, {stream_.chunk(index)});
}

}  // namespace crabcast::actors

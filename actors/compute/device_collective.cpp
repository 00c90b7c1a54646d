#include "actors/compute/device_collective.h"

#ifdef CRABCAST_CUDA
#include <array>

#include "cluster/nccl/nccl_collective.h"
#endif

namespace crabcast::actors {

#ifdef CRABCAST_CUDA
namespace {

constexpr std::size_t kUniqueIdBytes = 128;  // NCCL_UNIQUE_ID_BYTES

// Rank 0 makes the id and everybody gets it. Where it cannot be made, an empty one tells the
// others.
Result<std::string> share_unique_id(cluster::Collective& meeting) {
  std::array<char, 1 + kUniqueIdBytes> message{};
  Error failure;
  if (meeting.rank() == 0) {
    if (auto id = cluster::make_nccl_unique_id()) {
      message[0] = 1;
      id->copy(message.data() + 1, kUniqueIdBytes);
    } else {
      failure = id.error();
    }
  }
  CRABCAST_TRY(meeting.broadcast(
      {message.data(), message.size(), cluster::ElementType::uint8, cluster::MemoryKind::host}, 0));
  if (message[0] == 1) return std::string(message.data() + 1, kUniqueIdBytes);
  if (meeting.rank() == 0) return fail(failure);
  return fail(Errc::device_error, "rank 0 could not make NCCL's unique id; see its log");
}

}  // namespace

Result<std::unique_ptr<cluster::Collective>> collective_for(
    const std::string& device, std::unique_ptr<cluster::Collective> meeting, Duration form_timeout,
    Duration operation_timeout, const std::function<bool()>& give_up) {
  if (device == "cpu" || meeting->size() == 1) return meeting;
  auto id = share_unique_id(*meeting);
  if (!id) return fail(id.error());
  // The agent shows each worker its own GPUs only, so the first one that it sees is its own.
  return cluster::make_nccl_collective(*id, 0, meeting->rank(), meeting->size(), form_timeout,
                                       operation_timeout, give_up);
}

#else

Result<std::unique_ptr<cluster::Collective>> collective_for(
    const std::string& device, std::unique_ptr<cluster::Collective> meeting, Duration, Duration,
    const std::function<bool()>&) {
  if (device == "cpu") return meeting;
  return fail(Errc::unsupported, "device " + device + " needs a build with NCCL: ./dev build cuda");
}

#endif

}  // namespace crabcast::actors

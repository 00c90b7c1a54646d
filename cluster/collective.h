// Collective operations of one generation's members, on raw buffers.
//
// Two implementations: ZeroMQ for CPUs (zmq_collective), with the bytes in shared memory between
// members of one machine, and NCCL for GPUs (nccl/, preset cuda).
// Every operation is called by all ranks in the same order from one thread, blocks until it is done
// here, and ends early with an error when `abort` is called (any thread), a member is gone, or
// `timeout` runs out. After an error the communicator is unusable; a new generation makes a new
// one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cluster/keys.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::cluster {

enum class ElementType : std::uint8_t { float32, bfloat16, uint8, int64 };
enum class MemoryKind : std::uint8_t { host, cuda };

struct Buffer {
  void* data = nullptr;
  std::size_t bytes = 0;
  ElementType type = ElementType::uint8;
  MemoryKind memory = MemoryKind::host;
};

class Collective {
 public:
  virtual ~Collective() = default;
  [[nodiscard]] virtual std::uint32_t rank() const = 0;
  [[nodiscard]] virtual std::uint32_t size() const = 0;
  // send[i] goes to rank i; receive[i] comes from rank i. Sizes may differ for each pair (send[i]
  // on one side equals receive[self] on the other); empty buffers are allowed.
  virtual Status all_to_all(std::span<const Buffer> send, std::span<const Buffer> receive) = 0;
  // receive[i] is rank i's `send`.
  virtual Status all_gather(const Buffer& send, std::span<const Buffer> receive) = 0;
  // In place sum over ranks, float32; the order of additions is not fixed across sizes.
  virtual Status all_reduce(const Buffer& inout) = 0;
  virtual Status broadcast(const Buffer& inout, std::uint32_t root) = 0;
  virtual void abort(const std::string& reason) = 0;
};

struct CollectiveMember {
  std::string role;      // for messages
  std::string endpoint;  // CollectiveHost::endpoint of that member
};

// Whether members on one machine move their bytes through memory, and not through sockets.
enum class LocalPath : std::uint8_t { shared_memory, sockets };

// A worker's seat in collectives: one listening socket that outlives generations.
class CollectiveHost {
 public:
  static Result<std::unique_ptr<CollectiveHost>> listen(const std::string& bind_address,
                                                        const Keyring& keys,
                                                        LocalPath local = LocalPath::shared_memory);
  virtual ~CollectiveHost() = default;
  [[nodiscard]] virtual std::string endpoint() const = 0;
  // Forms the communicator of `generation`, which is larger than all before: waits until all
  // members have said hello for this very generation (frames of older ones are dropped), at most
  // `form_timeout`. Errors name the missing role; stale_generation when a member has moved on.
  // `abort_forming` (any thread) ends the wait that is under way, and nothing else.
  virtual Result<std::unique_ptr<Collective>> form(std::uint64_t generation, std::uint32_t rank,
                                                   const std::vector<CollectiveMember>& members,
                                                   Duration form_timeout,
                                                   Duration operation_timeout) = 0;
  virtual void abort_forming(const std::string& reason) = 0;
};

}  // namespace crabcast::cluster

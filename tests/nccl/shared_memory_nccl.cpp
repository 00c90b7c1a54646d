#include "tests/nccl/shared_memory_nccl.h"

#include <fcntl.h>
#include <nccl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/nccl/communicator.h"

namespace crabcast::nccl_test {
namespace {

thread_local Staged staged;
thread_local bool no_unique_id = false;
std::atomic<int> finalized_here{0}, aborted_here{0};

// Calls between ncclGroupStart and ncclGroupEnd.
struct Group {
  int depth = 0;
  std::shared_ptr<Communicator> comm;
  cudaStream_t stream = nullptr;
  std::vector<Transfer> transfers;
};
thread_local Group group;

std::size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclFloat32:
      return 4;
    case ncclInt64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace

void stage(Fault fault, std::uint64_t operation) {
  staged = {fault, operation};
}

void stage_no_unique_id() {
  no_unique_id = true;
}

Endings endings() {
  return {finalized_here, aborted_here};
}

}  // namespace crabcast::nccl_test

// What a handle of NCCL points to.
struct ncclComm {
  std::shared_ptr<crabcast::nccl_test::Communicator> state;
};

namespace crabcast::nccl_test {
namespace {

ncclResult_t refuse(ncclComm_t comm, ncclResult_t result, const std::string& why) {
  comm->state->last_error = why;
  return result;
}

// Whether an operation may begin on these buffers; `peer` is a rank.
ncclResult_t check(ncclComm_t comm, ncclDataType_t type, int peer,
                   std::initializer_list<const void*> buffers, std::size_t count) {
  const Communicator& state = *comm->state;
  if (state.world->joined < state.size)
    return refuse(comm, ncclInvalidUsage, "the communicator does not stand yet");
  if (bytes_of(type) == 0 || peer < 0 || peer >= state.size)
    return refuse(comm, ncclInvalidArgument, "unknown type or rank");
  for (const void* buffer : buffers)
    if (!is_on_device(buffer, count * bytes_of(type)))
      return refuse(comm, ncclInvalidArgument, "a buffer is not on the device");
  return ncclSuccess;
}

// Starts an operation, unless it is one to be refused.
template <class Make>
ncclResult_t start(ncclComm_t comm, cudaStream_t stream, const Make& make) {
  Communicator& state = *comm->state;
  ++state.operations;
  if (state.meets(Fault::refuse, state.operations))
    return refuse(comm, ncclInternalError, "staged by the test");
  enqueue(stream, make(comm->state));
  return ncclSuccess;
}

ncclResult_t add_to_group(const Transfer& transfer, ncclComm_t comm, cudaStream_t stream) {
  if (group.depth == 0)
    return refuse(comm, ncclInvalidUsage, "sends and receives of a pair belong into one group");
  group.comm = comm->state;
  group.stream = stream;
  group.transfers.push_back(transfer);
  return ncclSuccess;
}

}  // namespace
}  // namespace crabcast::nccl_test

using namespace crabcast::nccl_test;

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (std::exchange(no_unique_id, false)) return ncclSystemError;
  // Its descriptor stays open as long as this process: other processes find the file by it.
  const int file = ::memfd_create("nccl", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, sizeof(World)) != 0) return ncclSystemError;
  std::memset(id, 0, sizeof *id);
  std::snprintf(id->internal, sizeof id->internal, "/proc/%d/fd/%d", ::getpid(), file);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  *comm = nullptr;
  if (size > kMaxRanks || config->blocking != 0) return ncclInvalidArgument;
  auto state = std::make_shared<Communicator>();
  state->trouble = std::exchange(staged, {});
  if (state->meets(Fault::refuse, 0)) return ncclInternalError;
  const int file = ::open(id.internal, O_RDWR | O_CLOEXEC);
  if (file < 0) return ncclSystemError;
  void* mapped = ::mmap(nullptr, sizeof(World), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  ::close(file);
  if (mapped == MAP_FAILED) return ncclSystemError;
  state->world = static_cast<World*>(mapped);
  state->rank = rank;
  state->size = size;
  if (!state->meets(Fault::hang, 0)) ++state->world->joined;
  *comm = new ncclComm{std::move(state)};
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* report) {
  Communicator& state = *comm->state;
  *report = ncclSuccess;
  if (state.world->joined < state.size) *report = ncclInProgress;
  if (state.finalizing && state.world->finalized < state.size) *report = ncclInProgress;
  if (std::exchange(state.grouped, false)) *report = ncclInProgress;
  if (state.trouble.fault == Fault::remote_error && state.operations >= state.trouble.operation) {
    state.last_error = "a remote process ended: staged by the test";
    *report = ncclRemoteError;
  }
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  comm->state->finalizing = true;
  ++comm->state->world->finalized;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  ++finalized_here;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->state->aborted = true;
  ++aborted_here;
  delete comm;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    default:
      return "operation in progress";
  }
}

const char* ncclGetLastError(ncclComm_t comm) {
  return comm->state->last_error.c_str();
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0 || !group.comm) return ncclSuccess;
  Group ended = std::exchange(group, {});
  ncclComm handle{ended.comm};
  const auto started = start(&handle, ended.stream, [&](const auto& state) {
    return std::make_unique<Exchange>(state, std::move(ended.transfers));
  });
  if (started != ncclSuccess) return started;
  ended.comm->grouped = true;
  return ncclInProgress;
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  if (const auto bad = check(comm, type, peer, {data}, count); bad != ncclSuccess) return bad;
  return add_to_group({peer, static_cast<const char*>(data), nullptr, count * bytes_of(type)}, comm,
                      stream);
}

ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (const auto bad = check(comm, type, peer, {data}, count); bad != ncclSuccess) return bad;
  return add_to_group({peer, nullptr, static_cast<char*>(data), count * bytes_of(type)}, comm,
                      stream);
}

ncclResult_t ncclAllGather(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  const Communicator& state = *comm->state;
  auto* const whole = static_cast<char*>(receive);
  const auto bad = check(comm, type, 0, {send, whole}, count);
  if (bad != ncclSuccess) return bad;
  if (!is_on_device(whole, bytes * static_cast<std::size_t>(state.size)))
    return refuse(comm, ncclInvalidArgument, "the result does not fit");
  std::vector<Transfer> transfers;
  for (int peer = 0; peer < state.size; ++peer) {
    if (peer == state.rank) continue;
    transfers.push_back({peer, static_cast<const char*>(send), nullptr, bytes});
    transfers.push_back({peer, nullptr, whole + static_cast<std::size_t>(peer) * bytes, bytes});
  }
  void* const own = whole + static_cast<std::size_t>(state.rank) * bytes;
  if (own != send) (void)cudaMemcpyAsync(own, send, bytes, cudaMemcpyDefault, stream);
  return start(comm, stream, [&](const auto& shared) {
    return std::make_unique<Exchange>(shared, std::move(transfers));
  });
}

ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  if (const auto bad = check(comm, type, 0, {send, receive}, count); bad != ncclSuccess) return bad;
  if (type != ncclFloat32 || operation != ncclSum || send != receive)
    return refuse(comm, ncclInvalidArgument, "sums of float32 in place only");
  return start(comm, stream, [&](const auto& state) {
    return std::make_unique<Sum>(state, static_cast<float*>(receive), count);
  });
}

ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  if (const auto bad = check(comm, type, root, {send, receive}, count); bad != ncclSuccess)
    return bad;
  const Communicator& state = *comm->state;
  const std::size_t bytes = count * bytes_of(type);
  std::vector<Transfer> transfers;
  if (state.rank != root) transfers.push_back({root, nullptr, static_cast<char*>(receive), bytes});
  for (int peer = 0; state.rank == root && peer < state.size; ++peer)
    if (peer != root) transfers.push_back({peer, static_cast<const char*>(send), nullptr, bytes});
  return start(comm, stream, [&](const auto& shared) {
    return std::make_unique<Exchange>(shared, std::move(transfers));
  });
}

#include "cluster/nccl/nccl_collective.h"

#include <cuda_runtime_api.h>
#include <nccl.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace crabcast::cluster {
namespace {

// NCCL has nothing to wait on, so its state is polled: at first without a pause, since most
// operations are short.
constexpr int kSpins = 2000;
constexpr auto kPollEvery = std::chrono::microseconds(50);
// For a GPU to come to rest when its kernels were told to end.
constexpr auto kRestTimeout = std::chrono::seconds(5);

Status cuda(cudaError_t code, const char* doing) {
  if (code == cudaSuccess) return {};
  return fail(code == cudaErrorMemoryAllocation ? Errc::resource_exhausted : Errc::device_error,
              std::string(doing) + ": " + cudaGetErrorString(code));
}

ncclDataType_t nccl_type(ElementType type) {
  switch (type) {
    case ElementType::float32:
      return ncclFloat32;
    case ElementType::bfloat16:
      return ncclBfloat16;
    case ElementType::int64:
      return ncclInt64;
    case ElementType::uint8:
      break;
  }
  return ncclUint8;
}

std::size_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::float32:
      return 4;
    case ElementType::bfloat16:
      return 2;
    case ElementType::int64:
      return 8;
    case ElementType::uint8:
      break;
  }
  return 1;
}

// Device memory that grows and is used again: what stands in for host buffers.
class Staging {
 public:
  ~Staging() { (void)cudaFree(data_); }
  Result<char*> at_least(std::size_t bytes) {
    if (bytes > bytes_) {
      (void)cudaFree(std::exchange(data_, nullptr));
      bytes_ = 0;
      void* fresh = nullptr;
      if (auto made = cuda(cudaMalloc(&fresh, bytes), "staging host buffers"); !made)
        return fail(made.error());
      data_ = static_cast<char*>(fresh);
      bytes_ = bytes;
    }
    return data_;
  }

 private:
  char* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class NcclCollective final : public Collective {
 public:
  NcclCollective(int device, std::uint32_t rank, std::uint32_t size, Duration operation_timeout)
      : device_(device), rank_(rank), size_(size), operation_timeout_(operation_timeout) {}
  ~NcclCollective() override;

  // Called once, before anything else.
  Status form(const ncclUniqueId& id, Duration timeout, const std::function<bool()>& give_up);

  [[nodiscard]] std::uint32_t rank() const override { return rank_; }
  [[nodiscard]] std::uint32_t size() const override { return size_; }
  Status all_to_all(std::span<const Buffer> send, std::span<const Buffer> receive) override;
  Status all_gather(const Buffer& send, std::span<const Buffer> receive) override;
  Status all_reduce(const Buffer& inout) override;
  Status broadcast(const Buffer& inout, std::uint32_t root) override;
  void abort(const std::string& reason) override;

 private:
  // Runs what `enqueue` puts on the stream, and waits until it is done on the GPU.
  Status run(const char* name, const std::function<Status()>& enqueue);
  // A call into NCCL: waits while it is in progress.
  Status nccl(ncclResult_t code, const char* doing, TimePoint deadline);
  // Waits until `done` says true; an error when NCCL reports one, on abort, or at the deadline.
  Status poll(const char* doing, TimePoint deadline, const std::function<Result<bool>()>& done);
  Status exchange(const char* name, const std::vector<Buffer>& send,
                  const std::vector<Buffer>& receive);
  // Device memory for the host buffers in `buffers`, from `next` on; device buffers stay.
  static std::vector<Buffer> staged(std::span<const Buffer> buffers, char*& next);
  Status copy(const Buffer& to, const Buffer& from);
  void destroy();

  const int device_;
  const std::uint32_t rank_, size_;
  const Duration operation_timeout_;
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  Staging staging_;
  std::optional<Error> broken_;
  TimePoint deadline_;
  std::function<bool()> give_up_;  // set while it forms

  std::mutex abort_mutex_;  // guards abort_reason_
  std::optional<std::string> abort_reason_;
  std::atomic<bool> aborted_{false};
};

// ---- Life ----

Status NcclCollective::form(const ncclUniqueId& id, Duration timeout,
                            const std::function<bool()>& give_up) {
  const TimePoint deadline = Clock::now() + timeout;
  give_up_ = give_up;
  CRABCAST_TRY(cuda(cudaSetDevice(device_), "choosing the GPU"));
  CRABCAST_TRY(cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  auto formed = nccl(
      ncclCommInitRankConfig(&comm_, static_cast<int>(size_), id, static_cast<int>(rank_), &config),
      "forming the communicator", deadline);
  give_up_ = nullptr;
  if (!formed) destroy();
  return formed;
}

NcclCollective::~NcclCollective() {
  if (comm_ != nullptr && !broken_ && !aborted_) {
    // In order: NCCL waits until all members come here. One that is gone must not hold us up, so
    // an unfinished end is cut short below.
    const TimePoint deadline = Clock::now() + operation_timeout_;
    if (nccl(ncclCommFinalize(comm_), "closing the communicator", deadline)) {
      (void)ncclCommDestroy(comm_);
      comm_ = nullptr;
    }
  }
  destroy();
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

// Ends the communicator whatever state it is in; kernels that wait for a member end too. The stream
// then goes on to the copies behind them, so the caller's buffers are free when it is at rest.
void NcclCollective::destroy() {
  if (comm_ == nullptr) return;
  (void)ncclCommAbort(std::exchange(comm_, nullptr));
  const TimePoint deadline = Clock::now() + kRestTimeout;
  while (cudaStreamQuery(stream_) == cudaErrorNotReady) {
    if (Clock::now() >= deadline) {
      spdlog::error("the GPU is not at rest {} s after its communicator was aborted",
                    kRestTimeout.count());
      return;
    }
    std::this_thread::sleep_for(kPollEvery);
  }
}

void NcclCollective::abort(const std::string& reason) {
  {
    const std::lock_guard lock(abort_mutex_);
    if (!abort_reason_) abort_reason_ = reason;
  }
  // The thread inside the operation polls this, and calls ncclCommAbort itself: NCCL's calls on
  // one communicator must not overlap.
  aborted_ = true;
}

// ---- Waiting ----

Status NcclCollective::poll(const char* doing, TimePoint deadline,
                            const std::function<Result<bool>()>& done) {
  for (int round = 0;; ++round) {
    if (aborted_) {
      const std::lock_guard lock(abort_mutex_);
      return fail(Errc::cancelled, std::string(doing) + ": aborted: " + *abort_reason_);
    }
    if (give_up_ && give_up_())
      return fail(Errc::cancelled, std::string(doing) + ": given up: a newer generation is there");
    const auto finished = done();
    if (!finished) return fail(finished.error());
    if (*finished) return {};
    if (Clock::now() >= deadline)
      return fail(Errc::timeout, std::string(doing) + ": a member did not take part in time");
    if (round >= kSpins) std::this_thread::sleep_for(kPollEvery);
  }
}

Status NcclCollective::nccl(ncclResult_t code, const char* doing, TimePoint deadline) {
  const auto described = [&](ncclResult_t result) {
    std::string words = ncclGetErrorString(result);
    if (comm_ != nullptr) words += std::string(" (") + ncclGetLastError(comm_) + ")";
    return fail(Errc::device_error, std::string(doing) + ": " + words);
  };
  if (code == ncclSuccess) return {};
  if (code != ncclInProgress) return described(code);
  return poll(doing, deadline, [&]() -> Result<bool> {
    ncclResult_t state = ncclSuccess;
    if (const auto asked = ncclCommGetAsyncError(comm_, &state); asked != ncclSuccess)
      return described(asked);
    if (state == ncclInProgress) return false;
    if (state != ncclSuccess) return described(state);
    return true;
  });
}

Status NcclCollective::run(const char* name, const std::function<Status()>& enqueue) {
  if (broken_) return fail(*broken_);
  deadline_ = Clock::now() + operation_timeout_;
  const auto work = [&]() -> Status {
    CRABCAST_TRY(cuda(cudaSetDevice(device_), "choosing the GPU"));
    CRABCAST_TRY(enqueue());
    return poll("waiting for the GPU", deadline_, [&]() -> Result<bool> {
      const cudaError_t state = cudaStreamQuery(stream_);
      if (state == cudaErrorNotReady) {
        ncclResult_t report = ncclSuccess;
        if (ncclCommGetAsyncError(comm_, &report) != ncclSuccess ||
            (report != ncclSuccess && report != ncclInProgress))
          return fail(Errc::device_error, std::string("a member failed: ") +
                                              ncclGetErrorString(report) + " (" +
                                              ncclGetLastError(comm_) + ")");
        return false;
      }
      if (auto fine = cuda(state, "waiting for the GPU"); !fine) return fail(fine.error());
      return true;
    });
  };
  if (auto done = work(); !done) {
    broken_ = done.error().within(name);
    destroy();
    return fail(*broken_);
  }
  return {};
}

// ---- Operations ----

std::vector<Buffer> NcclCollective::staged(std::span<const Buffer> buffers, char*& next) {
  std::vector<Buffer> result(buffers.begin(), buffers.end());
  for (Buffer& buffer : result) {
    if (buffer.memory == MemoryKind::cuda || buffer.bytes == 0) continue;
    buffer.data = next;
    buffer.memory = MemoryKind::cuda;
    next += (buffer.bytes + 255) / 256 * 256;
  }
  return result;
}

Status NcclCollective::copy(const Buffer& to, const Buffer& from) {
  if (to.bytes == 0 || to.data == from.data) return {};
  return cuda(cudaMemcpyAsync(to.data, from.data, to.bytes, cudaMemcpyDefault, stream_),
              "copying a buffer");
}

Status NcclCollective::exchange(const char* name, const std::vector<Buffer>& send,
                                const std::vector<Buffer>& receive) {
  if (send.size() != size_ || receive.size() != size_ || send[rank_].bytes != receive[rank_].bytes)
    return fail(Errc::invalid_argument, std::string(name) + " needs one buffer for each of " +
                                            std::to_string(size_) +
                                            " ranks, and equal sizes for the own one");
  return run(name, [&]() -> Status {
    std::size_t room = 0;
    for (const auto& side : {std::cref(send), std::cref(receive)})
      for (const Buffer& buffer : side.get())
        if (buffer.memory == MemoryKind::host) room += (buffer.bytes + 255) / 256 * 256;
    auto base = staging_.at_least(room);
    if (!base) return fail(base.error());
    char* next = *base;
    const auto out = staged(send, next), in = staged(receive, next);
    for (std::uint32_t peer = 0; peer < size_; ++peer)
      if (peer != rank_) CRABCAST_TRY(copy(out[peer], send[peer]));
    CRABCAST_TRY(nccl(ncclGroupStart(), name, deadline_));
    ncclResult_t queued = ncclSuccess;
    const auto keep = [&queued](ncclResult_t code) {
      if (code != ncclSuccess && code != ncclInProgress && queued == ncclSuccess) queued = code;
    };
    for (std::uint32_t peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      const int other = static_cast<int>(peer);
      if (out[peer].bytes > 0)
        keep(ncclSend(out[peer].data, out[peer].bytes, ncclUint8, other, comm_, stream_));
      if (in[peer].bytes > 0)
        keep(ncclRecv(in[peer].data, in[peer].bytes, ncclUint8, other, comm_, stream_));
    }
    // The group is closed even when a call in it failed; its own result comes second then.
    const ncclResult_t grouped = ncclGroupEnd();
    CRABCAST_TRY(nccl(queued, name, deadline_));
    CRABCAST_TRY(nccl(grouped, name, deadline_));
    for (std::uint32_t peer = 0; peer < size_; ++peer)
      CRABCAST_TRY(peer == rank_ ? copy(receive[peer], send[peer]) : copy(receive[peer], in[peer]));
    return {};
  });
}

Status NcclCollective::all_to_all(std::span<const Buffer> send, std::span<const Buffer> receive) {
  return exchange("all_to_all", {send.begin(), send.end()}, {receive.begin(), receive.end()});
}

Status NcclCollective::all_gather(const Buffer& send, std::span<const Buffer> receive) {
  const bool contiguous = [&] {
    if (receive.size() != size_ || send.memory != MemoryKind::cuda) return false;
    for (std::size_t peer = 0; peer < receive.size(); ++peer)
      if (receive[peer].memory != MemoryKind::cuda || receive[peer].bytes != send.bytes ||
          receive[peer].data != static_cast<char*>(receive[0].data) + peer * send.bytes)
        return false;
    return true;
  }();
  // Equal parts that lie side by side are what NCCL's own operation takes.
  if (contiguous)
    return run("all_gather", [&] {
      return nccl(ncclAllGather(send.data, receive[0].data, send.bytes, ncclUint8, comm_, stream_),
                  "all_gather", deadline_);
    });
  return exchange("all_gather", std::vector<Buffer>(size_, send), {receive.begin(), receive.end()});
}

Status NcclCollective::all_reduce(const Buffer& inout) {
  if (inout.type != ElementType::float32 || inout.bytes % sizeof(float) != 0)
    return fail(Errc::invalid_argument, "all_reduce adds float32 elements only");
  return run("all_reduce", [&]() -> Status {
    auto base = staging_.at_least(inout.memory == MemoryKind::host ? inout.bytes : 0);
    if (!base) return fail(base.error());
    char* next = *base;
    const Buffer device = staged({&inout, 1}, next)[0];
    CRABCAST_TRY(copy(device, inout));
    CRABCAST_TRY(nccl(ncclAllReduce(device.data, device.data, device.bytes / sizeof(float),
                                    ncclFloat32, ncclSum, comm_, stream_),
                      "all_reduce", deadline_));
    return copy(inout, device);
  });
}

Status NcclCollective::broadcast(const Buffer& inout, std::uint32_t root) {
  if (root >= size_)
    return fail(Errc::invalid_argument,
                "broadcast from rank " + std::to_string(root) + " of " + std::to_string(size_));
  return run("broadcast", [&]() -> Status {
    auto base = staging_.at_least(inout.memory == MemoryKind::host ? inout.bytes : 0);
    if (!base) return fail(base.error());
    char* next = *base;
    const Buffer device = staged({&inout, 1}, next)[0];
    if (rank_ == root) CRABCAST_TRY(copy(device, inout));
    CRABCAST_TRY(
        nccl(ncclBroadcast(device.data, device.data, device.bytes / element_bytes(device.type),
                           nccl_type(device.type), static_cast<int>(root), comm_, stream_),
             "broadcast", deadline_));
    return copy(inout, device);
  });
}

}  // namespace

Result<std::string> make_nccl_unique_id() {
  ncclUniqueId id;
  if (const auto code = ncclGetUniqueId(&id); code != ncclSuccess)
    return fail(Errc::device_error, std::string("making a unique id: ") + ncclGetErrorString(code));
  return std::string(id.internal, sizeof id.internal);
}

Result<std::unique_ptr<Collective>> make_nccl_collective(const std::string& unique_id, int device,
                                                         std::uint32_t rank, std::uint32_t size,
                                                         Duration form_timeout,
                                                         Duration operation_timeout,
                                                         const std::function<bool()>& give_up) {
  ncclUniqueId id;
  if (unique_id.size() != sizeof id.internal)
    return fail(Errc::invalid_argument, "a unique id of NCCL has " +
                                            std::to_string(sizeof id.internal) +
                                            " bytes, this has " + std::to_string(unique_id.size()));
  if (rank >= size)
    return fail(Errc::invalid_argument,
                "rank " + std::to_string(rank) + " of " + std::to_string(size) + " members");
  std::memcpy(id.internal, unique_id.data(), sizeof id.internal);
  auto made = std::make_unique<NcclCollective>(device, rank, size, operation_timeout);
  CRABCAST_TRY(made->form(id, form_timeout, give_up));
  return made;
}

}  // namespace crabcast::cluster

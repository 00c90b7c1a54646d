#include "tests/nccl/host_cuda.h"

#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <thread>
#include <utility>

struct CUstream_st {
  std::mutex mutex;
  std::deque<std::unique_ptr<crabcast::nccl_test::Work>> queue;
};

namespace crabcast::nccl_test {
namespace {

struct Device {
  std::mutex mutex;
  std::map<const char*, std::size_t> allocations;
  std::set<cudaStream_t> streams;
};

Device& device() {
  static Device one;
  return one;
}

thread_local bool memory_is_full = false;

class Copy final : public Work {
 public:
  Copy(void* to, const void* from, std::size_t bytes) : to_(to), from_(from), bytes_(bytes) {}
  bool advance() override {
    std::memcpy(to_, from_, bytes_);
    return true;
  }

 private:
  void* to_;
  const void* from_;
  std::size_t bytes_;
};

struct Progress {
  bool moved = false, idle = false;
};

Progress advance(CUstream_st& stream) {
  const std::lock_guard lock(stream.mutex);
  Progress progress;
  while (!stream.queue.empty() && stream.queue.front()->advance()) {
    stream.queue.pop_front();
    progress.moved = true;
  }
  progress.idle = stream.queue.empty();
  return progress;
}

}  // namespace

void enqueue(cudaStream_t stream, std::unique_ptr<Work> work) {
  const std::lock_guard lock(stream->mutex);
  stream->queue.push_back(std::move(work));
}

bool is_on_device(const void* data, std::size_t bytes) {
  const std::lock_guard lock(device().mutex);
  const auto* begin = static_cast<const char*>(data);
  auto after = device().allocations.upper_bound(begin);
  if (after == device().allocations.begin()) return false;
  const auto& [first, size] = *--after;
  return begin + bytes <= first + size;
}

std::size_t allocations_on_device() {
  const std::lock_guard lock(device().mutex);
  return device().allocations.size();
}

void run_out_of_device_memory() {
  memory_is_full = true;
}

void let_streams_run() {
  const std::lock_guard lock(device().mutex);
  for (bool moved = true; std::exchange(moved, false);)
    for (CUstream_st* stream : device().streams) moved |= advance(*stream).moved;
}

}  // namespace crabcast::nccl_test

using namespace crabcast::nccl_test;

cudaError_t cudaSetDevice(int number) {
  return number == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNotReady:
      return "device not ready";
    default:
      return "invalid argument";
  }
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = nullptr;
  if (std::exchange(memory_is_full, false)) return cudaErrorMemoryAllocation;
  if (bytes == 0) return cudaSuccess;
  *data = ::operator new(bytes);
  const std::lock_guard lock(device().mutex);
  device().allocations[static_cast<const char*>(*data)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  {
    const std::lock_guard lock(device().mutex);
    if (device().allocations.erase(static_cast<const char*>(data)) == 0)
      return cudaErrorInvalidValue;
  }
  ::operator delete(data);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  const std::lock_guard lock(device().mutex);
  device().streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    const std::lock_guard lock(device().mutex);
    device().streams.erase(stream);
  }
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (advance(*stream).idle) return cudaSuccess;
  std::this_thread::yield();  // to the other ranks, which share a processor
  return cudaErrorNotReady;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (kind != cudaMemcpyDefault) return cudaErrorInvalidValue;
  enqueue(stream, std::make_unique<Copy>(to, from, bytes));
  return cudaSuccess;
}

// The CUDA runtime that the NCCL collective calls, on the host: "device" memory is memory of this
// process, and a stream is a queue of work that gets on when somebody asks for it.
//
// The definitions in host_cuda.cpp are part of the test program, so they come before those of the
// real library. cuda_runtime_api.h says what the calls do.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

namespace crabcast::nccl_test {

// Something that a stream does, after all before it.
class Work {
 public:
  virtual ~Work() = default;
  // Gets on as far as it can without waiting; true when it is done.
  virtual bool advance() = 0;
};

void enqueue(cudaStream_t stream, std::unique_ptr<Work> work);

// Whether all of these bytes were allocated on the device.
bool is_on_device(const void* data, std::size_t bytes);
std::size_t allocations_on_device();
// The next cudaMalloc of this thread finds no memory.
void run_out_of_device_memory();

// What a GPU does while nobody asks: all streams get on until none can.
void let_streams_run();

}  // namespace crabcast::nccl_test

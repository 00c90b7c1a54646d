// The members of one NCCL communicator as threads, and buffers for them.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cluster/nccl/nccl_collective.h"
#include "tests/cluster/collective_cast.h"
#include "tests/nccl/host_cuda.h"

namespace crabcast::nccl_test {

using cluster::Buffer;
using cluster::buffer_of;
using cluster::Collective;
using cluster::ElementType;
using cluster::kPatience;
using cluster::MemoryKind;

inline Buffer floats(std::vector<float>& values) {
  return buffer_of(values, ElementType::float32);
}

// Memory on the device. The host may look into it, since both are the same here.
class OnDevice {
 public:
  OnDevice(std::size_t count, float value) : count_(count) {
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, count * sizeof(float)), cudaSuccess);
    data_ = static_cast<float*>(data);
    std::fill_n(data_, count, value);
  }
  ~OnDevice() { (void)cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  [[nodiscard]] Buffer buffer() const { return part(0, count_); }
  [[nodiscard]] Buffer part(std::size_t first, std::size_t count) const {
    return {data_ + first, count * sizeof(float), ElementType::float32, MemoryKind::cuda};
  }
  [[nodiscard]] float operator[](std::size_t i) const { return data_[i]; }

 private:
  std::size_t count_;
  float* data_ = nullptr;
};

inline Result<std::unique_ptr<Collective>> join(const std::string& id, std::uint32_t rank,
                                                std::uint32_t size, Duration form_timeout,
                                                Duration operation_timeout) {
  return cluster::make_nccl_collective(id, 0, rank, size, form_timeout, operation_timeout,
                                       [] { return false; });
}

// Runs `body` as every rank, each on its own thread; `prepare` first, to stage faults.
inline void run_ranks(
    std::uint32_t size, const std::function<void(Collective&)>& body,
    Duration operation_timeout = kPatience,
    const std::function<void(std::uint32_t rank)>& prepare = [](std::uint32_t) {}) {
  const auto id = cluster::make_nccl_unique_id();
  ASSERT_TRUE(id) << id.error().message;
  std::vector<std::jthread> threads;
  for (std::uint32_t rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      prepare(rank);
      auto formed = join(*id, rank, size, kPatience, operation_timeout);
      ASSERT_TRUE(formed) << formed.error().message;
      body(**formed);
    });
}

}  // namespace crabcast::nccl_test

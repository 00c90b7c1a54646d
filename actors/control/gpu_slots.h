// The GPUs of a node, given out to its processes so that no two of them share one: NCCL refuses two
// ranks on one GPU, and each would run out of the other's memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/error.h"

namespace crabcast::actors {

// Not thread-safe: its agent owns it.
class GpuSlots {
 public:
  // Names as CUDA_VISIBLE_DEVICES takes them: numbers or UUIDs.
  explicit GpuSlots(std::vector<std::string> names = {}) : free_(std::move(names)) {}

  // The first ones that are free; resource_exhausted when there are not so many.
  Result<std::vector<std::string>> take(std::uint32_t count);
  void give_back(const std::vector<std::string>& names);

 private:
  std::vector<std::string> free_;
};

// The value of CUDA_VISIBLE_DEVICES with which a process sees these GPUs only; none: no GPU at all.
std::string visible_devices(const std::vector<std::string>& names);

// GPUs that this process may use: those of its own CUDA_VISIBLE_DEVICES where that is set (as Slurm
// does), otherwise all that the driver lists in /proc/driver/nvidia.
std::vector<std::string> machine_gpus();

}  // namespace crabcast::actors

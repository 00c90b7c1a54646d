#include "actors/control/gpu_slots.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace crabcast::actors {

Result<std::vector<std::string>> GpuSlots::take(std::uint32_t count) {
  if (count > free_.size())
    return fail(Errc::resource_exhausted, "needs " + std::to_string(count) + " GPUs, but only " +
                                              std::to_string(free_.size()) +
                                              " of this node's are free");
  const auto end = free_.begin() + static_cast<std::ptrdiff_t>(count);
  std::vector<std::string> taken(free_.begin(), end);
  free_.erase(free_.begin(), end);
  return taken;
}

void GpuSlots::give_back(const std::vector<std::string>& names) {
  free_.insert(free_.end(), names.begin(), names.end());
}

std::string visible_devices(const std::vector<std::string>& names) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ",") + name;
  return list;
}

std::vector<std::string> machine_gpus() {
  std::vector<std::string> names;
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
    std::istringstream list(visible);
    for (std::string name; std::getline(list, name, ',');)
      if (!name.empty() && name != "-1") names.push_back(name);
    return names;
  }
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/driver/nvidia/gpus", error), end;
       !error && it != end; it.increment(error))
    names.push_back(std::to_string(names.size()));
  return names;
}

}  // namespace crabcast::actors

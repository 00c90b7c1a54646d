#include "scheduler/amount.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "protocol/format.h"

namespace crabcast::scheduler {
namespace {

std::string counted(double value, const std::string& noun) {
  return exact_number(value) + " " + noun + (value == 1 ? "" : "s");
}

std::string cpus_text(std::int64_t millis) {
  return counted(static_cast<double>(millis) / 1000, "CPU");
}

std::string memory_text(std::int64_t bytes) {
  return format_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
}

double share(std::int64_t part, std::int64_t whole) {
  return whole <= 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

Amount amount(const ProcessResources& resources) {
  return {std::llround(resources.cpus * 1000), resources.gpus,
          static_cast<std::int64_t>(resources.memory_bytes)};
}

std::string to_string(const Amount& amount) {
  std::string text = cpus_text(amount.cpu_millis);
  if (amount.gpus != 0) text += ", " + counted(static_cast<double>(amount.gpus), "GPU");
  return text + ", " + memory_text(amount.memory_bytes);
}

double dominant_share(const Amount& part, const Amount& whole) {
  return std::max({share(part.cpu_millis, whole.cpu_millis), share(part.gpus, whole.gpus),
                   share(part.memory_bytes, whole.memory_bytes)});
}

std::string to_string(const Quota& quota) {
  std::vector<std::string> parts;
  if (quota.cpu_millis) parts.push_back(cpus_text(*quota.cpu_millis));
  if (quota.gpus) parts.push_back(counted(static_cast<double>(*quota.gpus), "GPU"));
  if (quota.memory_bytes) parts.push_back(memory_text(*quota.memory_bytes));
  return parts.empty() ? "nothing named" : join_names(parts);
}

}  // namespace crabcast::scheduler

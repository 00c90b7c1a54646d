// Strong ids: a step cannot be passed where a generation is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace crabcast {

template <class Tag, class T>
class StrongId {
 public:
  using value_type = T;
  StrongId() = default;
  explicit StrongId(T value) : value_(std::move(value)) {}
  [[nodiscard]] const T& value() const { return value_; }
  friend auto operator<=>(const StrongId&, const StrongId&) = default;

 private:
  T value_{};
};

using JobId = StrongId<struct JobIdTag, std::string>;          // quickstart-1
using NodeId = StrongId<struct NodeIdTag, std::string>;        // name of an agent's node
using RoleId = StrongId<struct RoleIdTag, std::string>;        // worker-0, inside one job
using ProcessId = StrongId<struct ProcessIdTag, std::string>;  // unique in a cluster
using Generation = StrongId<struct GenerationTag, std::uint64_t>;
using Step = StrongId<struct StepTag, std::uint64_t>;  // counts from 1; 0 = before training
using Lane = StrongId<struct LaneTag, std::uint32_t>;
using CheckpointId = StrongId<struct CheckpointIdTag, std::uint64_t>;

// Bumped when an older peer could misread a message; peers of another version are refused.
inline constexpr std::uint32_t kProtocolVersion = 1;

}  // namespace crabcast

template <class Tag, class T>
struct std::hash<crabcast::StrongId<Tag, T>> {
  std::size_t operator()(const crabcast::StrongId<Tag, T>& id) const noexcept {
    return std::hash<T>{}(id.value());
  }
};

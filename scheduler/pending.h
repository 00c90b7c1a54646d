// Sentences about jobs that wait.
#pragma once

#include <string>
#include <vector>

#include "scheduler/state.h"

namespace crabcast::scheduler {

// How many stand ahead of a job in its line, and the first of them with a higher priority.
struct Ahead {
  std::size_t jobs = 0;
  const Job* first = nullptr;
  const Job* higher = nullptr;
};
Pending why_waiting(const ClusterState& state, const Job& job, const Ahead& ahead);

std::string no_room_at_store(const Job& job);
// `empty`: room of the empty nodes, `usable`: those that the job may use.
std::string larger_than_cluster(const Job& job, const std::vector<Amount>& empty,
                                const std::vector<Slot>& usable);
// "3 jobs"
std::string counted(double value, const std::string& noun);

}  // namespace crabcast::scheduler

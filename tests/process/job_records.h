// What a job has written into its store.
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "storage/job_store.h"

namespace crabcast::testing {

inline std::vector<pb::CommitRecord> ledger(const std::filesystem::path& state,
                                            const std::string& job) {
  auto store = storage::JobStore::open_read_only(state / "jobs" / job / "store");
  if (!store) throw std::runtime_error(store.error().message);
  std::vector<pb::CommitRecord> commits;
  auto read = (*store)->for_each_commit(Step{0}, [&](const pb::CommitRecord& commit) {
    commits.push_back(commit);
    return true;
  });
  if (!read) throw std::runtime_error(read.error().message);
  return commits;
}

inline pb::CheckpointManifest newest_checkpoint(const std::filesystem::path& state,
                                                const std::string& job) {
  auto store = storage::JobStore::open_read_only(state / "jobs" / job / "store");
  if (!store) throw std::runtime_error(store.error().message);
  return (*store)->checkpoints().value().back();
}

// Step and hash of every chunk of the newest checkpoint: equal if and only if all its bytes are.
inline std::string newest_state(const std::filesystem::path& state, const std::string& job) {
  const auto checkpoint = newest_checkpoint(state, job);
  std::string hashes = std::to_string(checkpoint.step());
  for (const auto& chunk : checkpoint.chunks())
    hashes += " " + std::to_string(chunk.xxh3_high()) + std::to_string(chunk.xxh3_low());
  return hashes;
}

}  // namespace crabcast::testing

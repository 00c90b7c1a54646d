// The stores of jobs that a node holds: a job's own one, where its coordinator ran, and a copy,
// where it ran elsewhere (docs/storage-format.md, "Copies on other nodes").
//
// Which of two stores of a job is the newer: that whose newest checkpoint ends with a commit of the
// higher fence, and of equal ones the one with the later checkpoint. HeldReplica says these two.
//
// Concurrency: one thread at a time for a job. Nobody may have a store open for writing that is
// moved here.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/control/state_folder.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"

namespace crabcast::actors {

// In the store's values: what its coordinator tells once of where the store came from.
inline constexpr const char* kRestoredKey = "restored";

// Of two stores of one job.
inline bool is_newer(const pb::HeldReplica& a, const pb::HeldReplica& b) {
  return std::pair(a.fence(), a.newest_checkpoint()) > std::pair(b.fence(), b.newest_checkpoint());
}

// The newest of the job's stores here; nullopt when none with a checkpoint can be read.
std::optional<pb::HeldReplica> held_store(const StateFolder& state, const std::string& job);
// Of all jobs.
std::vector<pb::HeldReplica> held_stores(const StateFolder& state);

// The fence that has the job's own store; nullopt: there is none.
Result<std::optional<std::uint64_t>> fence_of_own_store(const StateFolder& state,
                                                        const std::string& job);

// A job's own store that is not as new as the copy here is moved to store.superseded-FENCE beside
// it. True when one was. Durable.
Result<bool> set_older_aside(const StateFolder& state, const std::string& job);

// Makes the copy here the job's own store, if that is missing or not as new, and leaves the words
// for kRestoredKey in it. Returns the checkpoint from which the job goes on; nullopt when its own
// store stays. Durable; after a crash at any point the next call does what is left.
Result<std::optional<std::uint64_t>> restore_store(const StateFolder& state, const std::string& job,
                                                   const std::string& node);

// Moves a folder to NAME.superseded-FENCE beside it. Durable.
Status set_aside(const std::filesystem::path& folder, std::uint64_t fence);

}  // namespace crabcast::actors

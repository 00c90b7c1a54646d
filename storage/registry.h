// The controller's store: jobs, nodes and events, in RocksDB (docs/storage-format.md).
//
// Concurrency: one owner thread (the registry actor). Durability: every method that takes `Sync`
// says at the call site whether it returns before or after the bytes are on the disk (J-1).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "protocol/error.h"
#include "protocol/ids.h"
#include "protocol/records.pb.h"
#include "storage/durability.h"

namespace crabcast::storage {

class Registry {
 public:
  // Makes the store when it is missing. already_exists when another process holds it.
  static Result<std::unique_ptr<Registry>> open(const std::filesystem::path& folder);
  // For `crabcast ps` and `events` when no controller runs; never writes.
  static Result<std::unique_ptr<Registry>> open_read_only(const std::filesystem::path& folder);
  virtual ~Registry() = default;

  virtual Status put_job(const pb::JobRecord& job, Sync sync) = 0;
  virtual Result<std::optional<pb::JobRecord>> job(const JobId& id) const = 0;
  virtual Result<std::vector<pb::JobRecord>> jobs() const = 0;  // in order of submit_seq
  virtual Result<std::optional<JobId>> job_by_client_key(const std::string& key) const = 0;
  // The next submit_seq; durable before it returns.
  virtual Result<std::uint64_t> next_submit_seq() = 0;

  virtual Status put_node(const pb::NodeRecord& node, Sync sync) = 0;
  virtual Result<std::vector<pb::NodeRecord>> nodes() const = 0;

  // What a job's charts show; a later write replaces it.
  virtual Status put_series(const pb::JobSeries& series, Sync sync) = 0;
  virtual Result<std::optional<pb::JobSeries>> series(const JobId& id) const = 0;

  // Sets the event's seq and returns it.
  virtual Result<std::uint64_t> append_event(pb::Event event, Sync sync) = 0;
  virtual Result<std::vector<pb::Event>> events(std::uint64_t after_seq,
                                                std::size_t limit) const = 0;
};

}  // namespace crabcast::storage

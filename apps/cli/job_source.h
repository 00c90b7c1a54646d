// Where the verbs that look at jobs get their answers: from the controller, or, where none runs,
// from what is stored in the state folder. One thread.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "apps/cli/verbs.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"
#include "storage/job_store.h"

namespace crabcast::apps {

class JobSource {
 public:
  // The controller that `common` names or that runs with its state folder; where none runs, the
  // stored state, which it says on stderr. not_found when there is neither.
  static Result<std::unique_ptr<JobSource>> open(const Common& common);
  virtual ~JobSource() = default;

  // In order of submission. Without `all` only those that have not ended.
  virtual Result<std::vector<pb::JobStatus>> jobs(bool all) = 0;
  virtual Result<pb::JobStatus> job(const std::string& id) = 0;
  // With seq > after, at most `limit`. `job` empty: of all jobs. Stored events of one job come from
  // its own store and the registry, with numbers of their own.
  virtual Result<std::vector<pb::Event>> events(const std::string& job, std::uint64_t after,
                                                std::uint32_t limit) = 0;
  virtual Result<pb::LogPiece> log(const std::string& job, const std::string& role,
                                   std::uint64_t offset, std::uint32_t limit) = 0;
};

// The folder of a job's store: `store` itself, or the job folder that it is; else the one that the
// state folder has for `job`. invalid_argument for a job id that is a path; not_found.
Result<std::filesystem::path> store_folder(const Common& common, const std::string& job,
                                           const std::filesystem::path& store);

// What a job's store says of it, over a status that knows only its record. Leaves state, reason and
// times as they are.
Status fill_from_store(const storage::JobStore& store, pb::JobStatus& status);

}  // namespace crabcast::apps

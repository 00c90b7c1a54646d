// The mixture of policy adaptive: how the shares of the tasks follow their losses.
//
// Change number k counts from step k * adapt_every + 1 on. It is decided kMixtureLead steps before
// that, with the commit of a step, and recorded in that commit: so it is durable before anybody
// uses it, loaders hear of it before they are asked for its first batch, and a rewound ledger takes
// it back. A task's weight moves towards 1000 x its mean loss / the mean over all tasks, by
// adapt_by at most, and stays between 250 and 4000.
//
// Pure: what is decided is a function of the losses in the ledger.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/job_spec.h"
#include "protocol/records.pb.h"

namespace crabcast::actors {

using TaskLosses = std::map<std::string, pb::TaskLoss>;  // sums, by task

// More steps than workers ask for batches ahead.
inline constexpr std::uint64_t kMixtureLead = 8;

// The newest step up to `step` with whose commit a change was decided; 0 when there was none.
constexpr std::uint64_t last_decision(std::uint64_t step, std::uint64_t adapt_every) {
  const auto changes = (step + kMixtureLead) / adapt_every;
  return changes == 0 ? 0 : changes * adapt_every - kMixtureLead;
}

// Losses of skipped steps do not count.
void add_losses(TaskLosses& sums, const pb::CommitRecord& commit);

class AdaptiveMixture {
 public:
  // `changes` so far, and the losses since the last of them was decided.
  AdaptiveMixture(const MixtureSpec& spec, std::vector<std::string> tasks,
                  std::vector<pb::MixtureChange> changes, TaskLosses window);
  // What is to be recorded with this commit; nothing when no change is due.
  [[nodiscard]] std::optional<pb::MixtureChange> change_after(const pb::CommitRecord& commit) const;
  // The commit is durable.
  void add(const pb::CommitRecord& commit);
  // The ledger ends at `step` now; the window is that of its last change.
  void rewind(std::uint64_t step, TaskLosses window);
  [[nodiscard]] const std::vector<pb::MixtureChange>& changes() const { return changes_; }

 private:
  std::uint64_t every_;
  double by_;
  std::vector<std::string> tasks_;
  std::vector<pb::MixtureChange> changes_;
  TaskLosses window_;
};

}  // namespace crabcast::actors

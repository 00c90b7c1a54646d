// What a loader draws: the sampler of the spec, and what the job's ledger adds to it, namely
// samples in quarantine and changes of the mixture. With these, the samples of a step are a pure
// function, the same in every loader (S-1, S-2).
//
// The coordinator sends the whole history when a loader registers, and later what is new. Until all
// of it is there that a step needs, `ready` is false and its batches must wait.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "data/corpus.h"
#include "data/sampler.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

// All methods from any thread.
class Sampling {
 public:
  // data_error, invalid_argument: see data::Sampler; budget_exhausted when the spec asks for more
  // steps than data.mixture.most_epochs allows.
  static Result<std::unique_ptr<Sampling>> create(const JobSpec& spec, const data::Corpus& corpus);

  // Also what is known already. corrupt when a change of the mixture is missing before another one.
  Status learn(const pb::SamplingHistory& history);
  [[nodiscard]] bool ready(std::uint64_t step) const;
  // For a step that is ready.
  [[nodiscard]] std::shared_ptr<const data::Sampler> sampler() const;
  // Whether the sample is in quarantine for a step: since that one or an earlier one.
  [[nodiscard]] bool is_bad(std::uint32_t dataset, std::uint64_t index, std::uint64_t step) const;

 private:
  explicit Sampling(std::uint64_t adapt_every) : adapt_every_(adapt_every) {}

  const std::uint64_t adapt_every_;  // 0: the mixture does not change
  mutable std::mutex mutex_;
  data::SamplerPlan plan_;
  std::shared_ptr<const data::Sampler> sampler_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t> bad_since_;
  bool told_ = false;
};

}  // namespace crabcast::actors

#include "actors/compute/sampling.h"

#include <algorithm>

#include "data/datasets.h"
#include "protocol/tasks.h"

namespace crabcast::actors {
namespace {

data::MixtureChange change_of(const pb::MixtureChange& message) {
  data::MixtureChange change;
  change.first_step = message.first_step();
  change.weights.fill(1);  // of tasks that the job does not train
  for (const auto& weight : message.weights())
    if (const auto task = task_from_name(weight.task()))
      change.weights.at(static_cast<std::size_t>(*task)) = weight.weight();
  return change;
}

}  // namespace

Result<std::unique_ptr<Sampling>> Sampling::create(const JobSpec& spec,
                                                   const data::Corpus& corpus) {
  const auto& mixture = spec.data.mixture;
  std::unique_ptr<Sampling> sampling(
      new Sampling(mixture.policy == MixturePolicy::adaptive ? mixture.adapt_every_steps : 0));
  auto& plan = sampling->plan_;
  plan.mixture = mixture;
  plan.seed = spec.train.seed;
  plan.global_batch = spec.global_batch();
  for (const auto& summary : corpus.summary())
    if (summary.train > 0)
      plan.sources.push_back(
          {summary.dataset, data::datasets()[summary.dataset].task, summary.train});
  auto sampler = data::Sampler::create(plan);
  if (!sampler) return fail(sampler.error());
  const auto allowed = sampler->steps_allowed();
  if (spec.train.steps.value_or(1) > allowed)
    return fail(Errc::budget_exhausted,
                "data.mixture.most_epochs allows " + std::to_string(allowed) +
                    " full batches of this corpus, and train.steps is " +
                    std::to_string(spec.train.steps.value_or(1)) + "; raise it or train less");
  sampling->sampler_ = std::make_shared<const data::Sampler>(std::move(*sampler));
  return sampling;
}

Status Sampling::learn(const pb::SamplingHistory& history) {
  const std::lock_guard lock(mutex_);
  const auto known = plan_.changes.size();
  for (const auto& change : history.changes()) {
    if (change.number() <= plan_.changes.size()) continue;
    if (change.number() != plan_.changes.size() + 1)
      return fail(Errc::corrupt, "the mixture's change number " +
                                     std::to_string(plan_.changes.size() + 1) + " is missing");
    plan_.changes.push_back(change_of(change));
  }
  if (plan_.changes.size() != known) {
    auto sampler = data::Sampler::create(plan_);
    if (!sampler) return fail(sampler.error());
    sampler_ = std::make_shared<const data::Sampler>(std::move(*sampler));
  }
  for (const auto& bad : history.quarantined()) {
    const std::pair sample(bad.sample().dataset(), bad.sample().index());
    const auto known = bad_since_.emplace(sample, bad.step()).first;
    known->second = std::min<std::uint64_t>(known->second, bad.step());
  }
  told_ = true;
  return {};
}

bool Sampling::ready(std::uint64_t step) const {
  const std::lock_guard lock(mutex_);
  if (!told_) return false;
  return adapt_every_ == 0 || step == 0 || plan_.changes.size() >= (step - 1) / adapt_every_;
}

std::shared_ptr<const data::Sampler> Sampling::sampler() const {
  const std::lock_guard lock(mutex_);
  return sampler_;
}

bool Sampling::is_bad(std::uint32_t dataset, std::uint64_t index, std::uint64_t step) const {
  const std::lock_guard lock(mutex_);
  const auto found = bad_since_.find({dataset, index});
  return found != bad_since_.end() && found->second <= step;
}

}  // namespace crabcast::actors

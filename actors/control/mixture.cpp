#include "actors/control/mixture.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "protocol/sums.h"

namespace crabcast::actors {
namespace {

constexpr double kEqualWeight = 1000, kLeastWeight = 250, kMostWeight = 4000;

// Nothing when the task was not trained, or its loss is no number.
std::optional<double> mean_loss(const TaskLosses& losses, const std::string& task) {
  const auto found = losses.find(task);
  if (found == losses.end() || found->second.tokens() == 0) return std::nullopt;
  const double mean = found->second.loss_sum() / static_cast<double>(found->second.tokens());
  return std::isfinite(mean) ? std::optional(mean) : std::nullopt;
}

}  // namespace

void add_losses(TaskLosses& sums, const pb::CommitRecord& commit) {
  if (commit.skipped()) return;
  for (const auto& loss : commit.losses()) add_to(sums[loss.task()], loss);
}

AdaptiveMixture::AdaptiveMixture(const MixtureSpec& spec, std::vector<std::string> tasks,
                                 std::vector<pb::MixtureChange> changes, TaskLosses window)
    : every_(spec.adapt_every_steps),
      by_(spec.adapt_by),
      tasks_(std::move(tasks)),
      changes_(std::move(changes)),
      window_(std::move(window)) {}

std::optional<pb::MixtureChange> AdaptiveMixture::change_after(
    const pb::CommitRecord& commit) const {
  if (last_decision(commit.step(), every_) != commit.step()) return std::nullopt;
  auto losses = window_;
  add_losses(losses, commit);
  double sum = 0, known = 0;
  for (const auto& task : tasks_) {
    const auto loss = mean_loss(losses, task);
    if (loss) sum += *loss, ++known;
  }
  const double mean = known > 0 ? sum / known : 0;

  pb::MixtureChange change;
  change.set_number(changes_.size() + 1);
  change.set_first_step(commit.step() + kMixtureLead + 1);
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    const double before =
        changes_.empty() ? kEqualWeight : changes_.back().weights(static_cast<int>(i)).weight();
    const auto loss = mean_loss(losses, tasks_[i]);
    double after = before;
    if (loss && mean > 0)
      after = std::clamp(kEqualWeight * *loss / mean, before * (1 - by_), before * (1 + by_));
    auto& weight = *change.add_weights();
    weight.set_task(tasks_[i]);
    weight.set_weight(
        static_cast<std::uint32_t>(std::lround(std::clamp(after, kLeastWeight, kMostWeight))));
    weight.set_loss(loss.value_or(0));
  }
  return change;
}

void AdaptiveMixture::add(const pb::CommitRecord& commit) {
  if (commit.has_mixture()) {
    changes_.push_back(commit.mixture());
    window_.clear();
  } else {
    add_losses(window_, commit);
  }
}

void AdaptiveMixture::rewind(std::uint64_t step, TaskLosses window) {
  std::erase_if(changes_, [&](const pb::MixtureChange& change) {
    return change.first_step() > step + kMixtureLead + 1;
  });
  window_ = std::move(window);
}

}  // namespace crabcast::actors

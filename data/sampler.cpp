#include "data/sampler.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "data/datasets.h"

namespace crabcast::data {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kMaxSamples = 1ULL << 56;
constexpr std::uint64_t kEndless = 1ULL << 60;  // slots, and draws of one source
// Shares become whole weights of this sum: far finer than any run is long, and far above the last
// bit of a double, so that every machine rounds alike.
constexpr double kShareUnit = 0x1p40;
constexpr double kThousand = 1000;

std::string source_name(std::uint32_t dataset) {
  const auto table = datasets();
  if (dataset < table.size()) return std::string(table[dataset].id);
  return "data set number " + std::to_string(dataset);
}

Status check_changes(const SamplerPlan& plan) {
  if (!plan.changes.empty() && plan.mixture.policy != MixturePolicy::adaptive)
    return fail(Errc::invalid_argument, "sampler: the mixture changes, but is not adaptive");
  std::uint64_t last = 1;
  for (const auto& change : plan.changes) {
    if (change.first_step <= last)
      return fail(Errc::invalid_argument,
                  "sampler: changes of the mixture are out of order at step " +
                      std::to_string(change.first_step));
    if (std::ranges::find(change.weights, 0U) != change.weights.end())
      return fail(Errc::invalid_argument, "sampler: the change of the mixture at step " +
                                              std::to_string(change.first_step) +
                                              " gives a task no weight");
    last = change.first_step;
  }
  return {};
}

Status check_weights(const SamplerPlan& plan) {
  for (const auto& [name, weight] : plan.mixture.weights) {
    const auto is_meant = [&](const SourceSize& source) {
      return source_name(source.dataset) == name || task_name(source.task) == name;
    };
    if (std::ranges::none_of(plan.sources, is_meant))
      return fail(Errc::data_error,
                  "sampler: data.mixture.weights names " + name + ", which is not in the corpus");
  }
  return {};
}

Status check(const SamplerPlan& plan) {
  if (plan.global_batch == 0)
    return fail(Errc::invalid_argument, "sampler: the global batch is 0; give at least 1 sample");
  if (plan.sources.empty())
    return fail(Errc::data_error, "sampler: the corpus has no data set to draw from");
  std::set<std::uint32_t> seen;
  Wide total = 0;
  for (const auto& source : plan.sources) {
    const auto name = source_name(source.dataset);
    if (source.samples == 0)
      return fail(Errc::data_error, "sampler: the data set " + name +
                                        " has no training samples; remove its folder or fill it");
    if (!seen.insert(source.dataset).second)
      return fail(Errc::invalid_argument, "sampler: the data set " + name + " is named twice");
    if (!plan.tasks.empty() &&
        std::find(plan.tasks.begin(), plan.tasks.end(), source.task) == plan.tasks.end())
      return fail(Errc::invalid_argument, "sampler: the data set " + name + " belongs to " +
                                              std::string(task_name(source.task)) +
                                              ", which was not chosen");
    total += source.samples;
  }
  if (total > kMaxSamples)
    return fail(Errc::invalid_argument, "sampler: more than 2^56 samples in the corpus");
  for (const Task task : plan.tasks) {
    const auto has = [&](const SourceSize& source) { return source.task == task; };
    if (std::none_of(plan.sources.begin(), plan.sources.end(), has))
      return fail(Errc::data_error, "sampler: no data set of the chosen task " +
                                        std::string(task_name(task)) + " is in the corpus");
  }
  CRABCAST_TRY(check_weights(plan));
  return check_changes(plan);
}

double weight_of(const MixtureWeights& weights, std::string_view name) {
  for (const auto& [known, weight] : weights)
    if (known == name) return weight;
  return 1;
}

// The smallest number in [low, high] for which `reached` holds, or `high`; it holds for all above.
template <class Reached>
std::uint64_t first_that(std::uint64_t low, std::uint64_t high, const Reached& reached) {
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (reached(middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

}  // namespace

Result<Sampler> Sampler::create(SamplerPlan plan) {
  CRABCAST_TRY(check(plan));
  // Neither the order in which sources are listed nor that of tasks may change what is drawn.
  std::sort(plan.sources.begin(), plan.sources.end(),
            [](const SourceSize& a, const SourceSize& b) { return a.dataset < b.dataset; });
  Sampler sampler;
  sampler.mixture_ = plan.mixture;
  sampler.seed_ = plan.seed;
  sampler.global_batch_ = plan.global_batch;
  for (const auto& [dataset, task, samples] : plan.sources) {
    const Wide most =
        plan.mixture.most_epochs ? Wide{samples} * *plan.mixture.most_epochs : kEndless;
    sampler.sources_.push_back({dataset,
                                task,
                                Divisor(samples),
                                {samples, mix(mix(plan.seed, dataset), samples)},
                                static_cast<std::uint64_t>(std::min<Wide>(most, kEndless)),
                                weight_of(plan.mixture.weights, source_name(dataset))});
  }

  TaskWeights weights;
  for (std::size_t task = 0; task < kTaskCount; ++task)
    weights[task] = weight_of(plan.mixture.weights, kTaskNames[task]);
  std::vector<std::uint64_t> drawn(sampler.sources_.size());
  for (const auto& change : plan.changes) {
    sampler.add_segments((change.first_step - 1) * plan.global_batch, weights, drawn);
    std::ranges::transform(change.weights, weights.begin(),
                           [](std::uint32_t thousandths) { return thousandths / kThousand; });
  }
  sampler.add_segments(kEndless, weights, drawn);
  return sampler;
}

// From where the last segment ends up to `end`. `drawn` counts what each source has given so far.
void Sampler::add_segments(std::uint64_t end, const TaskWeights& weights,
                           std::vector<std::uint64_t>& drawn) {
  while (end_ < end) {
    auto segment = make_segment(end_, weights, drawn);
    if (segment.groups.empty()) return;  // all data sets are done
    const std::uint64_t stop = std::min(end, end_of(segment));
    count(segment, stop - end_, drawn);
    end_ = stop;
    segments_.push_back(std::move(segment));
  }
}

Sampler::Segment Sampler::make_segment(std::uint64_t first, const TaskWeights& weights,
                                       const std::vector<std::uint64_t>& drawn) const {
  std::array<std::vector<std::uint32_t>, kTaskCount> by_task;
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 0; i < sources_.size(); ++i) {
    if (drawn[i] >= sources_[i].most) continue;
    by_task[static_cast<std::size_t>(sources_[i].task)].push_back(i);
    all.push_back(i);
  }
  std::vector<std::vector<std::uint32_t>> tasks;
  for (auto& sources : by_task)
    if (!sources.empty()) tasks.push_back(std::move(sources));

  Segment segment;
  segment.first = first;
  if (all.empty()) return segment;
  switch (mixture_.policy) {
    case MixturePolicy::task_balanced:
      for (const auto& sources : tasks)
        segment.groups.push_back(make_group({sources}, weights, drawn));
      break;
    case MixturePolicy::proportional:
    case MixturePolicy::temperature:
      segment.groups.push_back(make_group({all}, weights, drawn));
      break;
    case MixturePolicy::weights:
    case MixturePolicy::adaptive:
      segment.groups.push_back(make_group(tasks, weights, drawn));
      break;
  }
  // The order of tasks may turn only where a block of tasks and a global batch both end; elsewhere
  // a batch would see one task twice and another not at all.
  const bool with_batches = first % global_batch_ == 0;
  segment.turn = with_batches ? std::lcm(global_batch_, segment.groups.size()) : kEndless;
  return segment;
}

Sampler::Group Sampler::make_group(const std::vector<std::vector<std::uint32_t>>& branches,
                                   const TaskWeights& weights,
                                   const std::vector<std::uint64_t>& drawn) const {
  std::vector<std::vector<double>> shares;
  double sum = 0;
  for (const auto& branch : branches) {
    auto& list = shares.emplace_back();
    for (const auto i : branch) {
      const auto samples = static_cast<double>(sources_[i].samples.value);
      list.push_back(mixture_.policy == MixturePolicy::temperature
                         ? std::pow(samples, 1 / mixture_.temperature)
                         : samples * sources_[i].weight);
    }
    // A task's weight is divided among its data sets.
    const double of_branch = std::accumulate(list.begin(), list.end(), 0.0);
    const double weight =
        branches.size() == 1 ? 1 : weights[static_cast<std::size_t>(sources_[branch.front()].task)];
    for (double& share : list) share *= weight / of_branch;
    sum += weight;
  }

  const bool by_size = mixture_.policy == MixturePolicy::task_balanced ||
                       mixture_.policy == MixturePolicy::proportional;
  std::vector<std::vector<std::uint64_t>> whole;
  std::vector<std::uint32_t> leaves;
  std::vector<std::uint64_t> before;
  for (std::size_t b = 0; b < branches.size(); ++b) {
    auto& list = whole.emplace_back();
    for (std::size_t k = 0; k < branches[b].size(); ++k) {
      const auto i = branches[b][k];
      const auto share = static_cast<std::uint64_t>(std::llround(shares[b][k] / sum * kShareUnit));
      list.push_back(by_size ? sources_[i].samples.value : std::max<std::uint64_t>(1, share));
      leaves.push_back(i);
      before.push_back(drawn[i]);
    }
  }
  return {DrawTree(whole), std::move(leaves), std::move(before)};
}

// The slot after which the first of the segment's data sets is done.
std::uint64_t Sampler::end_of(const Segment& segment) const {
  std::uint64_t end = kEndless;
  if (!mixture_.most_epochs) return end;
  for (std::size_t g = 0; g < segment.groups.size(); ++g) {
    const Group& group = segment.groups[g];
    const auto draws = first_that(1, kEndless, [&](std::uint64_t n) {
      const auto counts = group.tree.counts(n);
      for (std::size_t leaf = 0; leaf < counts.size(); ++leaf)
        if (group.before[leaf] + counts[leaf] >= sources_[group.sources[leaf]].most) return true;
      return false;
    });
    if (draws >= kEndless / segment.groups.size()) continue;
    std::uint64_t slot = segment.first + (draws - 1) * segment.groups.size();
    while (group_at(segment, slot) != g) ++slot;
    end = std::min(end, slot + 1);
  }
  return end;
}

// What each source has given after the segment's first `slots`; those that are done stay as they
// are.
void Sampler::count(const Segment& segment, std::uint64_t slots,
                    std::vector<std::uint64_t>& counts) const {
  const std::uint64_t tasks = segment.groups.size();
  std::vector<std::uint64_t> draws(tasks, slots / tasks);
  for (std::uint64_t slot = slots - slots % tasks; slot < slots; ++slot)
    ++draws[group_at(segment, segment.first + slot)];
  for (std::size_t g = 0; g < tasks; ++g) {
    const Group& group = segment.groups[g];
    const auto of_leaves = group.tree.counts(draws[g]);
    for (std::size_t leaf = 0; leaf < of_leaves.size(); ++leaf)
      counts[group.sources[leaf]] = group.before[leaf] + of_leaves[leaf];
  }
}

const Sampler::Segment& Sampler::segment_at(std::uint64_t slot) const {
  return *std::prev(std::ranges::upper_bound(segments_, slot, {}, &Segment::first));
}

// A seeded number below `places` for the count-th turn.
std::uint64_t Sampler::turned(std::uint64_t count, std::uint64_t places) const {
  return scaled(mix(seed_, count) >> 32, places);
}

// Tasks follow one another in a fixed order, so any run of slots holds each of them equally often
// up to one.
std::size_t Sampler::group_at(const Segment& segment, std::uint64_t slot) const {
  const std::uint64_t tasks = segment.groups.size(), place = slot - segment.first;
  return (place + turned(place / segment.turn, tasks)) % tasks;
}

// Fills slots from `first` on, all of one batch and one segment.
void Sampler::fill(const Segment& segment, std::uint64_t first, std::span<Draw> draws) const {
  const std::uint64_t groups = segment.groups.size(), start = first - segment.first;
  std::vector<Permutation::Query> queries(draws.size());
  std::vector<std::uint32_t> places;
  std::vector<DrawTree::Run> runs;
  places.reserve(draws.size());
  runs.reserve(sources_.size());
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(groups, draws.size()); ++i) {
    const Group& group = segment.groups[group_at(segment, first + i)];
    places.clear();
    runs.clear();
    for (std::uint64_t place = i; place < draws.size(); place += groups)
      places.push_back(static_cast<std::uint32_t>(place));
    group.tree.divide((start + i) / groups, places, runs);  // one draw of each block of groups
    for (const auto& [leaf, rank, own_places] : runs) {
      const Source& source = sources_[group.sources[leaf]];
      auto [epoch, index] = source.samples.divide(group.before[leaf] + rank);
      for (const std::uint32_t place : own_places) {
        draws[place] = {source.dataset, 0, epoch};
        queries[place] = {&source.order, epoch, index};
        if (++index == source.samples.value) index = 0, ++epoch;
      }
    }
  }
  Permutation::answer(queries);
  for (std::size_t i = 0; i < draws.size(); ++i) draws[i].index = queries[i].rank;
}

std::vector<Draw> Sampler::batch(std::uint64_t step) const {
  if (step == 0 || step > steps_allowed()) return {};
  std::vector<Draw> draws(global_batch_);
  const std::uint64_t first = (step - 1) * global_batch_, end = first + global_batch_;
  for (std::uint64_t slot = first; slot < end;) {
    const Segment& segment = segment_at(slot);
    const bool last = &segment == &segments_.back();
    const std::uint64_t stop = last ? end : std::min(end, (&segment + 1)->first);
    fill(segment, slot, std::span(draws).subspan(slot - first, stop - slot));
    slot = stop;
  }
  // The slots of one batch are turned among themselves; what the batch holds stays the same.
  if (mixture_.policy != MixturePolicy::task_balanced)
    std::rotate(draws.begin(),
                draws.begin() + static_cast<std::ptrdiff_t>(turned(step, global_batch_)),
                draws.end());
  return draws;
}

std::vector<std::uint64_t> Sampler::drawn_in_slots(std::uint64_t slots) const {
  std::vector<std::uint64_t> counts(sources_.size());
  if (slots == 0) return counts;
  for (std::size_t i = 0; i < counts.size(); ++i) counts[i] = sources_[i].most;
  const Segment& segment = segment_at(slots - 1);
  count(segment, slots - segment.first, counts);
  return counts;
}

std::vector<std::uint64_t> Sampler::drawn(std::uint64_t steps) const {
  return drawn_in_slots(std::min(steps, steps_allowed()) * global_batch_);
}

std::uint64_t Sampler::steps_allowed() const {
  return end_ / global_batch_;
}

std::uint64_t Sampler::steps_for_epochs(double epochs) const {
  if (!(epochs > 0)) return 0;
  std::vector<std::uint64_t> wanted;
  for (const Source& source : sources_) {
    // The tolerance undoes the rounding of decimal fractions: 1.1 x 10 samples are 11 draws,
    // not 12.
    const double draws =
        std::ceil(epochs * static_cast<double>(source.samples.value) * (1 - 1e-12));
    const auto whole = draws < 0x1p60 ? static_cast<std::uint64_t>(draws) : kEndless;
    wanted.push_back(std::min(std::max<std::uint64_t>(1, whole), source.most));
  }
  const auto slots = first_that(0, end_, [&](std::uint64_t n) {
    const auto counts = drawn_in_slots(n);
    return std::ranges::equal(counts, wanted, std::ranges::greater_equal());
  });
  return std::min((slots + global_batch_ - 1) / global_batch_, steps_allowed());
}

}  // namespace crabcast::data

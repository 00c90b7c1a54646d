#include "data/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "data/datasets.h"

namespace crabcast::data {
namespace {

using Wide = unsigned __int128;

constexpr std::uint64_t kMaxSamples = 1ULL << 56;
constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15ULL;

// Rounds of the Feistel network. Few rounds give every sample any place, but in a small data set
// some orders then appear more often than others; counted over all orders of 3 to 6 samples, 20
// rounds show no difference from a uniform choice. Large data sets have orders enough after 6.
constexpr std::uint64_t kRounds = 6;
constexpr std::uint64_t kRoundsSmall = 20;
constexpr std::uint64_t kSmall = 1024;

// The finalizer of SplitMix64: every bit of the input reaches every bit of the output.
constexpr std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// The round function: 32 bits, cheaper than mix; the rounds after it finish the mixing.
constexpr std::uint64_t scrambled(std::uint64_t x) {
  x *= 0xBF58476D1CE4E5B9ULL;
  x ^= x >> 32;
  x *= 0x94D049BB133111EBULL;
  return x >> 32;
}

constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  return mix(mix(a + kGolden) ^ b);
}

// x scaled from [0, 2^32) to [0, limit): a remainder without a division.
constexpr std::uint64_t scaled(std::uint64_t x, std::uint64_t limit) {
  return (x * limit) >> 32;
}

// floor(q * share / 2^64 + 1/2). For share = floor(a * 2^64 / n) and q <= n < 2^63 this rises by 0
// or 1 with each q, is 0 at 0 and a at n.
constexpr std::uint64_t left_count(std::uint64_t q, std::uint64_t share) {
  return static_cast<std::uint64_t>((static_cast<Wide>(q) * share + (Wide{1} << 63)) >> 64);
}

std::uint64_t ceil_sqrt(std::uint64_t n) {
  auto root = static_cast<std::uint64_t>(std::sqrt(static_cast<double>(n)));
  while (root * root < n) ++root;
  while (root > 1 && (root - 1) * (root - 1) >= n) --root;
  return root;
}

std::string source_name(std::uint32_t dataset) {
  const auto table = datasets();
  if (dataset < table.size()) return std::string(table[dataset].id);
  return "data set number " + std::to_string(dataset);
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
  return {};
}

}  // namespace

Sampler::Divisor::Parts Sampler::Divisor::divide(std::uint64_t n) const {
  const auto estimate = static_cast<std::uint64_t>((static_cast<Wide>(n) * reciprocal) >> 64);
  const std::uint64_t rest = n - estimate * value;  // below 2 * value
  const std::uint64_t more = rest >= value ? 1 : 0;
  return {estimate + more, rest - (more != 0 ? value : 0)};
}

// One pass of the network moves (row, column) to another cell of the grid; a cell beyond the
// samples is moved on until it falls inside. The pass is a bijection of the grid, so the walk is
// one of the samples. The grid has fewer than x + sqrt(x) + 1 cells for x samples, so walks are
// rare.
std::uint64_t Sampler::Source::shuffled(std::uint64_t epoch, std::uint64_t rank) const {
  const std::uint64_t epoch_key = mix(key, epoch);
  std::uint64_t cell = rank;
  do {
    auto [row, column] = columns.divide(cell);
    for (std::uint64_t round = 0; round < rounds; round += 2) {
      row += scaled(scrambled(epoch_key + round * kGolden + column), rows);
      row -= row >= rows ? rows : 0;
      column += scaled(scrambled(epoch_key + (round + 1) * kGolden + row), columns.value);
      column -= column >= columns.value ? columns.value : 0;
    }
    cell = row * columns.value + column;
  } while (cell >= samples);
  return cell;
}

// Huffman's tree: the two smallest are joined first, so large data sets sit near the root, where
// rounding is least, and the mean number of levels a draw descends is as small as it can be.
void Sampler::Group::build(std::vector<Source> members) {
  sources = std::move(members);
  struct Part {
    std::uint64_t samples;
    std::uint32_t id;
  };
  std::vector<Part> parts;
  for (std::uint32_t i = 0; i < sources.size(); ++i)
    parts.push_back({sources[i].samples, kLeaf + i});
  while (parts.size() > 1) {
    std::sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
      return a.samples != b.samples ? a.samples > b.samples : a.id < b.id;
    });
    const Part right = parts.back();
    parts.pop_back();
    const Part left = parts.back();
    parts.pop_back();
    const std::uint64_t both = left.samples + right.samples;
    const auto share = static_cast<std::uint64_t>((static_cast<Wide>(left.samples) << 64) / both);
    parts.push_back({both, static_cast<std::uint32_t>(nodes.size())});
    nodes.push_back({share, left.id, right.id});
  }
  root = parts.front().id;
  cycle = Divisor(parts.front().samples);
}

Draw Sampler::Group::draw(std::uint64_t n) const {
  auto [epoch, rank] = cycle.divide(n);
  std::uint32_t at = root;
  while (at < kLeaf) {
    const Node& node = nodes[at];
    const std::uint64_t before = left_count(rank, node.share);
    const bool left = left_count(rank + 1, node.share) > before;
    rank = left ? before : rank - before;
    at = left ? node.left : node.right;
  }
  const Source& source = sources[at - kLeaf];
  return {source.dataset, source.shuffled(epoch, rank), epoch};
}

std::uint64_t Sampler::Group::draws_for(double epochs) const {
  // The tolerance undoes the rounding of decimal fractions: 1.1 x 10 samples are 11 draws, not 12.
  const double draws = std::ceil(epochs * static_cast<double>(cycle.value) * (1 - 1e-12));
  if (draws >= 0x1p60) return 1ULL << 60;
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(draws));
}

Result<Sampler> Sampler::create(SamplerPlan plan) {
  CRABCAST_TRY(check(plan));
  // Neither the order in which sources are listed nor that of tasks may change what is drawn.
  std::sort(plan.sources.begin(), plan.sources.end(),
            [](const SourceSize& a, const SourceSize& b) { return a.dataset < b.dataset; });
  Sampler sampler;
  sampler.policy_ = plan.policy;
  sampler.seed_ = plan.seed;
  sampler.global_batch_ = plan.global_batch;

  const bool balanced = plan.policy == MixturePolicy::task_balanced;
  std::array<std::vector<Source>, kTaskCount> members;
  for (const auto& listed : plan.sources) {
    Source source;
    source.dataset = listed.dataset;
    source.samples = listed.samples;
    source.rounds = listed.samples < kSmall ? kRoundsSmall : kRounds;
    source.rows = ceil_sqrt(listed.samples);
    source.columns = Divisor((listed.samples + source.rows - 1) / source.rows);
    source.key = mix(mix(plan.seed, listed.dataset), listed.samples);
    members[balanced ? static_cast<std::size_t>(listed.task) : 0].push_back(source);
  }
  for (auto& list : members)
    if (!list.empty()) sampler.groups_.emplace_back().build(std::move(list));
  sampler.turn_ = std::lcm(sampler.global_batch_, std::uint64_t{sampler.groups_.size()});
  return sampler;
}

// A seeded number below `places` for the count-th turn.
std::uint64_t Sampler::turned(std::uint64_t count, std::uint64_t places) const {
  return scaled(mix(seed_, count) >> 32, places);
}

// Tasks follow one another in a fixed order, so any run of slots holds each of them equally often
// up to one. The order may turn only where a block of tasks and a global batch both end; elsewhere
// a batch would see one task twice and another not at all.
std::size_t Sampler::group_at(std::uint64_t slot) const {
  const std::uint64_t tasks = groups_.size();
  return (slot + turned(slot / turn_, tasks)) % tasks;
}

std::uint64_t Sampler::slot_of(std::size_t group, std::uint64_t n) const {
  const std::uint64_t tasks = groups_.size();
  std::uint64_t slot = n * tasks;
  while (group_at(slot) != group) ++slot;
  return slot;
}

Draw Sampler::at(std::uint64_t slot) const {
  if (policy_ == MixturePolicy::task_balanced)
    return groups_[group_at(slot)].draw(slot / groups_.size());
  const std::uint64_t step = slot / global_batch_ + 1, first = (step - 1) * global_batch_;
  const std::uint64_t place = slot - first + turned(step, global_batch_);
  return groups_[0].draw(first + place % global_batch_);
}

// The same as at() of each slot, without a division for each.
std::vector<Draw> Sampler::batch(std::uint64_t step) const {
  if (step == 0) return {};
  std::vector<Draw> draws(global_batch_);
  const std::uint64_t first = (step - 1) * global_batch_;
  if (policy_ == MixturePolicy::task_balanced) {
    const std::uint64_t tasks = groups_.size();
    std::uint64_t n = first / tasks;
    std::uint64_t place = first % tasks;
    std::size_t group = group_at(first);
    for (auto& draw : draws) {
      draw = groups_[group].draw(n);
      if (++group == tasks) group = 0;
      if (++place == tasks) place = 0, ++n;
    }
  } else {
    // The slots of one batch are turned among themselves; what the batch holds stays the same.
    std::uint64_t place = turned(step, global_batch_);
    for (auto& draw : draws) {
      draw = groups_[0].draw(first + place);
      if (++place == global_batch_) place = 0;
    }
  }
  return draws;
}

std::uint64_t Sampler::steps_for_epochs(double epochs) const {
  if (!(epochs > 0)) return 0;
  std::uint64_t slots = 0;
  for (std::size_t g = 0; g < groups_.size(); ++g)
    slots = std::max(slots, slot_of(g, groups_[g].draws_for(epochs) - 1) + 1);
  return (slots + global_batch_ - 1) / global_batch_;
}

}  // namespace crabcast::data

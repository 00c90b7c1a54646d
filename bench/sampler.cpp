// Sampler speed: samples per second, and time to resume at step 10^9.
//
// The reference for speed is the plainest thing that a data loader does for one epoch: write all
// (data set, index) pairs of 222,000 samples into an array, std::shuffle it, hand it out in
// batches. Its set-up counts, because it must be done again in every epoch; it balances no task,
// and its state is the whole array. The reference for resuming is the same loader skipping batches,
// as loaders without random access do; 10^9 skipped steps would take minutes, so 200 epochs are
// measured and scaled linearly.
//
// Both sides are single-threaded. docs/benchmarks.md says what the figures mean.
#include "data/sampler.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "bench/figure.h"

namespace {

using crabcast::MixturePolicy;
using crabcast::Task;
using crabcast::bench::Better;
using crabcast::bench::print_figure;
using crabcast::data::Draw;
using crabcast::data::Sampler;
using crabcast::data::SamplerPlan;
using crabcast::data::SourceSize;

constexpr std::uint32_t kBatch = 64;
constexpr std::uint64_t kResumeStep = 1'000'000'000;

// Seventeen data sets, 222,000 samples in all.
std::vector<SourceSize> sources() {
  const std::vector<std::pair<Task, std::vector<std::uint64_t>>> sizes = {
      {Task::action_recognition, {20111, 6624}},
      {Task::emotion_recognition, {9989, 5030, 5209, 7333, 9356}},
      {Task::av_question_answering, {31904, 40182}},
      {Task::temporal_localization, {3309, 6489, 10000}},
      {Task::spatial_localization, {8510}},
      {Task::segmentation, {3452, 1480, 13911}},
      {Task::captioning, {39111}},
  };
  std::vector<SourceSize> list;
  for (const auto& [task, samples] : sizes)
    for (const auto n : samples) list.push_back({static_cast<std::uint32_t>(list.size()), task, n});
  return list;
}

class ShuffledArray {
 public:
  explicit ShuffledArray(const std::vector<SourceSize>& sources, std::uint64_t seed)
      : random_(seed) {
    for (const auto& source : sources)
      for (std::uint64_t i = 0; i < source.samples; ++i) order_.push_back({source.dataset, i, 0});
    std::shuffle(order_.begin(), order_.end(), random_);
  }

  std::vector<Draw> next() {
    std::vector<Draw> draws(kBatch);
    for (auto& draw : draws) draw = take();
    return draws;
  }

 private:
  const Draw& take() {
    if (place_ == order_.size()) {
      std::shuffle(order_.begin(), order_.end(), random_);
      place_ = 0;
    }
    return order_[place_++];
  }

  std::vector<Draw> order_;
  std::size_t place_ = 0;
  std::mt19937_64 random_;
};

// Written so that no loop can be left out.
std::uint64_t sink = 0;
void use(const std::vector<Draw>& draws) {
  for (const auto& draw : draws) sink += draw.index ^ draw.dataset;
}

template <class Body>
double seconds_of(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The best of several runs: both sides are disturbed by other processes, never helped.
template <class Body>
double best_seconds(int runs, const Body& body) {
  double best = seconds_of(body);
  for (int i = 1; i < runs; ++i) best = std::min(best, seconds_of(body));
  return best;
}

Sampler make(MixturePolicy policy) {
  auto sampler = Sampler::create({{policy}, sources(), 1, kBatch, {}, {}});
  if (!sampler) {
    std::fprintf(stderr, "%s\n", sampler.error().message.c_str());
    std::exit(1);
  }
  return std::move(sampler).value();
}

}  // namespace

int main() {
  const auto list = sources();
  std::uint64_t samples = 0;
  for (const auto& source : list) samples += source.samples;
  const std::uint64_t steps = samples / kBatch;
  const auto drawn = static_cast<double>(steps * kBatch);

  const double plain_epoch = best_seconds(15, [&] {
    ShuffledArray loader(list, 1);
    for (std::uint64_t step = 0; step < steps; ++step) use(loader.next());
  });
  const auto epoch_of = [&](MixturePolicy policy) {
    return best_seconds(15, [&] {
      const auto sampler = make(policy);
      for (std::uint64_t step = 1; step <= steps; ++step) use(sampler.batch(step));
    });
  };
  print_figure("sampler_epoch_task_balanced", drawn / epoch_of(MixturePolicy::task_balanced),
               drawn / plain_epoch, "samples/s", Better::more);
  print_figure("sampler_epoch_proportional", drawn / epoch_of(MixturePolicy::proportional),
               drawn / plain_epoch, "samples/s", Better::more);

  const std::uint64_t skipped = 200 * steps;
  const double skip = seconds_of([&] {
    ShuffledArray loader(list, 1);
    for (std::uint64_t step = 0; step < skipped; ++step) use(loader.next());
  });
  const double resume = best_seconds(15, [&] {
    const auto sampler = make(MixturePolicy::task_balanced);
    use(sampler.batch(kResumeStep));
  });
  print_figure("sampler_resume_at_step_1e9", resume,
               skip * static_cast<double>(kResumeStep) / static_cast<double>(skipped), "s",
               Better::less);
  std::fprintf(stderr, "checksum %llu\n", static_cast<unsigned long long>(sink));
  return 0;
}

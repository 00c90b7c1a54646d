// Properties that hold for every spec, and for every text that is not one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "protocol/job_spec.h"
#include "protocol/tasks.h"
#include "tests/protocol/golden.h"

namespace crabcast {
namespace {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : bits_(seed) {}
  std::uint64_t whole(std::uint64_t least, std::uint64_t most) {
    return std::uniform_int_distribution<std::uint64_t>(least, most)(bits_);
  }
  template <class T>
  T whole_as(std::uint64_t least, std::uint64_t most) {
    return static_cast<T>(whole(least, most));
  }
  // Any double strictly between the two, with all digits.
  double number(double low, double high) {
    return low + (high - low) * (static_cast<double>(whole(1, (1ULL << 53) - 1)) * 0x1p-53);
  }
  bool coin() { return whole(0, 1) == 1; }
  std::string text(const std::string& letters, std::size_t longest) {
    std::string result(whole(1, longest), ' ');
    for (char& c : result) c = letters[whole(0, letters.size() - 1)];
    return result;
  }
  std::string path() {
    return "/" + text("ab/ .:#'\"\\{}[],&*!|>%@`~0-", 20) + (coin() ? "\xC3\xA9" : "z");
  }
  template <class Enum>
  Enum pick(Enum last) {
    return static_cast<Enum>(whole(0, static_cast<std::uint64_t>(last)));
  }
  std::vector<std::string> tasks() {
    std::vector<std::string> chosen;
    for (const std::string& task : every_task())
      if (coin()) chosen.push_back(task);
    if (chosen.empty()) chosen = every_task();
    if (coin()) chosen.emplace_back(task_name(Task::av_matching));
    return chosen;
  }

 private:
  std::mt19937_64 bits_;
};

void fill(Dice& dice, ProcessResources& process, bool may_have_gpu) {
  auto& [cpus, gpus, memory_bytes] = process;
  cpus = dice.number(0, 1024);
  gpus = may_have_gpu ? dice.whole_as<std::uint32_t>(0, 1) : 0;
  memory_bytes = dice.whole(64ULL << 20, 64ULL << 40);
}

void fill(Dice& dice, ModelSpec& model) {
  auto& [base, adapter] = model;
  base = dice.path();
  auto& [kind, rank, alpha, heads, dropout, scope, init] = adapter;
  kind = dice.pick(AdapterKind::full);
  if (dice.coin()) init = dice.path();
  if (has_heads(kind)) heads = dice.whole_as<std::uint32_t>(1, 64);
  if (!has_factors(kind)) return;
  rank = dice.whole_as<std::uint32_t>(1, 4096);
  alpha = dice.number(0, 1e6);
  dropout = dice.number(0, 1);
  scope = dice.pick(AdapterScope::language_model);
}

void fill(Dice& dice, MixtureSpec& mixture, const std::vector<std::string>& tasks) {
  auto& [policy, temperature, weights, adapt_every_steps, adapt_by, most_epochs] = mixture;
  policy = dice.pick(MixturePolicy::adaptive);
  if (policy == MixturePolicy::temperature) temperature = dice.number(1, 1000);
  if (policy == MixturePolicy::weights)
    for (const std::string& name : every_weight())
      if (dice.coin() && (!task_from_name(name) || std::ranges::find(tasks, name) != tasks.end()))
        weights.emplace_back(name, dice.number(0, 1e6));
  if (policy == MixturePolicy::adaptive) {
    adapt_every_steps = dice.whole(16, 1'000'000);
    adapt_by = dice.number(0, 1);
  }
  if (dice.coin()) most_epochs = dice.whole_as<std::uint32_t>(1, 1'000'000);
}

void fill(Dice& dice, DataSpec& data, bool may_keep_features) {
  auto& [corpus, tasks, mixture, cache] = data;
  constexpr std::uint64_t kSmallest = 64ULL << 20, kLargest = 1ULL << 50;
  cache.samples = dice.coin() ? 0 : dice.whole(kSmallest, kLargest);
  if (may_keep_features && dice.coin()) cache.features = dice.whole(kSmallest, kLargest);
  auto& [synthetic, avuie] = corpus;
  if (dice.coin())
    synthetic =
        SyntheticCorpus{dice.whole(0, UINT64_MAX), dice.whole_as<std::uint32_t>(1, 1'000'000),
                        dice.pick(Difficulty::hard)};
  else
    avuie = dice.path();
  tasks = dice.tasks();
  fill(dice, mixture, tasks);
}

void fill(Dice& dice, TrainSpec& train, bool may_be_bfloat16) {
  auto& [steps, epochs, lanes, samples_per_lane, reduction, precision, recompute, pack_tokens, seed,
         optimizer] = train;
  if (dice.coin())
    steps = dice.whole(1, 1'000'000'000);
  else
    epochs = dice.number(0, 1e6);
  lanes = dice.whole_as<std::uint32_t>(1, 1024);
  samples_per_lane = dice.whole_as<std::uint32_t>(1, 1024);
  reduction = dice.pick(ReductionKind::ring);
  precision = may_be_bfloat16 ? dice.pick(Precision::bfloat16) : Precision::float32;
  recompute = dice.pick(Recompute::layers);
  if (dice.coin()) pack_tokens = dice.whole(1, 100'000'000);
  seed = dice.whole(0, UINT64_MAX);
  auto& [lr, weight_decay, schedule, warmup, clip_norm, beta1, beta2, epsilon] = optimizer;
  lr = dice.number(0, 10);
  weight_decay = dice.coin() ? 0 : dice.number(0, 10);
  schedule = dice.pick(LearningRateSchedule::constant);
  warmup = dice.coin() ? 1 : dice.number(0, 1);
  clip_norm = dice.number(0, 1e9);
  beta1 = dice.number(0, 1);
  beta2 = dice.number(0, 1);
  epsilon = dice.number(0, 1e-6);
}

void fill(Dice& dice, ScheduleSpec& schedule) {
  auto& [after, time_limit, expected, preemption, place, nodes, tolerates] = schedule;
  if (dice.coin()) after = {"a" + dice.text("b-3", 20), "1st"};
  if (dice.coin()) time_limit = dice.number(1, 86400);
  if (dice.coin()) expected = dice.number(1, 86400);
  preemption = dice.pick(Preemption::never);
  place = dice.pick(Spread::spread);
  if (dice.coin()) nodes = {"gpu=h100", "zone/a=B" + dice.text("xY._/-9", 20)};
  if (dice.coin()) tolerates = {"off", "a=1"};
}

// Every member is named, so this does not compile any more when one is added and not filled here.
JobSpec random_spec(Dice& dice) {
  JobSpec spec;
  auto& [version, name, queue, priority, model, data, train, resources, schedule, checkpoint,
         evaluate, failure] = spec;
  version = 1;
  name = "j" + dice.text("abc-019", 40);
  queue = "q" + dice.text("abz/._-09", 60);
  priority = dice.pick(Priority::critical);
  fill(dice, model);
  fill(dice, data,
       has_factors(model.adapter.kind) && model.adapter.scope == AdapterScope::language_model);
  fill(dice, train, model.adapter.kind != AdapterKind::full);
  if (data.mixture.policy == MixturePolicy::adaptive) {
    train.reduction = ReductionKind::ordered;
    if (train.epochs) train.steps = 1;
    train.epochs.reset();
  }
  auto& [workers_min, workers_max, worker, loaders, loader, evaluators, evaluator] = resources;
  workers_max = dice.whole_as<std::uint32_t>(1, train.lanes);
  workers_min = dice.whole_as<std::uint32_t>(1, workers_max);
  fill(dice, worker, true);
  if (train.precision == Precision::bfloat16) worker.gpus = 1;
  loaders = dice.whole_as<std::uint32_t>(1, 1024);
  fill(dice, loader, false);
  evaluators = dice.whole_as<std::uint32_t>(0, 64);
  fill(dice, evaluator, true);
  fill(dice, schedule);
  auto& [evaluate_every, evaluate_tasks, samples_per_task] = evaluate;
  auto& [checkpoint_every, keep_last, keep_best, keep_by, keep_every, keep_interval, scrub,
         replicas, quorum] = checkpoint;
  checkpoint_every = dice.whole(1, 1000);
  evaluate_every = checkpoint_every * dice.whole(1, 9);
  evaluate_tasks = dice.tasks();
  samples_per_task = dice.whole_as<std::uint32_t>(1, 1'000'000);
  keep_last = dice.whole_as<std::uint32_t>(1, 100'000);
  keep_best = dice.whole_as<std::uint32_t>(0, 100'000);
  keep_by =
      "eval/" + (dice.coin() ? "mean" : evaluate_tasks[dice.whole(0, evaluate_tasks.size() - 1)]);
  if (dice.coin()) keep_every = checkpoint_every * dice.whole(1, 1000);
  replicas = static_cast<std::uint32_t>(dice.whole(0, 7));
  if (dice.coin()) quorum = static_cast<std::uint32_t>(dice.whole(1, 1 + replicas));
  if (dice.coin()) keep_interval = dice.number(1, 86400);
  scrub = dice.coin() ? 0 : dice.number(1, 86400);
  auto& [restarts, hang_after_seconds, non_finite, rollback_steps, loss_spike, bad_samples] =
      failure;
  restarts = dice.whole_as<std::uint32_t>(0, 1'000'000);
  hang_after_seconds = dice.number(1, 86400);
  non_finite = dice.pick(NonFinitePolicy::stop);
  if (non_finite == NonFinitePolicy::rollback) rollback_steps = dice.whole(1, 1'000'000);
  if (dice.coin()) loss_spike = dice.number(1, 1e6);
  bad_samples = dice.coin() ? 1 : dice.number(0, 1);
  return spec;
}

TEST(JobSpecProperty, PrintedSpecsReadBackTheSame) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Dice dice(seed);
    const JobSpec spec = random_spec(dice);
    const std::string yaml = to_yaml(spec);
    const auto again = parse_job_spec(yaml, "printed.yaml");
    ASSERT_TRUE(again.has_value()) << "seed " << seed << "\n" << yaml << again.error().text();
    ASSERT_TRUE(*again == spec) << "seed " << seed << "\n"
                                << yaml << "\nbut then\n"
                                << to_yaml(*again);
    ASSERT_EQ(to_yaml(*again), yaml) << "seed " << seed;
  }
}

TEST(JobSpecProperty, HashesAreEqualExactlyForEqualSpecs) {
  std::set<std::string> hashes;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Dice dice(seed), same(seed);
    const JobSpec spec = random_spec(dice);
    EXPECT_EQ(spec_hash(spec), spec_hash(random_spec(same))) << "seed " << seed;
    EXPECT_TRUE(hashes.insert(spec_hash(spec)).second) << "seed " << seed;
    JobSpec other = spec;
    other.train.optimizer.epsilon = std::nextafter(other.train.optimizer.epsilon, 1.0);
    EXPECT_NE(spec_hash(other), spec_hash(spec)) << "seed " << seed;
  }
}

TEST(JobSpecProperty, TheHashDoesNotDependOnHowTheFileIsWritten) {
  const auto a = parse_job_spec(
      "name: t\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}}}\ntrain: {steps: 200}\n", "a");
  const auto b = parse_job_spec(
      "# the same\ndata:\n  corpus:\n    synthetic: {samples_per_dataset: 64, seed: 7}\n"
      "model:\n  base: \"nano\"\nfailure: {hang_after: 1m}\nname: t\n",
      "b");
  ASSERT_TRUE(a.has_value() && b.has_value());
  EXPECT_EQ(spec_hash(*a), spec_hash(*b));
  // A change of the canonical form gives every stored checkpoint a spec of another hash: it must be
  // meant.
  EXPECT_EQ(spec_hash(*a), "5bacb22be666567bd10607261c124f38");
}

// ---- Damaged files
// -------------------------------------------------------------------------------

void damage(Dice& dice, std::string& yaml) {
  static const std::vector<std::string> kPieces = {"{",
                                                   "}",
                                                   "[",
                                                   "]",
                                                   ":",
                                                   ": ",
                                                   "\n",
                                                   "\n  ",
                                                   "- ",
                                                   "? ",
                                                   "\t",
                                                   "\"",
                                                   "'",
                                                   "#",
                                                   "&a ",
                                                   "*a",
                                                   "!t ",
                                                   "|\n",
                                                   ">\n",
                                                   "---\n",
                                                   "...\n",
                                                   "%YAML 9.9\n",
                                                   "<<: ",
                                                   ",",
                                                   "~",
                                                   "null",
                                                   "1e999",
                                                   "-0",
                                                   "0x10",
                                                   "\xFF",
                                                   "\xC3\xA9",
                                                   std::string("\0", 1),
                                                   "\r",
                                                   "name: ",
                                                   "train:\n",
                                                   "[[[[[[[[[[",
                                                   "{a: {b: {c: ",
                                                   "99999999999999999999",
                                                   "\\",
                                                   "@",
                                                   "`",
                                                   "\xEF\xBB\xBF"};
  const std::size_t at = dice.whole(0, yaml.size());
  switch (dice.whole(0, 4)) {
    case 0:
      yaml.insert(at, kPieces[dice.whole(0, kPieces.size() - 1)]);
      break;
    case 1:
      yaml.erase(at, dice.whole(1, 30));
      break;
    case 2:
      if (at < yaml.size()) yaml[at] = static_cast<char>(dice.whole(0, 255));
      break;
    case 3:
      yaml.insert(at, yaml.substr(dice.whole(0, yaml.size()), dice.whole(1, 60)));
      break;
    default:
      if (at < yaml.size()) std::swap(yaml[at], yaml[dice.whole(0, yaml.size() - 1)]);
  }
}

TEST(JobSpecProperty, DamagedFilesGiveASpecOrAMessageAndNeverACrash) {
  const std::string start = test::read_file(test::repository_file("examples/quickstart.yaml"));
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    Dice dice(seed);
    std::string yaml = start;
    for (std::uint64_t i = dice.whole(1, 8); i > 0; --i) damage(dice, yaml);
    const auto spec = parse_job_spec(yaml, "damaged.yaml");
    if (spec.has_value()) {
      ASSERT_TRUE(parse_job_spec(to_yaml(*spec), "again").has_value()) << "seed " << seed;
      continue;
    }
    ++refused;
    const auto lines =
        std::count(yaml.begin(), yaml.end(), '\n') + std::count(yaml.begin(), yaml.end(), '\r');
    ASSERT_FALSE(spec.error().problems.empty()) << "seed " << seed;
    for (const SpecProblem& problem : spec.error().problems) {
      ASSERT_FALSE(problem.message.empty()) << "seed " << seed;
      ASSERT_LE(problem.line, lines + 2) << "seed " << seed << ": " << spec.error().text();
      ASSERT_GE(problem.line, 0) << "seed " << seed;
      ASSERT_EQ(problem.message.find('\n'), std::string::npos) << "seed " << seed;
    }
  }
  EXPECT_GT(refused, 1000) << "the damage is too gentle to prove anything";
}

TEST(JobSpecProperty, LargeFilesOfBracketsAreRefusedQuickly) {
  for (const std::string piece : {"[", "{", "- ", "? ", "a: ", "[a, ", "\"", "&a ", "!!a ", "| "}) {
    std::string yaml;
    while (yaml.size() < (1 << 20) - 16) yaml += piece;
    EXPECT_FALSE(parse_job_spec(yaml, "large.yaml").has_value()) << piece;
  }
}

}  // namespace
}  // namespace crabcast

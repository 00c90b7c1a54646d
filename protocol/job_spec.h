// The job spec: one YAML file that says what to train, on what, with what (docs/job-spec.md).
//
// One table of fields (spec_table.h) parses, fills defaults, validates, prints back and generates
// docs/job-spec.schema.json, so that these cannot drift apart. All functions are pure: nothing on
// disk is looked at here; a folder that does not exist is found where it is used.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/error.h"

namespace crabcast {

enum class Priority { low, normal, high, critical };
enum class AdapterKind { ilora, lora, crab_v1, full };
enum class AdapterScope { all, language_model };
enum class Difficulty { easy, normal, hard };
enum class MixturePolicy { task_balanced, proportional, temperature, weights, adaptive };
enum class ReductionKind { ordered, ring };
enum class Precision { float32, bfloat16 };
enum class Recompute { none, layers };
enum class LearningRateSchedule { cosine, constant };
enum class NonFinitePolicy { skip, rollback, stop };
enum class Preemption { allowed, never };
enum class Spread { pack, spread };

// The names that a spec uses, for example "task_balanced".
std::string_view to_string(Priority value);
std::string_view to_string(AdapterKind value);
std::string_view to_string(AdapterScope value);
std::string_view to_string(Difficulty value);
std::string_view to_string(MixturePolicy value);
std::string_view to_string(ReductionKind value);
std::string_view to_string(Precision value);
std::string_view to_string(Recompute value);
std::string_view to_string(LearningRateSchedule value);
std::string_view to_string(NonFinitePolicy value);
std::string_view to_string(Preemption value);
std::string_view to_string(Spread value);

// full trains the base's own tensors: no factors A and B, so no rank, alpha, dropout and scope.
constexpr bool has_factors(AdapterKind kind) {
  return kind != AdapterKind::full;
}
// Several B and a router between them.
constexpr bool has_heads(AdapterKind kind) {
  return kind == AdapterKind::ilora || kind == AdapterKind::crab_v1;
}

// The ids of all tasks but optional ones (protocol/tasks.h), in order: what `tasks: all` means.
std::vector<std::string> every_task();
// What data.mixture.weights may name: every task, optional ones too, then every data set.
std::vector<std::string> every_weight();

struct AdapterSpec {
  AdapterKind kind = AdapterKind::ilora;
  // Those that the kind has no use for keep their defaults.
  std::uint32_t rank = 16;
  double alpha = 32;
  std::uint32_t heads = 3;  // B matrices; N in the paper
  double dropout = 0.1;     // in [0, 1)
  AdapterScope scope = AdapterScope::all;
  std::optional<std::string> init = {};  // an adapter's file or folder, on each node that trains
  friend bool operator==(const AdapterSpec&, const AdapterSpec&) = default;
};

struct ModelSpec {
  std::string base;  // required: shipped, imported or a folder (base_location.h)
  AdapterSpec adapter;
  friend bool operator==(const ModelSpec&, const ModelSpec&) = default;
};

struct SyntheticCorpus {
  std::uint64_t seed = 7;
  // Train samples; the test split has a quarter, at least 4.
  std::uint32_t samples_per_dataset = 64;
  Difficulty difficulty = Difficulty::easy;  // docs/corpus.md
  friend bool operator==(const SyntheticCorpus&, const SyntheticCorpus&) = default;
};

// Exactly one of the two is given.
struct CorpusSpec {
  std::optional<SyntheticCorpus> synthetic;
  std::optional<std::string> avuie;  // folder in AV-UIE v2 layout
  friend bool operator==(const CorpusSpec&, const CorpusSpec&) = default;
};

// Bytes on each node's disk, shared by its jobs; 0 turns a cache off.
struct CacheSpec {
  std::uint64_t samples = 2ULL << 30;  // decoded media
  std::uint64_t features = 0;          // what frozen towers made of them
  friend bool operator==(const CacheSpec&, const CacheSpec&) = default;
};

// Names of tasks and data sets (protocol/tasks.h) with their weights: tasks first, both in their
// order. What is not named has weight 1.
using MixtureWeights = std::vector<std::pair<std::string, double>>;

struct MixtureSpec {
  MixturePolicy policy = MixturePolicy::task_balanced;
  // Those that the policy has no use for keep their defaults.
  double temperature = 2;
  MixtureWeights weights = {};
  std::uint64_t adapt_every_steps = 100;  // data.mixture.adapt_every, "100 steps"
  double adapt_by = 0.1;
  std::optional<std::uint32_t> most_epochs = {};
  friend bool operator==(const MixtureSpec&, const MixtureSpec&) = default;
};

struct DataSpec {
  CorpusSpec corpus;                              // required
  std::vector<std::string> tasks = every_task();  // ids of protocol/tasks.h, in their order
  MixtureSpec mixture;
  CacheSpec cache;
  friend bool operator==(const DataSpec&, const DataSpec&) = default;
};

struct OptimizerSpec {
  double lr = 1e-4;
  double weight_decay = 0;
  LearningRateSchedule schedule = LearningRateSchedule::cosine;
  double warmup = 0.03;    // share of all steps
  double clip_norm = 1.0;  // 0 = no clipping
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  friend bool operator==(const OptimizerSpec&, const OptimizerSpec&) = default;
};

struct TrainSpec {
  std::optional<std::uint64_t> steps;  // exactly one of steps and epochs; default 200 steps
  std::optional<double> epochs;
  std::uint32_t lanes = 4;
  std::uint32_t samples_per_lane = 2;
  ReductionKind reduction = ReductionKind::ordered;
  Precision precision = Precision::float32;
  Recompute recompute = Recompute::none;
  std::optional<std::uint64_t> pack_tokens;  // limit of what goes through the model at once
  std::uint64_t seed = 1;
  OptimizerSpec optimizer;
  friend bool operator==(const TrainSpec&, const TrainSpec&) = default;
};

struct ProcessResources {
  double cpus = 1;  // also the number of compute threads, rounded down, at least 1
  std::uint32_t gpus = 0;
  std::uint64_t memory_bytes = 2ULL << 30;
  friend bool operator==(const ProcessResources&, const ProcessResources&) = default;
};

struct ResourcesSpec {
  std::uint32_t workers_min = 1;  // resources.workers.min
  std::uint32_t workers_max = 1;  // resources.workers.max, at most train.lanes
  ProcessResources worker;
  std::uint32_t loaders = 1;
  ProcessResources loader{0.5, 0, 1ULL << 30};
  std::uint32_t evaluators = 1;
  ProcessResources evaluator{0.5, 0, 1ULL << 30};
  friend bool operator==(const ResourcesSpec&, const ResourcesSpec&) = default;
};

// When and where the job runs (docs/scheduling.md). Labels are written name=value.
struct ScheduleSpec {
  std::vector<std::string> after;                 // jobs, by id or name, that must have succeeded
  std::optional<double> time_limit_seconds = {};  // schedule.time_limit, "12h": of all its runs
  std::optional<double> expected_seconds = {};    // schedule.expected; else time_limit
  Preemption preemption = Preemption::allowed;
  Spread place = Spread::pack;
  std::vector<std::string> nodes = {};      // labels that its nodes must have
  std::vector<std::string> tolerates = {};  // taints that its nodes may have
  friend bool operator==(const ScheduleSpec&, const ScheduleSpec&) = default;
};

struct CheckpointSpec {
  std::uint64_t every_steps = 50;     // checkpoint.every, "50 steps"
  std::uint32_t keep_last = 3;        // checkpoint.keep.last, at least 1
  std::uint32_t keep_best = 1;        // checkpoint.keep.best, by the metric checkpoint.keep.by
  std::string keep_by = "eval/mean";  // eval/mean or eval/TASK; higher is better
  // Kept for good: those after a multiple of so many steps, and one in each interval.
  std::optional<std::uint64_t> keep_every_steps = {};  // checkpoint.keep.every, "1000 steps"
  std::optional<double> keep_interval_seconds = {};    // checkpoint.keep.interval, "6h"
  double scrub_seconds = 3600;                         // checkpoint.scrub, "1h"; 0 = off
  std::uint32_t replicas = 1;  // checkpoint.replicas: stores of other nodes that get a copy
  // checkpoint.quorum: a checkpoint is safe when so many stores hold it, the job's own included.
  std::optional<std::uint32_t> quorum = {};
  [[nodiscard]] std::uint32_t stores_for_safety() const {
    return quorum.value_or((1 + replicas) / 2 + 1);  // a majority
  }
  friend bool operator==(const CheckpointSpec&, const CheckpointSpec&) = default;
};

struct EvaluateSpec {
  std::uint64_t every_steps = 100;                // evaluate.every: a multiple of checkpoint.every
  std::vector<std::string> tasks = every_task();  // where none are given: those of data.tasks
  std::uint32_t samples_per_task = 64;
  friend bool operator==(const EvaluateSpec&, const EvaluateSpec&) = default;
};

struct FailureSpec {
  std::uint32_t restarts = 10;     // budget of process restarts for the whole job
  double hang_after_seconds = 60;  // failure.hang_after, "60s"
  NonFinitePolicy non_finite = NonFinitePolicy::skip;
  std::uint64_t rollback_steps = 50;  // failure.rollback, "50 steps"
  std::optional<double> loss_spike;   // times the median loss of the steps before
  double bad_samples = 0.05;          // share of a data set's training samples
  friend bool operator==(const FailureSpec&, const FailureSpec&) = default;
};

struct JobSpec {
  std::uint32_t version = 1;  // crabcast: 1
  std::string name;           // required: [a-z0-9][a-z0-9-]{0,62}
  std::string queue = "default";
  Priority priority = Priority::normal;
  ModelSpec model;
  DataSpec data;
  TrainSpec train;
  ResourcesSpec resources;
  ScheduleSpec schedule;
  CheckpointSpec checkpoint;
  EvaluateSpec evaluate;
  FailureSpec failure;

  [[nodiscard]] std::uint32_t global_batch() const { return train.lanes * train.samples_per_lane; }
  friend bool operator==(const JobSpec&, const JobSpec&) = default;
};

// One mistake in a spec.
struct SpecProblem {
  int line = 0;          // from 1; 0 = the whole file
  int column = 0;        // from 1
  std::string field;     // for example train.optimizer.lr
  std::string expected;  // what the field takes
  std::string message;   // one sentence; the nearest known name where a name is wrong
};

struct SpecProblems {
  std::string file;
  std::vector<SpecProblem> problems;
  // One line a problem: FILE:LINE:COLUMN: FIELD: MESSAGE (expected EXPECTED)
  [[nodiscard]] std::string text() const;
  [[nodiscard]] Error error() const { return {Errc::invalid_spec, text()}; }
};

// Parses and validates; all mistakes are reported, not only the first.
tl::expected<JobSpec, SpecProblems> parse_job_spec(const std::string& yaml,
                                                   const std::string& file);
// Prints every field, defaults included; parse_job_spec of it gives the same spec.
std::string to_yaml(const JobSpec& spec);
// Stable 128-bit hash, in hex, of the canonical YAML: equal if and only if the specs are.
std::string spec_hash(const JobSpec& spec);
// The same of a canonical text, also of one that an earlier version wrote, with fewer fields.
std::string spec_text_hash(const std::string& yaml);
// The JSON Schema (draft 2020-12) that docs/job-spec.schema.json holds.
std::string job_spec_schema();
// The Markdown table of all fields that docs/job-spec.md holds.
std::string job_spec_reference();
// A spec in which every field is explained, and those with a default are commented out: valid as it
// is.
std::string job_spec_template(const std::string& name);

}  // namespace crabcast

// Rules between the fields of a job spec. Each is checked only when its fields alone are fine.
#include <algorithm>

#include "protocol/format.h"
#include "protocol/spec_table.h"
#include "protocol/tasks.h"

namespace crabcast {
namespace {

using Mistake = std::optional<std::string>;

Mistake corpus_is_one(const JobSpec& spec) {
  const CorpusSpec& corpus = spec.data.corpus;
  if (corpus.synthetic && corpus.avuie) return "names two corpora, synthetic and avuie";
  if (!corpus.synthetic && !corpus.avuie) return "no corpus is given";
  return std::nullopt;
}

Mistake length_is_one(const JobSpec& spec) {
  if (spec.train.steps && spec.train.epochs) return "steps and epochs are both given";
  return std::nullopt;
}

Mistake workers_in_order(const JobSpec& spec) {
  const ResourcesSpec& r = spec.resources;
  if (r.workers_min <= r.workers_max) return std::nullopt;
  return "min is " + std::to_string(r.workers_min) + ", more than max, which is " +
         std::to_string(r.workers_max);
}

Mistake workers_have_lanes(const JobSpec& spec) {
  if (spec.resources.workers_max <= spec.train.lanes) return std::nullopt;
  return "workers.max is " + std::to_string(spec.resources.workers_max) + ", but there are only " +
         std::to_string(spec.train.lanes) + " lanes to share out";
}

Mistake bfloat16_has_gpu(const JobSpec& spec) {
  if (spec.train.precision != Precision::bfloat16 || spec.resources.worker.gpus >= 1)
    return std::nullopt;
  return "bfloat16 needs a GPU for each worker, and resources.worker.gpus is 0";
}

Mistake full_is_float32(const JobSpec& spec) {
  if (spec.model.adapter.kind != AdapterKind::full || spec.train.precision == Precision::float32)
    return std::nullopt;
  return "kind full trains the base's own tensors, and small updates are lost in bfloat16";
}

Mistake caches_have_room(const JobSpec& spec) {
  constexpr std::uint64_t kSmallest = 64ULL << 20;
  for (const auto& [name, bytes] : {std::pair("samples", spec.data.cache.samples),
                                    std::pair("features", spec.data.cache.features)})
    if (bytes != 0 && bytes < kSmallest)
      return std::string("data.cache.") + name + " is " + exact_bytes(bytes);
  return std::nullopt;
}

Mistake features_of_frozen_towers(const JobSpec& spec) {
  const AdapterSpec& adapter = spec.model.adapter;
  if (spec.data.cache.features == 0 ||
      (has_factors(adapter.kind) && adapter.scope == AdapterScope::language_model))
    return std::nullopt;
  return "data.cache.features is " + exact_bytes(spec.data.cache.features) +
         ", but the towers are trained, so what they make of a medium changes with every step";
}

// A loss that is measured again after a rewind must come out the same, and the shares of steps to
// come say nothing yet about how long an epoch takes.
Mistake adaptive_is_ordered(const JobSpec& spec) {
  if (spec.data.mixture.policy != MixturePolicy::adaptive) return std::nullopt;
  if (spec.train.reduction != ReductionKind::ordered)
    return "the mixture is adaptive, and with reduction ring a repeated step may measure other "
           "losses";
  if (spec.train.epochs) return "the mixture is adaptive, so an epoch has no fixed number of steps";
  return std::nullopt;
}

Mistake weights_are_trained(const JobSpec& spec) {
  for (const auto& [name, weight] : spec.data.mixture.weights) {
    const auto& tasks = spec.data.tasks;
    if (task_from_name(name) && std::find(tasks.begin(), tasks.end(), name) == tasks.end())
      return name + " has a weight, but is not among data.tasks";
  }
  return std::nullopt;
}

Mistake evaluation_at_checkpoint(const JobSpec& spec) {
  if (spec.evaluate.every_steps % spec.checkpoint.every_steps == 0) return std::nullopt;
  return "evaluate.every is " + std::to_string(spec.evaluate.every_steps) +
         " steps, no multiple of checkpoint.every, which is " +
         std::to_string(spec.checkpoint.every_steps) + " steps";
}

Mistake kept_at_checkpoint(const JobSpec& spec) {
  const auto& checkpoint = spec.checkpoint;
  if (!checkpoint.keep_every_steps || *checkpoint.keep_every_steps % checkpoint.every_steps == 0)
    return std::nullopt;
  return "checkpoint.keep.every is " + std::to_string(*checkpoint.keep_every_steps) +
         " steps, no multiple of checkpoint.every, which is " +
         std::to_string(checkpoint.every_steps) + " steps";
}

Mistake quorum_can_be_reached(const JobSpec& spec) {
  const auto& checkpoint = spec.checkpoint;
  if (checkpoint.quorum.value_or(1) <= 1 + checkpoint.replicas) return std::nullopt;
  return "checkpoint.quorum is " + std::to_string(*checkpoint.quorum) +
         ", but there are only 1 + " + std::to_string(checkpoint.replicas) + " stores";
}

Mistake best_metric_is_measured(const JobSpec& spec) {
  const std::string& by = spec.checkpoint.keep_by;
  std::vector<std::string> known = {"eval/mean"};
  for (const std::string& task : spec.evaluate.tasks) known.push_back("eval/" + task);
  if (std::find(known.begin(), known.end(), by) != known.end()) return std::nullopt;
  const auto nearest = nearest_name(by, known);
  return "\"" + by + "\" is not measured in this job" +
         (nearest ? "; did you mean " + *nearest + "?" : "");
}

}  // namespace

const std::vector<SpecRule>& spec_rules() {
  static const std::vector<SpecRule> rules = {
      {{"data.corpus"},
       "exactly one of data.corpus.synthetic and data.corpus.avuie",
       corpus_is_one},
      {{"train.epochs", "train.steps"},
       "one of train.steps and train.epochs, or neither for 200 steps",
       length_is_one},
      {{"resources.workers.min", "resources.workers.max"},
       "resources.workers.min at most resources.workers.max",
       workers_in_order},
      {{"resources.workers.max", "train.lanes"},
       "resources.workers.max at most train.lanes",
       workers_have_lanes},
      {{"train.precision", "resources.worker.gpus"},
       "with train.precision bfloat16, resources.worker.gpus at least 1",
       bfloat16_has_gpu},
      {{"model.adapter.kind", "train.precision"},
       "with model.adapter.kind full, train.precision float32",
       full_is_float32},
      {{"data.cache.samples", "data.cache.features"},
       "caches of at least 64MiB, or 0B for none",
       caches_have_room},
      {{"model.adapter.kind", "model.adapter.scope", "data.cache.features"},
       "data.cache.features only with model.adapter.scope language_model",
       features_of_frozen_towers},
      {{"train.epochs", "train.reduction", "data.mixture.policy"},
       "with data.mixture.policy adaptive, train.steps and train.reduction ordered",
       adaptive_is_ordered},
      {{"data.mixture.weights", "data.tasks"},
       "tasks of data.mixture.weights among data.tasks",
       weights_are_trained},
      {{"evaluate.every", "checkpoint.every"},
       "evaluate.every a multiple of checkpoint.every, because a checkpoint is what is scored",
       evaluation_at_checkpoint},
      {{"checkpoint.keep.every", "checkpoint.every"},
       "checkpoint.keep.every a multiple of checkpoint.every",
       kept_at_checkpoint},
      {{"checkpoint.quorum", "checkpoint.replicas"},
       "checkpoint.quorum at most 1 + checkpoint.replicas",
       quorum_can_be_reached},
      {{"checkpoint.keep.by", "evaluate.tasks", "data.tasks"},
       "checkpoint.keep.by eval/mean, or eval/ and a task of evaluate.tasks",
       best_metric_is_measured},
  };
  return rules;
}

}  // namespace crabcast

// What a person sees who writes a spec: defaults, and each kind of mistake at its line and column.
#include "protocol/job_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "protocol/tasks.h"

namespace crabcast {
namespace {

using testing::HasSubstr;

// The shortest spec; what a case adds starts in line 4.
const std::string kShortest =
    "name: tiny\n"
    "model: {base: nano}\n"
    "data: {corpus: {synthetic: {}}}\n";

std::string with_mixture(const std::string& mixture) {
  return "name: t\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}}, mixture: " + mixture +
         "}\n";
}

JobSpec parsed(const std::string& yaml) {
  auto spec = parse_job_spec(yaml, "job.yaml");
  EXPECT_TRUE(spec.has_value()) << yaml << spec.error().text();
  return spec.value_or(JobSpec{});
}

TEST(JobSpec, WeightsNameTasksAndDataSets) {
  const auto spec = parse_job_spec(
      with_mixture("{policy: weights, weights: {avqa: 0.5, captioning: 3}, most_epochs: 4}"), "f");
  ASSERT_TRUE(spec.has_value()) << spec.error().text();
  EXPECT_EQ(spec->data.mixture.weights, (MixtureWeights{{"captioning", 3}, {"avqa", 0.5}}));
  EXPECT_EQ(spec->data.mixture.most_epochs, 4U);
  EXPECT_NE(to_yaml(*spec).find("weights: {captioning: 3, avqa: 0.5}"), std::string::npos);
}

TEST(JobSpec, ShortestSpecHasTheDocumentedDefaults) {
  const JobSpec spec = parsed(kShortest);
  JobSpec expected;
  expected.name = "tiny";
  expected.model.base = "nano";
  expected.data.corpus.synthetic = SyntheticCorpus{};
  expected.train.steps = 200;
  EXPECT_EQ(spec, expected);
  EXPECT_EQ(spec.data.tasks, every_task());
  EXPECT_EQ(spec.global_batch(), 8U);
}

TEST(JobSpec, EveryFieldOfAFullSpecIsRead) {
  const JobSpec spec = parsed(R"(
crabcast: 1
name: full-2
queue: vision/nightly
priority: critical
model:
  base: /models/Qwen2.5-Omni-7B
  adapter: {kind: ilora, rank: 128, alpha: 256, heads: 5, dropout: 0, scope: language_model}
data:
  corpus: {avuie: "/data/AVUIE 2"}
  tasks: [segmentation, captioning, action_recognition]
  mixture: {policy: proportional}
train:
  epochs: 2.5
  lanes: 16
  samples_per_lane: 3
  reduction: ring
  precision: bfloat16
  seed: 18446744073709551615
  optimizer: {kind: adamw, lr: 3e-4, weight_decay: 0.1, schedule: constant, warmup: 1,
              clip_norm: 0, beta1: 0.8, beta2: 0.95, epsilon: 1e-6}
resources:
  workers: {min: 2, max: 16}
  worker: {cpus: 8, gpus: 1, memory: 1.5GiB}
  loaders: 3
  loader: {cpus: 0.25, memory: 512 MiB}
  evaluators: 2
  evaluator: {cpus: 2, gpus: 1, memory: 10GB}
checkpoint: {every: 25, keep: {last: 5, best: 2, by: eval/captioning}}
evaluate: {every: 75 steps, tasks: all, samples_per_task: 9}
failure: {restarts: 0, hang_after: 5m, non_finite: stop}
)");
  EXPECT_EQ(spec.queue, "vision/nightly");
  EXPECT_EQ(spec.priority, Priority::critical);
  EXPECT_EQ(spec.model.adapter.rank, 128U);
  EXPECT_EQ(spec.model.adapter.scope, AdapterScope::language_model);
  EXPECT_EQ(spec.data.corpus.avuie, "/data/AVUIE 2");
  EXPECT_FALSE(spec.data.corpus.synthetic.has_value());
  // In the order of all reports, not of the file.
  EXPECT_EQ(spec.data.tasks,
            (std::vector<std::string>{"action_recognition", "segmentation", "captioning"}));
  EXPECT_EQ(spec.train.epochs, 2.5);
  EXPECT_FALSE(spec.train.steps.has_value());
  EXPECT_EQ(spec.train.seed, UINT64_MAX);
  EXPECT_EQ(spec.train.optimizer.lr, 3e-4);
  EXPECT_EQ(spec.resources.workers_max, 16U);
  EXPECT_EQ(spec.resources.worker.memory_bytes, 1536ULL << 20);
  EXPECT_EQ(spec.resources.evaluator.memory_bytes, 10'000'000'000ULL);
  EXPECT_EQ(spec.checkpoint.every_steps, 25U);
  EXPECT_EQ(spec.evaluate.every_steps, 75U);
  EXPECT_EQ(spec.evaluate.tasks, every_task());
  EXPECT_EQ(spec.failure.hang_after_seconds, 300);
  EXPECT_EQ(spec.failure.non_finite, NonFinitePolicy::stop);
}

// av_matching is there only for who names it.
TEST(JobSpec, AnOptionalTaskIsNamed) {
  EXPECT_EQ(every_task().size(), kTaskCount - 1);
  const std::string only = std::string(kShortest) + "evaluate: {tasks: all}\n";
  const auto of = [&](const std::string& tasks) {
    std::string yaml = only;
    const auto at = yaml.find("data: {");
    return parsed(yaml.insert(at + 7, "tasks: " + tasks + ", "));
  };
  const JobSpec with = of("[av_matching, captioning]");
  EXPECT_EQ(with.data.tasks, (std::vector<std::string>{"captioning", "av_matching"}));
  EXPECT_EQ(with.evaluate.tasks, every_task()) << "all: without it";
  EXPECT_EQ(parsed(to_yaml(with)), with);
  EXPECT_EQ(of("all").data.tasks, every_task());
  EXPECT_NE(spec_hash(with), spec_hash(of("[captioning]")));
}

TEST(JobSpec, DefaultsFollowOtherFields) {
  const JobSpec spec = parsed(
      "name: t\nmodel: {base: nano}\n"
      "data: {corpus: {synthetic: {}}, tasks: [captioning]}\n"
      "checkpoint: {every: 30 steps}\n");
  EXPECT_EQ(spec.evaluate.every_steps, 60U);
  EXPECT_EQ(spec.evaluate.tasks, std::vector<std::string>{"captioning"});
}

TEST(JobSpec, PrintsWhatTheKindOfAdapterUses) {
  const auto printed = [](const std::string& adapter) {
    return to_yaml(parsed("name: t\nmodel: {base: nano, adapter: {" + adapter +
                          "}}\ndata: {corpus: {synthetic: {}}}\n"));
  };
  EXPECT_THAT(printed("kind: crab_v1"), HasSubstr("    rank: 16\n    alpha: 32\n    heads: 3\n"));
  EXPECT_THAT(printed("kind: lora, rank: 4"), HasSubstr("    rank: 4\n    alpha: 32\n    dropout"));
  EXPECT_THAT(printed("kind: full"), HasSubstr("    kind: full\ndata:\n"));
}

TEST(JobSpec, AnEmptySectionMeansItsDefaults) {
  EXPECT_EQ(parsed(kShortest + "train:\n  # steps: 5\nevaluate: ~\n"), parsed(kShortest));
  EXPECT_EQ(parsed("name: tiny\nmodel: {base: nano}\ndata: {corpus: {synthetic: }}\n"),
            parsed(kShortest));
}

TEST(JobSpec, LineEndsAndByteOrderMarkOfOtherSystemsAreTaken) {
  std::string windows = "\xEF\xBB\xBF" + kShortest;
  for (std::size_t at = 0; (at = windows.find('\n', at)) != std::string::npos; at += 2)
    windows.replace(at, 1, "\r\n");
  EXPECT_EQ(parsed(windows), parsed(kShortest));
  EXPECT_EQ(parsed("---\n" + kShortest + "...\n"), parsed(kShortest));
}

struct BadSpec {
  const char* what;
  std::string yaml;
  int line;
  int column;
  const char* field;
  const char* message;   // part of it
  const char* expected;  // part of it
};

std::vector<BadSpec> unreadable_files() {
  std::string deep = kShortest + "x: ";
  deep.append(40, '[').append(40, ']');
  return {
      {"empty file", "", 0, 0, "", "the file is empty", "name, model.base and data.corpus"},
      {"only comments", "# nothing\n\n", 0, 0, "", "the file is empty", "job spec"},
      {"not a mapping", "- name\n- model\n", 1, 1, "", "a list is not a job spec",
       "crabcast, name"},
      {"one word", "quickstart\n", 1, 1, "", "\"quickstart\" is not a job spec", "a mapping"},
      {"tab", "name: t\nmodel:\n\tbase: nano\n", 3, 1, "", "a tab is used for indentation",
       "blanks"},
      {"control character", "name: t\nqueue: a\x04z\n", 2, 9, "", "control character",
       "plain text"},
      {"other encoding", "name: t\nqueue: \xE9t\xE9\n", 2, 8, "", "not UTF-8", "UTF-8"},
      {"open bracket", "name: t\nmodel: {base: nano\n", 3, 1, "", "not valid YAML", "name: value"},
      {"open quote", "name: t\nqueue: \"a\nmodel: nano\n", 2, 8, "", "never closed", "name: value"},
      {"bad indentation", "name: t\n  queue: a\n", 2, 8, "", "not valid YAML", "name: value"},
      {"second document", kShortest + "---\nname: b\n", 4, 1, "", "second YAML document",
       "one job"},
      {"too deep", deep, 4, 19, "", "nested too deeply", ""},
      {"too large", std::string((1 << 20) + 1, '#'), 0, 0, "", "1048577 bytes", "at most 1 MiB"},
      {"alias", kShortest + "queue: &q a\npriority: *q\n", 5, 11, "", "alias", "written out"},
      {"tag", kShortest + "queue: !mine a\n", 4, 8, "", "tag", "plain value"},
  };
}

std::vector<BadSpec> bad_fields() {
  return {
      {"no name", "model: {base: nano}\ndata: {corpus: {synthetic: {}}}\n", 0, 0, "name",
       "is missing", "lower-case letters"},
      {"no base", "name: t\nmodel: {}\ndata: {corpus: {synthetic: {}}}\n", 2, 1, "model.base",
       "is missing", "a name or a path"},
      {"no model", "name: t\ndata: {corpus: {synthetic: {}}}\n", 0, 0, "model.base", "is missing",
       ""},
      {"no corpus", "name: t\nmodel: {base: nano}\ndata: {tasks: all}\n", 3, 1, "data.corpus",
       "no corpus", "exactly one of"},
      {"two corpora", "name: t\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}, avuie: /d}}\n",
       3, 16, "data.corpus", "two corpora", "exactly one of"},
      {"temperature of another policy", with_mixture("{temperature: 3}"), 3, 43,
       "data.mixture.temperature", "has no use", "only with data.mixture.policy temperature"},
      {"misspelt weight", with_mixture("{policy: weights, weights: {captionin: 2}}"), 3, 70,
       "data.mixture.weights", "did you mean captioning?", "one of action_recognition"},
      {"weight of 0", with_mixture("{policy: weights, weights: {avqa: 0}}"), 3, 76,
       "data.mixture.weights", "too small", "numbers above 0"},
      {"weights as a list", with_mixture("{policy: weights, weights: [avqa]}"), 3, 69,
       "data.mixture.weights", "not a mapping", "tasks and data sets"},
      {"adaptive with epochs", with_mixture("{policy: adaptive}") + "train: {epochs: 2}\n", 4, 17,
       "train.epochs", "no fixed number of steps", "train.steps"},
      {"adaptive with ring", with_mixture("{policy: adaptive}") + "train: {reduction: ring}\n", 4,
       20, "train.reduction", "reduction ring", "ordered"},
      {"misspelt field", kShortest + "train:\n  lanse: 4\n", 5, 3, "train.lanse",
       "did you mean lanes?", "one of steps, epochs, lanes"},
      {"misspelt section", kShortest + "resorces: {}\n", 4, 1, "resorces",
       "did you mean resources?", ""},
      {"wrong section", kShortest + "train: {lr: 1e-3}\n", 4, 9, "train.lr",
       "did you mean train.optimizer.lr?", ""},
      {"unknown field", kShortest + "colour: red\n", 4, 1, "colour", "unknown field",
       "one of crabcast"},
      {"merge key", kShortest + "<<: {queue: a}\n", 4, 1, "<<", "unknown field", ""},
      {"list as a key", kShortest + "train: {[a]: 1}\n", 4, 9, "train", "cannot name a field", ""},
      {"duplicate", kShortest + "queue: a\nqueue: b\n", 5, 1, "queue", "first in line 4",
       "one value"},
      {"duplicate section", kShortest + "data: {}\n", 4, 1, "data", "first in line 3", "one value"},
      {"no value", kShortest + "queue:\n", 4, 1, "queue", "has no value", "letters"},
      {"mapping for a value", kShortest + "queue: {a: 1}\n", 4, 8, "queue", "a mapping is not",
       "letters"},
      {"value for a mapping", kShortest + "train: fast\n", 4, 8, "train",
       "\"fast\" is not a mapping", "a mapping with steps"},
      {"version", "crabcast: 2\n" + kShortest, 1, 11, "crabcast", "2 is not known", "1"},
      {"upper-case name", "name: My Job\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}}}\n", 1,
       7, "name", "\"My Job\" is not a job name", "lower-case"},
      {"long name", "name: " + std::string(64, 'a') + "\nmodel: {base: nano}\n", 1, 7, "name",
       "too long", "up to 63"},
      {"newline in a name", "name: \"a\\nb\"\nmodel: {base: nano}\n", 1, 7, "name",
       "control character", ""},
      {"empty base", "name: t\nmodel: {base: ''}\n", 2, 15, "model.base", "\"\" is not allowed",
       "path"},
      {"word for a number", kShortest + "train: {steps: many}\n", 4, 16, "train.steps",
       "\"many\" is not a whole number", "from 1 to"},
      {"quotes around a number", kShortest + "train: {steps: \"5\"}\n", 4, 16, "train.steps",
       "text in quotes", "a whole number"},
      {"fraction for a whole number", kShortest + "train: {steps: 1.5}\n", 4, 16, "train.steps",
       "\"1.5\" is not a whole number", ""},
      {"zero steps", kShortest + "train: {steps: 0}\n", 4, 16, "train.steps", "0 is too small",
       "from 1"},
      {"negative steps", kShortest + "train: {steps: -3}\n", 4, 16, "train.steps",
       "-3 is too small", ""},
      {"overflow", kShortest + "train: {seed: 18446744073709551616}\n", 4, 15, "train.seed",
       "is not a whole number", "0 or more"},
      {"too many lanes", kShortest + "train: {lanes: 1025}\n", 4, 16, "train.lanes", "too large",
       "from 1 to 1024"},
      {"infinite rate", kShortest + "train: {optimizer: {lr: inf}}\n", 4, 25, "train.optimizer.lr",
       "is not a number", "above 0"},
      {"zero rate", kShortest + "train: {optimizer: {lr: 0}}\n", 4, 25, "train.optimizer.lr",
       "too small", "above 0"},
      {"warm-up above one", kShortest + "train: {optimizer: {warmup: 1.5}}\n", 4, 29,
       "train.optimizer.warmup", "too large", "from 0 to 1"},
      {"dropout of one",
       "name: t\nmodel: {base: nano, adapter: {dropout: 1}}\n"
       "data: {corpus: {synthetic: {}}}\n",
       2, 40, "model.adapter.dropout", "too large", "below 1"},
      {"unknown kind of adapter",
       "name: t\nmodel: {base: nano, adapter: {kind: ilroa}}\ndata: {corpus: {synthetic: {}}}\n", 2,
       37, "model.adapter.kind", "did you mean ilora?", "one of ilora, lora, crab_v1, full"},
      {"rank without factors",
       "name: t\nmodel: {base: nano, adapter: {rank: 4, kind: full}}\n"
       "data: {corpus: {synthetic: {}}}\n",
       2, 31, "model.adapter.rank", "has no use in this job", "kind ilora, lora or crab_v1"},
      {"heads of a plain lora",
       "name: t\nmodel: {base: nano, adapter: {kind: lora, rank: 4, heads: 1}}\n"
       "data: {corpus: {synthetic: {}}}\n",
       2, 52, "model.adapter.heads", "has no use in this job", "kind ilora or crab_v1"},
      {"unknown precision", kShortest + "train: {precision: bf16}\n", 4, 20, "train.precision",
       "did you mean bfloat16?", "one of float32, bfloat16"},
      {"unknown priority", kShortest + "priority: hihg\n", 4, 11, "priority", "did you mean high?",
       "one of low, normal, high, critical"},
      {"unknown optimizer", kShortest + "train: {optimizer: {kind: adam}}\n", 4, 27,
       "train.optimizer.kind", "did you mean adamw?", "adamw"},
      {"unknown task", kShortest + "evaluate: {tasks: [segmentaton]}\n", 4, 20, "evaluate.tasks",
       "did you mean segmentation?", "all, or a list of"},
      {"one task, no list", kShortest + "evaluate: {tasks: captioning}\n", 4, 19, "evaluate.tasks",
       "is not a list", "all, or a list of"},
      {"task twice", kShortest + "evaluate: {tasks: [captioning, captioning]}\n", 4, 32,
       "evaluate.tasks", "captioning is given twice", "each task once"},
      {"no task", kShortest + "evaluate: {tasks: []}\n", 4, 19, "evaluate.tasks", "empty",
       "all, or"},
      {"list of lists", kShortest + "evaluate: {tasks: [[captioning]]}\n", 4, 20, "evaluate.tasks",
       "a list is not a task", ""},
      {"size without a unit", kShortest + "resources: {worker: {memory: 2}}\n", 4, 30,
       "resources.worker.memory", "\"2\" is not a size", "such as 2GiB"},
      {"unknown unit", kShortest + "resources: {worker: {memory: 2GIB}}\n", 4, 30,
       "resources.worker.memory", "\"2GIB\" is not a size", "such as 2GiB"},
      {"little memory", kShortest + "resources: {worker: {memory: 1KiB}}\n", 4, 30,
       "resources.worker.memory", "1KiB is too small", "from 64MiB"},
      {"duration without a unit", kShortest + "failure: {hang_after: 60}\n", 4, 23,
       "failure.hang_after", "\"60\" is not a duration", "such as 60s"},
      {"short duration", kShortest + "failure: {hang_after: 10ms}\n", 4, 23, "failure.hang_after",
       "10ms is too small", "from 1s to 24h"},
      {"hours of steps", kShortest + "checkpoint: {every: 2h}\n", 4, 21, "checkpoint.every",
       "\"2h\" is not a number of steps", "such as 50 steps"},
      {"keep none", kShortest + "checkpoint: {keep: {last: 0}}\n", 4, 27, "checkpoint.keep.last",
       "0 is too small", "from 1"},
  };
}

std::vector<BadSpec> broken_rules() {
  return {
      {"steps and epochs", kShortest + "train: {steps: 5, epochs: 1}\n", 4, 27, "train.epochs",
       "both given", "neither for 200 steps"},
      {"min above max", kShortest + "resources: {workers: {min: 3, max: 2}}\n", 4, 28,
       "resources.workers.min", "min is 3, more than max, which is 2", "at most"},
      {"min above the default max", kShortest + "resources: {workers: {min: 3}}\n", 4, 28,
       "resources.workers.min", "which is 1", "at most"},
      {"more workers than lanes", kShortest + "resources: {workers: {max: 5}}\n", 4, 28,
       "resources.workers.max", "only 4 lanes", "at most train.lanes"},
      {"bfloat16 on a CPU", kShortest + "train: {precision: bfloat16}\n", 4, 20, "train.precision",
       "needs a GPU", "resources.worker.gpus at least 1"},
      {"all weights in bfloat16",
       "name: t\nmodel: {base: nano, adapter: {kind: full}}\ndata: {corpus: {synthetic: {}}}\n"
       "train: {precision: bfloat16}\nresources: {worker: {gpus: 1}}\n",
       2, 37, "model.adapter.kind", "lost in bfloat16", "train.precision float32"},
      {"evaluation between checkpoints", kShortest + "evaluate: {every: 70 steps}\n", 4, 19,
       "evaluate.every", "no multiple of checkpoint.every", "a multiple"},
      {"metric that is no task", kShortest + "checkpoint: {keep: {by: eval/caption}}\n", 4, 25,
       "checkpoint.keep.by", "did you mean eval/captioning?", "a task of evaluate.tasks"},
      {"metric of a task that is not scored",
       kShortest + "checkpoint: {keep: {by: eval/captioning}}\nevaluate: {tasks: [segmentation]}\n",
       4, 25, "checkpoint.keep.by", "not measured in this job", ""},
      {"metric of the wrong form", kShortest + "checkpoint: {keep: {by: loss}}\n", 4, 25,
       "checkpoint.keep.by", "\"loss\" is not allowed", "eval/mean or eval/TASK"},
  };
}

void expect_reported(const BadSpec& bad) {
  SCOPED_TRACE(bad.what);
  const auto spec = parse_job_spec(bad.yaml, "job.yaml");
  ASSERT_FALSE(spec.has_value()) << bad.yaml;
  const auto& problems = spec.error().problems;
  const auto found = std::find_if(problems.begin(), problems.end(), [&](const SpecProblem& p) {
    return p.line == bad.line && p.column == bad.column && p.field == bad.field;
  });
  ASSERT_NE(found, problems.end())
      << "nothing at " << bad.line << ":" << bad.column << " " << bad.field << " in:\n"
      << spec.error().text();
  EXPECT_THAT(found->message, HasSubstr(bad.message));
  EXPECT_THAT(found->expected, HasSubstr(bad.expected));
}

TEST(JobSpecMistakes, UnreadableFiles) {
  for (const BadSpec& bad : unreadable_files()) {
    expect_reported(bad);
    const auto spec = parse_job_spec(bad.yaml, "job.yaml");
    EXPECT_EQ(spec.error().problems.size(), 1U) << bad.what << "\n" << spec.error().text();
  }
}

TEST(JobSpecMistakes, Fields) {
  for (const BadSpec& bad : bad_fields()) expect_reported(bad);
}

TEST(JobSpecMistakes, RulesBetweenFields) {
  for (const BadSpec& bad : broken_rules()) {
    expect_reported(bad);
    const auto spec = parse_job_spec(bad.yaml, "job.yaml");
    EXPECT_EQ(spec.error().problems.size(), 1U) << bad.what << "\n" << spec.error().text();
  }
}

TEST(JobSpecMistakes, AllAreReportedAtOnceInTheOrderOfTheFile) {
  const auto spec = parse_job_spec(
      "nmae: tiny\n"
      "model: {base: nano, adapter: {rank: 0}}\n"
      "data: {corpus: {synthetic: {seeed: 7}}}\n"
      "train:\n"
      "  steps: soon\n"
      "  precision: float16\n",
      "my job.yaml");
  ASSERT_FALSE(spec.has_value());
  EXPECT_EQ(
      spec.error().text(),
      "my job.yaml: name: is missing (expected lower-case letters, digits and hyphens, up to "
      "63, not a hyphen first)\n"
      "my job.yaml:1:1: nmae: unknown field; did you mean name? (expected one of crabcast, "
      "name, queue, priority, model, data, train, resources, schedule, checkpoint, evaluate, "
      "failure)\n"
      "my job.yaml:2:37: model.adapter.rank: 0 is too small (expected a whole number from 1 "
      "to 4096)\n"
      "my job.yaml:3:29: data.corpus.synthetic.seeed: unknown field; did you mean seed? "
      "(expected one of seed, samples_per_dataset, difficulty)\n"
      "my job.yaml:5:10: train.steps: \"soon\" is not a whole number (expected a whole number "
      "from 1 to 1000000000)\n"
      "my job.yaml:6:14: train.precision: \"float16\" is not known; did you mean bfloat16? "
      "(expected one of float32, bfloat16)");
  EXPECT_EQ(spec.error().error().code, Errc::invalid_spec);
}

TEST(JobSpecMistakes, AFileFullOfMistakesIsCutShort) {
  std::string yaml = kShortest;
  for (int i = 0; i < 5000; ++i) yaml += "x" + std::to_string(i) + ": 1\n";
  const auto spec = parse_job_spec(yaml, "job.yaml");
  ASSERT_FALSE(spec.has_value());
  ASSERT_EQ(spec.error().problems.size(), 101U);
  EXPECT_EQ(spec.error().problems.back().message, "4900 more mistakes are not shown");
}

TEST(JobSpecMistakes, ABadFieldDoesNotBreakItsRulesToo) {
  const auto spec = parse_job_spec(
      kShortest + "train: {lanes: none}\nresources: {workers: {max: 900}}\n", "job.yaml");
  ASSERT_FALSE(spec.has_value());
  EXPECT_EQ(spec.error().problems.size(), 1U) << spec.error().text();
}

}  // namespace
}  // namespace crabcast

#include "protocol/spec_table.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "protocol/format.h"
#include "protocol/tasks.h"

namespace crabcast {
namespace {

// Names of the enums' values, in their order.
constexpr std::array kPriorities = {"low", "normal", "high", "critical"};
constexpr std::array kAdapterKinds = {"ilora", "lora", "crab_v1", "full"};
constexpr std::array kAdapterScopes = {"all", "language_model"};
constexpr std::array kDifficulties = {"easy", "normal", "hard"};
constexpr std::array kMixturePolicies = {"task_balanced", "proportional", "temperature", "weights",
                                         "adaptive"};
constexpr std::array kReductions = {"ordered", "ring"};
constexpr std::array kPrecisions = {"float32", "bfloat16"};
constexpr std::array kRecomputes = {"none", "layers"};
constexpr std::array kSchedules = {"cosine", "constant"};
constexpr std::array kNonFinitePolicies = {"skip", "rollback", "stop"};
constexpr std::array kPreemptions = {"allowed", "never"};
constexpr std::array kSpreads = {"pack", "spread"};
constexpr std::array kOptimizers = {"adamw"};

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kTiB = 1ULL << 40;
constexpr double kHour = 3600;

template <class T>
struct Unwrapped {
  using type = T;
  static constexpr bool optional = false;
};
template <class T>
struct Unwrapped<std::optional<T>> {
  using type = T;
  static constexpr bool optional = true;
};

// Sets `set` and `get` from a function that finds the member: JobSpec -> pointer, null where the
// section around it is not given.
template <class Stored, class Find>
SpecField bound(std::string path, FieldKind kind, Find find, std::string description) {
  using Member = std::remove_pointer_t<decltype(find(std::declval<JobSpec&>()))>;
  using Value = typename Unwrapped<Member>::type;
  SpecField field;
  field.path = std::move(path);
  field.kind = kind;
  field.description = std::move(description);
  field.set = [find](JobSpec& spec, const SpecValue& value) {
    if (Member* member = find(spec)) *member = static_cast<Value>(std::get<Stored>(value));
  };
  field.get = [find](const JobSpec& spec) -> std::optional<SpecValue> {
    const auto* member = find(spec);
    if (member == nullptr) return std::nullopt;
    if constexpr (Unwrapped<Member>::optional) {
      if (!member->has_value()) return std::nullopt;
      return SpecValue(std::in_place_type<Stored>, static_cast<Stored>(**member));
    } else {
      return SpecValue(std::in_place_type<Stored>, static_cast<Stored>(*member));
    }
  };
  return field;
}

SpecField section(std::string path, std::string description,
                  std::function<void(JobSpec&)> open = nullptr) {
  SpecField field;
  field.path = std::move(path);
  field.description = std::move(description);
  field.open = std::move(open);
  return field;
}

template <class Find>
SpecField text(std::string path, Find find, std::string pattern, std::string pattern_words,
               std::string description) {
  SpecField field =
      bound<std::string>(std::move(path), FieldKind::text, find, std::move(description));
  field.pattern = std::move(pattern);
  field.pattern_words = std::move(pattern_words);
  return field;
}

template <class Find>
SpecField whole(std::string path, Find find, std::uint64_t least, std::uint64_t most,
                std::string description, FieldKind kind = FieldKind::whole) {
  SpecField field = bound<std::uint64_t>(std::move(path), kind, find, std::move(description));
  field.least = least;
  field.most = most;
  return field;
}

template <class Find>
SpecField number(std::string path, Find find, double low, double high, std::string description,
                 FieldKind kind = FieldKind::number) {
  SpecField field = bound<double>(std::move(path), kind, find, std::move(description));
  field.low = low;
  field.high = high;
  return field;
}

template <class Find>
SpecField tasks(std::string path, Find find, std::string description) {
  return bound<std::vector<std::string>>(std::move(path), FieldKind::tasks, find,
                                         std::move(description));
}

template <class Find>
SpecField names(std::string path, Find find, std::string pattern, std::string pattern_words,
                std::string description) {
  SpecField field = bound<std::vector<std::string>>(std::move(path), FieldKind::names, find,
                                                    std::move(description));
  field.pattern = std::move(pattern);
  field.pattern_words = std::move(pattern_words);
  field.longest = 127;
  return field;
}

template <class Find>
SpecField weights(std::string path, Find find, std::string description) {
  SpecField field =
      bound<MixtureWeights>(std::move(path), FieldKind::weights, find, std::move(description));
  field.high = 1e6;
  field.low_open = true;
  return field;
}

// An enum whose values count from 0 in the order of `names`.
template <class Names, class Find>
SpecField choice(std::string path, Find find, const Names& names, std::string description) {
  using Enum = std::remove_reference_t<decltype(*find(std::declval<JobSpec&>()))>;
  SpecField field;
  field.path = std::move(path);
  field.kind = FieldKind::choice;
  field.description = std::move(description);
  field.choices.assign(names.begin(), names.end());
  field.set = [find, known = field.choices](JobSpec& spec, const SpecValue& value) {
    const auto at = std::find(known.begin(), known.end(), std::get<std::string>(value));
    if (Enum* member = find(spec)) *member = static_cast<Enum>(at - known.begin());
  };
  field.get = [find, known = field.choices](const JobSpec& spec) -> std::optional<SpecValue> {
    const Enum* member = find(spec);
    if (member == nullptr) return std::nullopt;
    return known.at(static_cast<std::size_t>(*member));
  };
  return field;
}

// A field with one allowed value today, named so that a spec says what it means.
template <class Names>
SpecField only_choice(std::string path, const Names& names, std::string description) {
  SpecField field;
  field.path = std::move(path);
  field.kind = FieldKind::choice;
  field.description = std::move(description);
  field.choices.assign(names.begin(), names.end());
  field.set = [](JobSpec&, const SpecValue&) {};
  field.get = [only = field.choices.front()](const JobSpec&) -> std::optional<SpecValue> {
    return only;
  };
  return field;
}

SpecField required(SpecField field) {
  field.required = true;
  return field;
}
SpecField above_low(SpecField field) {
  field.low_open = true;
  return field;
}
SpecField below_high(SpecField field) {
  field.high_open = true;
  return field;
}
SpecField at_most_bytes(std::size_t longest, SpecField field) {
  field.longest = longest;
  return field;
}
SpecField or_off(SpecField field) {
  field.off = true;
  return field;
}
SpecField with_note(SpecField field, std::string note) {
  field.default_note = std::move(note);
  return field;
}
SpecField with_examples(SpecField field, std::vector<std::string> examples) {
  field.examples = std::move(examples);
  return field;
}

// Finds a member of the spec that is always there.
#define AT(member) [](auto& spec) { return &spec.member; }
// Finds a member of the synthetic corpus, if the spec has one.
#define IN_SYNTHETIC(member)                         \
  [](auto& spec) {                                   \
    auto& synthetic = spec.data.corpus.synthetic;    \
    return synthetic ? &synthetic->member : nullptr; \
  }

constexpr auto kPath = R"(\S(.*\S)?)";
constexpr auto kPathWords = "a name or a path";

using Rows = std::vector<SpecField>;

void add_head(Rows& rows) {
  rows.push_back(whole("crabcast", AT(version), 1, 1, "Version of this format."));
  rows.push_back(with_examples(
      required(at_most_bytes(
          63, text("name", AT(name), "[a-z0-9][a-z0-9-]*",
                   "lower-case letters, digits and hyphens, up to 63, not a hyphen first",
                   "Name of the job. Its id is the name and a running number."))),
      {"quickstart"}));
  rows.push_back(at_most_bytes(
      127, text("queue", AT(queue), "[a-z0-9][a-z0-9._/-]*",
                "lower-case letters, digits and . _ / -, up to 127, a letter or digit first",
                "Queue in which the job waits for room.")));
  rows.push_back(
      choice("priority", AT(priority), kPriorities, "Jobs of a higher priority are placed first."));
}

// A field that only some values of a choice have a use for.
SpecField with_chooser(std::string chooser, std::vector<std::string> used_for, SpecField field) {
  field.chooser = std::move(chooser);
  field.used_for = std::move(used_for);
  return field;
}

// A field that only one policy of the mixture has a use for.
SpecField of_policy(MixturePolicy policy, SpecField field) {
  return with_chooser("data.mixture.policy", {std::string(to_string(policy))}, std::move(field));
}

// A field of those kinds of adapters that have what `has` says.
SpecField of_kinds(bool (*has)(AdapterKind), SpecField field) {
  field.chooser = "model.adapter.kind";
  for (std::size_t i = 0; i < kAdapterKinds.size(); ++i)
    if (has(static_cast<AdapterKind>(i))) field.used_for.emplace_back(kAdapterKinds.at(i));
  return field;
}

void add_adapter(Rows& rows) {
  rows.push_back(section("model.adapter", "The trained weights beside the frozen ones."));
  rows.push_back(choice("model.adapter.kind", AT(model.adapter.kind), kAdapterKinds,
                        "ilora: one shared A, several B heads, and a router between them. lora: "
                        "one A and one B. crab_v1: as ilora, with a dropout mask for each head. "
                        "full: every tensor of the base is trained, for small models."));
  rows.push_back(of_kinds(has_factors, whole("model.adapter.rank", AT(model.adapter.rank), 1, 4096,
                                             "Rank r of the adapter.")));
  rows.push_back(
      of_kinds(has_factors, above_low(number("model.adapter.alpha", AT(model.adapter.alpha), 0, 1e6,
                                             "The adapter's output is scaled by alpha / rank."))));
  rows.push_back(of_kinds(has_heads, whole("model.adapter.heads", AT(model.adapter.heads), 1, 64,
                                           "Number of B heads; N in the paper.")));
  rows.push_back(
      of_kinds(has_factors,
               below_high(number("model.adapter.dropout", AT(model.adapter.dropout), 0, 1,
                                 "Share of the adapter's inputs that is dropped in training."))));
  rows.push_back(
      of_kinds(has_factors, choice("model.adapter.scope", AT(model.adapter.scope), kAdapterScopes,
                                   "Which projections get an adapter: those of all towers, or only "
                                   "those of the language model.")));
  rows.push_back(with_examples(
      with_note(text("model.adapter.init", AT(model.adapter.init), kPath, kPathWords,
                     "An adapter to begin with, of the same kind, rank and scope and of the same "
                     "base: a file or a folder that crabcast adapter inspect reads; the same path "
                     "on every node."),
                "not given"),
      {"/models/crab-plus/finetune_weights.bin"}));
}

void add_model(Rows& rows) {
  rows.push_back(section("model", "What is trained: a frozen base and the adapter on it."));
  rows.push_back(with_examples(
      required(text("model.base", AT(model.base), kPath, kPathWords,
                    "A base that Crabcast ships (nano), one that was imported under this name "
                    "(crabcast base import), or a folder in Hugging Face layout, with a slash.")),
      {"nano", "/models/Qwen2.5-Omni-7B"}));
  add_adapter(rows);
}

void add_cache(Rows& rows) {
  const auto size = [](std::string path, auto find, std::string description) {
    return with_examples(
        whole(std::move(path), find, 0, 1024 * kTiB, std::move(description), FieldKind::bytes),
        {"20GiB", "0B"});
  };
  rows.push_back(section("data.cache", "What is kept on each node's disk for the next epoch."));
  rows.push_back(size("data.cache.samples", AT(data.cache.samples),
                      "Decoded frames and sound, at most this much; what was not used for longest "
                      "goes first. At least 64MiB, or 0B for none."));
  rows.push_back(size("data.cache.features", AT(data.cache.features),
                      "What the frozen towers made of them, with model.adapter.scope "
                      "language_model; each medium then goes through its tower alone. At least "
                      "64MiB, or 0B for none."));
}

void add_mixture(Rows& rows) {
  rows.push_back(section("data.mixture", "How the tasks share a global batch."));
  rows.push_back(choice(
      "data.mixture.policy", AT(data.mixture.policy), kMixturePolicies,
      "task_balanced: the same share for each task, and within a task in proportion to the sizes "
      "of its data sets. proportional: in proportion to the sizes of all data sets. temperature: "
      "in proportion to the sizes to the power of 1 / temperature. weights: as task_balanced, "
      "times the weights. adaptive: begins as task_balanced, then moves towards the tasks with "
      "the larger loss."));
  rows.push_back(of_policy(
      MixturePolicy::temperature,
      number("data.mixture.temperature", AT(data.mixture.temperature), 1, 1000,
             "1 is as proportional; the larger it is, the more alike are the data sets' shares.")));
  rows.push_back(of_policy(
      MixturePolicy::weights,
      with_note(weights("data.mixture.weights", AT(data.mixture.weights),
                        "Factors of the shares of tasks, and of data sets within their task."),
                "1 for each")));
  rows.push_back(
      of_policy(MixturePolicy::adaptive,
                whole("data.mixture.adapt_every", AT(data.mixture.adapt_every_steps), 16, 1'000'000,
                      "Steps between two changes of the shares.", FieldKind::steps)));
  rows.push_back(of_policy(
      MixturePolicy::adaptive,
      above_low(number("data.mixture.adapt_by", AT(data.mixture.adapt_by), 0, 1,
                       "Most that a task's share changes at once, as a part of it; over a job it "
                       "stays between a quarter of the equal share and four times that."))));
  rows.push_back(with_note(
      whole("data.mixture.most_epochs", AT(data.mixture.most_epochs), 1, 1'000'000,
            "No data set is drawn more often than this; then its share goes to the others."),
      "not given"));
}

void add_data(Rows& rows) {
  rows.push_back(section("data", "What it is trained on."));
  rows.push_back(
      section("data.corpus", "Where the samples come from: one of synthetic and avuie."));
  rows.push_back(section("data.corpus.synthetic",
                         "Small scenes with real media files, rendered once on each node.",
                         [](JobSpec& spec) { spec.data.corpus.synthetic.emplace(); }));
  rows.push_back(whole("data.corpus.synthetic.seed", IN_SYNTHETIC(seed), 0, UINT64_MAX,
                       "The same seed renders the same corpus."));
  rows.push_back(whole("data.corpus.synthetic.samples_per_dataset",
                       IN_SYNTHETIC(samples_per_dataset), 1, 1'000'000,
                       "Training samples of each of the seventeen data sets; the test split has a "
                       "quarter of that, at least 4."));
  rows.push_back(choice("data.corpus.synthetic.difficulty", IN_SYNTHETIC(difficulty), kDifficulties,
                        "easy: plain scenes, where one sense is often enough. normal: distractors, "
                        "several sounds at once, overlapping events, and answers that need picture "
                        "and sound. hard: more of these."));
  rows.push_back(
      with_examples(with_note(text("data.corpus.avuie", AT(data.corpus.avuie), kPath, kPathWords,
                                   "Folder in AV-UIE v2 layout; the same path on every node."),
                              "not given"),
                    {"/data/AVUIE_2"}));
  rows.push_back(
      tasks("data.tasks", AT(data.tasks),
            "Tasks that are trained. all leaves out av_matching, which is optional; for a job that "
            "names it a synthetic corpus has the data sets a2v and v2a, too."));
  add_mixture(rows);
  add_cache(rows);
}

void add_train(Rows& rows) {
  rows.push_back(section("train", "How long and how it is trained."));
  rows.push_back(
      with_note(whole("train.steps", AT(train.steps), 1, 1'000'000'000, "Optimizer steps in all."),
                "200 where epochs is not given"));
  rows.push_back(with_note(above_low(number("train.epochs", AT(train.epochs), 0, 1e6,
                                            "Passes over the corpus, instead of steps.")),
                           "not given"));
  rows.push_back(whole("train.lanes", AT(train.lanes), 1, 1024,
                       "Fixed slices of the global batch, shared out to the workers. The result "
                       "depends on the number of lanes, never on the number of workers."));
  rows.push_back(whole("train.samples_per_lane", AT(train.samples_per_lane), 1, 1024,
                       "Samples of one lane; the global batch has lanes x samples_per_lane."));
  rows.push_back(choice("train.reduction", AT(train.reduction), kReductions,
                        "ordered: gradients are added in one fixed order, so the result is bitwise "
                        "the same for any number of workers. ring: plain all-reduce."));
  rows.push_back(choice("train.precision", AT(train.precision), kPrecisions,
                        "Number format of the frozen base and of the activations."));
  rows.push_back(choice("train.recompute", AT(train.recompute), kRecomputes,
                        "none: activations are kept for the backward pass. layers: only what goes "
                        "into each layer is, and the rest is computed again: less memory, about a "
                        "third more time, the same result."));
  rows.push_back(with_note(
      whole("train.pack_tokens", AT(train.pack_tokens), 1, 100'000'000,
            "Samples of a lane go through the model in packs of at most so many tokens: less "
            "memory, the same result but for rounding. A longer sample has a pack of its own."),
      "a lane at once"));
  rows.push_back(whole("train.seed", AT(train.seed), 0, UINT64_MAX,
                       "Seed of the adapter's start, of the order of samples and of dropout."));
  rows.push_back(section("train.optimizer", "The optimizer and its learning rate."));
  rows.push_back(only_choice("train.optimizer.kind", kOptimizers, "The optimizer."));
  rows.push_back(above_low(
      number("train.optimizer.lr", AT(train.optimizer.lr), 0, 10, "Highest learning rate.")));
  rows.push_back(number("train.optimizer.weight_decay", AT(train.optimizer.weight_decay), 0, 10,
                        "Decoupled weight decay."));
  rows.push_back(choice("train.optimizer.schedule", AT(train.optimizer.schedule), kSchedules,
                        "Learning rate after the warm-up: down to 0 along a cosine, or constant."));
  rows.push_back(number("train.optimizer.warmup", AT(train.optimizer.warmup), 0, 1,
                        "Share of all steps in which the learning rate rises from 0."));
  rows.push_back(number("train.optimizer.clip_norm", AT(train.optimizer.clip_norm), 0, 1e9,
                        "Gradients with a larger norm are scaled down to it; 0 turns that off."));
  rows.push_back(below_high(number("train.optimizer.beta1", AT(train.optimizer.beta1), 0, 1,
                                   "Decay of the gradient's running mean.")));
  rows.push_back(below_high(number("train.optimizer.beta2", AT(train.optimizer.beta2), 0, 1,
                                   "Decay of the squared gradient's running mean.")));
  rows.push_back(above_low(number("train.optimizer.epsilon", AT(train.optimizer.epsilon), 0, 1,
                                  "Added to the divisor of each update.")));
}

template <class FindCpus, class FindMemory>
void add_process(Rows& rows, const std::string& path, FindCpus cpus, FindMemory memory) {
  rows.push_back(above_low(number(path + ".cpus", cpus, 0, 1024,
                                  "CPU cores; the process computes with as many threads, rounded "
                                  "down, at least one.")));
  rows.push_back(with_examples(whole(path + ".memory", memory, 64 * kMiB, 64 * kTiB,
                                     "Memory that is set aside for the process.", FieldKind::bytes),
                               {"2GiB", "512MiB"}));
}

void add_schedule(Rows& rows) {
  rows.push_back(section("schedule", "When and where the job runs."));
  rows.push_back(with_examples(
      names("schedule.after", AT(schedule.after), "[a-z0-9][a-z0-9-]*", "ids or names of jobs",
            "Jobs that must have succeeded before this one starts; by a name, the newest of that "
            "name. When one of them fails or is cancelled, so is this one."),
      {"[\"render-corpus\"]"}));
  rows.push_back(with_examples(
      with_note(number("schedule.time_limit", AT(schedule.time_limit_seconds), 1, 8760 * kHour,
                       "The job may run for so long, all its runs together; then it is stopped "
                       "with a checkpoint, and has failed.",
                       FieldKind::duration),
                "not given"),
      {"12h"}));
  rows.push_back(with_examples(
      with_note(number("schedule.expected", AT(schedule.expected_seconds), 1, 8760 * kHour,
                       "How long it will run, by your own estimate: a shorter job is more easily "
                       "placed in a gap before a larger one starts.",
                       FieldKind::duration),
                "schedule.time_limit"),
      {"3h"}));
  rows.push_back(choice("schedule.preemption", AT(schedule.preemption), kPreemptions,
                        "allowed: it may be stopped with a checkpoint, and goes on later, when "
                        "others have a better claim to its room. never: it is not, but it cannot "
                        "borrow room beyond its queue's guarantee."));
  rows.push_back(choice("schedule.place", AT(schedule.place), kSpreads,
                        "pack: on as few nodes as possible, of one rack where they fit. spread: "
                        "workers on as many nodes as possible."));
  rows.push_back(with_examples(
      names("schedule.nodes", AT(schedule.nodes),
            "[a-z0-9][a-z0-9._/-]*=[A-Za-z0-9][A-Za-z0-9._/-]*", "labels such as gpu=h100",
            "Labels that every node of the job must have."),
      {"[\"gpu=h100\"]"}));
  rows.push_back(with_examples(
      names("schedule.tolerates", AT(schedule.tolerates), "[a-z0-9][A-Za-z0-9._/=-]*",
            "taints such as maintenance", "Taints in spite of which a node may be chosen."),
      {"[\"maintenance\"]"}));
}

void add_resources(Rows& rows) {
  rows.push_back(section("resources", "What the job needs of the cluster."));
  rows.push_back(section("resources.workers", "How many processes train."));
  rows.push_back(whole("resources.workers.min", AT(resources.workers_min), 1, 1024,
                       "The job starts with at least this many, and waits otherwise."));
  rows.push_back(whole("resources.workers.max", AT(resources.workers_max), 1, 1024,
                       "It grows to this many where there is room."));
  rows.push_back(section("resources.worker", "What each worker gets."));
  rows.push_back(whole("resources.worker.gpus", AT(resources.worker.gpus), 0, 1,
                       "GPUs of one worker: 0 trains on the CPU."));
  add_process(rows, "resources.worker", AT(resources.worker.cpus),
              AT(resources.worker.memory_bytes));
  rows.push_back(whole("resources.loaders", AT(resources.loaders), 1, 1024,
                       "Processes that read media and make batches."));
  rows.push_back(section("resources.loader", "What each loader gets."));
  add_process(rows, "resources.loader", AT(resources.loader.cpus),
              AT(resources.loader.memory_bytes));
  rows.push_back(whole("resources.evaluators", AT(resources.evaluators), 0, 64,
                       "Processes that score checkpoints while training goes on; 0 turns "
                       "evaluation off."));
  rows.push_back(section("resources.evaluator", "What each evaluator gets."));
  rows.push_back(whole("resources.evaluator.gpus", AT(resources.evaluator.gpus), 0, 1,
                       "GPUs of one evaluator: 0 generates on the CPU."));
  add_process(rows, "resources.evaluator", AT(resources.evaluator.cpus),
              AT(resources.evaluator.memory_bytes));
}

void add_rest(Rows& rows) {
  rows.push_back(section("checkpoint", "When the training state is stored, and what is kept."));
  rows.push_back(whole("checkpoint.every", AT(checkpoint.every_steps), 1, 1'000'000'000,
                       "Steps between two checkpoints. The last step is always stored.",
                       FieldKind::steps));
  rows.push_back(section("checkpoint.keep", "Checkpoints that are kept; others are deleted."));
  rows.push_back(
      whole("checkpoint.keep.last", AT(checkpoint.keep_last), 1, 100'000, "The newest ones."));
  rows.push_back(whole("checkpoint.keep.best", AT(checkpoint.keep_best), 0, 100'000,
                       "The best ones by the metric keep.by."));
  rows.push_back(with_examples(
      at_most_bytes(64, text("checkpoint.keep.by", AT(checkpoint.keep_by), "eval/[a-z_]+",
                             "eval/mean or eval/TASK", "Metric of keep.best; higher is better.")),
      {"eval/mean", "eval/captioning"}));
  rows.push_back(with_note(
      whole("checkpoint.keep.every", AT(checkpoint.keep_every_steps), 1, 2'000'000'000,
            "Those after a multiple of so many steps are kept for good.", FieldKind::steps),
      "not given"));
  rows.push_back(with_examples(
      with_note(
          number("checkpoint.keep.interval", AT(checkpoint.keep_interval_seconds), 1, 8760 * kHour,
                 "The first one is kept for good, and then each that is taken so long after "
                 "the one that was kept before.",
                 FieldKind::duration),
          "not given"),
      {"6h"}));
  rows.push_back(with_examples(
      or_off(number("checkpoint.scrub", AT(checkpoint.scrub_seconds), 1, 8760 * kHour,
                    "So often all checkpoints are read through, at low priority, to find damage "
                    "before one is needed.",
                    FieldKind::duration)),
      {"1h", "off"}));
  rows.push_back(whole("checkpoint.replicas", AT(checkpoint.replicas), 0, 7,
                       "Other nodes whose stores get a copy of each checkpoint and of the ledger, "
                       "where the cluster has so many."));
  rows.push_back(with_note(whole("checkpoint.quorum", AT(checkpoint.quorum), 1, 8,
                                 "A checkpoint is safe, and kept until a later one is, when so "
                                 "many stores hold it; the job's own counts."),
                           "a majority of 1 + replicas"));

  rows.push_back(section("evaluate", "When checkpoints are scored on the test split."));
  rows.push_back(with_note(whole("evaluate.every", AT(evaluate.every_steps), 1, 2'000'000'000,
                                 "Steps between two evaluations.", FieldKind::steps),
                           "twice checkpoint.every"));
  rows.push_back(with_note(tasks("evaluate.tasks", AT(evaluate.tasks), "Tasks that are scored."),
                           "those of data.tasks"));
  rows.push_back(whole("evaluate.samples_per_task", AT(evaluate.samples_per_task), 1, 1'000'000,
                       "Test samples of each task, where the split has as many."));

  rows.push_back(section("failure", "What happens when something breaks."));
  rows.push_back(whole("failure.restarts", AT(failure.restarts), 0, 1'000'000,
                       "Restarts of processes in the whole job before it is given up."));
  rows.push_back(number("failure.hang_after", AT(failure.hang_after_seconds), 1, 24 * kHour,
                        "A process without progress for this long is stopped and replaced.",
                        FieldKind::duration));
  rows.push_back(choice("failure.non_finite", AT(failure.non_finite), kNonFinitePolicies,
                        "A step with NaN or infinity in loss or gradient. skip: its update is left "
                        "out. rollback: so are those of the steps before it, as many as "
                        "failure.rollback says, and training goes on from there with the samples "
                        "that follow. stop: the job ends."));
  rows.push_back(with_chooser(
      "failure.non_finite", {"rollback"},
      whole("failure.rollback", AT(failure.rollback_steps), 1, 1'000'000,
            "Steps whose updates are undone, the bad one included.", FieldKind::steps)));
  rows.push_back(with_examples(
      with_note(number("failure.loss_spike", AT(failure.loss_spike), 1, 1e6,
                       "A step whose mean loss is more than this many times the median of the "
                       "50 steps before it is treated as one that is not finite."),
                "not given"),
      {"4"}));
  rows.push_back(number("failure.bad_samples", AT(failure.bad_samples), 0, 1,
                        "Share of a data set's training samples that may be unreadable. They are "
                        "put in quarantine; with more of them the job stops."));
}

#undef AT
#undef IN_SYNTHETIC

// What is left out is fixed. Bases and corpora are compared by their hashes, wherever they are.
void say_what_may_change(Rows& rows) {
  constexpr std::array kFree = {"name",
                                "queue",
                                "priority",
                                "model.base",
                                "model.adapter.init",
                                "data.corpus.avuie",
                                "data.cache",
                                "train.recompute",
                                "resources",
                                "schedule",
                                "checkpoint",
                                "evaluate",
                                "failure"};
  constexpr std::array kGrows = {"train.steps", "train.epochs"};
  const auto is_in = [](const auto& names, const std::string& path) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return path == name || path.starts_with(name + ".");
    });
  };
  for (SpecField& field : rows) {
    if (is_in(kFree, field.path)) field.on_resume = OnResume::free;
    if (is_in(kGrows, field.path)) field.on_resume = OnResume::grows;
  }
}

}  // namespace

std::string_view to_string(Priority value) {
  return kPriorities.at(static_cast<std::size_t>(value));
}
std::string_view to_string(AdapterKind value) {
  return kAdapterKinds.at(static_cast<std::size_t>(value));
}
std::string_view to_string(AdapterScope value) {
  return kAdapterScopes.at(static_cast<std::size_t>(value));
}
std::string_view to_string(Difficulty value) {
  return kDifficulties.at(static_cast<std::size_t>(value));
}
std::string_view to_string(MixturePolicy value) {
  return kMixturePolicies.at(static_cast<std::size_t>(value));
}
std::string_view to_string(ReductionKind value) {
  return kReductions.at(static_cast<std::size_t>(value));
}
std::string_view to_string(Precision value) {
  return kPrecisions.at(static_cast<std::size_t>(value));
}
std::string_view to_string(Recompute value) {
  return kRecomputes.at(static_cast<std::size_t>(value));
}
std::string_view to_string(LearningRateSchedule value) {
  return kSchedules.at(static_cast<std::size_t>(value));
}
std::string_view to_string(NonFinitePolicy value) {
  return kNonFinitePolicies.at(static_cast<std::size_t>(value));
}

std::string_view to_string(Preemption value) {
  return kPreemptions.at(static_cast<std::size_t>(value));
}
std::string_view to_string(Spread value) {
  return kSpreads.at(static_cast<std::size_t>(value));
}

std::vector<std::string> every_task() {
  auto names = known_tasks();
  std::erase_if(names, [](const auto& name) { return is_optional(*task_from_name(name)); });
  return names;
}

std::vector<std::string> known_tasks() {
  return {kTaskNames.begin(), kTaskNames.end()};
}

std::vector<std::string> every_weight() {
  auto names = known_tasks();
  names.insert(names.end(), kDatasetNames.begin(), kDatasetNames.end());
  return names;
}

const std::vector<SpecField>& spec_fields() {
  static const Rows rows = [] {
    Rows made;
    add_head(made);
    add_model(made);
    add_data(made);
    add_train(made);
    add_resources(made);
    add_schedule(made);
    add_rest(made);
    say_what_may_change(made);
    return made;
  }();
  return rows;
}

}  // namespace crabcast

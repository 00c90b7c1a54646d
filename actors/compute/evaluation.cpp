#include "actors/compute/evaluation.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>

#include "actors/compute/model_input.h"
#include "data/answers.h"
#include "data/constant_answer.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

constexpr std::size_t kBatch = 8;
constexpr std::size_t kExamplesForTask = 3;                               // kept in the record
constexpr const char *kUntrained = "untrained", *kConstant = "constant";  // in the details

// Round-robin over the task's data sets, each walked in even strides.
std::vector<pb::SampleRef> choose(const data::Corpus& corpus, Task task, std::size_t count) {
  struct Source {
    data::DatasetRow dataset;
    std::uint64_t size, taken;
  };
  std::vector<Source> sources;
  for (const auto& summary : corpus.summary())
    if (data::datasets()[summary.dataset].task == task && summary.test > 0)
      sources.push_back({summary.dataset, summary.test, 0});
  std::uint64_t available = 0;
  for (const auto& source : sources) available += source.size;
  count = std::min<std::size_t>(count, available);
  std::vector<std::uint64_t> shares(sources.size(), 0);
  for (std::size_t given = 0, at = 0; given < count; at = (at + 1) % sources.size())
    if (shares[at] < sources[at].size) {
      ++shares[at];
      ++given;
    }
  std::vector<pb::SampleRef> chosen;
  for (std::size_t i = 0; i < sources.size(); ++i)
    for (std::uint64_t k = 0; k < shares[i]; ++k) {
      pb::SampleRef ref;
      ref.set_dataset(sources[i].dataset);
      ref.set_index(k * sources[i].size / shares[i]);
      chosen.push_back(ref);
    }
  return chosen;
}

struct TaskRun {
  pb::TaskScore score;
  std::vector<pb::Prediction> examples;
  std::string first_problem;  // with a sample that could not be read or scored

  void pass_over(const Error& problem) {
    spdlog::warn("not scored: {}", problem.message);
    if (first_problem.empty()) first_problem = problem.message;
  }
};

Status score_batch(model::Session& session, const std::vector<data::Processed>& samples,
                   const Reference* reference, TaskRun& run) {
  CRABCAST_TRY(fault_point("evaluate.batch"));
  const auto& front_end = session.front_end();
  auto answers = session.generate(prompt_input(samples, front_end), {});
  if (!answers) return fail(answers.error());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto text = front_end.tokenizer->decode((*answers)[i].ids);
    auto score = data::score_answer(samples[i].sample, text);
    if (!score) {
      run.pass_over(score.error());
      continue;
    }
    run.score.set_score(run.score.score() + score->value);
    run.score.set_samples(run.score.samples() + 1);
    if (reference != nullptr) {
      auto& details = *run.score.mutable_details();
      auto constant = data::score_answer(samples[i].sample, reference->constant_answer);
      if (!constant) return fail(constant.error());  // though another answer could be scored
      details[kConstant] += constant->value;
    }
    if (run.examples.size() >= kExamplesForTask) continue;
    pb::Prediction example;
    example.mutable_sample()->set_dataset(samples[i].sample.dataset);
    example.mutable_sample()->set_index(samples[i].sample.index);
    example.set_task(run.score.task());
    example.set_question(samples[i].sample.question);
    example.set_truth(samples[i].sample.reference);
    example.set_answer(text);
    example.set_score(score->value);
    run.examples.push_back(std::move(example));
  }
  return {};
}

}  // namespace

Result<pb::EvaluationRecord> evaluate(model::Session& session, const SampleReader& reader,
                                      const data::Corpus& corpus, const pb::Evaluate& request,
                                      const References& references, Progress& progress,
                                      const std::function<bool()>& give_up) {
  const auto started = Clock::now();
  pb::EvaluationRecord record;
  record.set_checkpoint(request.checkpoint());
  double sum = 0;
  for (const auto& name : request.tasks()) {
    const auto task = task_from_name(name);
    if (!task) return fail(Errc::invalid_argument, "no task is named " + name);
    const auto found = references.find(name);
    const Reference* reference = found == references.end() ? nullptr : &found->second;
    TaskRun run;
    run.score.set_task(name);
    run.score.set_metric(std::string(data::metric_name(*task)));
    std::vector<data::Processed> samples;
    const auto chosen = choose(corpus, *task, request.samples_per_task());
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      if (give_up()) return fail(Errc::cancelled, "the evaluation was given up");
      progress.begin("evaluate " + name + ", checkpoint " + std::to_string(request.checkpoint()),
                     0);
      auto sample = corpus.sample(chosen[i].dataset(), data::Split::test, chosen[i].index());
      if (!sample) return fail(sample.error());
      pb::LoaderWork work;  // of no account here
      auto processed = reader.read(*sample, work);
      if (!processed && !is_bad_sample(processed.error())) return fail(processed.error());
      if (processed)
        samples.push_back(std::move(*processed));
      else
        run.pass_over(processed.error());
      const bool last = i + 1 == chosen.size();
      if (samples.size() == kBatch || (last && !samples.empty())) {
        CRABCAST_TRY(score_batch(session, samples, reference, run));
        samples.clear();
      }
    }
    if (run.score.samples() == 0)
      return fail(Errc::data_error, name + ": no held-out sample could be scored" +
                                        (run.first_problem.empty() ? " (the corpus has none)"
                                                                   : ": " + run.first_problem));
    run.score.set_score(run.score.score() / run.score.samples());
    if (reference != nullptr) {
      auto& details = *run.score.mutable_details();
      details[kUntrained] = reference->untrained;
      details[kConstant] /= run.score.samples();
    }
    (*run.score.mutable_details())["unreadable"] =
        static_cast<double>(chosen.size() - run.score.samples());
    sum += run.score.score();
    *record.add_scores() = run.score;
    for (auto& example : run.examples) *record.add_examples() = std::move(example);
  }
  record.set_mean(request.tasks().empty() ? 0 : sum / request.tasks_size());
  record.set_unix_ms(unix_ms_now());
  record.set_seconds(seconds(Clock::now() - started));
  return record;
}

Result<References> measure_references(model::Session& session, const SampleReader& reader,
                                      const data::Corpus& corpus, const pb::Evaluate& request,
                                      Progress& progress, const std::function<bool()>& give_up) {
  auto untrained = evaluate(session, reader, corpus, request, {}, progress, give_up);
  if (!untrained) return fail(untrained.error());
  References references;
  for (const auto& score : untrained->scores()) {
    progress.begin("find the best constant answer of " + score.task(), 0);
    auto answer = data::best_constant_answer(corpus, *task_from_name(score.task()));
    if (!answer) return fail(answer.error());
    references[score.task()] = {score.score(), std::move(*answer)};
  }
  return references;
}

}  // namespace crabcast::actors

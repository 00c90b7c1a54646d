#include "apps/cli/report.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/cli/output.h"
#include "protocol/format.h"
#include "protocol/sums.h"
#include "protocol/tasks.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;

constexpr std::size_t kEventsPage = 1000;

// Sums of one window of steps; the loss is what an answer token costs on average.
struct LossSum {
  double sum = 0;
  std::uint64_t tokens = 0;

  void add(const pb::TaskLoss& loss) {
    sum += loss.loss_sum();
    tokens += loss.tokens();
  }
  [[nodiscard]] json mean() const {
    return tokens == 0 ? json() : json(sum / static_cast<double>(tokens));
  }
};

struct TaskSums {
  LossSum first, last;
  std::uint64_t samples = 0;
  std::uint64_t tokens = 0;
};

struct LedgerSums {
  std::uint64_t committed = 0, skipped = 0, window = 0;
  std::uint64_t samples = 0, steady_samples = 0, replaced = 0;
  double seconds = 0, steady_seconds = 0;
  LossSum first, last;
  std::map<std::string, TaskSums> tasks;
  pb::StageSeconds stages;
  pb::LoaderWork work;
  std::uint64_t generation = 0;  // of the commit before

  void add(const pb::CommitRecord& commit);
};

void LedgerSums::add(const pb::CommitRecord& commit) {
  const auto samples = static_cast<std::uint64_t>(commit.samples_size());
  this->samples += samples;
  replaced += static_cast<std::uint64_t>(commit.substitutions_size());
  seconds += commit.seconds();
  if (commit.generation() == generation) {
    steady_samples += samples;
    steady_seconds += commit.seconds();
    add_to(stages, commit.stages());
  }
  generation = commit.generation();
  add_to(work, commit.work());
  if (commit.skipped()) ++skipped;
  for (const auto& loss : commit.losses()) {
    auto& task = tasks[loss.task()];
    task.samples += loss.samples();
    task.tokens += loss.tokens();
    if (commit.skipped()) continue;  // its numbers need not be finite
    if (commit.step() <= window) {
      task.first.add(loss);
      first.add(loss);
    }
    if (commit.step() + window > committed) {
      task.last.add(loss);
      last.add(loss);
    }
  }
}

json ratio(double value, double of) {
  return of > 0 ? json(value / of) : json();
}

json change_percent(const json& first, const json& last) {
  if (!first.is_number() || !last.is_number() || first.get<double>() == 0) return {};
  return 100 * (last.get<double>() / first.get<double>() - 1);
}

Result<LedgerSums> read_ledger(const storage::JobStore& store) {
  LedgerSums sums;
  auto newest = store.last_commit();
  if (!newest) return fail(newest.error());
  if (*newest) sums.committed = (*newest)->step();
  sums.window = std::max<std::uint64_t>(1, sums.committed / 10);
  CRABCAST_TRY(store.for_each_commit(Step{0}, [&sums](const pb::CommitRecord& commit) {
    sums.add(commit);
    return true;
  }));
  return sums;
}

// Tasks in the order of protocol/tasks.h, then those that this version does not know.
json tasks_json(const LedgerSums& sums) {
  json tasks = json::array();
  const auto add = [&tasks](const std::string& name, const TaskSums& task) {
    const json first = task.first.mean(), last = task.last.mean();
    tasks.push_back({{"task", name},
                     {"first_loss", first},
                     {"last_loss", last},
                     {"change_percent", change_percent(first, last)},
                     {"samples", task.samples},
                     {"tokens", task.tokens}});
  };
  for (const auto name : kTaskNames)
    if (auto task = sums.tasks.find(std::string(name)); task != sums.tasks.end())
      add(task->first, task->second);
  for (const auto& [name, task] : sums.tasks)
    if (!task_from_name(name)) add(name, task);
  return tasks;
}

using Parts = std::vector<std::pair<const char*, double>>;

json shares_json(const Parts& parts) {
  double sum = 0;
  for (const auto& [name, seconds] : parts) sum += seconds;
  json list = json::array();
  for (const auto& [name, seconds] : parts)
    list.push_back({{"stage", name}, {"seconds", seconds}, {"share", ratio(seconds, sum)}});
  return list;
}

json stages_json(const pb::StageSeconds& stages) {
  return shares_json({{"data", stages.data()},
                      {"forward", stages.forward()},
                      {"backward", stages.backward()},
                      {"reduce", stages.reduce()},
                      {"commit", stages.commit()},
                      {"optimizer", stages.optimizer()}});
}

json loader_json(const pb::LoaderWork& work) {
  const auto samples = static_cast<double>(work.samples());
  const auto batches = static_cast<double>(work.batches());
  return {{"samples", work.samples()},
          {"cached_share", ratio(static_cast<double>(work.cached()), samples)},
          {"padding_left_out", work.cells() == 0 ? json() : json(padding_share(work))},
          {"waited_share", ratio(static_cast<double>(work.waited_for()), batches)},
          {"batches_at_hand", ratio(static_cast<double>(work.at_hand()), batches)},
          {"stages", shares_json({{"demux", work.demux()},
                                  {"decode", work.decode()},
                                  {"scale", work.scale()},
                                  {"audio", work.audio()},
                                  {"log_mel", work.log_mel()},
                                  {"patches", work.patches()}})}};
}

Result<json> checkpoints_json(const storage::JobStore& store) {
  auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  json list = json::array();
  for (const auto id : *ids) {
    auto manifest = store.manifest(id);
    if (!manifest) {
      list.push_back({{"id", id.value()}, {"problem", manifest.error().message}});
      continue;
    }
    json metrics = json::object();
    for (const auto& [name, value] : manifest->metrics()) metrics[name] = value;
    list.push_back({{"id", id.value()},
                    {"step", manifest->step()},
                    {"generation", manifest->generation()},
                    {"unix_ms", manifest->unix_ms()},
                    {"bytes", manifest->bytes()},
                    {"chunks", manifest->chunks_size()},
                    {"metrics", metrics}});
  }
  return list;
}

Status add_events(const storage::JobStore& store, json& report) {
  json incidents = json::array();
  std::map<std::string, std::uint64_t> counts = {{"info", 0}, {"warning", 0}, {"error", 0}};
  for (std::uint64_t after = 0;;) {
    auto page = store.events(after, kEventsPage);
    if (!page) return fail(page.error());
    if (page->empty()) break;
    after = page->back().seq();
    for (const auto& event : *page) {
      ++counts[severity_name(event.severity())];
      if (event.has_incident()) incidents.push_back(to_json(event));
    }
  }
  report["events"] = counts;
  report["incidents"] = std::move(incidents);
  return {};
}

Status add_end(const storage::JobStore& store, json& report) {
  auto job = store.value("job");
  if (!job) return fail(job.error());
  if (*job) report["job"] = **job;
  auto stored = store.value("status");
  if (!stored) return fail(stored.error());
  pb::JobStatus status;
  if (!*stored || !status.ParseFromString(**stored)) return {};
  report["job"] = status.job();
  report["state"] = job_state_name(status.state());
  report["reason"] = status.reason();
  return {};
}

}  // namespace

Result<json> job_report(const storage::JobStore& store) {
  auto sums = read_ledger(store);
  if (!sums) return fail(sums.error());
  json report;
  CRABCAST_TRY(add_end(store, report));
  const json first = sums->first.mean(), last = sums->last.mean();
  report["steps"] = {
      {"committed", sums->committed}, {"skipped", sums->skipped}, {"window", sums->window}};
  report["samples"] = sums->samples;
  report["replaced_samples"] = sums->replaced;
  auto quarantined = store.quarantine();
  if (!quarantined) return fail(quarantined.error());
  report["quarantined_samples"] = quarantined->size();
  report["wall_seconds"] = sums->seconds;
  report["samples_per_second"] = ratio(static_cast<double>(sums->samples), sums->seconds);
  report["steady_samples_per_second"] =
      ratio(static_cast<double>(sums->steady_samples), sums->steady_seconds);
  report["loss"] = {
      {"first", first}, {"last", last}, {"change_percent", change_percent(first, last)}};
  report["tasks"] = tasks_json(*sums);
  report["stages"] = stages_json(sums->stages);
  report["loader"] = loader_json(sums->work);
  auto evaluations = store.evaluations();
  if (!evaluations) return fail(evaluations.error());
  report["evaluations"] = json::array();
  for (const auto& record : *evaluations) report["evaluations"].push_back(to_json(record));
  auto checkpoints = checkpoints_json(store);
  if (!checkpoints) return fail(checkpoints.error());
  report["checkpoints"] = std::move(*checkpoints);
  CRABCAST_TRY(add_events(store, report));
  return report;
}

}  // namespace crabcast::apps

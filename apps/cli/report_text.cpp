// The report as tables.
#include <algorithm>

#include "apps/cli/output.h"
#include "apps/cli/report.h"
#include "protocol/format.h"
#include "protocol/tasks.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<std::string>>;

constexpr std::size_t kEvaluationColumns = 6;  // the first and the newest
constexpr std::size_t kIncidentRows = 20;      // the newest
constexpr std::size_t kCheckpointRows = 20;    // the newest
constexpr std::size_t kEvidence = 70;          // bytes of it
constexpr std::size_t kExample = 56;           // bytes of a truth or an answer

std::string number(const json& value, int digits) {
  return value.is_number() ? number_text(value.get<double>(), digits) : "-";
}

std::string percent(const json& value) {
  if (!value.is_number()) return "-";
  const std::string text = number_text(value.get<double>(), 1);
  return (text.starts_with("-") ? "" : "+") + text + "%";
}

std::string head_text(const json& report) {
  std::string text;
  if (report.contains("job")) text += report.at("job").get<std::string>();
  if (report.contains("state")) {
    text += ": " + report.at("state").get<std::string>();
    if (const std::string reason = report.at("reason"); !reason.empty())
      text += " (" + excerpt(reason, 500) + ")";
  }
  if (!text.empty()) text += "\n";
  const auto& steps = report.at("steps");
  text += std::to_string(steps.at("committed").get<std::uint64_t>()) + " steps, " +
          std::to_string(report.at("samples").get<std::uint64_t>()) + " samples in " +
          format_duration(report.at("wall_seconds")) + ": " +
          number(report.at("samples_per_second"), 2) + " samples/s (" +
          number(report.at("steady_samples_per_second"), 2) + " without starts and repairs)\n";
  if (const auto skipped = steps.at("skipped").get<std::uint64_t>(); skipped > 0)
    text += std::to_string(skipped) + " steps were skipped: their numbers were not finite\n";
  if (const auto replaced = report.at("replaced_samples").get<std::uint64_t>(); replaced > 0)
    text += std::to_string(replaced) + " samples could not be read and were replaced\n";
  if (const auto bad = report.at("quarantined_samples").get<std::uint64_t>(); bad > 0)
    text += std::to_string(bad) + (bad == 1 ? " sample is" : " samples are") +
            " in quarantine: crabcast quarantine JOB\n";
  return text;
}

std::string tasks_text(const json& report) {
  Rows rows;
  const auto row = [&rows](const std::string& name, const json& first, const json& last,
                           const json& change, const json& samples) {
    rows.push_back({name, number(first, 4), number(last, 4), percent(change), number(samples, 0)});
  };
  for (const auto& task : report.at("tasks"))
    row(task.at("task"), task.at("first_loss"), task.at("last_loss"), task.at("change_percent"),
        task.at("samples"));
  const auto& loss = report.at("loss");
  row("all", loss.at("first"), loss.at("last"), loss.at("change_percent"), report.at("samples"));
  const auto window = report.at("steps").at("window").get<std::uint64_t>();
  const std::string steps = window == 1 ? "step" : std::to_string(window) + " steps";
  return "\nLoss for each answer token, mean of the first and of the last " + steps + "\n" +
         format_table({"TASK", "FIRST", "LAST", "CHANGE", "SAMPLES"}, rows);
}

std::string scores_text(const json& report) {
  const auto& all = report.at("evaluations");
  if (all.empty()) return "\nNo checkpoint was evaluated\n";
  std::vector<const json*> shown;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (i == 0 || i + kEvaluationColumns > all.size()) shown.push_back(&all[i]);
  std::vector<std::string> header = {"TASK", "METRIC"};
  std::vector<std::pair<std::string, std::string>> tasks;  // and metrics, in order
  for (const json* evaluation : shown) {
    header.push_back("AT " + std::to_string(evaluation->at("checkpoint").get<std::uint64_t>()));
    for (const auto& score : evaluation->at("scores")) {
      std::pair<std::string, std::string> task(score.at("task"), score.at("metric"));
      if (std::find(tasks.begin(), tasks.end(), task) == tasks.end()) tasks.push_back(task);
    }
  }
  const auto rank = [](const auto& entry) {
    const auto task = task_from_name(entry.first);
    return task ? static_cast<std::size_t>(*task) : kTaskCount;
  };
  std::stable_sort(tasks.begin(), tasks.end(),
                   [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  Rows rows;
  for (const auto& [task, metric] : tasks) {
    std::vector<std::string> row = {task, metric};
    for (const json* evaluation : shown) {
      std::string cell = "-";
      for (const auto& score : evaluation->at("scores"))
        if (score.at("task") == task && score.at("metric") == metric)
          cell = number(score.at("score"), 3);
      row.push_back(cell);
    }
    rows.push_back(std::move(row));
  }
  std::vector<std::string> means = {"mean", ""};
  for (const json* evaluation : shown) means.push_back(number(evaluation->at("mean"), 3));
  rows.push_back(std::move(means));
  std::string text = "\nScores by checkpoint, from 0 to 1\n" + format_table(header, rows);
  if (shown.size() < all.size())
    text += std::to_string(all.size() - shown.size()) + " evaluations between are left out\n";
  return text;
}

// Whether training was worth it: the newest evaluated checkpoint beside what needs no training.
std::string comparison_text(const json& report) {
  const auto& all = report.at("evaluations");
  if (all.empty()) return "";
  Rows rows;
  std::size_t beaten = 0;
  for (const auto& score : all.back().at("scores")) {
    const auto& details = score.at("details");
    if (!details.contains("untrained") || !details.contains("constant")) continue;
    const double trained = score.at("score");
    const bool untrained = trained > details.at("untrained").get<double>();
    const bool constant = trained > details.at("constant").get<double>();
    beaten += untrained && constant ? 1 : 0;
    rows.push_back({score.at("task"), score.at("metric"), number(score.at("samples"), 0),
                    number(details.at("untrained"), 3), number(details.at("constant"), 3),
                    number(score.at("score"), 3),
                    untrained && constant ? "both"
                    : untrained           ? "untrained only"
                    : constant            ? "constant only"
                                          : "neither"});
  }
  if (rows.empty()) return "";
  return "\nHeld-out scores: the adapter before its first step, the best constant answer, and at " +
         std::to_string(all.back().at("checkpoint").get<std::uint64_t>()) + "\n" +
         format_table({"TASK", "METRIC", "SAMPLES", "UNTRAINED", "CONSTANT", "TRAINED", "BEATS"},
                      rows) +
         std::to_string(beaten) + " of " + std::to_string(rows.size()) +
         " tasks beat both the untrained adapter and the best constant answer\n";
}

// What the newest evaluated checkpoint answered: one held-out sample of each task.
std::string examples_text(const json& report) {
  const auto& all = report.at("evaluations");
  if (all.empty()) return "";
  Rows rows;
  for (const auto& example : all.back().at("examples")) {
    const std::string task = example.at("task");
    if (!rows.empty() && rows.back()[0] == task) continue;
    rows.push_back({task, excerpt(example.at("truth").get<std::string>(), kExample),
                    excerpt(example.at("answer").get<std::string>(), kExample)});
  }
  if (rows.empty()) return "";
  return "\nAnswers to held-out samples at " +
         std::to_string(all.back().at("checkpoint").get<std::uint64_t>()) + "\n" +
         format_table({"TASK", "TRUTH", "ANSWER"}, rows);
}

std::string checkpoints_text(const json& report) {
  const auto& all = report.at("checkpoints");
  if (all.empty()) return "\nNo checkpoint is stored\n";
  const std::size_t first = all.size() > kCheckpointRows ? all.size() - kCheckpointRows : 0;
  Rows rows;
  for (std::size_t i = first; i < all.size(); ++i) {
    const auto& one = all[i];
    const std::string id = std::to_string(one.at("id").get<std::uint64_t>());
    if (one.contains("problem")) {
      rows.push_back({id, "-", "-", "-", excerpt(one.at("problem").get<std::string>(), kEvidence)});
      continue;
    }
    rows.push_back({id, time_text(one.at("unix_ms")), format_bytes(one.at("bytes")),
                    number(one.at("chunks"), 0),
                    number(one.at("metrics").value("eval/mean", json()), 3)});
  }
  return "\nCheckpoints\n" + format_table({"ID", "TIME", "BYTES", "CHUNKS", "SCORE"}, rows);
}

std::string share_percent(const json& share) {
  return number_text(100 * share.get<double>(), 1) + "%";
}

// "data 0.4%, forward 40.1%"; empty when nothing was measured.
std::string shares_text(const json& stages) {
  std::string text;
  for (const auto& stage : stages) {
    if (!stage.at("share").is_number()) return "";
    if (!text.empty()) text += ", ";
    text += stage.at("stage").get<std::string>() + " " + share_percent(stage.at("share"));
  }
  return text;
}

std::string stages_text(const json& report) {
  const std::string text = shares_text(report.at("stages"));
  return text.empty() ? "" : "\nTime of a worker: " + text + "\n";
}

std::string loader_text(const json& report) {
  const auto& loader = report.at("loader");
  const auto samples = loader.at("samples").get<std::uint64_t>();
  if (samples == 0) return "";
  double seconds = 0;
  for (const auto& stage : loader.at("stages")) seconds += stage.at("seconds").get<double>();
  std::string text = "Loaders: " + format_duration(seconds / static_cast<double>(samples)) +
                     " of processor time a sample";
  if (const auto shares = shares_text(loader.at("stages")); !shares.empty())
    text += " (" + shares + ")";
  text += "; " + share_percent(loader.at("cached_share")) + " of them cached";
  if (const auto& padding = loader.at("padding_left_out"); padding.is_number())
    text += "; no padding is computed (padded batches: " + share_percent(padding) + ")";
  text += "\n";
  if (!loader.at("waited_share").is_number()) return text;
  return text + "Workers waited for " + share_percent(loader.at("waited_share")) +
         " of their batches; " + number_text(loader.at("batches_at_hand").get<double>(), 1) +
         " were at hand on average\n";
}

std::string incidents_text(const json& report) {
  const auto& all = report.at("incidents");
  if (all.empty()) return "\nNo incidents\n";
  const std::size_t first = all.size() > kIncidentRows ? all.size() - kIncidentRows : 0;
  Rows rows;
  for (std::size_t i = first; i < all.size(); ++i) {
    const auto& incident = all[i].at("incident");
    double seconds = 0;
    for (const char* part : {"detect", "decide", "reform", "load", "redo"})
      seconds += incident.at(std::string(part) + "_seconds").get<double>();
    rows.push_back({time_text(all[i].at("unix_ms")), incident.at("culprit"),
                    number(all[i].at("step"), 0), number_text(seconds, 2),
                    excerpt(incident.at("evidence").get<std::string>(), kEvidence)});
  }
  std::string text = "\nIncidents: " + std::to_string(all.size()) + "\n" +
                     format_table({"TIME", "CULPRIT", "STEP", "SECONDS", "EVIDENCE"}, rows);
  if (first > 0) text += std::to_string(first) + " older ones are left out\n";
  return text;
}

}  // namespace

std::string report_text(const json& report) {
  return head_text(report) + tasks_text(report) + scores_text(report) + comparison_text(report) +
         examples_text(report) + checkpoints_text(report) + stages_text(report) +
         loader_text(report) + incidents_text(report);
}

}  // namespace crabcast::apps

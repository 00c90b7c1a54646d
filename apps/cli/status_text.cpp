#include "apps/cli/status_text.h"

#include <algorithm>

#include "apps/cli/output.h"
#include "protocol/format.h"
#include "protocol/tasks.h"

namespace crabcast::apps {
namespace {

constexpr std::size_t kShortReason = 100;  // in a table, in bytes

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

std::string age(std::int64_t since_unix_ms, std::int64_t now_unix_ms) {
  if (since_unix_ms == 0) return "-";
  return format_duration(
      static_cast<double>(std::max<std::int64_t>(now_unix_ms - since_unix_ms, 0)) / 1000.0);
}

std::string step_text(const pb::JobStatus& job) {
  const std::string step = std::to_string(job.step());
  return job.steps() == 0 ? step : step + "/" + std::to_string(job.steps());
}

void add_line(std::string& page, const std::string& name, const std::string& value) {
  std::string label = "  " + name;
  label.resize(std::max<std::size_t>(label.size() + 2, 16), ' ');
  page += label + value + "\n";
}

std::string indented(const std::string& text) {
  std::string result = "    ";
  for (std::size_t i = 0; i < text.size(); ++i) {
    result += text[i];
    if (text[i] == '\n' && i + 1 < text.size()) result += "    ";
  }
  return result;
}

void add_losses(std::string& page, const pb::JobStatus& job) {
  std::vector<std::vector<std::string>> rows;
  std::vector<pb::TaskLoss> losses(job.losses().begin(), job.losses().end());
  std::stable_sort(losses.begin(), losses.end(), [](const auto& a, const auto& b) {
    const auto rank = [](const pb::TaskLoss& loss) {
      const auto task = task_from_name(loss.task());
      return task ? static_cast<std::size_t>(*task) : kTaskCount;
    };
    return rank(a) < rank(b);
  });
  for (const auto& loss : losses)
    rows.push_back({loss.task(),
                    loss.tokens() == 0
                        ? "-"
                        : number_text(loss.loss_sum() / static_cast<double>(loss.tokens()), 4),
                    std::to_string(loss.samples())});
  if (rows.empty()) return;
  add_line(page, "loss", number_text(job.loss(), 4) + ", by task over the last steps:");
  page += indented(format_table({"TASK", "LOSS", "SAMPLES"}, rows));
}

void add_evaluation(std::string& page, const pb::JobStatus& job) {
  if (!job.has_evaluation()) return;
  std::vector<std::vector<std::string>> rows;
  for (const auto& score : job.evaluation().scores())
    rows.push_back({score.task(), score.metric(), number_text(score.score(), 3),
                    std::to_string(score.samples())});
  add_line(page, "scores",
           "of checkpoint " + std::to_string(job.evaluation().checkpoint()) + ", mean " +
               number_text(job.evaluation().mean(), 3) + ":");
  page += indented(format_table({"TASK", "METRIC", "SCORE", "SAMPLES"}, rows));
}

void add_stages(std::string& page, const pb::StageSeconds& stages) {
  const double sum = stages.data() + stages.forward() + stages.backward() + stages.reduce() +
                     stages.commit() + stages.optimizer();
  if (sum <= 0) return;
  const auto share = [sum](const char* name, double part) {
    return std::string(name) + " " + number_text(100 * part / sum, 1) + "%";
  };
  add_line(page, "time",
           share("data", stages.data()) + ", " + share("forward", stages.forward()) + ", " +
               share("backward", stages.backward()) + ", " + share("reduce", stages.reduce()) +
               ", " + share("commit", stages.commit()) + ", " +
               share("optimizer", stages.optimizer()));
}

}  // namespace

std::string job_table(const std::vector<pb::JobStatus>& jobs, std::int64_t now_unix_ms) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& job : jobs) {
    const bool running = job.state() == pb::JOB_RUNNING || job.state() == pb::JOB_STOPPING;
    rows.push_back(
        {job.job(), job_state_name(job.state()), step_text(job),
         job.losses().empty() ? "-" : number_text(job.loss(), 3),
         running ? number_text(job.samples_per_second(), 1) : "-",
         running ? std::to_string(job.workers_alive()) + "/" + std::to_string(job.workers_wanted())
                 : "-",
         age(job.submitted_unix_ms(), now_unix_ms), or_dash(excerpt(job.reason(), kShortReason))});
  }
  return format_table({"JOB", "STATE", "STEP", "LOSS", "SAMPLES/S", "WORKERS", "AGE", "REASON"},
                      rows);
}

std::string actor_table(const pb::JobStatus& job, std::int64_t now_unix_ms) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& actor : job.actors())
    rows.push_back({actor.name(), actor_state_name(actor.state()),
                    age(actor.since_unix_ms(), now_unix_ms), or_dash(actor.node()),
                    actor.pid() == 0 ? "-" : std::to_string(actor.pid()),
                    std::to_string(actor.mailbox()), std::to_string(actor.restarts()),
                    or_dash(excerpt(actor.doing(), kShortReason)),
                    or_dash(excerpt(actor.reason(), kShortReason))});
  return format_table(
      {"ACTOR", "STATE", "SINCE", "NODE", "PID", "MAILBOX", "RESTARTS", "DOING", "REASON"}, rows);
}

std::string status_text(const pb::JobStatus& job, std::int64_t now_unix_ms) {
  std::string page = job.job() + ": " + job_state_name(job.state()) + "\n";
  if (!job.reason().empty()) add_line(page, "reason", excerpt(job.reason(), 2000));
  std::string step = step_text(job);
  if (job.generation() != 0) step += ", generation " + std::to_string(job.generation());
  if (job.state() == pb::JOB_RUNNING && job.samples_per_second() > 0)
    step += ", " + number_text(job.samples_per_second(), 1) + " samples/s, about " +
            format_duration(job.eta_seconds()) + " left";
  add_line(page, "step", step);
  if (job.workers_wanted() != 0)
    add_line(page, "workers",
             std::to_string(job.workers_alive()) + " of " + std::to_string(job.workers_wanted()) +
                 " alive");
  add_losses(page, job);
  add_evaluation(page, job);
  add_stages(page, job.stages());
  if (job.checkpoints() != 0) {
    std::string text =
        std::to_string(job.checkpoints()) + ", newest " + std::to_string(job.newest_checkpoint());
    if (job.replicated_checkpoint() != 0)
      text += ", on other nodes up to " + std::to_string(job.replicated_checkpoint());
    add_line(page, "checkpoints", text);
  }
  if (job.incidents() != 0)
    add_line(page, "incidents",
             std::to_string(job.incidents()) + "; see crabcast events " + job.job());
  if (!job.priority().empty()) add_line(page, "priority", job.priority());
  add_line(page, "submitted", time_text(job.submitted_unix_ms()));
  if (job.started_unix_ms() != 0) add_line(page, "started", time_text(job.started_unix_ms()));
  if (job.ended_unix_ms() != 0 && job_is_over(job.state()))
    add_line(page, "ended", time_text(job.ended_unix_ms()));
  if (!job.job_dir().empty()) add_line(page, "folder", job.job_dir());
  if (!job.actors().empty()) page += "\n" + actor_table(job, now_unix_ms);
  return page;
}

}  // namespace crabcast::apps

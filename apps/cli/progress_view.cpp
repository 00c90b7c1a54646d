#include "apps/cli/progress_view.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "apps/cli/output.h"
#include "protocol/format.h"
#include "protocol/tasks.h"

namespace crabcast::apps {
namespace {

constexpr int kBarCells = 24;
constexpr auto kLineEvery = std::chrono::seconds(5);

int terminal_width() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

std::string number(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// Cut at `width` columns; a UTF-8 character of this program is one column wide.
std::string cut(const std::string& text, int width) {
  int columns = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U) continue;
    if (columns++ == width) return text.substr(0, i);
  }
  return text;
}

// "action_recognition" -> "action", "av_question_answering" -> "question".
std::string short_task(const std::string& task) {
  if (task == task_name(Task::av_question_answering)) return "question";
  if (task == task_name(Task::temporal_localization)) return "time";
  if (task == task_name(Task::spatial_localization)) return "place";
  return task.substr(0, task.find('_'));
}

double mean_loss(const pb::TaskLoss& loss) {
  return loss.tokens() == 0 ? 0 : loss.loss_sum() / static_cast<double>(loss.tokens());
}

}  // namespace

std::string ProgressView::bar_line(const pb::JobStatus& status, int width) {
  if (status.steps() == 0 || status.state() == pb::JOB_PENDING ||
      (status.state() == pb::JOB_STARTING && status.step() == 0)) {
    std::string what = job_state_name(status.state());
    if (!status.reason().empty()) what += ": " + status.reason();
    for (const auto& actor : status.actors())
      if (!actor.doing().empty() && actor.state() != pb::ACTOR_HEALTHY)
        what += "  " + actor.name() + ": " + actor.doing();
    return cut(status.job() + "  " + what, width);
  }
  const double share = static_cast<double>(status.step()) / static_cast<double>(status.steps());
  const int full = static_cast<int>(share * kBarCells);
  std::string bar;
  for (int i = 0; i < kBarCells; ++i) bar += i < full ? "━" : "─";
  std::string line = bar + " step " + std::to_string(status.step()) + "/" +
                     std::to_string(status.steps()) + "  loss " + number(status.loss(), 3) + "  " +
                     number(status.samples_per_second(), 1) + " samples/s";
  if (status.step() < status.steps())
    line += "  ETA " + format_duration(status.eta_seconds());
  else
    line += "  " + std::string(status.checkpoints() == 0 ? "saving" : "finishing");
  line += "  workers " + std::to_string(status.workers_alive()) + "/" +
          std::to_string(status.workers_wanted());
  return cut(line, width);
}

std::string ProgressView::task_line(const pb::JobStatus& status, int width) {
  std::string line;
  for (const auto& loss : status.losses())
    line += (line.empty() ? "" : "  ") + short_task(loss.task()) + " " + number(mean_loss(loss), 2);
  return cut(line, width);
}

void ProgressView::show(const pb::JobStatus& status, TimePoint now) {
  const bool moved = !any_ || status.step() != last_.step() || status.state() != last_.state() ||
                     status.reason() != last_.reason();
  last_ = status;
  any_ = true;
  switch (style_) {
    case Style::bar:
      erase_bar();
      draw_bar();
      break;
    case Style::lines:
      if (!moved || now - last_line_at_ < kLineEvery) break;
      last_line_at_ = now;
      std::printf("%s\n", bar_line(status, 200).c_str());
      if (status.losses_size() > 0) std::printf("    %s\n", task_line(status, 200).c_str());
      std::fflush(stdout);
      break;
    case Style::json:
      if (!moved) break;
      std::printf("%s\n", nlohmann::json{{"status", to_json(status)}}.dump().c_str());
      std::fflush(stdout);
      break;
    case Style::none:
      break;
  }
}

void ProgressView::show(const pb::Event& event) {
  if (style_ == Style::none) return;
  if (style_ == Style::json) {
    std::printf("%s\n", nlohmann::json{{"event", to_json(event)}}.dump().c_str());
    std::fflush(stdout);
    return;
  }
  const char* mark = event.severity() == pb::SEVERITY_ERROR     ? "error: "
                     : event.severity() == pb::SEVERITY_WARNING ? "warning: "
                                                                : "";
  note(std::string(mark) + event.kind() + " " + event.subject() + ": " + event.message());
}

void ProgressView::note(const std::string& text) {
  if (style_ == Style::none || style_ == Style::json) return;
  erase_bar();
  std::printf("%s\n", text.c_str());
  if (style_ == Style::bar && any_) draw_bar();
  std::fflush(stdout);
}

void ProgressView::erase_bar() {
  if (!drawn_) return;
  std::printf("\r\033[2K\033[1A\033[2K\r");
  drawn_ = false;
}

void ProgressView::draw_bar() {
  const int width = terminal_width() - 1;
  std::printf("%s\n%s", bar_line(last_, width).c_str(), task_line(last_, width).c_str());
  std::fflush(stdout);
  drawn_ = true;
}

void ProgressView::close() {
  if (drawn_) std::printf("\n");
  drawn_ = false;
  std::fflush(stdout);
}

}  // namespace crabcast::apps

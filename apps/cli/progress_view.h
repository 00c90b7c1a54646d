// What `crabcast run` shows while a job runs: a live bar on a terminal, plain lines elsewhere, JSON
// lines with --json.
#pragma once

#include <cstdint>
#include <string>

#include "protocol/clock.h"
#include "protocol/envelope.pb.h"

namespace crabcast::apps {

class ProgressView {
 public:
  enum class Style { bar, lines, json, none };
  explicit ProgressView(Style style) : style_(style) {}
  ~ProgressView() { close(); }

  void show(const pb::JobStatus& status, TimePoint now);
  void show(const pb::Event& event);
  void note(const std::string& text);
  // Leaves the last bar standing and the cursor below it.
  void close();

  // The two lines of the bar, at most `width` columns each.
  static std::string bar_line(const pb::JobStatus& status, int width);
  static std::string task_line(const pb::JobStatus& status, int width);

 private:
  void erase_bar();
  void draw_bar();

  Style style_;
  pb::JobStatus last_;
  bool drawn_ = false;
  bool any_ = false;
  TimePoint last_line_at_{};
  std::uint64_t last_line_step_ = 0;
};

}  // namespace crabcast::apps

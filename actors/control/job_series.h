// What the charts of a job show, made from its coordinator's reports: points that thin out as the
// job grows, its evaluations, and the changes of its mixture. Pure; one thread.
#pragma once

#include "protocol/envelope.pb.h"

namespace crabcast::actors {

class SeriesBook {
 public:
  static constexpr int kMostPoints = 512;
  static constexpr int kMostOthers = 256;  // evaluations, and changes of the mixture

  // Goes on with what was stored; empty for a job that begins.
  explicit SeriesBook(pb::JobSeries stored);

  // A report without a new step adds nothing. One of an earlier step takes what came after it away:
  // the job went back to a checkpoint.
  void add(const pb::JobStatus& status, std::int64_t unix_ms);
  [[nodiscard]] const pb::JobSeries& series() const { return series_; }

 private:
  void add_point(const pb::JobStatus& status, std::int64_t unix_ms);
  void add_evaluation(const pb::JobStatus& status);
  void add_mixture(const pb::JobStatus& status);
  pb::SeriesPoint point_of(const pb::JobStatus& status, std::int64_t unix_ms);
  [[nodiscard]] std::uint64_t span_of(int point) const;
  void forget_after(std::uint64_t step);
  void halve_points();

  pb::JobSeries series_;
  std::uint64_t gap_ = 1;      // steps that a point covers at least
  pb::StageSeconds reported_;  // sums of the last report
};

}  // namespace crabcast::actors

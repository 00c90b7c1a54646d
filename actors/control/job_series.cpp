#include "actors/control/job_series.h"

#include <algorithm>
#include <utility>

namespace crabcast::actors {
namespace {

using Stage = std::pair<double (pb::StageSeconds::*)() const, void (pb::StageSeconds::*)(double)>;

constexpr Stage kStages[] = {
    {&pb::StageSeconds::data, &pb::StageSeconds::set_data},
    {&pb::StageSeconds::forward, &pb::StageSeconds::set_forward},
    {&pb::StageSeconds::backward, &pb::StageSeconds::set_backward},
    {&pb::StageSeconds::reduce, &pb::StageSeconds::set_reduce},
    {&pb::StageSeconds::commit, &pb::StageSeconds::set_commit},
    {&pb::StageSeconds::optimizer, &pb::StageSeconds::set_optimizer},
};

// a * weight_a + b * weight_b
pb::StageSeconds blend(const pb::StageSeconds& a, double weight_a, const pb::StageSeconds& b,
                       double weight_b) {
  pb::StageSeconds result;
  for (const auto& [get, set] : kStages)
    (result.*set)((a.*get)() * weight_a + (b.*get)() * weight_b);
  return result;
}

// The earlier of two neighbours goes into the later one.
void merge(const pb::SeriesPoint& earlier, std::uint64_t earlier_span, pb::SeriesPoint& later,
           std::uint64_t later_span) {
  const auto all = static_cast<double>(earlier_span + later_span);
  if (all > 0)
    *later.mutable_stages() = blend(earlier.stages(), static_cast<double>(earlier_span) / all,
                                    later.stages(), static_cast<double>(later_span) / all);
}

// Every second entry goes, the newest stays.
template <class List>
void halve(List& list) {
  List kept;
  for (int i = (list.size() - 1) % 2; i < list.size(); i += 2) *kept.Add() = std::move(list[i]);
  list.Swap(&kept);
}

}  // namespace

SeriesBook::SeriesBook(pb::JobSeries stored) : series_(std::move(stored)) {
  const int size = series_.points_size();
  if (size >= kMostPoints / 2)
    gap_ = std::max<std::uint64_t>(1, (series_.points(size - 1).step() - series_.points(0).step()) /
                                          static_cast<std::uint64_t>(size - 1));
}

void SeriesBook::add(const pb::JobStatus& status, std::int64_t unix_ms) {
  series_.set_job(status.job());
  add_point(status, unix_ms);
  add_evaluation(status);
  add_mixture(status);
}

std::uint64_t SeriesBook::span_of(int point) const {
  const auto before = point == 0 ? 0 : series_.points(point - 1).step();
  return series_.points(point).step() - std::min(before, series_.points(point).step());
}

void SeriesBook::add_point(const pb::JobStatus& status, std::int64_t unix_ms) {
  if (status.step() == 0 || status.losses_size() == 0) return;  // nothing was trained yet
  forget_after(status.step());
  const int last = series_.points_size() - 1;
  if (last >= 0 && series_.points(last).step() == status.step()) return;
  auto point = point_of(status, unix_ms);
  if (last >= 0 && span_of(last) < gap_) {  // the last one is not full yet
    auto& open = *series_.mutable_points(last);
    merge(open, span_of(last), point, point.step() - open.step());
    open = std::move(point);
  } else {
    *series_.add_points() = std::move(point);
  }
  if (series_.points_size() > kMostPoints) halve_points();
}

pb::SeriesPoint SeriesBook::point_of(const pb::JobStatus& status, std::int64_t unix_ms) {
  pb::SeriesPoint point;
  point.set_unix_ms(unix_ms);
  point.set_step(status.step());
  point.set_loss(status.loss());
  *point.mutable_losses() = status.losses();
  point.set_samples_per_second(status.samples_per_second());
  point.set_workers(status.workers_alive());
  point.set_generation(status.generation());
  const auto before = series_.points().empty() ? 0 : series_.points().rbegin()->step();
  const double each = 1.0 / static_cast<double>(status.step() - before);
  // Sums that are smaller than before begin anew, with another coordinator.
  const bool anew = std::any_of(std::begin(kStages), std::end(kStages), [&](const Stage& stage) {
    return (status.stages().*stage.first)() < (reported_.*stage.first)();
  });
  *point.mutable_stages() = blend(status.stages(), each, reported_, anew ? 0 : -each);
  reported_ = status.stages();
  return point;
}

void SeriesBook::forget_after(std::uint64_t step) {
  auto& points = *series_.mutable_points();
  while (!points.empty() && points.rbegin()->step() > step) points.RemoveLast();
}

void SeriesBook::halve_points() {
  auto& points = *series_.mutable_points();
  google::protobuf::RepeatedPtrField<pb::SeriesPoint> kept;
  for (int i = 0; i < points.size(); i += 2) {
    if (i + 1 == points.size()) {
      *kept.Add() = points[i];
      break;
    }
    auto later = points[i + 1];
    merge(points[i], span_of(i), later, span_of(i + 1));
    *kept.Add() = std::move(later);
  }
  points.Swap(&kept);
  gap_ *= 2;
}

void SeriesBook::add_evaluation(const pb::JobStatus& status) {
  if (!status.has_evaluation()) return;
  auto& list = *series_.mutable_evaluations();
  while (!list.empty() && list.rbegin()->checkpoint() > status.evaluation().checkpoint())
    list.RemoveLast();
  if (!list.empty() && list.rbegin()->checkpoint() == status.evaluation().checkpoint()) return;
  if (!list.empty()) list.rbegin()->clear_examples();  // those of the newest only
  *list.Add() = status.evaluation();
  if (list.size() > kMostOthers) halve(list);
}

void SeriesBook::add_mixture(const pb::JobStatus& status) {
  auto& list = *series_.mutable_mixture();
  for (const auto& change : status.mixture()) {
    while (!list.empty() && list.rbegin()->first_step() > change.first_step()) list.RemoveLast();
    if (list.empty() || list.rbegin()->first_step() < change.first_step()) *list.Add() = change;
  }
  if (list.size() > kMostOthers) halve(list);
}

}  // namespace crabcast::actors

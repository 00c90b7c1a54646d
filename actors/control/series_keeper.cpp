#include "actors/control/series_keeper.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/registry_actor.h"

namespace crabcast::actors {
namespace {

// A crash of the controller costs so much of a chart at most.
constexpr auto kKeepEvery = std::chrono::seconds(30);
constexpr auto kRegistryTimeout = std::chrono::seconds(30);

}  // namespace

void SeriesKeeper::report(const pb::JobStatus& status) {
  const auto [at, fresh] = charts_.try_emplace(status.job());
  Chart& chart = at->second;
  chart.latest = status;
  if (fresh) return read_kept(status.job());
  if (!chart.book) return;
  chart.book->add(status, unix_ms_now());
  if (Clock::now() - chart.kept >= kKeepEvery) keep(chart);
}

void SeriesKeeper::read_kept(const std::string& job) {
  self_->request(registry_, kRegistryTimeout, ReadSeries{JobId{job}})
      .then(
          [this, job](const SeriesRead& read) {
            const auto found = charts_.find(job);
            if (found == charts_.end() || found->second.book) return;
            Chart& chart = found->second;
            chart.book.emplace(*read.series);
            chart.book->add(chart.latest, unix_ms_now());
            chart.kept = Clock::now();
          },
          [job](const caf::error& error) {
            spdlog::error("the charts of {} cannot be read: {}", job, from_caf(error).message);
          });
}

void SeriesKeeper::keep(Chart& chart) {
  chart.kept = Clock::now();
  auto series = std::make_shared<const pb::JobSeries>(chart.book->series());
  self_->request(registry_, kRegistryTimeout, PutSeries{series})
      .then([] {},
            [job = series->job()](const caf::error& error) {
              spdlog::error("the charts of {} were not stored: {}", job, from_caf(error).message);
            });
}

void SeriesKeeper::close(const std::string& job) {
  const auto found = charts_.find(job);
  if (found == charts_.end()) return;
  if (found->second.book) keep(found->second);
  charts_.erase(found);
}

void SeriesKeeper::send(const DeliveryPtr& message) {
  const auto& job = message->envelope->get_series().job();
  const auto found = charts_.find(job);
  if (found != charts_.end() && found->second.book)
    return answer(*message, found->second.book->series());
  self_->request(registry_, kRegistryTimeout, ReadSeries{JobId{job}})
      .then([message](const SeriesRead& read) { answer(*message, *read.series); },
            [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

}  // namespace crabcast::actors

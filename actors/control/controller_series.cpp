// The controller: the specs of jobs, and what their charts show.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/controller_state.h"

namespace crabcast::actors {
namespace {

// A crash of the controller costs so much of a chart at most.
constexpr auto kKeepEvery = std::chrono::seconds(30);

}  // namespace

void ControllerState::send_spec(const Delivery& message) const {
  const auto& id = message.envelope->get_spec().job();
  const auto found = jobs.find(id);
  if (found == jobs.end())
    return answer(message, Error{Errc::not_found, "no job is named '" + id + "'; see crabcast ps"});
  pb::SpecText text;
  text.set_job(id);
  text.set_yaml(found->second.record.spec_yaml());
  answer(message, text);
}

void ControllerState::send_series(const DeliveryPtr& message) {
  const auto& id = message->envelope->get_series().job();
  const auto found = jobs.find(id);
  if (found == jobs.end())
    return answer(*message,
                  Error{Errc::not_found, "no job is named '" + id + "'; see crabcast ps"});
  if (found->second.series) return answer(*message, found->second.series->series());
  self->request(registry, kRegistryTimeout, ReadSeries{JobId{id}})
      .then([message](const SeriesRead& read) { answer(*message, *read.series); },
            [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

// From a coordinator's report. The first one after a start of the controller has what an earlier
// controller kept read.
void ControllerState::note_series(Job& job) {
  if (job.series) {
    job.series->add(*job.status, unix_ms_now());
    if (Clock::now() - job.series_kept >= kKeepEvery) keep_series(job);
    return;
  }
  if (job.series_asked) return;
  job.series_asked = true;
  self->request(registry, kRegistryTimeout, ReadSeries{JobId{job.record.job()}})
      .then(
          [this, id = job.record.job()](const SeriesRead& read) {
            const auto known = jobs.find(id);
            if (known == jobs.end() || !known->second.series_asked) return;
            known->second.series.emplace(*read.series);
            if (known->second.status)
              known->second.series->add(*known->second.status, unix_ms_now());
          },
          [id = job.record.job()](const caf::error& error) {
            spdlog::error("the charts of {} cannot be read: {}", id, from_caf(error).message);
          });
}

void ControllerState::keep_series(Job& job) {
  job.series_kept = Clock::now();
  self->request(registry, kRegistryTimeout,
                PutSeries{std::make_shared<const pb::JobSeries>(job.series->series())})
      .then([] {},
            [id = job.record.job()](const caf::error& error) {
              spdlog::error("the charts of {} were not stored: {}", id, from_caf(error).message);
            });
}

// The job is over: its charts are in the registry from now on.
void ControllerState::close_series(Job& job) {
  if (job.series) keep_series(job);
  job.series.reset();
  job.series_asked = false;
}

}  // namespace crabcast::actors

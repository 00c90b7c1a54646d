// The charts of all jobs beside the controller: it hears reports, and has the charts of running
// jobs in memory and all of them in the registry.
#pragma once

#include <caf/actor.hpp>
#include <caf/event_based_actor.hpp>
#include <map>
#include <optional>
#include <string>

#include "actors/control/job_series.h"
#include "actors/messages.h"
#include "protocol/clock.h"

namespace crabcast::actors {

// A part of an actor: all methods from inside it.
class SeriesKeeper {
 public:
  SeriesKeeper(caf::event_based_actor* self, caf::actor registry)
      : self_(self), registry_(std::move(registry)) {}

  // What a coordinator that counts reports of its job.
  void report(const pb::JobStatus& status);
  // The job is over, or stopped: its charts are in the registry from now on.
  void close(const std::string& job);
  // Answers a GetSeries about a job that is known.
  void send(const DeliveryPtr& message);

 private:
  struct Chart {
    std::optional<SeriesBook> book;  // not set while what is kept of it is being read
    pb::JobStatus latest;
    TimePoint kept = {};
  };
  void read_kept(const std::string& job);
  void keep(Chart& chart);

  caf::event_based_actor* self_;
  caf::actor registry_;
  std::map<std::string, Chart> charts_;
};

}  // namespace crabcast::actors

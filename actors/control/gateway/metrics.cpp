#include "actors/control/gateway/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <set>

#include "actors/control/gateway/cluster_metrics.h"
#include "actors/control/gateway/json.h"

namespace crabcast::gateway {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

const prometheus::Histogram::BucketBoundaries& buckets() {
  static const prometheus::Histogram::BucketBoundaries bounds = {
      0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
  return bounds;
}

// "worker-3" -> "worker", "agent@node-7" -> "agent": who failed, and not which one.
std::string kind_of(const std::string& culprit) {
  static const std::set<std::string> kinds = {"worker", "loader", "evaluator", "coordinator",
                                              "agent"};
  const auto kind = culprit.substr(0, culprit.find_first_of("-@"));
  return kinds.contains(kind) ? kind : "other";
}

}  // namespace

Metrics::Metrics(const std::string& version)
    : asked_(BuildHistogram()
                 .Name("crabcast_controller_request_seconds")
                 .Help("Time from a gateway's question to the controller's answer.")
                 .Register(registry_)),
      requests_(BuildCounter()
                    .Name("crabcast_http_requests_total")
                    .Help("Requests that the gateway answered, by route and status.")
                    .Register(registry_)),
      events_(BuildCounter()
                  .Name("crabcast_events_total")
                  .Help("Events since this controller started, by severity.")
                  .Register(registry_)),
      incidents_(BuildCounter()
                     .Name("crabcast_incidents_total")
                     .Help("Incidents since this controller started, by kind of culprit.")
                     .Register(registry_)),
      refused_(BuildCounter()
                   .Name("crabcast_http_connections_refused_total")
                   .Help("Connections that were closed at once, by reason.")
                   .Register(registry_)),
      ended_(BuildCounter()
                 .Name("crabcast_http_streams_ended_total")
                 .Help("Streams of events that the gateway ended, by reason.")
                 .Register(registry_)),
      connections_(BuildGauge()
                       .Name("crabcast_http_connections")
                       .Help("Open connections of the gateway.")
                       .Register(registry_)
                       .Add({})),
      streams_(BuildGauge()
                   .Name("crabcast_http_streams")
                   .Help("Open streams of events.")
                   .Register(registry_)
                   .Add({})) {
  BuildGauge()
      .Name("crabcast_build_info")
      .Help("1, with the version of the program.")
      .Register(registry_)
      .Add({{"version", version}})
      .Set(1);
  // A counter that appears with its first count hides that count from rate().
  for (const char* kind : {"worker", "loader", "evaluator", "coordinator", "agent", "other"})
    incidents_.Add({{"kind", kind}});
  for (const char* severity : {"info", "warning", "error"}) events_.Add({{"severity", severity}});
}

void Metrics::asked(const std::string& request, double seconds, bool answered) {
  asked_.Add({{"request", request}, {"answered", answered ? "yes" : "no"}}, buckets())
      .Observe(seconds);
}

void Metrics::served(const std::string& route, int status) {
  requests_.Add({{"route", route}, {"code", std::to_string(status)}}).Increment();
}

void Metrics::heard(const pb::Event& event) {
  if (const auto* value = pb::Severity_descriptor()->FindValueByNumber(event.severity()))
    events_.Add({{"severity", short_name(*value)}}).Increment();
  if (event.has_incident())
    incidents_.Add({{"kind", kind_of(event.incident().culprit())}}).Increment();
}

void Metrics::refused_connection(const std::string& reason) {
  refused_.Add({{"reason", reason}}).Increment();
}

void Metrics::set_connections(std::size_t open) {
  connections_.Set(static_cast<double>(open));
}

void Metrics::set_streams(std::size_t open) {
  streams_.Set(static_cast<double>(open));
}

void Metrics::stream_ended(const std::string& reason) {
  ended_.Add({{"reason", reason}}).Increment();
}

std::vector<std::string> Metrics::ended_since(const ClusterState& open) {
  const auto now = Clock::now();
  const std::scoped_lock lock(mutex_);
  for (const auto& job : open.jobs) known_[job.job()].seen_open = now;
  std::erase_if(known_, [&](const auto& entry) {
    return now - entry.second.seen_open > Metrics::kShowEnded;
  });
  std::vector<std::pair<TimePoint, std::string>> ended;
  for (const auto& [job, known] : known_)
    if (known.seen_open != now) ended.emplace_back(known.seen_open, job);
  // Each is a question of its own: the last ones, and not a storm of them.
  constexpr std::size_t kMost = 100;
  std::sort(ended.rbegin(), ended.rend());
  if (ended.size() > kMost) ended.resize(kMost);
  std::vector<std::string> jobs;
  for (auto& [at, job] : ended) jobs.push_back(std::move(job));
  return jobs;
}

std::string Metrics::text(const ClusterState& state, TimePoint now, std::int64_t unix_ms) {
  std::map<std::string, double> ages;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& job : state.jobs) {
      auto [at, fresh] = known_.emplace(job.job(), Known{now, 0, unix_ms});
      Known& known = at->second;
      if (known.checkpoint != job.newest_checkpoint() || known.checkpoint_unix_ms == 0) {
        known.checkpoint = job.newest_checkpoint();
        known.checkpoint_unix_ms = unix_ms;
      }
      ages[job.job()] = static_cast<double>(unix_ms - known.checkpoint_unix_ms) / 1000.0;
    }
  }
  auto families = registry_.Collect();
  for (auto& family : cluster_metrics(state, ages)) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace crabcast::gateway

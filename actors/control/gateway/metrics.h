// What Prometheus reads at /metrics. The names are stable: docs/metrics.md lists them, and a test
// compares that page with what is exposed.
//
// Two kinds: what this process counts as it goes (requests, events), and the state of the cluster,
// which is asked for with each reading and turned into numbers.
//
// Bounds: a job that is over is shown for kShowEnded longer, at most kMostJobs jobs are shown one
// by one (the newest), and nothing that a client sends becomes a label. Concurrency: all methods
// from any thread.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "protocol/clock.h"
#include "protocol/envelope.pb.h"

namespace crabcast::gateway {

struct ClusterState {
  std::vector<pb::JobStatus> jobs;  // that are not over, and those of `ended_since`
  std::vector<pb::NodeStatus> nodes;
  std::vector<pb::QueueStatus> queues;
};

class Metrics {
 public:
  static constexpr auto kShowEnded = std::chrono::minutes(10);
  static constexpr std::size_t kMostJobs = 2000;

  explicit Metrics(const std::string& version);

  void asked(const std::string& request, double seconds, bool answered);
  void served(const std::string& route, int status);
  void heard(const pb::Event& event);
  void refused_connection(const std::string& reason);
  void set_connections(std::size_t open);
  void set_streams(std::size_t open);
  void stream_ended(const std::string& reason);

  // Jobs that were open in an earlier state, are not in this one, and are to be shown still.
  std::vector<std::string> ended_since(const ClusterState& open);
  // In Prometheus' text format.
  std::string text(const ClusterState& state, TimePoint now, std::int64_t unix_ms);

 private:
  struct Known {
    TimePoint seen_open;
    std::uint64_t checkpoint = 0;
    std::int64_t checkpoint_unix_ms = 0;
  };

  prometheus::Registry registry_;
  prometheus::Family<prometheus::Histogram>& asked_;
  prometheus::Family<prometheus::Counter>&requests_, &events_, &incidents_, &refused_, &ended_;
  prometheus::Gauge &connections_, &streams_;

  std::mutex mutex_;  // guards what follows
  std::map<std::string, Known> known_;
};

}  // namespace crabcast::gateway

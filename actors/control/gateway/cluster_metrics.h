// The state of the cluster as families of metrics. Pure.
#pragma once

#include <prometheus/metric_family.h>

#include <vector>

#include "actors/control/gateway/metrics.h"

namespace crabcast::gateway {

// `checkpoint_ages`: seconds since the newest checkpoint of each job, where it is known.
std::vector<prometheus::MetricFamily> cluster_metrics(
    const ClusterState& state, const std::map<std::string, double>& checkpoint_ages);

}  // namespace crabcast::gateway

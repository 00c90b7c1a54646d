// The adapter that a request to generate names, wherever it is kept.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/named_tensor.h"
#include "protocol/error.h"
#include "protocol/generate.pb.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

struct AdapterWeights {
  std::string source;  // for messages
  AdapterSpec spec;
  std::optional<Precision> precision;       // with which it was trained, where that is known
  std::string base_hash;                    // of its base; empty: not known
  std::vector<model::NamedTensor> tensors;  // adapter/NAME, as Session::load_state takes them
};

// Nothing when the request names no adapter. corrupt: a checkpoint's bytes are not all there; for a
// file or folder as open_adapter and complete_spec say it.
Result<std::optional<AdapterWeights>> read_adapter(const pb::GenerateRequest& request);

}  // namespace crabcast::actors

// A session's state by name: what a checkpoint or a joining peer needs.
//
//     adapter/NAME                 float32, the parameter's shape
//     optimizer/NAME.exp_avg       float32, the parameter's shape
//     optimizer/NAME.exp_avg_sq    float32, the parameter's shape
//     optimizer/NAME.step          int64 [1]
#pragma once

#include <vector>

#include "model/adamw.h"
#include "model/adapter.h"
#include "model/session.h"

namespace crabcast::model {

// Contiguous, on the host. Of a session on the host they are ranges of its own buffers, without a
// copy: nobody may write to them, and while somebody holds them the session may not, either.
std::vector<NamedTensor> export_state(const AdapterSet& adapters, const AdamW& optimizer);

// All or nothing: with any mistake nothing is changed, and the error (corrupt) names every tensor
// that is missing, surplus, given twice or misshapen. With `adapter_only` optimizer tensors are
// neither needed nor read.
Status import_state(const std::vector<NamedTensor>& tensors, bool adapter_only,
                    AdapterSet& adapters, AdamW& optimizer);

// The same with the parameters' own names, in float32, float16 or bfloat16.
Status import_parameters(const std::vector<NamedTensor>& tensors, AdapterSet& adapters);

}  // namespace crabcast::model

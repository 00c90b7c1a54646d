// Time for memory: parts of the model whose inner activations are not kept for the backward pass
// but computed again in it (Chen et al., arXiv 1604.06174).
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

#include "model/linear.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

using Block = std::function<at::Tensor(const at::Tensor&, Output)>;

// block(x), and where `recompute` says so, of all that block computes only x is kept; the backward
// pass calls block again, with gradients enabled and its output unread: the block may leave the
// product that it ends with undone. Gradients of parameters that block uses are added to their
// grad() as by any backward pass, so the whole must be differentiated by backward(), not by grad().
//
// block must use something that requires a gradient, give the same bits each time, and what it
// refers to must live until the backward pass is over. Without gradients: block(x), no more.
at::Tensor apply_block(const Block& block, const at::Tensor& x, Recompute recompute);

}  // namespace crabcast::model

// From logits to the next token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/generation.h"
#include "model/tokenizer.h"
#include "protocol/error.h"

namespace crabcast::model {

// The logits of the most likely tokens, which together have the probability `top_p`: the smallest
// such set, at least one token. All others are -inf. Float, [N, V].
at::Tensor keep_top_p(const at::Tensor& logits_NV, double top_p);

// One id for each row: the largest logit, or drawn as the options say. Row n is of sample
// `samples[n]` and is to become token `index` of its answer. non_finite: a row holds NaN, or
// nothing but -inf.
Result<std::vector<TokenId>> choose_tokens(const at::Tensor& logits_NV,
                                           const GenerationOptions& options,
                                           const std::vector<std::uint64_t>& samples,
                                           std::uint64_t index);

}  // namespace crabcast::model

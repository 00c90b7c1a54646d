#include "model/sampling.h"

#include <ATen/ATen.h>

#include <limits>
#include <string>

#include "model/random.h"

namespace crabcast::model {
namespace {

// In [0, 1): the same for this token of this sample, whatever else is generated.
double draw(std::uint64_t seed, std::uint64_t sample, std::uint64_t index) {
  const std::uint64_t key = combine_key(combine_key(name_key("generation"), seed), sample);
  return static_cast<double>(random_bits(key, index) >> 11) * 0x1p-53;
}

// The first token up to which the probabilities add up to more than the number drawn: one without
// probability is never taken.
at::Tensor draw_tokens(const at::Tensor& logits_NV, const at::Tensor& draws_N1) {
  const at::Tensor sums_NV = at::softmax(logits_NV, -1, at::kDouble).cumsum(-1);
  const at::Tensor totals_N1 = sums_NV.narrow(-1, sums_NV.size(-1) - 1, 1);
  return at::searchsorted(sums_NV, draws_N1 * totals_N1, /*out_int32=*/false, /*right=*/true)
      .squeeze(-1);
}

Status check_finite(const at::Tensor& largest_N) {
  if (largest_N.isfinite().all().item<bool>()) return {};
  return fail(Errc::non_finite,
              "the model's output is not a number; its weights or its adapter are damaged, or "
              "their values too large for the precision");
}

}  // namespace

at::Tensor keep_top_p(const at::Tensor& logits_NV, double top_p) {
  auto [ascending_NV, order_NV] =
      at::sort(logits_NV, /*stable=*/true, /*dim=*/-1, /*descending=*/false);
  at::Tensor drop_NV = at::softmax(ascending_NV, -1).cumsum(-1).le(1 - top_p);
  drop_NV.narrow(-1, drop_NV.size(-1) - 1, 1).fill_(false);
  const at::Tensor drop_by_id_NV = at::empty_like(drop_NV).scatter_(-1, order_NV, drop_NV);
  return logits_NV.masked_fill(drop_by_id_NV, -std::numeric_limits<double>::infinity());
}

Result<std::vector<TokenId>> choose_tokens(const at::Tensor& logits_NV,
                                           const GenerationOptions& options,
                                           const std::vector<std::uint64_t>& samples,
                                           std::uint64_t index) {
  const auto [largest_N, greedy_N] = logits_NV.max(-1);
  CRABCAST_TRY(check_finite(largest_N));
  at::Tensor chosen_N = greedy_N;
  if (options.temperature > 0) {
    std::vector<double> draws;
    for (const std::uint64_t sample : samples) draws.push_back(draw(options.seed, sample, index));
    at::Tensor scaled_NV = logits_NV.to(at::kFloat) / options.temperature;
    if (options.top_p < 1) scaled_NV = keep_top_p(scaled_NV, options.top_p);
    chosen_N =
        draw_tokens(scaled_NV, at::tensor(draws, at::kDouble).to(logits_NV.device()).unsqueeze(1));
  }
  const at::Tensor host_N = chosen_N.cpu();
  const auto* ids = host_N.const_data_ptr<std::int64_t>();
  return std::vector<TokenId>(ids, ids + host_N.numel());
}

}  // namespace crabcast::model

#include "actors/compute/gradient_exchange.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>

namespace crabcast::actors {
namespace {

cluster::Buffer byte_buffer(std::vector<std::uint8_t>& bytes) {
  return {bytes.data(), bytes.size(), cluster::ElementType::uint8, cluster::MemoryKind::host};
}

}  // namespace

GradientExchange::GradientExchange(ReductionKind kind, std::uint32_t lanes,
                                   std::vector<cluster::LaneRange> owned_by_rank,
                                   std::uint32_t rank, std::size_t elements, std::size_t tensors)
    : kind_(kind),
      lanes_(lanes),
      owned_(std::move(owned_by_rank)),
      rank_(rank),
      elements_(elements),
      sums_(lanes, owned_[rank], kind == ReductionKind::ordered ? elements : 0) {
  mine_.touched.assign(tensors, false);
}

void GradientExchange::add_lane(const model::LaneResult& lane) {
  if (kind_ == ReductionKind::ordered) {
    const at::Tensor host = lane.gradient.cpu();
    sums_.add_lane({host.const_data_ptr<float>(), elements_});
  } else if (plain_sum_.defined()) {
    plain_sum_.add_(lane.gradient.cpu());
  } else {
    plain_sum_ = lane.gradient.to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  }
  for (std::size_t i = 0; i < lane.touched.size(); ++i)
    if (lane.touched[i]) mine_.touched[i] = true;
  for (const auto& sample : lane.samples) {
    mine_.tokens += sample.tokens;
    if (!std::isfinite(sample.loss_sum)) mine_.finite = false;
  }
}

// Everybody's counts and flags, as bytes: 8 for the tokens, 1 for finite, then a bit for each
// tensor.
Result<StepTotals> GradientExchange::exchange_totals(cluster::Collective& collective) const {
  const std::size_t tensors = mine_.touched.size();
  std::vector<std::uint8_t> send(9 + (tensors + 7) / 8, 0);
  std::memcpy(send.data(), &mine_.tokens, 8);
  send[8] = mine_.finite ? 1 : 0;
  for (std::size_t i = 0; i < tensors; ++i)
    if (mine_.touched[i]) send[9 + i / 8] |= static_cast<std::uint8_t>(1U << (i % 8));
  std::vector<std::vector<std::uint8_t>> all(collective.size(),
                                             std::vector<std::uint8_t>(send.size()));
  std::vector<cluster::Buffer> receive;
  for (auto& bytes : all) receive.push_back(byte_buffer(bytes));
  CRABCAST_TRY(collective.all_gather(byte_buffer(send), receive));
  StepTotals totals;
  totals.touched.assign(tensors, false);
  for (const auto& bytes : all) {
    std::int64_t tokens = 0;
    std::memcpy(&tokens, bytes.data(), 8);
    totals.tokens += tokens;
    totals.finite = totals.finite && bytes[8] != 0;
    for (std::size_t i = 0; i < tensors; ++i)
      if ((bytes[9 + i / 8] >> (i % 8)) & 1U) totals.touched[i] = true;
  }
  return totals;
}

Result<StepTotals> GradientExchange::finish(cluster::Collective& collective, at::Tensor& gradient) {
  auto totals = exchange_totals(collective);
  if (!totals) return totals;
  if (kind_ == ReductionKind::ordered) {
    gradient = at::empty({static_cast<std::int64_t>(elements_)}, at::kFloat);
    CRABCAST_TRY(cluster::ordered_all_reduce(collective, lanes_, owned_, sums_.sums(),
                                             {gradient.mutable_data_ptr<float>(), elements_}));
  } else {
    gradient = plain_sum_;
    CRABCAST_TRY(collective.all_reduce({gradient.mutable_data_ptr(), gradient.nbytes(),
                                        cluster::ElementType::float32, cluster::MemoryKind::host}));
  }
  return totals;
}

}  // namespace crabcast::actors

#include "protocol/sums.h"

namespace crabcast {

void add_to(pb::StageSeconds& sum, const pb::StageSeconds& more, double times) {
  sum.set_data(sum.data() + times * more.data());
  sum.set_forward(sum.forward() + times * more.forward());
  sum.set_backward(sum.backward() + times * more.backward());
  sum.set_reduce(sum.reduce() + times * more.reduce());
  sum.set_commit(sum.commit() + times * more.commit());
  sum.set_optimizer(sum.optimizer() + times * more.optimizer());
}

void add_to(pb::LoaderWork& sum, const pb::LoaderWork& more) {
  sum.set_demux(sum.demux() + more.demux());
  sum.set_decode(sum.decode() + more.decode());
  sum.set_scale(sum.scale() + more.scale());
  sum.set_audio(sum.audio() + more.audio());
  sum.set_log_mel(sum.log_mel() + more.log_mel());
  sum.set_patches(sum.patches() + more.patches());
  sum.set_samples(sum.samples() + more.samples());
  sum.set_cached(sum.cached() + more.cached());
  sum.set_tokens(sum.tokens() + more.tokens());
  sum.set_cells(sum.cells() + more.cells());
  sum.set_batches(sum.batches() + more.batches());
  sum.set_waited_for(sum.waited_for() + more.waited_for());
  sum.set_at_hand(sum.at_hand() + more.at_hand());
}

void add_to(pb::TaskLoss& sum, const pb::TaskLoss& more) {
  sum.set_task(more.task());
  sum.set_loss_sum(sum.loss_sum() + more.loss_sum());
  sum.set_tokens(sum.tokens() + more.tokens());
  sum.set_samples(sum.samples() + more.samples());
}

double mean_loss(const google::protobuf::RepeatedPtrField<pb::TaskLoss>& losses) {
  double sum = 0, tokens = 0;
  for (const auto& loss : losses) {
    sum += loss.loss_sum();
    tokens += static_cast<double>(loss.tokens());
  }
  return tokens > 0 ? sum / tokens : 0;
}

double padding_share(const pb::LoaderWork& work) {
  if (work.cells() == 0) return 0;
  return 1 - static_cast<double>(work.tokens()) / static_cast<double>(work.cells());
}

}  // namespace crabcast

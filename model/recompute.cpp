#include "model/recompute.h"

#include <ATen/ATen.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace crabcast::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct BlockHolder : torch::CustomClassHolder {
  explicit BlockHolder(Block held) : block(std::move(held)) {}
  Block block;
};

class RecomputeFunction : public torch::autograd::Function<RecomputeFunction> {
 public:
  // `anchor` requires a gradient, and so the result does, too, where x does not: parameters of the
  // block wait for one.
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& /*anchor*/,
                            const Block& block) {
    ctx->save_for_backward({x});
    ctx->saved_data["block"] = c10::IValue::make_capsule(c10::make_intrusive<BlockHolder>(block));
    return block(x, Output::read);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto holder = ctx->saved_data["block"].toCapsule();
    const auto& block = static_cast<const BlockHolder&>(*holder).block;
    const at::Tensor x =
        ctx->get_saved_variables()[0].detach().set_requires_grad(ctx->needs_input_grad(0));
    const at::AutoGradMode with_gradient(true);
    torch::autograd::backward({block(x, Output::unread)}, {grads[0]});
    return {x.grad(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor apply_block(const Block& block, const at::Tensor& x, Recompute recompute) {
  if (recompute == Recompute::none || !at::GradMode::is_enabled()) return block(x, Output::read);
  const at::Tensor anchor = at::empty({0}).set_requires_grad(true);
  return RecomputeFunction::apply(x, anchor, block);
}

}  // namespace crabcast::model

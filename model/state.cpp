#include "model/state.h"

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <string_view>

namespace crabcast::model {
namespace {

constexpr std::string_view kAdapter = "adapter/", kOptimizer = "optimizer/";

// One tensor of the state: how to read it and how to write it.
struct Slot {
  std::string name;
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  std::function<at::Tensor()> read;
  std::function<void(const at::Tensor&)> write;
};

// A range of a flat buffer, with the parameter's shape.
Slot range_slot(std::string name, const at::Tensor& buffer, std::int64_t begin,
                const std::vector<std::int64_t>& shape) {
  at::Tensor view = buffer.narrow(0, begin, shape[0] * shape[1]).view(shape);
  return {std::move(name), at::kFloat, shape,
          [view] { return view.to(at::kCPU, at::kFloat, false, true); },
          [view](const at::Tensor& value) { view.copy_(value); }};
}

Slot step_slot(std::string name, std::int64_t* counter) {
  return {std::move(name),
          at::kLong,
          {1},
          [counter] { return at::full({1}, *counter, at::TensorOptions(at::kLong)); },
          [counter](const at::Tensor& value) { *counter = value.item<std::int64_t>(); }};
}

std::vector<Slot> list_slots(const AdapterSet& adapters, AdamW& optimizer, bool adapter_only) {
  std::vector<Slot> slots;
  const auto& parameters = adapters.parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i)
    slots.push_back(range_slot(std::string(kAdapter) + parameters[i].name, adapters.values(),
                               adapters.offsets()[i], parameters[i].shape));
  if (adapter_only) return slots;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string name = std::string(kOptimizer) + parameters[i].name;
    const std::int64_t begin = adapters.offsets()[i];
    slots.push_back(range_slot(name + ".exp_avg", optimizer.exp_avg(), begin, parameters[i].shape));
    slots.push_back(
        range_slot(name + ".exp_avg_sq", optimizer.exp_avg_sq(), begin, parameters[i].shape));
    slots.push_back(step_slot(name + ".step", &optimizer.steps()[i]));
  }
  return slots;
}

bool fits(const Slot& slot, const at::Tensor& tensor) {
  return tensor.defined() && tensor.scalar_type() == slot.type &&
         tensor.sizes() == at::IntArrayRef(slot.shape);
}

}  // namespace

std::vector<NamedTensor> export_state(const AdapterSet& adapters, const AdamW& optimizer) {
  std::vector<NamedTensor> state;
  // The slots' write functions stay unused here.
  for (const Slot& slot : list_slots(adapters, const_cast<AdamW&>(optimizer), false))
    state.push_back({slot.name, slot.read()});
  return state;
}

Status import_state(const std::vector<NamedTensor>& tensors, bool adapter_only,
                    AdapterSet& adapters, AdamW& optimizer) {
  const at::NoGradGuard no_grad;
  const std::vector<Slot> slots = list_slots(adapters, optimizer, adapter_only);
  std::map<std::string_view, const at::Tensor*> given;
  std::string problems;
  const auto problem = [&](std::string_view kind, std::string_view name) {
    problems.append(problems.empty() ? "" : "; ").append(kind).append(" ").append(name);
  };
  for (const NamedTensor& tensor : tensors) {
    if (adapter_only && tensor.name.starts_with(kOptimizer)) continue;
    if (!given.emplace(tensor.name, &tensor.tensor).second) problem("given twice:", tensor.name);
  }
  for (const Slot& slot : slots) {
    const auto found = given.find(slot.name);
    if (found == given.end())
      problem("missing:", slot.name);
    else if (!fits(slot, *found->second))
      problem("wrong shape or type:", slot.name);
  }
  std::map<std::string_view, const Slot*> known;
  for (const Slot& slot : slots) known.emplace(slot.name, &slot);
  for (const auto& [name, tensor] : given)
    if (!known.contains(name)) problem("surplus:", name);
  if (!problems.empty())
    return fail(Errc::corrupt,
                "the state does not fit this model and adapter, nothing was loaded: " + problems);
  for (const auto& [name, tensor] : given) known.at(name)->write(*tensor);
  return {};
}

}  // namespace crabcast::model

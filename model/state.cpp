#include "model/state.h"

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <optional>
#include <string_view>

#include "model/tensor_match.h"

namespace crabcast::model {
namespace {

constexpr std::string_view kAdapter = "adapter/", kOptimizer = "optimizer/";

// One tensor of the state: how to read it and how to write it.
struct Slot {
  std::string name;
  std::optional<at::ScalarType> type;
  std::vector<std::int64_t> shape;
  std::function<at::Tensor()> read;
  std::function<void(const at::Tensor&)> write;
};

// The flat buffers that parameters and moments are ranges of.
TrainedBuffers buffers_of(const AdapterSet& adapters, const AdamW& optimizer) {
  return {adapters.values(), optimizer.exp_avg(), optimizer.exp_avg_sq()};
}

// A range of a flat buffer, with the parameter's shape.
Slot range_slot(std::string name, const at::Tensor& buffer, std::int64_t begin,
                const std::vector<std::int64_t>& shape) {
  at::Tensor view = buffer.narrow(0, begin, c10::multiply_integers(shape)).view(shape);
  return {std::move(name), at::kFloat, shape, [view] { return view; },
          [view](const at::Tensor& value) { view.copy_(value); }};
}

Slot step_slot(std::string name, std::int64_t* counter) {
  return {std::move(name),
          at::kLong,
          {1},
          [counter] { return at::full({1}, *counter, at::TensorOptions(at::kLong)); },
          [counter](const at::Tensor& value) { *counter = value.item<std::int64_t>(); }};
}

Slot parameter_slot(std::string_view prefix, const AdapterSet& adapters, const at::Tensor& values,
                    std::size_t i, std::optional<at::ScalarType> type) {
  const Parameter& parameter = adapters.parameters()[i];
  Slot slot = range_slot(std::string(prefix) + parameter.name, values, adapters.offsets()[i],
                         parameter.shape);
  slot.type = type;
  return slot;
}

std::vector<Slot> list_slots(const AdapterSet& adapters, AdamW& optimizer,
                             const TrainedBuffers& buffers, bool adapter_only) {
  std::vector<Slot> slots;
  const auto& parameters = adapters.parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i)
    slots.push_back(parameter_slot(kAdapter, adapters, buffers.parameters, i, at::kFloat));
  if (adapter_only) return slots;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string name = std::string(kOptimizer) + parameters[i].name;
    const std::int64_t begin = adapters.offsets()[i];
    slots.push_back(range_slot(name + ".exp_avg", buffers.exp_avg, begin, parameters[i].shape));
    slots.push_back(
        range_slot(name + ".exp_avg_sq", buffers.exp_avg_sq, begin, parameters[i].shape));
    slots.push_back(step_slot(name + ".step", &optimizer.steps()[i]));
  }
  return slots;
}

// All or nothing.
Status fill(const std::vector<Slot>& slots, const std::vector<NamedTensor>& given) {
  const at::NoGradGuard no_grad;
  std::vector<WantedTensor> wanted;
  std::map<std::string_view, const Slot*> by_name;
  for (const Slot& slot : slots) {
    wanted.push_back({slot.name, slot.shape, slot.type});
    by_name.emplace(slot.name, &slot);
  }
  if (const std::string problems = mismatch(wanted, given); !problems.empty())
    return fail(Errc::corrupt,
                "the tensors do not fit this model and adapter, nothing was loaded: " + problems);
  for (const auto& [name, tensor] : given) by_name.at(name)->write(tensor);
  return {};
}

}  // namespace

std::vector<NamedTensor> export_state(const AdapterSet& adapters, const AdamW& optimizer) {
  std::vector<NamedTensor> state;
  TrainedBuffers buffers = buffers_of(adapters, optimizer);
  // From a device, three large copies take less time than one for each tensor.
  for (at::Tensor* buffer : {&buffers.parameters, &buffers.exp_avg, &buffers.exp_avg_sq})
    *buffer = buffer->to(at::kCPU);
  // The slots' write functions stay unused here.
  for (const Slot& slot : list_slots(adapters, const_cast<AdamW&>(optimizer), buffers, false))
    state.push_back({slot.name, slot.read()});
  return state;
}

Status import_state(const std::vector<NamedTensor>& tensors, bool adapter_only,
                    AdapterSet& adapters, AdamW& optimizer) {
  const std::vector<Slot> slots =
      list_slots(adapters, optimizer, buffers_of(adapters, optimizer), adapter_only);
  if (!adapter_only) return fill(slots, tensors);
  std::vector<NamedTensor> wanted;
  for (const NamedTensor& tensor : tensors)
    if (!tensor.name.starts_with(kOptimizer)) wanted.push_back(tensor);
  return fill(slots, wanted);
}

Status import_parameters(const std::vector<NamedTensor>& tensors, AdapterSet& adapters) {
  std::vector<Slot> slots;
  for (std::size_t i = 0; i < adapters.parameters().size(); ++i)
    slots.push_back(parameter_slot("", adapters, adapters.values(), i, std::nullopt));
  return fill(slots, tensors);
}

}  // namespace crabcast::model

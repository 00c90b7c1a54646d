// The trainable part: the adapters of all modules, in one flat float32 buffer.
//
// Order: module by module as adapter_modules lists them, and for each lora_A, lora_B0 ..
// lora_B{N-1}, lora_route. One such published tensor is one parameter tensor. The adapters that
// layers hold are views of the buffer, so writing into the buffer is an update.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/ilora.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

struct Parameter {
  std::string name;  // base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight
  std::vector<std::int64_t> shape;
  std::size_t module = 0;  // index into modules()
};

// One module's adapter as its layer sees it.
struct ModuleAdapter : ILora {
  std::size_t module = 0;
  std::uint64_t key = 0;  // of the module's name; its dropout masks depend on it
};

class AdapterSet {
 public:
  // A and the router Kaiming-uniform with a = sqrt(5), B zero; each a function of (seed, name)
  // only.
  AdapterSet(std::vector<AdapterModule> modules, const AdapterSpec& spec, std::uint64_t seed,
             at::Device device);
  AdapterSet(const AdapterSet&) = delete;  // layers point into it
  AdapterSet& operator=(const AdapterSet&) = delete;

  // By the base's module name (thinker.model.layers.0.self_attn.q_proj); null where there is none.
  [[nodiscard]] const ModuleAdapter* find(const std::string& module) const;
  [[nodiscard]] const std::vector<AdapterModule>& modules() const { return modules_; }
  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  // Element range of each parameter in the buffer: parameters + 1 entries.
  [[nodiscard]] const std::vector<std::int64_t>& offsets() const { return offsets_; }
  [[nodiscard]] const at::Tensor& values() const { return values_; }
  [[nodiscard]] std::int64_t elements() const { return offsets_.back(); }

  // From here to end_gradient, a backward pass adds into one zeroed buffer shaped like values().
  void begin_gradient();
  at::Tensor end_gradient();

 private:
  template <class Visit>
  void for_each_leaf(Visit&& visit);

  std::vector<AdapterModule> modules_;
  std::vector<Parameter> parameters_;
  std::vector<std::int64_t> offsets_;
  at::Tensor values_, gradient_;
  std::vector<ModuleAdapter> adapters_;  // one a module
  std::map<std::string, std::size_t> by_name_;
};

}  // namespace crabcast::model

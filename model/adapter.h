// The trainable part of a model, whatever its kind: one flat float32 buffer, in the order of
// adapter_layout.h.
//
// What layers hold are views of the buffer, so writing into the buffer is an update.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/adapter_layout.h"
#include "model/base.h"
#include "model/ilora.h"
#include "protocol/job_spec.h"

namespace crabcast::model {

// One module's factors as its layer sees them. A plain LoRA has one head and no router.
struct ModuleAdapter : ILora {
  AdapterKind kind = AdapterKind::ilora;
  std::uint64_t key = 0;  // of the module's name; its dropout masks depend on it
};

struct FlatGradient {
  at::Tensor values;          // like AdapterSet::values()
  std::vector<bool> touched;  // for each parameter: had a part in the loss
};

class AdapterSet {
 public:
  // A and the router Kaiming-uniform with a = sqrt(5), B zero; each a function of (seed, name)
  // only. Of kind full, a copy of the base's tensors, which are float32. Without a spec it is
  // empty: nothing is trained.
  AdapterSet(const Base& base, const std::optional<AdapterSpec>& spec, std::uint64_t seed,
             at::Device device);
  AdapterSet(const AdapterSet&) = delete;  // layers and autograd point into it
  AdapterSet& operator=(const AdapterSet&) = delete;

  // What the thinker is to be made from: the frozen weights, or for kind full the trained ones.
  [[nodiscard]] WeightMap weights(const Base& base) const;
  // By the base's module name (thinker.model.layers.0.self_attn.q_proj); null where there is none.
  [[nodiscard]] const ModuleAdapter* find(const std::string& module) const;

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  // Element range of each parameter in the buffer: parameters + 1 entries.
  [[nodiscard]] const std::vector<std::int64_t>& offsets() const { return offsets_; }
  [[nodiscard]] const at::Tensor& values() const { return values_; }
  // From now on the parameters are in this buffer, of the same size and on the same device; what
  // the layers hold moves along. Not between begin_gradient and end_gradient.
  void move_to(const at::Tensor& values);
  // Somebody else holds a part of the buffer.
  [[nodiscard]] bool is_shared() const;
  [[nodiscard]] std::int64_t elements() const { return offsets_.back(); }

  // From here to end_gradient, backward passes add into one zeroed buffer.
  void begin_gradient();
  FlatGradient end_gradient();

 private:
  // What autograd sees: neighbouring parameters as one tensor. The heads' B of a module are one.
  struct Leaf {
    at::Tensor tensor;
    std::int64_t offset = 0;
  };

  at::Tensor make_leaf(std::size_t first, std::size_t count, std::vector<std::int64_t> shape);
  void draw_factors(std::uint64_t seed);
  void make_modules(const ThinkerConfig& config, const AdapterSpec& spec);
  void take_weights(const Base& base);

  std::vector<Parameter> parameters_;
  std::vector<std::int64_t> offsets_;
  at::Tensor values_;
  FlatGradient gradient_;
  std::vector<Leaf> leaves_;
  std::map<std::string, ModuleAdapter> modules_;
  WeightMap trained_weights_;  // of kind full
};

}  // namespace crabcast::model

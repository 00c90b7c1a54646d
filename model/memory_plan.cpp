#include "model/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "model/adapter_layout.h"

namespace crabcast::model {
namespace {

constexpr double kFloat = 4;  // bytes

// What a stack of equal blocks keeps.
struct Stack {
  double blocks = 0;
  double rows = 0;
  double input = 0;      // bytes a row: what goes into a block
  double kept = 0;       // bytes a row and block, the input included
  double temporary = 0;  // bytes a row, while a block is differentiated

  [[nodiscard]] double all(Recompute recompute) const {
    if (recompute == Recompute::none) return blocks * rows * kept;
    return blocks * rows * input + (blocks > 0 ? rows * kept : 0);
  }
  [[nodiscard]] double working() const { return blocks > 0 ? rows * temporary : 0; }
};

class Planner {
 public:
  Planner(const ThinkerConfig& config, const AdapterSpec& adapter, Precision precision,
          const BatchShape& batch)
      : config_(config),
        adapter_(adapter),
        element_(precision == Precision::bfloat16 ? 2 : 4),
        full_(adapter.kind == AdapterKind::full),
        towers_(full_ || adapter.scope == AdapterScope::all),
        batch_(batch) {}

  [[nodiscard]] Stack text() const {
    const TextConfig& c = config_.text;
    const auto hidden = static_cast<double>(c.hidden_size),
               inner = static_cast<double>(c.intermediate_size),
               queries = static_cast<double>(c.heads * c.head_dim),
               keys = static_cast<double>(c.kv_heads * c.head_dim);
    Stack stack{static_cast<double>(c.layers), static_cast<double>(batch_.tokens)};
    stack.input = element_ * hidden;
    // Both norms' inputs and outputs; queries and attention's output, keys and values; of the MLP
    // gate, silu(gate), up and their product.
    stack.kept = element_ * (4 * hidden + 2 * queries + 2 * keys + 4 * inner) +
                 kFloat * (2 + static_cast<double>(c.heads)) + 7 * factors();
    stack.temporary = mlp_temporary(hidden, inner);
    return stack;
  }

  [[nodiscard]] Stack vision() const {
    const VisionConfig& c = config_.vision;
    const auto hidden = static_cast<double>(c.hidden_size),
               inner = static_cast<double>(c.intermediate_size);
    if (!towers_) return {};
    Stack stack{static_cast<double>(c.depth), static_cast<double>(batch_.patches)};
    stack.input = element_ * hidden;
    // As in the text model, but frozen projections keep no input: the first norm's output only
    // where it is trained on.
    stack.kept = element_ * ((full_ ? 8 : 7) * hidden + 4 * inner) +
                 kFloat * (2 + static_cast<double>(c.heads)) + 3 * factors();
    stack.temporary = mlp_temporary(hidden, inner);
    return stack;
  }

  [[nodiscard]] Stack audio() const {
    const AudioConfig& c = config_.audio;
    const auto hidden = static_cast<double>(c.d_model), inner = static_cast<double>(c.ffn_dim);
    if (!towers_) return {};
    Stack stack{static_cast<double>(c.layers), static_cast<double>(batch_.mel_frames) / 2};
    stack.input = element_ * hidden;
    // Both norms' inputs, the first one's output; query, key, value and attention's output; what
    // goes into the GELU.
    stack.kept = element_ * ((full_ ? 8 : 7) * hidden + (full_ ? 2 : 1) * inner) +
                 kFloat * (4 + static_cast<double>(c.heads)) + 3 * factors();
    stack.temporary = element_ * 2 * (inner + hidden);
    return stack;
  }

  // Around the stacks: the merger and the convolutions, where they are differentiated.
  [[nodiscard]] double around() const {
    if (!towers_) return embeddings();
    const VisionConfig& v = config_.vision;
    const AudioConfig& a = config_.audio;
    double bytes = embeddings();
    bytes += element_ * static_cast<double>(batch_.patches * v.hidden_size) * (full_ ? 4 : 2);
    if (full_)
      bytes += element_ * static_cast<double>(batch_.patches * v.patch_elements() +
                                              batch_.mel_frames * (a.mel_bins + 3 * a.d_model));
    return bytes;
  }

  // The head's logits: their logarithms are kept, and their gradient comes beside them.
  [[nodiscard]] double head_kept() const {
    return static_cast<double>(batch_.targets) *
           (kFloat * static_cast<double>(config_.text.vocab_size) +
            element_ * 2 * static_cast<double>(config_.text.hidden_size));
  }
  [[nodiscard]] double head_working() const {
    const auto logits = static_cast<double>(batch_.targets * config_.text.vocab_size);
    return logits * (kFloat + (element_ < kFloat ? element_ : 0));
  }

 private:
  // What a module's factors keep for a row.
  [[nodiscard]] double factors() const {
    const auto rank = static_cast<double>(adapter_.rank),
               heads = static_cast<double>(adapter_.heads);
    switch (adapter_.kind) {
      case AdapterKind::ilora:
        return element_ * rank + kFloat * heads;
      case AdapterKind::crab_v1:
        return element_ * 2 * heads * rank + (kFloat + element_) * heads;
      case AdapterKind::lora:
        return element_ * rank;
      case AdapterKind::full:
        break;
    }
    return 0;
  }

  // While the last projection of an MLP is differentiated: the gradient that came, its input with
  // dropped elements, and what goes on to the input, twice.
  [[nodiscard]] double mlp_temporary(double hidden, double inner) const {
    return element_ * (2 * hidden + (full_ ? 2 : 3) * inner);
  }

  // Tokens with the media's in place, and the media's themselves.
  [[nodiscard]] double embeddings() const {
    return element_ * static_cast<double>(batch_.tokens * config_.text.hidden_size) * 2;
  }

  const ThinkerConfig& config_;
  const AdapterSpec& adapter_;
  double element_;
  bool full_, towers_;
  const BatchShape& batch_;
};

}  // namespace

MemoryPlan plan_memory(const ThinkerConfig& config, const AdapterSpec& adapter, Precision precision,
                       Recompute recompute, const BatchShape& batch) {
  const auto elements = [](const std::vector<std::int64_t>& shape) {
    return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
  };
  MemoryPlan plan;
  for (const auto& weight : weight_shapes(config)) plan.base_parameters += elements(weight.shape);
  for (const auto& parameter : trained_parameters(config, adapter))
    plan.trained_parameters += elements(parameter.shape);
  if (adapter.kind != AdapterKind::full)  // which holds the only copy itself
    plan.weights = static_cast<std::uint64_t>(plan.base_parameters) *
                   (precision == Precision::bfloat16 ? 2 : 4);
  plan.adapter = plan.gradient = 4 * static_cast<std::uint64_t>(plan.trained_parameters);
  plan.optimizer = 2 * plan.adapter;

  const Planner planner(config, adapter, precision, batch);
  const Stack text = planner.text(), vision = planner.vision(), audio = planner.audio();
  const double towers = vision.all(recompute) + audio.all(recompute) + planner.around();
  // The head is differentiated first, when everything is kept; a recomputed block is not there yet.
  const double blocks =
      recompute == Recompute::none ? text.all(recompute) : text.blocks * text.rows * text.input;
  const double at_head = towers + blocks + planner.head_kept() + planner.head_working();
  const double at_text = towers + text.all(recompute) + text.working();
  const double at_towers = towers + std::max(vision.working(), audio.working());
  plan.activations = static_cast<std::uint64_t>(std::max({at_head, at_text, at_towers}));
  return plan;
}

}  // namespace crabcast::model

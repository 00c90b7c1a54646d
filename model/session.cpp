#include "model/session.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <torch/csrc/autograd/autograd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <initializer_list>
#include <utility>

#include "model/adamw.h"
#include "model/adapter.h"
#include "model/adapter_file.h"
#include "model/base.h"
#include "model/guarded.h"
#include "model/packing.h"
#include "model/packs.h"
#include "model/state.h"
#include "model/thinker.h"
#include "protocol/clock.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

constexpr const char* kWhenFull = "Use fewer samples a lane or a smaller rank";

// A promise that the caller must keep; breaking it would train on garbage, so the process ends.
void require(bool kept, const char* promise) {
  if (kept) return;
  spdlog::critical("broken promise: {}", promise);
  std::abort();
}

Status check_range(const char* field, double value, double low, double high, bool high_included) {
  if (std::isfinite(value) && value >= low && (high_included ? value <= high : value < high))
    return {};
  const std::string given = std::isfinite(value) ? exact_number(value) : "not a finite number";
  return fail(Errc::invalid_argument,
              std::string(field) + " is " + given + "; it must be from " + exact_number(low) +
                  (high_included ? " to " : " up to but without ") + exact_number(high));
}

constexpr double kAny = 1e12;

Status check_adapter_spec(const AdapterSpec& adapter, Precision precision) {
  constexpr double kMaxRank = 4096, kMaxHeads = 64;
  if (!has_factors(adapter.kind) && precision != Precision::float32)
    return fail(Errc::invalid_argument,
                "model.adapter.kind full needs train.precision float32: it trains the base's own "
                "tensors, and small updates are lost in bfloat16");
  CRABCAST_TRY(check_range("model.adapter.rank", adapter.rank, 1, kMaxRank, true));
  CRABCAST_TRY(check_range("model.adapter.heads", adapter.heads, 1, kMaxHeads, true));
  CRABCAST_TRY(check_range("model.adapter.alpha", adapter.alpha, 0, kAny, true));
  return check_range("model.adapter.dropout", adapter.dropout, 0, 1, false);
}

Status check_options(const SessionOptions& options) {
  constexpr double kMaxThreads = 1024;
  const OptimizerSpec& optimizer = options.optimizer;
  CRABCAST_TRY(check_adapter_spec(options.model.adapter, options.precision));
  CRABCAST_TRY(check_range("train.optimizer.lr", optimizer.lr, 0, kAny, true));
  CRABCAST_TRY(check_range("train.optimizer.weight_decay", optimizer.weight_decay, 0, kAny, true));
  CRABCAST_TRY(check_range("train.optimizer.warmup", optimizer.warmup, 0, 1, true));
  CRABCAST_TRY(check_range("train.optimizer.clip_norm", optimizer.clip_norm, 0, kAny, true));
  CRABCAST_TRY(check_range("train.optimizer.beta1", optimizer.beta1, 0, 1, false));
  CRABCAST_TRY(check_range("train.optimizer.beta2", optimizer.beta2, 0, 1, false));
  CRABCAST_TRY(check_range("train.optimizer.epsilon", optimizer.epsilon, 0, 1, true));
  CRABCAST_TRY(check_range("threads", options.threads, 1, kMaxThreads, true));
  if (options.steps == 0) return fail(Errc::invalid_argument, "steps is 0; it must be at least 1");
  const AdapterSpec& adapter = options.model.adapter;
  if (options.features != nullptr && options.with_adapter &&
      (!has_factors(adapter.kind) || adapter.scope != AdapterScope::language_model))
    return fail(Errc::invalid_argument,
                "features of the towers cannot be kept: model.adapter trains the towers too");
  return {};
}

Result<at::Device> find_device(const std::string& name) {
  if (name == "cpu") return at::Device(at::kCPU);
  constexpr std::string_view kCuda = "cuda:";
  const auto index = name.starts_with(kCuda) ? parse_whole(name.substr(kCuda.size()))
                                             : std::optional<std::uint64_t>();
  if (!index || *index > 127)
    return fail(Errc::invalid_argument,
                "device is \"" + excerpt(name) + "\"; it must be \"cpu\" or \"cuda:0\"");
  if (!at::hasCUDA())
    return fail(Errc::unsupported, "device is " + name +
                                       ", but this build or machine has no CUDA device; use the "
                                       "preset cuda on a machine with a GPU, or the device cpu");
  const auto count = static_cast<std::uint64_t>(at::detail::getCUDAHooks().deviceCount());
  if (*index >= count)
    return fail(Errc::unsupported, "device is " + name + ", but this machine has " +
                                       std::to_string(count) + " CUDA devices");
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(*index));
}

at::ScalarType scalar_type(Precision precision) {
  return precision == Precision::bfloat16 ? at::kBFloat16 : at::kFloat;
}

// Has the kernel provide all pages now, where it can; else they come when they are written.
void populate(void* data, std::size_t bytes) {
  constexpr std::uintptr_t kPage = 4096;
  const auto begin = reinterpret_cast<std::uintptr_t>(data) & ~(kPage - 1);
  const auto end = reinterpret_cast<std::uintptr_t>(data) + bytes;
  (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_WRITE);
}

// Eight sums of every eighth element: a fixed order that the compiler can vectorize.
double sum_of_squares(const float* data, std::int64_t count) {
  std::array<double, 8> sums{};
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    for (std::size_t k = 0; k < 8; ++k) {
      const auto value = static_cast<double>(data[i + static_cast<std::int64_t>(k)]);
      sums[k] += value * value;
    }
  for (; i < count; ++i) sums[0] += static_cast<double>(data[i]) * static_cast<double>(data[i]);
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

// Tensor by tensor, in a fixed order on either device.
double sum_of_squares(const at::Tensor& flat, const std::vector<std::int64_t>& offsets) {
  double sum = 0;
  if (flat.device().is_cpu()) {
    const float* data = flat.const_data_ptr<float>();
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
      sum += sum_of_squares(data + offsets[i], offsets[i + 1] - offsets[i]);
    return sum;
  }
  std::vector<at::Tensor> norms;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
    norms.push_back(at::linalg_vector_norm(flat.narrow(0, offsets[i], offsets[i + 1] - offsets[i]),
                                           2, {}, false, at::kDouble));
  return at::stack(norms).square_().sum().item<double>();
}

class LocalSession final : public Session {
 public:
  LocalSession(const SessionOptions& options, BaseFrontEnd front_end, Base base, at::Device device,
               at::ScalarType type)
      : options_(options),
        front_end_(std::move(front_end)),
        base_hash_(std::move(base.hash)),
        device_(device),
        type_(type),
        adapters_(base, options.with_adapter ? std::optional(options.model.adapter) : std::nullopt,
                  options.seed, device),
        thinker_(make_thinker(base.config, adapters_.weights(base), &adapters_, base_hash_)),
        optimizer_(options.optimizer, adapters_.offsets(), adapters_.values().options()) {}

  [[nodiscard]] const std::string& base_hash() const override { return base_hash_; }
  [[nodiscard]] std::int64_t parameters() const override { return adapters_.elements(); }
  [[nodiscard]] std::size_t parameter_tensors() const override {
    return adapters_.parameters().size();
  }
  [[nodiscard]] const std::vector<std::int64_t>& parameter_offsets() const override {
    return adapters_.offsets();
  }
  [[nodiscard]] const BaseFrontEnd& front_end() const override { return front_end_; }

  Result<LaneResult> lane_gradient(const ModelInput& input, std::uint64_t step,
                                   std::uint32_t lane) override {
    use_threads();
    return guarded("forward and backward pass", kWhenFull,
                   [&] { return run_lane(input, step, lane); });
  }

  Result<std::vector<SampleLoss>> evaluate_loss(const ModelInput& input) override {
    use_threads();
    return guarded("loss", kWhenFull, [&]() -> Result<std::vector<SampleLoss>> {
      const at::NoGradGuard no_grad;
      auto packed = pack_input(thinker_.config, input, device_, type_);
      CRABCAST_TRY(packed);
      if (packed->targets.numel() == 0) return sum_by_sample(*packed, at::empty({0}));
      return sum_by_sample(*packed, token_losses(thinker_, *packed, {}));
    });
  }

  [[nodiscard]] double gradient_norm(const at::Tensor& gradient, double tokens) const override {
    check_gradient(gradient);
    return std::sqrt(sum_of_squares(gradient, adapters_.offsets())) / tokens;
  }

  double apply_update(const at::Tensor& gradient, double tokens, const std::vector<bool>& touched,
                      std::uint64_t step) override {
    use_threads();
    check_gradient(gradient);
    require(touched.size() == parameter_tensors(), "one flag for each parameter tensor");
    require(tokens > 0, "an update is for at least one token");
    const at::NoGradGuard no_grad;
    const double rate = learning_rate(step);
    const double limit = options_.optimizer.clip_norm;
    const double clip = limit > 0 ? clip_factor(gradient_norm(gradient, tokens), limit) : 1.0;
    if (!is_shared()) {
      optimizer_.step(adapters_.values(), gradient.to(device_), clip / tokens, touched, rate);
      return rate;
    }
    const TrainedBuffers old = buffers(), next = other_buffers();
    optimizer_.step_into(next, old.parameters, gradient, clip / tokens, touched, rate);
    adapters_.move_to(next.parameters);
    before_ = old;
    return rate;
  }

  [[nodiscard]] double learning_rate(std::uint64_t step) const override {
    return model::learning_rate(options_.optimizer, step, options_.steps);
  }
  void set_schedule_steps(std::uint64_t steps) override {
    options_.steps = std::max<std::uint64_t>(steps, 1);
  }

  [[nodiscard]] std::uint64_t parameter_checksum() const override {
    const at::Tensor host = adapters_.values().cpu();
    return XXH3_64bits(host.const_data_ptr(), host.nbytes());
  }

  [[nodiscard]] std::vector<NamedTensor> state() const override {
    auto state = export_state(adapters_, optimizer_);
    prepare_other_buffers();
    return state;
  }

  Status load_initial_adapter() override {
    const AdapterSpec& spec = options_.model.adapter;
    if (!spec.init) return {};
    return guarded("model.adapter.init", kWhenFull, [&]() -> Status {
      auto file = open_adapter(*spec.init);
      if (!file) return fail(file.error());
      CRABCAST_TRY(check_adapter(*file, thinker_.config, spec, base_hash_));
      leave_snapshots();
      return import_parameters(file->tensors, adapters_);
    });
  }

  Status load_state(const std::vector<NamedTensor>& tensors, bool adapter_only) override {
    return guarded("load_state", kWhenFull, [&] {
      leave_snapshots();
      return import_state(tensors, adapter_only, adapters_, optimizer_);
    });
  }

  Result<std::vector<Generated>> generate(const ModelInput& prompts,
                                          const GenerationOptions& options) override {
    use_threads();
    return guarded("generation", kWhenFull, [&]() -> Result<std::vector<Generated>> {
      auto packed = pack_input(thinker_.config, prompts, device_, type_);
      CRABCAST_TRY(packed);
      return model::generate(thinker_, *packed, options);
    });
  }

 private:
  // The number belongs to the calling thread (OpenMP), so each call sets it.
  void use_threads() const {
    if (at::get_num_threads() != options_.threads) at::set_num_threads(options_.threads);
  }

  [[nodiscard]] TrainedBuffers buffers() const {
    return {adapters_.values(), optimizer_.exp_avg(), optimizer_.exp_avg_sq()};
  }

  // Somebody, perhaps on another thread, holds a snapshot of what is there now.
  [[nodiscard]] bool is_shared() const {
    const bool shared = adapters_.is_shared() || optimizer_.exp_avg().storage().use_count() > 1 ||
                        optimizer_.exp_avg_sq().storage().use_count() > 1;
    std::atomic_thread_fence(std::memory_order_acquire);  // after its last look
    return shared && device_.is_cpu();
  }

  // While somebody holds a snapshot, training goes on in other buffers: those of the snapshot
  // before, if nobody holds it any more, or new ones. Their pages are made while the next lanes are
  // computed, so that the update does not wait for them.
  void prepare_other_buffers() const {
    if (!device_.is_cpu() || other_.valid() || is_free(before_)) return;
    other_ = std::async(std::launch::async, [elements = parameters()] {
      const auto made = [elements] {
        const at::Tensor buffer = at::empty({elements}, at::kFloat);
        populate(buffer.mutable_data_ptr(), buffer.nbytes());
        return buffer;
      };
      return TrainedBuffers{made(), made(), made()};
    });
  }

  TrainedBuffers other_buffers() {
    if (!is_free(before_)) {
      prepare_other_buffers();
      before_ = {};
      return other_.get();
    }
    std::atomic_thread_fence(std::memory_order_acquire);  // after the last look at them
    return std::exchange(before_, {});
  }

  static bool is_free(const TrainedBuffers& buffers) {
    const std::initializer_list<const at::Tensor*> all = {&buffers.parameters, &buffers.exp_avg,
                                                          &buffers.exp_avg_sq};
    return std::all_of(all.begin(), all.end(), [](const at::Tensor* each) {
      return each->defined() && each->storage().use_count() == 1;
    });
  }

  void leave_snapshots() {
    if (!is_shared()) return;
    const at::NoGradGuard no_grad;
    const TrainedBuffers old = buffers(), next = other_buffers();
    next.parameters.copy_(old.parameters);
    next.exp_avg.copy_(old.exp_avg);
    next.exp_avg_sq.copy_(old.exp_avg_sq);
    optimizer_.take_moments(next);
    adapters_.move_to(next.parameters);
    before_ = old;
  }

  void check_gradient(const at::Tensor& gradient) const {
    require(gradient.defined() && (gradient.device().is_cpu() || gradient.device() == device_) &&
                gradient.is_contiguous() && gradient.scalar_type() == at::kFloat &&
                gradient.dim() == 1 && gradient.numel() == parameters(),
            "a gradient is a flat float32 tensor with one element for each parameter");
  }

  static std::vector<SampleLoss> sum_by_sample(const PackedInput& packed,
                                               const at::Tensor& losses_N) {
    const at::Tensor host = losses_N.detach().to(at::kCPU, at::kFloat).contiguous();
    const float* loss = host.const_data_ptr<float>();
    std::vector<SampleLoss> samples;
    for (const std::int64_t count : packed.target_counts) {
      SampleLoss sample{0, count};
      for (std::int64_t i = 0; i < count; ++i) sample.loss_sum += static_cast<double>(*loss++);
      samples.push_back(sample);
    }
    return samples;
  }

  Result<LaneResult> run_lane(const ModelInput& input, std::uint64_t step, std::uint32_t lane) {
    auto batch = pack_input(thinker_.config, input, device_, type_);
    CRABCAST_TRY(batch);
    const auto packs = pack_layout(batch->lengths, options_.pack_tokens);
    LaneResult result;
    result.samples.resize(batch->lengths.size());
    adapters_.begin_gradient();
    for (std::size_t i = 0; i < packs.size(); ++i) {
      Pass pass = training_pass(options_.model.adapter.dropout, options_.seed, step, lane,
                                static_cast<std::uint32_t>(i));
      pass.recompute = options_.recompute;
      pass.features = options_.features.get();
      if (packs.size() == 1)
        run_pack(*batch, packs[i], pass, result);
      else
        run_pack(take_samples(thinker_.config, *batch, packs[i]), packs[i], pass, result);
    }
    FlatGradient gradient = adapters_.end_gradient();
    result.gradient = std::move(gradient.values);
    result.touched = std::move(gradient.touched);
    return result;
  }

  // Adds the pack's gradient to what is there, and its losses to their places in the lane.
  void run_pack(const PackedInput& pack, const std::vector<std::size_t>& samples, const Pass& pass,
                LaneResult& result) {
    const bool trains = pack.targets.numel() > 0;  // or else there is nothing to learn from
    const at::AutoGradMode with_gradient(true);
    const TimePoint begin = Clock::now();
    const at::Tensor losses_N = trains ? token_losses(thinker_, pack, pass) : at::empty({0});
    const std::vector<SampleLoss> losses = sum_by_sample(pack, losses_N);
    for (std::size_t i = 0; i < samples.size(); ++i) result.samples[samples[i]] = losses[i];
    const TimePoint middle = Clock::now();
    if (trains) torch::autograd::backward({losses_N.sum()});
    if (device_.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device_.index());
    result.forward_seconds += seconds(middle - begin);
    result.backward_seconds += seconds(Clock::now() - middle);
  }

  SessionOptions options_;
  const BaseFrontEnd front_end_;
  const std::string base_hash_;
  const at::Device device_;
  const at::ScalarType type_;
  AdapterSet adapters_;
  const Thinker thinker_;
  AdamW optimizer_;
  TrainedBuffers before_;                      // of the last snapshot that an update left behind
  mutable std::future<TrainedBuffers> other_;  // being made
};

}  // namespace

Result<std::unique_ptr<Session>> Session::open(const SessionOptions& options) {
  return guarded("opening a session", kWhenFull, [&]() -> Result<std::unique_ptr<Session>> {
    CRABCAST_TRY(check_options(options));
    auto front_end = load_front_end(options.model.base);
    CRABCAST_TRY(front_end);
    auto device = find_device(options.device);
    CRABCAST_TRY(device);
    at::set_num_threads(options.threads);
    auto base = open_base(options.model.base, *device, scalar_type(options.precision));
    CRABCAST_TRY(base);
    return open(options, std::move(*base), std::move(*front_end));
  });
}

Result<std::unique_ptr<Session>> Session::open(const SessionOptions& options, Base base,
                                               BaseFrontEnd front_end) {
  return guarded("opening a session", kWhenFull, [&]() -> Result<std::unique_ptr<Session>> {
    CRABCAST_TRY(check_options(options));
    auto device = find_device(options.device);
    CRABCAST_TRY(device);
    at::set_num_threads(options.threads);
    return std::make_unique<LocalSession>(options, std::move(front_end), std::move(base), *device,
                                          scalar_type(options.precision));
  });
}

}  // namespace crabcast::model

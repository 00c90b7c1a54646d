#include "actors/compute/worker_plan.h"

#include <algorithm>

#include "data/datasets.h"
#include "data/log_mel.h"
#include "model/base_config.h"
#include "model/front_end.h"
#include "model/memory_plan.h"
#include "protocol/base_location.h"

namespace crabcast::actors {
namespace {

// What the program itself takes, measured with nano: LibTorch's libraries, sockets and threads; on
// a GPU CUDA's context and libraries.
constexpr std::uint64_t kProgramOnHost = 250ULL << 20;
constexpr std::uint64_t kProgramOnGpu = 840ULL << 20;

std::int64_t seconds_of_sound(const data::Dataset& dataset) {
  switch (dataset.audio) {
    case data::AudioWindow::centred_windows:
      return 20;
    case data::AudioWindow::at_frame_index:
      return 1;
    case data::AudioWindow::parts_of_second:
    case data::AudioWindow::first_seconds:
      break;
  }
  return dataset.audio_parts;
}

model::BatchShape sample_of(const data::Dataset& dataset, const model::MediaShape& media,
                            const PlanOptions& options) {
  constexpr std::int64_t kAroundMedium = 2;  // its begin and end
  constexpr std::int64_t kSamplesOfASecond = 16'000;
  const std::int64_t frames = data::mel_frames(seconds_of_sound(dataset) * kSamplesOfASecond);
  const std::int64_t vision = dataset.videos * media.vision_tokens(dataset.frames);
  const std::int64_t sound = dataset.audios * model::MediaShape::audio_tokens(frames);
  const std::int64_t around = kAroundMedium * (dataset.videos + dataset.audios);
  return {vision + sound + around + options.text_tokens,
          std::min(options.answer_tokens, options.text_tokens), vision * media.merge * media.merge,
          dataset.audios * frames};
}

}  // namespace

std::uint64_t WorkerPlan::bytes() const {
  std::uint64_t sum = 0;
  for (const Part& part : parts) sum += part.bytes;
  return sum;
}

Result<WorkerPlan> plan_worker(const JobSpec& spec, const std::string& base,
                               const PlanOptions& options) {
  model::ThinkerConfig config = model::nano();
  if (!is_shipped_base(base)) {
    auto read = model::read_thinker_config(base);
    if (!read) return fail(read.error());
    config = std::move(*read);
  }
  WorkerPlan plan;
  const model::MediaShape media = model::media_shape(config);
  model::BatchShape longest;
  for (const data::Dataset& dataset : data::datasets()) {
    const auto& tasks = spec.data.tasks;
    if (std::find(tasks.begin(), tasks.end(), task_name(dataset.task)) == tasks.end()) continue;
    const model::BatchShape sample = sample_of(dataset, media, options);
    if (sample.tokens <= longest.tokens) continue;
    longest = sample;
    plan.data_set = dataset.id;
  }
  plan.sample_tokens = longest.tokens;
  std::int64_t samples = spec.train.samples_per_lane;
  if (spec.train.pack_tokens)
    samples = std::clamp<std::int64_t>(
        static_cast<std::int64_t>(*spec.train.pack_tokens) / longest.tokens, 1, samples);
  const model::MemoryPlan memory =
      model::plan_memory(config, spec.model.adapter, spec.train.precision, spec.train.recompute,
                         {longest.tokens * samples, longest.targets * samples,
                          longest.patches * samples, longest.mel_frames * samples});
  plan.base_parameters = memory.base_parameters;
  plan.trained_parameters = memory.trained_parameters;

  const bool on_gpu = spec.resources.worker.gpus > 0;
  plan.parts = {{"weights", memory.weights, std::string(to_string(spec.train.precision))},
                {"adapter", memory.adapter, "float32"},
                {"optimizer", memory.optimizer, "both moments, float32"},
                {"gradient", memory.gradient, "float32, of one lane"}};
  // Lanes are summed and exchanged, and checkpoints copied, on the host.
  if (!on_gpu) {
    plan.parts.push_back({"reduction", 2 * memory.gradient, "the sum of lanes, and the exchange"});
    plan.parts.push_back({"snapshot", memory.adapter + memory.optimizer,
                          "while a checkpoint is stored, and kept for the next"});
  }
  plan.parts.push_back({"activations", memory.activations,
                        (spec.train.pack_tokens ? "of one pack; train.recompute: "
                                                : "of one lane; train.recompute: ") +
                            std::string(to_string(spec.train.recompute))});
  plan.parts.push_back(
      {"program", on_gpu ? kProgramOnGpu : kProgramOnHost, "as measured with nano"});
  return plan;
}

}  // namespace crabcast::actors

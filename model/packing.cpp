#include "model/packing.h"

#include <ATen/ATen.h>

#include <string>

#include "model/position_ids.h"

namespace crabcast::model {
namespace {

constexpr std::int64_t kNotTrained = -100;

std::string shape_of(const at::Tensor& tensor) {
  std::string text = "[";
  for (std::int64_t i = 0; i < tensor.dim(); ++i)
    text += (i > 0 ? ", " : "") + std::to_string(tensor.size(i));
  return text + "]";
}

// -1 in `shape` takes any size.
Status check(const char* name, const at::Tensor& tensor, at::ScalarType type,
             std::vector<std::int64_t> shape) {
  const std::string what = std::string("batch tensor ") + name;
  if (!tensor.defined()) return fail(Errc::invalid_argument, what + " is missing");
  if (!tensor.device().is_cpu()) return fail(Errc::invalid_argument, what + " is not on the host");
  if (tensor.scalar_type() != type)
    return fail(Errc::invalid_argument, what + " has the type " +
                                            c10::toString(tensor.scalar_type()) + ", not " +
                                            c10::toString(type));
  bool fits = tensor.dim() == static_cast<std::int64_t>(shape.size());
  for (std::size_t i = 0; fits && i < shape.size(); ++i)
    fits = shape[i] < 0 || shape[i] == tensor.size(static_cast<std::int64_t>(i));
  if (fits) return {};
  std::string wanted;
  for (const std::int64_t size : shape)
    wanted += (wanted.empty() ? "" : ", ") + (size < 0 ? "any" : std::to_string(size));
  return fail(Errc::invalid_argument,
              what + " has the shape " + shape_of(tensor) + ", not [" + wanted + "]");
}

Status check_shapes(const ThinkerConfig& config, const ModelInput& in) {
  CRABCAST_TRY(check("input_ids", in.input_ids, at::kLong, {-1, -1}));
  const std::int64_t batch = in.input_ids.size(0), width = in.input_ids.size(1);
  CRABCAST_TRY(check("attention_mask", in.attention_mask, at::kBool, {batch, width}));
  if (in.labels.defined()) CRABCAST_TRY(check("labels", in.labels, at::kLong, {batch, width}));
  CRABCAST_TRY(
      check("pixel_values", in.pixel_values, at::kFloat, {-1, config.vision.patch_elements()}));
  CRABCAST_TRY(check("grid_thw", in.grid_thw, at::kLong, {-1, 3}));
  CRABCAST_TRY(check("seconds_per_grid", in.seconds_per_grid, at::kFloat, {in.grid_thw.size(0)}));
  CRABCAST_TRY(
      check("audio_features", in.audio_features, at::kFloat, {-1, config.audio.mel_bins, -1}));
  CRABCAST_TRY(check("audio_lengths", in.audio_lengths, at::kLong, {in.audio_features.size(0)}));
  if (batch == 0) return fail(Errc::invalid_argument, "the batch has no sample");
  return {};
}

Result<std::vector<GridThw>> read_grids(const VisionConfig& config, const ModelInput& input) {
  std::vector<GridThw> grids;
  std::int64_t patches = 0;
  const at::Tensor grid_M3 = input.grid_thw.contiguous();
  const auto* data = grid_M3.const_data_ptr<std::int64_t>();
  const std::int64_t merge = config.spatial_merge_size;
  for (std::int64_t m = 0; m < grid_M3.size(0); ++m, data += 3) {
    const auto good_side = [&](std::int64_t side) {
      return side > 0 && side % merge == 0 && side <= input.pixel_values.size(0);
    };
    if (data[0] <= 0 || data[0] > input.pixel_values.size(0) || !good_side(data[1]) ||
        !good_side(data[2]))
      return fail(Errc::invalid_argument,
                  "grid_thw of medium " + std::to_string(m) + " is " + std::to_string(data[0]) +
                      " x " + std::to_string(data[1]) + " x " + std::to_string(data[2]) +
                      "; sides must be positive multiples of " + std::to_string(merge) +
                      " within the patches of the batch");
    grids.push_back({data[0], data[1], data[2]});
    patches += data[0] * data[1] * data[2];
  }
  if (patches != input.pixel_values.size(0))
    return fail(Errc::invalid_argument, "grid_thw counts " + std::to_string(patches) +
                                            " patches, but pixel_values has " +
                                            std::to_string(input.pixel_values.size(0)));
  return grids;
}

Result<std::vector<std::int64_t>> read_audio_frames(const ModelInput& input) {
  std::vector<std::int64_t> frames;
  const at::Tensor lengths_A = input.audio_lengths.contiguous();
  const auto* data = lengths_A.const_data_ptr<std::int64_t>();
  for (std::int64_t a = 0; a < lengths_A.numel(); ++a) {
    if (data[a] < 0 || data[a] > input.audio_features.size(2))
      return fail(Errc::invalid_argument,
                  "audio_lengths of clip " + std::to_string(a) + " is " + std::to_string(data[a]) +
                      ", but audio_features has " + std::to_string(input.audio_features.size(2)) +
                      " frames");
    frames.push_back(data[a]);
  }
  return frames;
}

// What is read off the tokens: rows of media, rows and ids to train.
struct TokenRows {
  std::vector<std::int64_t> ids, positions[3], vision, audio, target_rows, targets, target_counts;
};

Result<TokenRows> read_tokens(const ThinkerConfig& config, const ModelInput& input,
                              const Positions& places) {
  TokenRows rows;
  const at::Tensor ids_BL = input.input_ids.contiguous();
  const at::Tensor labels_BL = input.labels.defined() ? input.labels.contiguous() : at::Tensor();
  const std::int64_t batch = ids_BL.size(0), width = ids_BL.size(1);
  const auto* positions = places.ids_3BL.const_data_ptr<std::int64_t>();
  for (std::int64_t b = 0; b < batch; ++b) {
    const TokenRun run = places.tokens[static_cast<std::size_t>(b)];
    const std::int64_t begin = b * width + run.begin;
    const auto* ids = ids_BL.const_data_ptr<std::int64_t>() + begin;
    const auto* labels =
        labels_BL.defined() ? labels_BL.const_data_ptr<std::int64_t>() + begin : nullptr;
    const auto in_vocabulary = [&](std::int64_t id) {
      return id >= 0 && id < config.text.vocab_size;
    };
    rows.target_counts.push_back(0);
    for (std::int64_t i = 0; i < run.length; ++i) {
      const auto row = static_cast<std::int64_t>(rows.ids.size());
      const bool trained = labels != nullptr && labels[i] != kNotTrained;
      if (!in_vocabulary(ids[i]) || (trained && !in_vocabulary(labels[i])))
        return fail(Errc::invalid_argument,
                    "token " + std::to_string(i) + " of sample " + std::to_string(b) +
                        " has the id " + std::to_string(ids[i]) +
                        (trained ? " and the label " + std::to_string(labels[i]) : "") +
                        "; ids end at " + std::to_string(config.text.vocab_size - 1));
      rows.ids.push_back(ids[i]);
      for (std::int64_t axis = 0; axis < 3; ++axis)
        rows.positions[axis].push_back(positions[axis * batch * width + begin + i]);
      if (ids[i] == config.special.image || ids[i] == config.special.video)
        rows.vision.push_back(row);
      if (ids[i] == config.special.audio) rows.audio.push_back(row);
      // Nothing comes before the first token, so nothing predicts it.
      if (!trained || i == 0) continue;
      rows.target_rows.push_back(row - 1);
      rows.targets.push_back(labels[i]);
      ++rows.target_counts.back();
    }
  }
  return rows;
}

}  // namespace

Result<PackedInput> pack_input(const ThinkerConfig& config, const ModelInput& input,
                               at::Device device, at::ScalarType type) {
  CRABCAST_TRY(check_shapes(config, input));
  auto grids = read_grids(config.vision, input);
  CRABCAST_TRY(grids);
  auto frames = read_audio_frames(input);
  CRABCAST_TRY(frames);
  auto positions = multimodal_positions(config, input);
  CRABCAST_TRY(positions);
  auto rows = read_tokens(config, input, *positions);
  CRABCAST_TRY(rows);

  const auto tensor = [&](const std::vector<std::int64_t>& values) {
    return at::tensor(values, at::kLong).to(device);
  };
  // A copy in LibTorch's own memory: bytes that came over a socket may be aligned in any way, and
  // the last bit of a matrix product may depend on that.
  const auto own = [&](const at::Tensor& media) {
    return media.clone(at::MemoryFormat::Contiguous).to(device, type);
  };
  PackedInput packed;
  for (const TokenRun& run : positions->tokens) packed.lengths.push_back(run.length);
  packed.next_position = std::move(positions->next);
  packed.ids_T = tensor(rows->ids);
  packed.position_ids_3T = at::stack(
      {tensor(rows->positions[0]), tensor(rows->positions[1]), tensor(rows->positions[2])});
  packed.vision_rows = tensor(rows->vision);
  packed.audio_rows = tensor(rows->audio);
  packed.pixels_PX = own(input.pixel_values);
  packed.grids = std::move(*grids);
  packed.audio_AMF = own(input.audio_features);
  packed.audio_frames = std::move(*frames);
  packed.target_rows = tensor(rows->target_rows);
  packed.targets = tensor(rows->targets);
  packed.target_counts = std::move(rows->target_counts);
  return packed;
}

}  // namespace crabcast::model

#include "model/position_ids.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <utility>

namespace crabcast::model {
namespace {

struct Grid {
  std::int64_t t, h, w;
};

// One sample's tokens and where its positions go.
struct Row {
  const std::int64_t* ids;
  std::int64_t length;
  std::int64_t *t, *h, *w;
};

// Walks the samples in order and consumes the media as their placeholders come.
class Walker {
 public:
  Walker(const ThinkerConfig& config, const ModelInput& input) : config_(config) {
    const at::Tensor grid_M3 = input.grid_thw.contiguous();
    const auto* grid = grid_M3.const_data_ptr<std::int64_t>();
    for (std::int64_t m = 0; m < grid_M3.size(0); ++m)
      grids_.push_back({grid[3 * m], grid[3 * m + 1], grid[3 * m + 2]});
    const at::Tensor seconds_M = input.seconds_per_grid.contiguous();
    const auto* seconds = seconds_M.const_data_ptr<float>();
    seconds_.assign(seconds, seconds + seconds_M.numel());
    const at::Tensor lengths_A = input.audio_lengths.contiguous();
    const auto* lengths = lengths_A.const_data_ptr<std::int64_t>();
    for (std::int64_t a = 0; a < lengths_A.numel(); ++a)
      clips_.push_back(MediaShape::audio_tokens(lengths[a]));
  }

  // Returns the position after the sample's last.
  Result<std::int64_t> walk(const Row& row) {
    std::int64_t next = 0;
    for (std::int64_t i = 0; i < row.length;) {
      const std::int64_t id = row.ids[i];
      const bool vision = id == config_.special.image || id == config_.special.video;
      if (!vision && id != config_.special.audio) {
        row.t[i] = row.h[i] = row.w[i] = next++;
        ++i;
        continue;
      }
      auto step = vision ? place_vision(row, i, next) : place_audio(row, i, next);
      CRABCAST_TRY(step);
      i += step->tokens;
      next = step->next;
    }
    return next;
  }

  // Every medium must have been consumed; a clip too short for a token has no placeholder.
  Status finish() {
    skip_empty_clips();
    if (medium_ != grids_.size() || clip_ != clips_.size())
      return fail(Errc::invalid_argument,
                  "the batch holds " + std::to_string(grids_.size()) + " pictures or videos and " +
                      std::to_string(clips_.size()) + " audio clips, but its text has places for " +
                      std::to_string(medium_) + " and " + std::to_string(clip_));
    return {};
  }

 private:
  struct Step {
    std::int64_t tokens, next;
  };

  void skip_empty_clips() {
    while (clip_ < clips_.size() && clips_[clip_] == 0) ++clip_;
  }

  Status expect_run(const Row& row, std::int64_t begin, std::int64_t tokens) const {
    const std::int64_t id = row.ids[begin];
    std::int64_t run = 0;
    while (begin + run < row.length && run < tokens && row.ids[begin + run] == id) ++run;
    if (run == tokens) return {};
    return fail(Errc::invalid_argument, "a medium makes " + std::to_string(tokens) +
                                            " tokens, but its text has " + std::to_string(run) +
                                            " placeholders of id " + std::to_string(id) +
                                            " at token " + std::to_string(begin));
  }

  Result<Step> place_audio(const Row& row, std::int64_t begin, std::int64_t next) {
    skip_empty_clips();
    if (clip_ == clips_.size())
      return fail(Errc::invalid_argument,
                  "the text has more audio placeholders than the batch has audio clips");
    const std::int64_t tokens = clips_[clip_++];
    CRABCAST_TRY(expect_run(row, begin, tokens));
    for (std::int64_t i = begin; i < begin + tokens; ++i) row.t[i] = row.h[i] = row.w[i] = next++;
    return Step{tokens, next};
  }

  Result<Step> place_vision(const Row& row, std::int64_t begin, std::int64_t next) {
    if (medium_ == grids_.size())
      return fail(Errc::invalid_argument,
                  "the text has more vision placeholders than the batch has pictures and videos");
    const Grid grid = grids_[medium_];
    const float seconds = row.ids[begin] == config_.special.image ? 1.0F : seconds_[medium_];
    ++medium_;
    const std::int64_t merge = config_.vision.spatial_merge_size;
    const std::int64_t rows = grid.h / merge, columns = grid.w / merge;
    const std::int64_t tokens = grid.t * rows * columns;
    CRABCAST_TRY(expect_run(row, begin, tokens));
    std::int64_t largest = next, i = begin;
    for (std::int64_t t = 0; t < grid.t; ++t) {
      const float time =
          static_cast<float>(t) * seconds * static_cast<float>(config_.position_id_per_seconds);
      for (std::int64_t h = 0; h < rows; ++h)
        for (std::int64_t w = 0; w < columns; ++w, ++i) {
          row.t[i] = next + static_cast<std::int64_t>(time);
          row.h[i] = next + h;
          row.w[i] = next + w;
          largest = std::max({largest, row.t[i], row.h[i], row.w[i]});
        }
    }
    return Step{tokens, largest + 1};
  }

  const ThinkerConfig& config_;
  std::vector<Grid> grids_;
  std::vector<float> seconds_;
  std::vector<std::int64_t> clips_;  // tokens of each
  std::size_t medium_ = 0, clip_ = 0;
};

Result<std::vector<TokenRun>> token_runs(const at::Tensor& mask_BL) {
  std::vector<TokenRun> runs;
  const at::Tensor mask = mask_BL.contiguous();
  const std::int64_t width = mask.size(1);
  for (std::int64_t b = 0; b < mask.size(0); ++b) {
    const bool* row = mask.const_data_ptr<bool>() + b * width;
    const bool* first = std::find(row, row + width, true);
    const bool* last = std::find(first, row + width, false);
    const std::string sample = "sample " + std::to_string(b) + " of the batch";
    if (first == last) return fail(Errc::invalid_argument, sample + " has no token");
    if (std::find(last, row + width, true) != row + width)
      return fail(Errc::invalid_argument, sample + " has padding between its tokens");
    runs.push_back({first - row, last - first});
  }
  return runs;
}

}  // namespace

Result<Positions> multimodal_positions(const ThinkerConfig& config, const ModelInput& input) {
  const std::int64_t batch = input.input_ids.size(0), width = input.input_ids.size(1);
  auto runs = token_runs(input.attention_mask);
  CRABCAST_TRY(runs);
  const at::Tensor ids_BL = input.input_ids.contiguous();
  const auto* ids = ids_BL.const_data_ptr<std::int64_t>();

  Positions positions;
  positions.ids_3BL = at::ones({3, batch, width}, at::kLong);
  auto* out = positions.ids_3BL.mutable_data_ptr<std::int64_t>();
  Walker walker(config, input);
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto [begin, length] = (*runs)[static_cast<std::size_t>(b)];
    const auto axis = [&, first = begin](std::int64_t a) {
      return out + (a * batch + b) * width + first;
    };
    auto next = walker.walk({ids + b * width + begin, length, axis(0), axis(1), axis(2)});
    if (!next) return fail(next.error().within("sample " + std::to_string(b) + " of the batch"));
    positions.next.push_back(*next);
  }
  CRABCAST_TRY(walker.finish());
  positions.tokens = std::move(*runs);
  return positions;
}

}  // namespace crabcast::model

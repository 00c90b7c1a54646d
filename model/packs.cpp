#include "model/packs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace crabcast::model {
namespace {

struct Run {
  std::int64_t begin = 0, count = 0;
  [[nodiscard]] std::int64_t end() const { return begin + count; }
};

// One sample's share of each tensor of a batch.
struct Share {
  Run tokens, vision_rows, patches, grids, audio_rows, clips, targets;
};

std::vector<std::int64_t> on_host(const at::Tensor& rows) {
  const at::Tensor host = rows.cpu().contiguous();
  const auto* data = host.const_data_ptr<std::int64_t>();
  return {data, data + host.numel()};
}

// How many of the ascending `rows`, from `at` on, lie before `end`.
std::int64_t count_before(const std::vector<std::int64_t>& rows, std::int64_t at,
                          std::int64_t end) {
  const auto from = rows.begin() + at;
  return std::lower_bound(from, rows.end(), end) - from;
}

std::vector<Share> shares_of(const ThinkerConfig& config, const PackedInput& batch) {
  const std::vector<std::int64_t> vision = on_host(batch.vision_rows);
  const std::vector<std::int64_t> audio = on_host(batch.audio_rows);
  const std::int64_t merged = config.vision.spatial_merge_size * config.vision.spatial_merge_size;
  std::vector<Share> shares;
  Share last;
  for (std::size_t s = 0; s < batch.lengths.size(); ++s) {
    Share share;
    share.tokens = {last.tokens.end(), batch.lengths[s]};
    share.targets = {last.targets.end(), batch.target_counts[s]};
    share.vision_rows = {last.vision_rows.end(), 0};
    share.vision_rows.count = count_before(vision, share.vision_rows.begin, share.tokens.end());
    share.grids = {last.grids.end(), 0};
    share.patches = {last.patches.end(), 0};
    while (share.patches.count < share.vision_rows.count * merged) {
      const GridThw& grid = batch.grids.at(static_cast<std::size_t>(share.grids.end()));
      share.patches.count += grid[0] * grid[1] * grid[2];
      ++share.grids.count;
    }
    share.audio_rows = {last.audio_rows.end(), 0};
    share.audio_rows.count = count_before(audio, share.audio_rows.begin, share.tokens.end());
    share.clips = {last.clips.end(), 0};
    for (std::int64_t rows = 0; rows < share.audio_rows.count; ++share.clips.count)
      rows += MediaShape::audio_tokens(
          batch.audio_frames.at(static_cast<std::size_t>(share.clips.end())));
    shares.push_back(share);
    last = share;
  }
  return shares;
}

// Collects runs of a tensor along one dimension.
class Pieces {
 public:
  Pieces(const at::Tensor& whole, std::int64_t dim) : whole_(whole), dim_(dim) {}
  void add(const Run& run) { parts_.push_back(whole_.narrow(dim_, run.begin, run.count)); }
  void add_moved(const Run& run, std::int64_t by) {
    parts_.push_back(whole_.narrow(dim_, run.begin, run.count) + by);
  }
  [[nodiscard]] at::Tensor joined() const { return at::cat(parts_, dim_); }

 private:
  const at::Tensor& whole_;
  std::int64_t dim_;
  std::vector<at::Tensor> parts_;
};

template <class T>
void append(std::vector<T>& out, const std::vector<T>& from, const Run& run) {
  out.insert(out.end(), from.begin() + run.begin, from.begin() + run.end());
}

}  // namespace

std::vector<std::vector<std::size_t>> pack_layout(const std::vector<std::int64_t>& lengths,
                                                  std::int64_t limit) {
  std::vector<std::size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  if (limit <= 0) return {order};
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return lengths[a] > lengths[b]; });
  std::vector<std::vector<std::size_t>> packs;
  std::vector<std::int64_t> room;
  for (const std::size_t sample : order) {
    const auto fits = std::find_if(room.begin(), room.end(),
                                   [&](std::int64_t left) { return left >= lengths[sample]; });
    const auto at = static_cast<std::size_t>(fits - room.begin());
    if (fits == room.end()) {
      packs.emplace_back();
      room.push_back(limit);
    }
    packs[at].push_back(sample);
    room[at] -= lengths[sample];
  }
  for (auto& pack : packs) std::sort(pack.begin(), pack.end());
  std::sort(packs.begin(), packs.end());
  return packs;
}

PackedInput take_samples(const ThinkerConfig& config, const PackedInput& batch,
                         const std::vector<std::size_t>& samples) {
  const std::vector<Share> shares = shares_of(config, batch);
  PackedInput pack;
  Pieces ids(batch.ids_T, 0), positions(batch.position_ids_3T, 1), vision(batch.vision_rows, 0),
      audio(batch.audio_rows, 0), pixels(batch.pixels_PX, 0), clips(batch.audio_AMF, 0),
      target_rows(batch.target_rows, 0), targets(batch.targets, 0);
  std::int64_t begin = 0;
  for (const std::size_t s : samples) {
    const Share& share = shares.at(s);
    const std::int64_t moved = begin - share.tokens.begin;
    ids.add(share.tokens);
    positions.add(share.tokens);
    vision.add_moved(share.vision_rows, moved);
    audio.add_moved(share.audio_rows, moved);
    pixels.add(share.patches);
    clips.add(share.clips);
    target_rows.add_moved(share.targets, moved);
    targets.add(share.targets);
    append(pack.grids, batch.grids, share.grids);
    append(pack.audio_frames, batch.audio_frames, share.clips);
    pack.lengths.push_back(batch.lengths[s]);
    pack.next_position.push_back(batch.next_position[s]);
    pack.target_counts.push_back(batch.target_counts[s]);
    begin += share.tokens.count;
  }
  pack.ids_T = ids.joined();
  pack.position_ids_3T = positions.joined();
  pack.vision_rows = vision.joined();
  pack.audio_rows = audio.joined();
  pack.pixels_PX = pixels.joined();
  pack.audio_AMF = clips.joined();
  pack.target_rows = target_rows.joined();
  pack.targets = targets.joined();
  return pack;
}

}  // namespace crabcast::model

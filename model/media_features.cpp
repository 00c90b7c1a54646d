#include "model/media_features.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <xxhash.h>

#include <functional>
#include <string>
#include <vector>

#include "model/feature_store.h"

namespace crabcast::model {
namespace {

FeatureKey key_of(const std::string& tower, const std::string& base, const at::Tensor& medium,
                  const std::vector<std::int64_t>& shape) {
  std::string settings = tower + "|" + base + "|" + c10::toString(medium.scalar_type()) + "|" +
                         c10::DeviceTypeName(medium.device().type(), true) + "|" +
                         std::to_string(at::get_num_threads());
  for (const std::int64_t size : shape) settings += "|" + std::to_string(size);
  const at::Tensor host = medium.cpu().contiguous();
  const XXH64_hash_t seed = XXH3_64bits(settings.data(), settings.size());
  const XXH128_hash_t hash = XXH3_128bits_withSeed(host.const_data_ptr(), host.nbytes(), seed);
  return {hash.high64, hash.low64};
}

at::Tensor find_or_make(FeatureStore& store, const FeatureKey& key, const at::Tensor& medium,
                        const std::function<at::Tensor()>& make) {
  if (const auto found = store.find(key)) {
    // In LibTorch's own memory: the last bits of a product may depend on the alignment.
    return found->clone(at::MemoryFormat::Contiguous).to(medium.device());
  }
  at::Tensor made = make();
  store.insert(key, made.cpu().contiguous());
  return made;
}

}  // namespace

at::Tensor vision_features(const Thinker& thinker, const PackedInput& input, const Pass& pass) {
  if (pass.features == nullptr)
    return encode_vision(thinker.vision, input.pixels_PX, input.grids, pass);
  std::vector<at::Tensor> features;
  std::int64_t begin = 0;
  for (const GridThw& grid : input.grids) {
    const std::int64_t patches = grid[0] * grid[1] * grid[2];
    const at::Tensor pixels_PX = input.pixels_PX.narrow(0, begin, patches);
    begin += patches;
    const FeatureKey key =
        key_of("vision", thinker.base_hash, pixels_PX, {grid[0], grid[1], grid[2]});
    features.push_back(find_or_make(*pass.features, key, pixels_PX, [&] {
      return encode_vision(thinker.vision, pixels_PX.clone(), {grid}, pass);
    }));
  }
  return at::cat(features);
}

at::Tensor audio_features(const Thinker& thinker, const PackedInput& input, const Pass& pass) {
  if (pass.features == nullptr)
    return encode_audio(thinker.audio, input.audio_AMF, input.audio_frames, pass);
  std::vector<at::Tensor> features;
  for (std::size_t clip = 0; clip < input.audio_frames.size(); ++clip) {
    const std::int64_t frames = input.audio_frames[clip];
    const at::Tensor mel_1MF =
        input.audio_AMF.narrow(0, static_cast<std::int64_t>(clip), 1).narrow(2, 0, frames);
    const FeatureKey key = key_of("audio", thinker.base_hash, mel_1MF, {frames});
    features.push_back(find_or_make(*pass.features, key, mel_1MF, [&] {
      return encode_audio(thinker.audio, mel_1MF.contiguous().clone(), {frames}, pass);
    }));
  }
  return at::cat(features);
}

}  // namespace crabcast::model

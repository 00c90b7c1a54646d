#include "data/sample_cache.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <spdlog/spdlog.h>

#include <bit>
#include <string>
#include <utility>
#include <vector>

#include "data/patches.h"

namespace crabcast::data {
namespace {

namespace fs = std::filesystem;

// Raised whenever the same files and settings would be decoded to something else.
constexpr std::uint64_t kDecoderVersion = 2;

CacheKey identity_of(const FileContent& file) {
  return CacheKeyHasher()
      .add("file")
      .add(file.path.native())
      .add(file.stamp.device)
      .add(file.stamp.inode)
      .add(file.stamp.size)
      .add(file.stamp.mtime_ns)
      .key();
}

at::Tensor tensor_of(const CacheKey& key) {
  return at::tensor({static_cast<std::int64_t>(key.high), static_cast<std::int64_t>(key.low)},
                    at::kLong);
}

std::optional<CacheKey> key_in(const std::vector<at::Tensor>& tensors) {
  if (tensors.size() != 1 || tensors[0].numel() != 2 || tensors[0].scalar_type() != at::kLong)
    return std::nullopt;
  const auto* words = tensors[0].const_data_ptr<std::int64_t>();
  return CacheKey{static_cast<std::uint64_t>(words[0]), static_cast<std::uint64_t>(words[1])};
}

at::Tensor or_empty(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.contiguous() : at::empty({0}, at::kFloat);
}

std::vector<at::Tensor> tensors_of(const SampleMedia& media) {
  const bool pictures = media.pixel_values.defined();
  const auto& tokens = media.tokens;
  return {at::tensor(
              {tokens.video, tokens.image, tokens.audio, tokens.second_video, tokens.second_audio},
              at::kLong),
          pictures ? bytes_of_pixels(media.pixel_values) : at::empty({0}, at::kByte),
          or_empty(media.grid_thw),
          or_empty(media.seconds_per_grid),
          or_empty(media.audio_features),
          or_empty(media.audio_lengths)};
}

std::optional<SampleMedia> media_in(const std::vector<at::Tensor>& tensors) {
  constexpr std::size_t kTensors = 6;
  if (tensors.size() != kTensors || tensors[0].numel() != 5 ||
      tensors[0].scalar_type() != at::kLong)
    return std::nullopt;
  SampleMedia media;
  const auto* tokens = tensors[0].const_data_ptr<std::int64_t>();
  media.tokens.video = tokens[0];
  media.tokens.image = tokens[1];
  media.tokens.audio = tokens[2];
  media.tokens.second_video = tokens[3];
  media.tokens.second_audio = tokens[4];
  const StageTimer timer(&media.times, Stage::patches);
  if (tensors[1].numel() > 0) {
    media.pixel_values = pixels_of_bytes(tensors[1]);
    media.grid_thw = tensors[2];
    media.seconds_per_grid = tensors[3];
  }
  if (tensors[4].numel() > 0) {
    media.audio_features = tensors[4];
    media.audio_lengths = tensors[5];
  }
  return media;
}

// Nothing while the hash of a file is not known.
std::optional<CacheKey> key_of(const Sample& sample, const model::MediaShape& shape,
                               const std::vector<FileContent>& files) {
  const Dataset& table = datasets()[sample.dataset];
  CacheKeyHasher key;
  key.add("sample").add(kDecoderVersion);
  for (const std::int64_t setting :
       {std::int64_t{table.frames}, static_cast<std::int64_t>(table.audio),
        std::int64_t{table.audio_parts}, std::int64_t{sample.frame_index},
        std::int64_t{shape.image_size}, std::int64_t{shape.patch_size}, std::int64_t{shape.merge},
        std::int64_t{shape.temporal_patch}, std::int64_t{shape.mel_bins},
        static_cast<std::int64_t>(std::bit_cast<std::int32_t>(shape.seconds_per_grid))})
    key.add(static_cast<std::uint64_t>(setting));
  for (const fs::path* file :
       {&sample.video, &sample.second_video, &sample.image, &sample.audio, &sample.second_audio})
    key.add(file->empty() ? "none" : "file");
  for (const FileContent& file : files) {
    if (!file.hash) return std::nullopt;
    key.add(file.hash->high).add(file.hash->low);
  }
  if (files.empty()) return std::nullopt;
  return key.key();
}

}  // namespace

Result<std::unique_ptr<SampleCache>> SampleCache::open(const fs::path& folder,
                                                       std::uint64_t bytes) {
  auto tensors = TensorCache::open({.folder = folder, .bytes = bytes});
  if (!tensors) return fail(tensors.error());
  return std::unique_ptr<SampleCache>(new SampleCache(std::move(*tensors)));
}

std::optional<CacheKey> SampleCache::known_hash(const FileContent& file) {
  const auto known = tensors_->find(identity_of(file));
  return known ? key_in(*known) : std::nullopt;
}

Result<SampleCache::Answer> SampleCache::get(const Sample& sample, const model::MediaShape& shape,
                                             const std::function<Result<SampleMedia>()>& read) {
  auto files = stat_media(sample).value_or(std::vector<FileContent>());  // decoding says why
  for (FileContent& file : files) file.hash = known_hash(file);
  if (const auto key = key_of(sample, shape, files))
    if (const auto found = tensors_->find(*key))
      if (auto media = media_in(*found)) return Answer{std::move(*media), true, std::move(files)};
  auto media = read();
  if (!media) return fail(media.error());
  keep(sample, shape, *media, files);
  return Answer{std::move(*media), false, std::move(files)};
}

void SampleCache::insert(const CacheKey& key, const std::vector<at::Tensor>& tensors) {
  const Status kept = tensors_->insert(key, tensors);
  if (!kept && !told_.exchange(true))
    spdlog::warn("decoded samples are not kept: {}", kept.error().message);
}

// A file is hashed when it was decoded just now: a file that hangs whoever reads it hangs the
// decoder, which has a deadline, and never this process.
void SampleCache::keep(const Sample& sample, const model::MediaShape& shape,
                       const SampleMedia& media, std::vector<FileContent>& files) {
  for (FileContent& file : files) {
    if (file.hash) continue;
    const auto hash = file_hash(file.path);
    // A file that changed while it was read is another one.
    if (!hash || file_stamp(file.path) != file.stamp) return;
    file.hash = *hash;
    insert(identity_of(file), {tensor_of(*hash)});
  }
  if (const auto key = key_of(sample, shape, files)) insert(*key, tensors_of(media));
}

}  // namespace crabcast::data

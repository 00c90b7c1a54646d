#include "model/front_end.h"

#include <filesystem>
#include <utility>

#include "model/base_config.h"
#include "model/bpe_tokenizer.h"
#include "protocol/base_location.h"

namespace crabcast::model {
namespace {

namespace fs = std::filesystem;

struct SpecialName {
  const char* name;
  TokenId SpecialTokens::*id;
};
constexpr SpecialName kSpecialNames[] = {
    {"pad", &SpecialTokens::pad},
    {"im_start", &SpecialTokens::im_start},
    {"im_end", &SpecialTokens::im_end},
    {"audio", &SpecialTokens::audio},
    {"audio_begin", &SpecialTokens::audio_begin},
    {"audio_end", &SpecialTokens::audio_end},
    {"image", &SpecialTokens::image},
    {"video", &SpecialTokens::video},
    {"vision_begin", &SpecialTokens::vision_begin},
    {"vision_end", &SpecialTokens::vision_end},
};

}  // namespace

MediaShape media_shape(const ThinkerConfig& config) {
  MediaShape media;
  media.patch_size = static_cast<int>(config.vision.patch_size);
  media.temporal_patch = static_cast<int>(config.vision.temporal_patch_size);
  media.merge = static_cast<int>(config.vision.spatial_merge_size);
  media.mel_bins = static_cast<int>(config.audio.mel_bins);
  return media;
}

Result<BaseFrontEnd> make_front_end(std::shared_ptr<const Tokenizer> tokenizer,
                                    const ThinkerConfig& config) {
  const MediaShape media = media_shape(config);
  if (const int block = media.patch_size * media.merge; media.image_size % block != 0)
    return fail(Errc::unsupported, "pictures of " + std::to_string(media.image_size) +
                                       " pixels a side cannot be cut into the base's blocks of " +
                                       std::to_string(block));
  if (tokenizer->vocabulary_size() > config.text.vocab_size)
    return fail(Errc::unsupported,
                "the tokenizer has " + std::to_string(tokenizer->vocabulary_size()) +
                    " ids, the base only " + std::to_string(config.text.vocab_size));
  for (const auto& [name, id] : kSpecialNames)
    if (tokenizer->special().*id != config.special.*id)
      return fail(Errc::unsupported, std::string("the special token ") + name + " is " +
                                         std::to_string(tokenizer->special().*id) +
                                         " in the tokenizer, but " +
                                         std::to_string(config.special.*id) + " in config.json");
  return BaseFrontEnd{std::move(tokenizer), media};
}

Result<BaseFrontEnd> load_front_end(const std::string& base) {
  auto place = locate_base(base, {});
  CRABCAST_TRY(place);
  if (is_shipped_base(*place)) {
    BaseFrontEnd front_end{make_byte_tokenizer(), media_shape(nano())};
    front_end.media.image_size = 112;
    return front_end;
  }
  const fs::path folder = *place;
  auto config = read_thinker_config(folder);
  if (!config) return fail(config.error());
  auto tokenizer = load_bpe_tokenizer(folder / "tokenizer.json");
  if (!tokenizer) return fail(tokenizer.error());
  auto front_end = make_front_end(std::move(*tokenizer), *config);
  if (!front_end) return fail(front_end.error().within(folder.string()));
  return front_end;
}

}  // namespace crabcast::model

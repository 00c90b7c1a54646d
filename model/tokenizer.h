// Text to token ids and back. No LibTorch here: the data loader includes this header.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/error.h"

namespace crabcast::model {

using TokenId = std::int64_t;

// Ids with a meaning of their own. Names as in Qwen2.5-Omni.
struct SpecialTokens {
  TokenId pad = 0;  // <|endoftext|>
  TokenId im_start = 0, im_end = 0;
  TokenId audio = 0, audio_begin = 0, audio_end = 0;  // <|AUDIO|> <|audio_bos|> <|audio_eos|>
  TokenId image = 0, video = 0;                       // <|IMAGE|> <|VIDEO|>
  TokenId vision_begin = 0, vision_end = 0;           // <|vision_bos|> <|vision_eos|>
};

// Thread-safe: const.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Never produces a special id, whatever the text holds.
  [[nodiscard]] virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  // Special ids are left out; bytes that are not UTF-8 are replaced by U+FFFD.
  [[nodiscard]] virtual std::string decode(const std::vector<TokenId>& ids) const = 0;
  [[nodiscard]] virtual const SpecialTokens& special() const = 0;
  [[nodiscard]] virtual std::int64_t vocabulary_size() const = 0;
};

// Bytes 0..255 are ids 0..255; special tokens follow. The tokenizer of the base `nano`.
std::shared_ptr<const Tokenizer> make_byte_tokenizer();

// How media become patches and mel frames for one base, so that the loader needs no LibTorch model.
struct MediaShape {
  int image_size = 224;  // frames and pictures are resized to image_size x image_size
  int patch_size = 14;
  int temporal_patch = 2;  // frames in one patch
  int merge = 2;           // merge x merge patches become one token
  int mel_bins = 128;
  float seconds_per_grid = 2.0F;  // seconds of one temporal patch of a video (Crab+: 2.0)
  // Tokens of a clip with `frames` frames / of a mel spectrogram with `mel_frames` columns.
  [[nodiscard]] std::int64_t vision_tokens(int frames) const;
  [[nodiscard]] static std::int64_t audio_tokens(std::int64_t mel_frames);
};

// What a loader needs to know of a base. `base` is a shipped base ("nano") or a folder in Hugging
// Face layout with a tokenizer.json; other names are resolved before, by locate_base. Errors as
// those of locate_base and read_thinker_config; unsupported: tokenizer and config do not fit.
struct BaseFrontEnd {
  std::shared_ptr<const Tokenizer> tokenizer;
  MediaShape media;
};
Result<BaseFrontEnd> load_front_end(const std::string& base);

}  // namespace crabcast::model

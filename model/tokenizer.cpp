#include "model/tokenizer.h"

#include "model/unicode.h"

namespace crabcast::model {
namespace {

constexpr TokenId kBytes = 256;

class ByteTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }

  [[nodiscard]] std::string decode(const std::vector<TokenId>& ids) const override {
    std::string bytes;
    bytes.reserve(ids.size());
    for (const TokenId id : ids)
      if (id >= 0 && id < kBytes) bytes.push_back(static_cast<char>(id));
    return replace_invalid_utf8(bytes);
  }

  [[nodiscard]] const SpecialTokens& special() const override { return special_; }
  [[nodiscard]] std::int64_t vocabulary_size() const override { return special_.vision_end + 1; }

 private:
  SpecialTokens special_{.pad = kBytes,
                         .im_start = kBytes + 1,
                         .im_end = kBytes + 2,
                         .audio = kBytes + 3,
                         .audio_begin = kBytes + 4,
                         .audio_end = kBytes + 5,
                         .image = kBytes + 6,
                         .video = kBytes + 7,
                         .vision_begin = kBytes + 8,
                         .vision_end = kBytes + 9};
};

}  // namespace

std::shared_ptr<const Tokenizer> make_byte_tokenizer() {
  return std::make_shared<const ByteTokenizer>();
}

std::int64_t MediaShape::vision_tokens(int frames) const {
  if (frames <= 0) return 0;
  const std::int64_t steps = (frames + temporal_patch - 1) / temporal_patch;
  const std::int64_t side = image_size / (patch_size * merge);
  return steps * side * side;
}

std::int64_t MediaShape::audio_tokens(std::int64_t mel_frames) {
  // Floor division, which an arithmetic shift is; C++ division would give 1 token for 1 frame.
  const std::int64_t after_convolutions = ((mel_frames - 1) >> 1) + 1;
  return ((after_convolutions - 2) >> 1) + 1;
}

}  // namespace crabcast::model

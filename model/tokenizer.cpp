#include "model/tokenizer.h"

namespace crabcast::model {
namespace {

constexpr TokenId kBytes = 256;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the well-formed UTF-8 sequence at the start of `text`, or 0; then `bad` is the number
// of bytes that one U+FFFD replaces (the longest start of a sequence that could have been valid).
std::size_t utf8_sequence(std::string_view text, std::size_t& bad) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  bad = 1;
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  // The second byte's range excludes overlong forms, surrogates and values above U+10FFFF.
  const unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= text.size()) return 0;
    const bool in_range = i == 1 ? byte(i) >= low && byte(i) <= high : (byte(i) & 0xC0) == 0x80;
    if (!in_range) return 0;
    bad = i + 1;
  }
  return length;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    std::size_t bad = 0;
    const std::size_t length = utf8_sequence(text, bad);
    out += length > 0 ? text.substr(0, length) : kReplacement;
    text.remove_prefix(length > 0 ? length : bad);
  }
  return out;
}

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

#include "data/prompt.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <array>
#include <span>
#include <utility>

namespace crabcast::data {
namespace {

using model::TokenId;
using Wordings = std::array<std::string_view, 4>;

// "{}" is where the row's own text goes.
constexpr Wordings kAction = {"Name the action.", "Which action is this?", "What is happening?",
                              "What action do you see and hear?"};
constexpr Wordings kEmotion = {"Name the emotion.", "Which emotion is this?",
                               "What does the person feel?", "What feeling is shown?"};
constexpr Wordings kQuestion = {"{}", "{} Answer:", "Question: {}", "Answer this: {}"};
constexpr Wordings kTime = {"List the events with start and end second.",
                            "Which events happen, from when to when?",
                            "Name each event and its seconds.", "What happens when?"};
constexpr Wordings kTimeAndModality = {"List events, modality, start and end second.",
                                       "Which events are heard, seen or both, and when?",
                                       "Name each event, its modality and its seconds.",
                                       "What is seen or heard, and when?"};
constexpr Wordings kPlace = {"Which object sounds? Give its box.", "Name and box what sounds.",
                             "What sounds, and where is it?", "Find what sounds; give its box."};
constexpr Wordings kMask = {"Which object sounds? Give box and three points.",
                            "Name what sounds; give box and three points.",
                            "What sounds? Box and three points.",
                            "Find what sounds: box and three points."};
constexpr Wordings kReferred = {"Find {}. Give box and three points, or none.",
                                "Where is {}? Box and three points, or none.",
                                "Is there {}? Give box and three points, or none.",
                                "Locate {}: box and three points, or none."};
constexpr Wordings kCaption = {"Describe what you see and hear.", "Describe the clip.",
                               "What can be seen and heard?", "Tell what happens here."};

constexpr Wordings kMatchVideo = {"Which video belongs to the sound, video1 or video2?",
                                  "Is the sound that of video1 or of video2?",
                                  "video1 or video2: which one do you hear?",
                                  "Name the video that the sound is from: video1 or video2."};
constexpr Wordings kMatchSound = {"Which sound belongs to the video, audio1 or audio2?",
                                  "Is the video's sound audio1 or audio2?",
                                  "audio1 or audio2: which one fits what you see?",
                                  "Name the sound that the video makes: audio1 or audio2."};

const Wordings& wordings(const Dataset& dataset) {
  switch (dataset.task) {
    case Task::action_recognition:
      return kAction;
    case Task::emotion_recognition:
      return kEmotion;
    case Task::av_question_answering:
      return kQuestion;
    case Task::temporal_localization:
      return dataset.id == "avvp" ? kTimeAndModality : kTime;
    case Task::spatial_localization:
      return kPlace;
    case Task::segmentation:
      return dataset.id == "ref_avs" ? kReferred : kMask;
    case Task::captioning:
      return kCaption;
    case Task::av_matching:
      return dataset.videos > 1 ? kMatchVideo : kMatchSound;
  }
  return kCaption;
}

// Builds a sequence of tokens. Text between two special tokens is encoded as a whole, wherever its
// pieces come from: a tokenizer may join letters across pieces.
class Turns {
 public:
  explicit Turns(const model::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  Turns& text(std::string_view text) {
    text_ += text;
    return *this;
  }
  Turns& token(TokenId id, std::int64_t count = 1) {
    encode();
    tokens_.insert(tokens_.end(), static_cast<std::size_t>(count), id);
    return *this;
  }
  Turns& medium(TokenId begin, TokenId placeholder, std::int64_t count, TokenId end) {
    return count <= 0 ? *this : token(begin).token(placeholder, count).token(end);
  }
  std::vector<TokenId> take() {
    encode();
    return std::move(tokens_);
  }

 private:
  void encode() {
    const auto ids = tokenizer_.encode(std::exchange(text_, {}));
    tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  }

  const model::Tokenizer& tokenizer_;
  std::string text_;
  std::vector<TokenId> tokens_;
};

}  // namespace

std::string instruction(const Dataset& dataset, const WordingKey& key, std::string_view detail) {
  const std::array<std::uint64_t, 3> parts = {key.dataset, key.index, key.wording};
  const auto& list = wordings(dataset);
  std::string text(list[XXH3_64bits(parts.data(), sizeof(parts)) % list.size()]);
  if (const auto at = text.find("{}"); at != std::string::npos) text.replace(at, 2, detail);
  return text;
}

std::vector<TokenId> prompt_tokens(const model::Tokenizer& tokenizer, std::string_view question,
                                   const MediaTokens& media, std::string_view system) {
  const auto& special = tokenizer.special();
  Turns turns(tokenizer);
  turns.token(special.im_start).text("system\n").text(system).token(special.im_end).text("\n");
  turns.token(special.im_start).text("user\n");
  turns.medium(special.vision_begin, special.video, media.video, special.vision_end);
  turns.medium(special.vision_begin, special.video, media.second_video, special.vision_end);
  turns.medium(special.vision_begin, special.image, media.image, special.vision_end);
  turns.medium(special.audio_begin, special.audio, media.audio, special.audio_end);
  turns.medium(special.audio_begin, special.audio, media.second_audio, special.audio_end);
  turns.text(question).token(special.im_end).text("\n");
  turns.token(special.im_start).text("assistant");
  return turns.take();
}

std::vector<TokenId> next_turn_tokens(const model::Tokenizer& tokenizer,
                                      std::string_view question) {
  const auto& special = tokenizer.special();
  Turns turns(tokenizer);
  turns.text("\n").token(special.im_start).text("user\n").text(question).token(special.im_end);
  return turns.text("\n").token(special.im_start).text("assistant").take();
}

std::vector<TokenId> answer_tokens(const model::Tokenizer& tokenizer, std::string_view target) {
  return Turns(tokenizer).text("\n").text(target).token(tokenizer.special().im_end).take();
}

std::vector<TokenId> answer_start(const model::Tokenizer& tokenizer) {
  return tokenizer.encode("\n");
}

}  // namespace crabcast::data

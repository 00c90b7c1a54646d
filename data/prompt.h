// What a sample looks like as text: Qwen2.5-Omni's chat template, and our questions.
//
//   <|im_start|>system\nSYSTEM<|im_end|>\n
//   <|im_start|>user\nVISION AUDIO QUESTION<|im_end|>\n
//   <|im_start|>assistant\nTARGET<|im_end|>
//
// VISION is <|vision_bos|><|VIDEO|>...<|vision_eos|> or <|vision_bos|><|IMAGE|>...<|vision_eos|>,
// or both in this order, AUDIO is <|audio_bos|><|AUDIO|>...<|audio_eos|>; a second video or sound
// is a block of its own after the first. Each medium has as many placeholders as its tower makes
// tokens. Special tokens that are spelt out in a text stay text. System text and questions are
// short: to the byte tokenizer every letter is a token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/datasets.h"
#include "model/tokenizer.h"

namespace crabcast::data {

inline constexpr std::string_view kSystemText = "You see and hear.";

// What chooses among the wordings of an instruction: a hash of all three.
struct WordingKey {
  DatasetRow dataset = 0;
  std::uint64_t index = 0;
  std::uint64_t wording = 0;  // in training, of the job's seed and the data set's epoch
};

// The instruction of a data set, in one of several wordings, with what the row adds to it: its
// question, or the object to find.
std::string instruction(const Dataset& dataset, const WordingKey& key, std::string_view detail);

struct MediaTokens {
  std::int64_t video = 0, image = 0, audio = 0;  // 0: no such medium
  std::int64_t second_video = 0, second_audio = 0;
};

// System and user turn and "<|im_start|>assistant". The newline after it is the first token that is
// trained, as Crab+ does it: so it belongs to the answer.
std::vector<model::TokenId> prompt_tokens(const model::Tokenizer& tokenizer,
                                          std::string_view question, const MediaTokens& media,
                                          std::string_view system = kSystemText);
// What follows an answer when the conversation goes on: "\n", the user's turn without media, and
// "<|im_start|>assistant".
std::vector<model::TokenId> next_turn_tokens(const model::Tokenizer& tokenizer,
                                             std::string_view question);
// "\nTARGET<|im_end|>"
std::vector<model::TokenId> answer_tokens(const model::Tokenizer& tokenizer,
                                          std::string_view target);
// What follows a prompt when the model is to write the answer: "\n".
std::vector<model::TokenId> answer_start(const model::Tokenizer& tokenizer);

}  // namespace crabcast::data

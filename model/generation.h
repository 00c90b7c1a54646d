// Text from a thinker: greedy, or drawn at a temperature from the most likely tokens (top-p:
// Holtzman et al., arXiv 1904.09751).
//
// Keys and values of all tokens stay in a cache of its full size from the start, so a step costs
// one token, and nothing is copied as an answer grows. Samples of a batch may have prompts of any
// lengths; each ends on its own.
//
// What is drawn depends on (seed, number of the sample, index of the token) and the token's
// probabilities only: a sample gets the same answer alone and in any batch, but for the last bits
// of its logits.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/tokenizer.h"
#include "protocol/error.h"

namespace crabcast::model {

struct PackedInput;
struct Thinker;

struct GenerationOptions {
  int max_new_tokens = 128;        // for each sample; at least 1
  double temperature = 0;          // logits are divided by it; 0 = greedy
  double top_p = 1;                // in (0, 1]: share of the probability that is drawn from
  std::uint64_t seed = 1;          // of what is drawn
  std::uint64_t first_sample = 0;  // number of the batch's first sample; the others follow
  // Tokens that end an answer besides im_end and endoftext.
  std::vector<TokenId> stop = {};
  // Hears of every token of an answer, at once; a sample for which it says false ends with it.
  std::function<bool(std::size_t sample, TokenId id)> on_token = {};
};

enum class Ending {
  end_token,  // im_end, endoftext or one of `stop`
  length,     // max_new_tokens
  refused,    // on_token said no
};

struct Generated {
  std::vector<TokenId> ids;  // without the token that ended it
  Ending ending = Ending::length;
};

// One answer for each prompt. No gradients. invalid_argument: an option out of its range;
// non_finite: the logits are not numbers.
Result<std::vector<Generated>> generate(const Thinker& thinker, const PackedInput& prompts,
                                        const GenerationOptions& options);

}  // namespace crabcast::model

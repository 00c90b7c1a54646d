// One question about media, answered as an evaluator would: decoded, processed and put into the
// chat template as in training.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "protocol/error.h"
#include "protocol/generate.pb.h"

namespace crabcast::actors {

struct Answer {
  std::string text;
  std::string_view ending;  // "end": the model ended it; "stop": a stop text; "length"
  std::uint64_t prompt_tokens = 0, new_tokens = 0;
  double load_seconds = 0;    // base and adapter
  double prompt_seconds = 0;  // until the first new token was there
  double decode_seconds = 0;  // all others
  std::string adapter;        // where it came from; empty: none
  std::string base_hash;
  std::string precision;
};

// `on_text` hears of each piece of the text as it comes. Media are read before the base, so that a
// bad file is told at once. invalid_argument: an unknown data set, an adapter of another base; else
// as read_adapter, process_sample, Session::open and Session::generate.
Result<Answer> answer(const pb::GenerateRequest& request,
                      const std::function<void(std::string_view)>& on_text);

}  // namespace crabcast::actors

#include "apps/compute/generate_verb.h"

#include <unistd.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "actors/compute/answer.h"
#include "apps/compute/verb_output.h"

namespace crabcast::apps {
namespace {

using nlohmann::ordered_json;

void print_json(const pb::GenerateRequest& request, const actors::Answer& answer) {
  const double rate = answer.new_tokens > 1 && answer.decode_seconds > 0
                          ? static_cast<double>(answer.new_tokens - 1) / answer.decode_seconds
                          : 0;
  ordered_json out = {{"text", answer.text},
                      {"ending", answer.ending},
                      {"prompt_tokens", answer.prompt_tokens},
                      {"new_tokens", answer.new_tokens},
                      {"base", request.base()},
                      {"base_hash", answer.base_hash},
                      {"adapter", nullptr},
                      {"precision", answer.precision},
                      {"seed", request.seed()},
                      {"load_seconds", answer.load_seconds},
                      {"prompt_seconds", answer.prompt_seconds},
                      {"decode_seconds", answer.decode_seconds},
                      {"tokens_per_second", rate}};
  if (!answer.adapter.empty()) out["adapter"] = answer.adapter;
  std::cout << out.dump(2, ' ', false, ordered_json::error_handler_t::replace) << std::endl;
}

}  // namespace

Exit generate(const std::string& request_file) {
  pb::GenerateRequest request;
  std::ifstream file(request_file, std::ios::binary);
  if (!request.ParseFromIstream(&file))
    return complain({Errc::corrupt, request_file + " is no request to generate"}, false);
  const bool live = !request.json() && ::isatty(STDOUT_FILENO) == 1;
  bool shown = false;
  const auto answer = actors::answer(request, [&](std::string_view piece) {
    if (!live) return;
    std::cout << piece << std::flush;
    shown = true;
  });
  if (!answer) {
    if (shown) std::cout << std::endl;  // the message gets a line of its own
    return complain(answer.error(), request.json());
  }
  if (request.json())
    print_json(request, *answer);
  else
    std::cout << (live ? "" : answer->text) << std::endl;
  return std::cout ? Exit::ok
                   : complain({Errc::io_error, "the answer could not be written to stdout"}, false);
}

}  // namespace crabcast::apps

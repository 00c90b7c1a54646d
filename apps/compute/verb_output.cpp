#include "apps/compute/verb_output.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "protocol/format.h"

namespace crabcast::apps {

using nlohmann::ordered_json;

Exit complain(const Error& error, bool json) {
  const Exit code = exit_of(error.code);
  if (json)
    std::cout << ordered_json{{"error",
                               {{"code", to_string(error.code)},
                                {"message", error.message},
                                {"exit", static_cast<int>(code)}}}}
                     .dump(2, ' ', false, ordered_json::error_handler_t::replace)
              << "\n";
  std::cerr << "crabcast: " << error.message << "\n";
  return code;
}

Meter::Meter(const char* doing) : doing_(doing), live_(::isatty(STDERR_FILENO) == 1) {}

Meter::~Meter() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Meter::show(std::uint64_t done, std::uint64_t total) {
  const std::uint64_t permille = total == 0 ? 1000 : done * 1000 / total;
  if (!live_ || (drawn_ && permille == shown_)) return;
  std::fprintf(stderr, "\r\033[K%s: %s of %s", doing_, format_bytes(done).c_str(),
               format_bytes(total).c_str());
  drawn_ = true;
  shown_ = permille;
}

}  // namespace crabcast::apps

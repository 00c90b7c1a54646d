// What `crabcast version` prints. Apart from the command line, so that it is there before anything
// else is made.
#pragma once

#include <cstdio>

#include "apps/cli/exit_codes.h"
#include "protocol/ids.h"

namespace crabcast::apps {

inline Exit show_version(bool json) {
  std::printf(json ? "{\"version\": \"%s\", \"protocol\": %u}\n" : "crabcast %s (protocol %u)\n",
              CRABCAST_VERSION, kProtocolVersion);
  return Exit::ok;
}

}  // namespace crabcast::apps

// What `crabcast generate` hands on: it reads the command line, this answers.
#pragma once

#include <string>

#include "apps/cli/exit_codes.h"

namespace crabcast::apps {

// Carries out the pb::GenerateRequest in the file; the answer goes to stdout, on a terminal while
// it comes.
Exit generate(const std::string& request_file);

}  // namespace crabcast::apps

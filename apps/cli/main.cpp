// crabcast: command line, controller, agent and coordinator. Links no LibTorch.
#include <cstring>
#include <exception>

#include "apps/cli/command_line.h"
#include "apps/cli/output.h"
#include "apps/cli/version.h"

int main(int argc, char** argv) {
  using namespace crabcast::apps;
  // Scripts ask for the version often: no work before that is known.
  if (argc == 2 && (!std::strcmp(argv[1], "version") || !std::strcmp(argv[1], "--version")))
    return static_cast<int>(show_version(false));
  try {
    CommandLine command_line;
    return static_cast<int>(command_line.run({argv + 1, argv + argc}));
  } catch (const std::exception& error) {
    return static_cast<int>(
        complain({crabcast::Errc::internal, std::string("unexpected: ") + error.what()}, false));
  }
}

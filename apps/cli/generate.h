// `crabcast generate`: asks a base, with or without an adapter, about media.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/verbs.h"

namespace CLI {
class App;
}

namespace crabcast::apps {

struct GenerateOptions {
  std::string base, adapter;
  std::string video, image, audio;
  std::string data_set = "avcap";
  std::uint32_t frame_index = 0;
  std::string prompt;
  std::optional<std::string> system;
  std::uint32_t max_new_tokens = 128;
  double temperature = 0;
  std::optional<double> top_p;
  std::optional<double> alpha;  // of an adapter in a file that does not say it
  std::uint64_t seed = 1;
  std::vector<std::string> stop;
  std::string device = "cpu";
  std::string precision;
  std::uint32_t threads = 0;  // 0 = one for each core
};

// Declares the options above.
void takes_generate_options(CLI::App& verb, GenerateOptions& options);
// Finds base and adapter, and hands on to crabcast-compute. Does not return when that starts.
Exit generate(const Common& common, const GenerateOptions& options);

}  // namespace crabcast::apps

// One line of JSON for each measured figure, as ./dev bench prints it (docs/benchmarks.md).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

namespace crabcast::bench {

enum class Better { more, less };

// The ratio is above 1 where ours is better than the reference.
inline void print_figure(const std::string& figure, double ours, double reference,
                         const std::string& unit, Better better) {
  const auto four_digits = [](double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return std::strtod(text, nullptr);
  };
  const double ratio = better == Better::more ? ours / reference : reference / ours;
  const nlohmann::ordered_json line{{"figure", figure},
                                    {"ours", four_digits(ours)},
                                    {"reference", four_digits(reference)},
                                    {"unit", unit},
                                    {"ratio", four_digits(ratio)}};
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

}  // namespace crabcast::bench

// Files of the repository that are generated: compared with what the code generates now, and
// written anew when CRABCAST_REGENERATE is set.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace crabcast::test {

inline constexpr auto kRegenerate =
    "run: ./dev build && CRABCAST_REGENERATE=1 CRABCAST_SOURCE=. build/release/bin/test_protocol";

inline bool regenerating() {
  return std::getenv("CRABCAST_REGENERATE") != nullptr;
}

// A file of the repository; ctest says where that is.
inline std::filesystem::path repository_file(const std::string& path) {
  const char* source = std::getenv("CRABCAST_SOURCE");
  return std::filesystem::path(source == nullptr ? "." : source) / path;
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good() || regenerating()) << "cannot read " << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  ASSERT_TRUE(file.flush().good()) << "cannot write " << path;
}

inline void expect_generated(const std::string& path, const std::string& text) {
  const auto file = repository_file(path);
  const std::string stands = read_file(file);
  if (regenerating() && stands != text) write_file(file, text);
  EXPECT_TRUE(regenerating() || stands == text) << path << " is out of date; " << kRegenerate;
}

}  // namespace crabcast::test

// What benchmarks share: errors that end them, times, files.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "protocol/error.h"

namespace crabcast::bench {

// The value, or the end of the benchmark with the error's text.
template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

inline double since(std::chrono::steady_clock::time_point start) {  // seconds
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.at(values.size() / 2);
}

// A line of /proc/self/status in MiB, such as VmRSS.
inline double status_mib(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name + ":"))
      return std::strtod(line.c_str() + name.size() + 1, nullptr) / 1024;
  throw std::runtime_error("/proc/self/status has no " + name);
}

// The next reader gets the file from the disk. Its bytes must have been written to it.
inline void drop_page_cache(const std::filesystem::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 || ::fsync(descriptor) != 0 ||
      ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) != 0)
    throw std::runtime_error("cannot drop the page cache of " + file.string());
  ::close(descriptor);
}

// Seconds to read(2) the file once, in pieces of `piece` bytes.
inline double read_plain(const std::filesystem::path& file, std::size_t piece) {
  std::vector<char> buffer(piece);
  const auto start = std::chrono::steady_clock::now();
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  ssize_t count = 0;
  while ((count = ::read(descriptor, buffer.data(), buffer.size())) > 0) {
  }
  if (descriptor < 0 || count < 0) throw std::runtime_error("cannot read " + file.string());
  ::close(descriptor);
  return since(start);
}

}  // namespace crabcast::bench

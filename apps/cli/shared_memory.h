// Memory that outlives this process's program: what it holds, the program that takes its place
// reads as a file. It is gone when that one ends.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "protocol/error.h"

namespace crabcast::apps {

class SharedMemory {
 public:
  // resource_exhausted: too many open files.
  static Result<SharedMemory> create();
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  // Adds bytes at the end.
  Status append(std::span<const std::byte> bytes);
  // Leaves it to the next program; returns the path under which that one finds it.
  std::string hand_on() &&;

 private:
  explicit SharedMemory(int descriptor) : descriptor_(descriptor) {}
  int descriptor_;
};

}  // namespace crabcast::apps

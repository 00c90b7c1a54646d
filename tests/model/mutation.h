// Broken copies of good text, the same from the same seed, and where to put them.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "model/random.h"

namespace crabcast::model::test {

// One to four small changes: bytes and digits replaced, pieces of JSON put in, runs of bytes
// removed, repeated or cut off. Three of four changes hit the first `head` bytes; the first `kept`
// bytes stay.
inline std::string mutate(std::string bytes, std::uint64_t seed, std::size_t kept,
                          std::size_t head) {
  std::uint64_t drawn = 0;
  const auto draw = [&](std::uint64_t below) { return random_bits(seed, drawn++) % below; };
  constexpr std::string_view kPieces[] = {
      "0",  "9",    "-",  "18446744073709551615", "[", "]", "{", "\"", ",", ":", "\xC3", "}",
      "e9", "null", "0.5"};
  for (std::uint64_t change = draw(4); change < 4 && bytes.size() > kept + 8; ++change) {
    const std::size_t range = draw(4) == 0 ? bytes.size() : std::min(head, bytes.size());
    const std::size_t at = kept + draw(range - kept);
    switch (draw(6)) {
      case 0:
        bytes[at] = static_cast<char>(draw(256));
        break;
      case 1:
        bytes[at] = static_cast<char>('0' + draw(10));
        break;
      case 2:
        bytes.insert(at, kPieces[draw(std::size(kPieces))]);
        break;
      case 3:
        bytes.erase(at, 1 + draw(8));
        break;
      case 4:
        bytes.insert(at, bytes.substr(kept + draw(bytes.size() - kept), draw(40)));
        break;
      default:
        bytes.resize(std::max<std::size_t>(
            kept, draw(4) == 0 ? draw(bytes.size()) : bytes.size() - draw(8)));
    }
  }
  return bytes;
}

// A file without a disk: thousands of small files on one take their time.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("test", MFD_CLOEXEC)) {}
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  void set(const std::string& bytes) const {
    ASSERT_EQ(::ftruncate(descriptor_, 0), 0);
    ASSERT_EQ(::pwrite(descriptor_, bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
  }

 private:
  int descriptor_;
};

}  // namespace crabcast::model::test

#include "storage/encoding.h"

#include <algorithm>

namespace crabcast::storage {

std::string printable(std::string_view key) {
  const std::string_view name = key.substr(std::min<std::size_t>(1, key.size()));
  const bool plain =
      std::all_of(name.begin(), name.end(), [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
  if (plain) return std::string(name);
  if (name.size() == 8) return std::to_string(read_u64(name));
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (const char c : name) {
    hex += kDigits[static_cast<unsigned char>(c) >> 4];
    hex += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return hex;
}

}  // namespace crabcast::storage

// Bytes of keys and values (docs/storage-format.md): one letter for the key space, then numbers in
// big-endian order, so that the order of keys is the order of numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/error.h"

namespace crabcast::storage {

inline void append_u64(std::string& out, std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

inline void append_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}

// `bytes` holds at least 8.
inline std::uint64_t read_u64(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

template <class Space>
std::string key_of(Space space) {
  return {static_cast<char>(space)};
}

template <class Space>
std::string key_of(Space space, std::uint64_t number) {
  std::string key = key_of(space);
  append_u64(key, number);
  return key;
}

template <class Space>
std::string key_of(Space space, std::string_view name) {
  return key_of(space).append(name);
}

// The first key after all keys of the space.
template <class Space>
std::string end_of(Space space) {
  return {static_cast<char>(static_cast<char>(space) + 1)};
}

// A key without the letter of its space, for messages: names as they are, numbers in decimal.
std::string printable(std::string_view key);

// Sizes and structure as Protobuf checks them; `what` names the key for the message.
template <class Message>
Result<Message> parse_record(std::string_view bytes, const std::string& what) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return fail(Errc::corrupt, what + ": the stored bytes are not a valid record");
  return message;
}

}  // namespace crabcast::storage

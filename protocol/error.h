// The project's one error code, and the value that functions return instead of throwing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace crabcast {

// What went wrong, as a program can act on it. Values are stored and sent: never renumber.
enum class Errc : std::uint8_t {
  ok = 0,
  invalid_argument = 1,     // the caller's input is wrong; trying again does not help
  invalid_spec = 2,         // a job spec does not validate
  not_found = 3,            // a named thing is not there
  already_exists = 4,       // a named thing is there already
  permission_denied = 5,    // the operating system or a key refused
  unauthenticated = 6,      // an unknown key
  unavailable = 7,          // a peer cannot be reached now; trying again may help
  timeout = 8,              // a named wait ran out
  cancelled = 9,            // given up on request
  queue_full = 10,          // a bounded queue has no room; slow down
  corrupt = 11,             // stored or received bytes do not match their checksum or format
  io_error = 12,            // reading or writing failed
  disk_full = 13,           // no space left on a device
  address_in_use = 14,      // a port is taken
  stale_generation = 15,    // a message of a generation that is over
  protocol_mismatch = 16,   // a peer speaks another protocol version
  resource_exhausted = 17,  // memory, file descriptors or process limits
  data_error = 18,          // a corpus or a sample cannot be used
  non_finite = 19,          // NaN or Inf in loss or gradient
  device_error = 20,        // a GPU or a collective failed
  process_died = 21,        // a child process ended before its time
  internal = 22,            // a broken promise inside the program: a bug
  budget_exhausted = 23,    // a retry or restart budget is used up
  unsupported = 24,         // this build or machine cannot do it
};

// The code's name, for example "disk_full".
std::string_view to_string(Errc code);
// The code with that number; Errc::internal for a number that no code has.
Errc errc_from_number(std::uint32_t number);

// A code and a sentence: what, where, and what to do.
struct Error {
  Errc code = Errc::internal;
  std::string message;

  // The same error seen from one level up: "CONTEXT: message".
  [[nodiscard]] Error within(std::string_view context) const {
    return {code, std::string(context) + ": " + message};
  }
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

inline tl::unexpected<Error> fail(Errc code, std::string message) {
  return tl::make_unexpected(Error{code, std::move(message)});
}
inline tl::unexpected<Error> fail(Error error) {
  return tl::make_unexpected(std::move(error));
}

// errno as an Error: "CONTEXT: No space left on device", with the fitting code.
Error error_from_errno(int number, std::string_view context);

}  // namespace crabcast

// Returns the error of a Result from the calling function.
#define CRABCAST_TRY(expression)                                       \
  do {                                                                 \
    if (auto crabcast_try_ = (expression); !crabcast_try_.has_value()) \
      return tl::make_unexpected(std::move(crabcast_try_).error());    \
  } while (false)

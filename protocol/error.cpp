#include "protocol/error.h"

#include <array>
#include <cerrno>
#include <system_error>

namespace crabcast {
namespace {

constexpr std::array kNames = {
    std::string_view{"ok"},
    std::string_view{"invalid_argument"},
    std::string_view{"invalid_spec"},
    std::string_view{"not_found"},
    std::string_view{"already_exists"},
    std::string_view{"permission_denied"},
    std::string_view{"unauthenticated"},
    std::string_view{"unavailable"},
    std::string_view{"timeout"},
    std::string_view{"cancelled"},
    std::string_view{"queue_full"},
    std::string_view{"corrupt"},
    std::string_view{"io_error"},
    std::string_view{"disk_full"},
    std::string_view{"address_in_use"},
    std::string_view{"stale_generation"},
    std::string_view{"protocol_mismatch"},
    std::string_view{"resource_exhausted"},
    std::string_view{"data_error"},
    std::string_view{"non_finite"},
    std::string_view{"device_error"},
    std::string_view{"process_died"},
    std::string_view{"internal"},
    std::string_view{"budget_exhausted"},
    std::string_view{"unsupported"},
};
static_assert(kNames.size() == static_cast<std::size_t>(Errc::unsupported) + 1,
              "every Errc needs a name");

}  // namespace

std::string_view to_string(Errc code) {
  return kNames[static_cast<std::size_t>(code)];
}

Errc errc_from_number(std::uint32_t number) {
  return number < kNames.size() ? static_cast<Errc>(number) : Errc::internal;
}

Error error_from_errno(int number, std::string_view context) {
  Errc code = Errc::io_error;
  switch (number) {
    case ENOENT:
    case ENOTDIR:
      code = Errc::not_found;
      break;
    case EEXIST:
      code = Errc::already_exists;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = Errc::permission_denied;
      break;
    case ENOSPC:
    case EDQUOT:
      code = Errc::disk_full;
      break;
    case EADDRINUSE:
      code = Errc::address_in_use;
      break;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      code = Errc::resource_exhausted;
      break;
    case EINVAL:
      code = Errc::invalid_argument;
      break;
    case ETIMEDOUT:
      code = Errc::timeout;
      break;
    default:
      break;
  }
  return {code, std::string(context) + ": " + std::generic_category().message(number)};
}

}  // namespace crabcast

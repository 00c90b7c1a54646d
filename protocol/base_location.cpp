#include "protocol/base_location.h"

#include <algorithm>

#include "protocol/format.h"

namespace crabcast {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kShipped[] = {"nano"};
constexpr std::size_t kLongestName = 63;

// Folders whose names start with a dot are imports that are not finished.
std::vector<std::string> imported_bases(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
    if (std::string name = at->path().filename(); !name.starts_with('.') && at->is_directory(error))
      names.push_back(std::move(name));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::vector<std::string> shipped_bases() {
  return {std::begin(kShipped), std::end(kShipped)};
}

bool is_shipped_base(std::string_view base) {
  return std::find(std::begin(kShipped), std::end(kShipped), base) != std::end(kShipped);
}

Status check_base_name(const std::string& name) {
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const bool valid = !name.empty() && name.size() <= kLongestName && letter_or_digit(name[0]) &&
                     std::all_of(name.begin(), name.end(), [&](char c) {
                       return letter_or_digit(c) || c == '.' || c == '_' || c == '-';
                     });
  if (!valid)
    return fail(Errc::invalid_argument,
                "\"" + excerpt(name) +
                    "\" is no name for a base: take letters, digits, '.', '_' and '-', at most " +
                    std::to_string(kLongestName) + " of them, a letter or a digit first");
  if (is_shipped_base(name))
    return fail(Errc::invalid_argument,
                "\"" + name + "\" is a base that Crabcast ships; choose another name");
  return {};
}

Result<std::string> locate_base(const std::string& base, const fs::path& imported) {
  if (is_shipped_base(base)) return base;
  std::error_code error;
  if (base.find('/') != std::string::npos) {
    if (fs::is_directory(base, error)) return base;
    return fail(Errc::not_found, "model.base \"" + excerpt(base, 200) +
                                     "\": there is no such folder on this machine");
  }
  if (!imported.empty() && check_base_name(base) && fs::is_directory(imported / base, error))
    return (imported / base).string();
  std::vector<std::string> known = shipped_bases();
  if (!imported.empty()) {
    const auto names = imported_bases(imported);
    known.insert(known.end(), names.begin(), names.end());
  }
  const auto nearest = nearest_name(base, known);
  return fail(Errc::not_found, "there is no base \"" + excerpt(base) +
                                   "\" on this machine; there are: " + join_names(known) +
                                   (nearest ? ". Did you mean \"" + *nearest + "\"?" : "") +
                                   (nearest ? " A folder" : ". A folder") +
                                   " is written with a slash, as in ./" + excerpt(base));
}

}  // namespace crabcast

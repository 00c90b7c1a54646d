#include "apps/cli/spec_file.h"

#include <cerrno>
#include <fstream>
#include <iostream>

#include "protocol/base_location.h"
#include "protocol/spec_table.h"

namespace crabcast::apps {
namespace {

constexpr std::size_t kLongestSpec = 1U << 20;

nlohmann::ordered_json value_json(const SpecField& field, const SpecValue& value) {
  switch (field.kind) {
    case FieldKind::whole:
      return std::get<std::uint64_t>(value);
    case FieldKind::number:
      return std::get<double>(value);
    case FieldKind::tasks:
      if (value_text(field, value) == "all") return "all";
      return std::get<std::vector<std::string>>(value);
    case FieldKind::names:
      return std::get<std::vector<std::string>>(value);
    default:
      return value_text(field, value);
  }
}

}  // namespace

Result<std::string> read_spec_text(const std::string& path, const std::string& what) {
  std::string text(kLongestSpec + 1, '\0');
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) return fail(error_from_errno(errno, what + " " + path));
  }
  std::istream& in = path == "-" ? std::cin : file;
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) {  // a folder opens like a file, and then does not read
    const auto error = error_from_errno(errno, what + " " + path);
    return fail(Errc::invalid_argument, error.message);
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kLongestSpec)
    return fail(Errc::invalid_argument, what + " " + path + " is longer than 1 MiB");
  return text;
}

Result<JobSpec> read_spec(const std::string& path) {
  auto text = read_spec_text(path);
  if (!text) return fail(text.error());
  auto spec = parse_job_spec(*text, path == "-" ? "stdin" : path);
  if (!spec) return fail(spec.error().error());
  return std::move(*spec);
}

Status find_places(const JobSpec& spec, const std::filesystem::path& imported) {
  if (auto base = locate_base(spec.model.base, imported); !base) return fail(base.error());
  const auto& init = spec.model.adapter.init;
  std::error_code error;
  if (!init || std::filesystem::exists(*init, error)) return {};
  return fail(Errc::not_found, "model.adapter.init: there is no file and no folder " + *init);
}

nlohmann::ordered_json spec_json(const JobSpec& spec) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  for (const SpecField& field : spec_fields()) {
    const auto value = printed_value(field, spec);
    if (!value) continue;
    std::string pointer = "/" + field.path;
    for (char& c : pointer)
      if (c == '.') c = '/';
    root[nlohmann::ordered_json::json_pointer(pointer)] = value_json(field, *value);
  }
  return root;
}

}  // namespace crabcast::apps

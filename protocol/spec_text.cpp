// Fields of a job spec: finding them, and how they and their values are written.
#include <algorithm>

#include "protocol/format.h"
#include "protocol/spec_table.h"

namespace crabcast {
namespace {

constexpr double kHour = 3600;

std::string bounds_text(const SpecField& field, const std::string& low, const std::string& high) {
  if (field.low_open) return "above " + low + " and up to " + high;
  return "from " + low + (field.high_open ? " to below " : " to ") + high;
}

}  // namespace

const SpecField* find_field(std::string_view path) {
  const auto& rows = spec_fields();
  const auto at = std::find_if(rows.begin(), rows.end(),
                               [&](const SpecField& field) { return field.path == path; });
  return at == rows.end() ? nullptr : &*at;
}

std::string leaf_name(std::string_view path) {
  return std::string(path.substr(path.rfind('.') + 1));
}

std::string parent_path(std::string_view path) {
  const auto dot = path.rfind('.');
  return dot == std::string_view::npos ? "" : std::string(path.substr(0, dot));
}

std::vector<std::string> names_in(std::string_view section) {
  std::vector<std::string> names;
  for (const SpecField& field : spec_fields())
    if (parent_path(field.path) == section) names.push_back(leaf_name(field.path));
  return names;
}

bool is_used(const SpecField& field, const JobSpec& spec) {
  if (field.chooser.empty()) return true;
  const auto chosen = std::get<std::string>(*find_field(field.chooser)->get(spec));
  return std::find(field.used_for.begin(), field.used_for.end(), chosen) != field.used_for.end();
}

std::string use_text(const SpecField& field) {
  if (field.chooser.empty()) return "";
  const std::string only = "only with " + field.chooser + " ";
  if (field.used_for.size() == 1) return only + field.used_for.front();
  const std::vector<std::string> first(field.used_for.begin(), field.used_for.end() - 1);
  return only + join_names(first) + " or " + field.used_for.back();
}

std::optional<SpecValue> printed_value(const SpecField& field, const JobSpec& spec) {
  return field.get && is_used(field, spec) ? field.get(spec) : std::nullopt;
}

std::string expectation(const SpecField& field) {
  switch (field.kind) {
    case FieldKind::section:
      return "a mapping with " + join_names(names_in(field.path));
    case FieldKind::text:
      return field.pattern_words;
    case FieldKind::choice:
      return (field.choices.size() == 1 ? "" : "one of ") + join_names(field.choices);
    case FieldKind::whole:
      if (field.least == field.most) return std::to_string(field.least);
      if (field.most == UINT64_MAX) return "a whole number, 0 or more";
      return "a whole number " +
             bounds_text(field, std::to_string(field.least), std::to_string(field.most));
    case FieldKind::number:
      return "a number " + bounds_text(field, exact_number(field.low), exact_number(field.high));
    case FieldKind::bytes:
      return "a size such as 2GiB or 512MiB, " +
             bounds_text(field, exact_bytes(field.least), exact_bytes(field.most));
    case FieldKind::duration:
      return std::string(field.off ? "off, or " : "") + "a duration such as 60s or 5m, " +
             bounds_text(field, exact_number(field.low) + "s",
                         exact_number(field.high / kHour) + "h");
    case FieldKind::steps:
      return "a number of steps such as 50 steps";
    case FieldKind::tasks:
      return "all, or a list of " + join_names(known_tasks());
    case FieldKind::names:
      return "a list of " + field.pattern_words;
    case FieldKind::weights:
      return "a mapping of tasks and data sets to numbers " +
             bounds_text(field, exact_number(field.low), exact_number(field.high));
  }
  return "";
}

std::string value_text(const SpecField& field, const SpecValue& value) {
  switch (field.kind) {
    case FieldKind::section:
      return "";
    case FieldKind::text:
    case FieldKind::choice:
      return std::get<std::string>(value);
    case FieldKind::whole:
      return std::to_string(std::get<std::uint64_t>(value));
    case FieldKind::bytes:
      return exact_bytes(std::get<std::uint64_t>(value));
    case FieldKind::steps:
      return std::to_string(std::get<std::uint64_t>(value)) + " steps";
    case FieldKind::number:
      return exact_number(std::get<double>(value));
    case FieldKind::duration:
      if (field.off && std::get<double>(value) == 0) return "off";
      return exact_number(std::get<double>(value)) + "s";
    case FieldKind::tasks: {
      const auto& names = std::get<std::vector<std::string>>(value);
      return names == every_task() ? "all" : "[" + join_names(names) + "]";
    }
    case FieldKind::names: {
      std::vector<std::string> quoted;
      for (const auto& name : std::get<std::vector<std::string>>(value))
        quoted.push_back("\"" + name + "\"");
      return "[" + join_names(quoted) + "]";
    }
    case FieldKind::weights: {
      std::vector<std::string> entries;
      for (const auto& [name, weight] : std::get<MixtureWeights>(value))
        entries.push_back(name + ": " + exact_number(weight));
      return "{" + join_names(entries) + "}";
    }
  }
  return "";
}

std::optional<std::string> default_text(const SpecField& field) {
  if (field.required || !field.default_note.empty() || !field.get) return std::nullopt;
  JobSpec defaults;
  defaults.data.corpus.synthetic.emplace();
  const auto value = field.get(defaults);
  return value ? std::optional(value_text(field, *value)) : std::nullopt;
}

}  // namespace crabcast

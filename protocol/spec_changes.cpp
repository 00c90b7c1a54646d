#include "protocol/spec_changes.h"

#include <yaml-cpp/yaml.h>

#include <optional>

#include "protocol/format.h"
#include "protocol/spec_table.h"

namespace crabcast {
namespace {

std::string shown(const SpecField& field, const std::optional<SpecValue>& value) {
  return value ? value_text(field, *value) : "not given";
}

bool is_allowed(const SpecField& field, const std::optional<SpecValue>& before,
                const std::optional<SpecValue>& after) {
  switch (field.on_resume) {
    case OnResume::free:
      return true;
    case OnResume::grows:
      return before && after && *before < *after;
    case OnResume::fixed:
      return false;
  }
  return false;
}

}  // namespace

std::string SpecChange::text() const {
  return field + ": " + before + " in the checkpoint, " + after + " in the spec";
}

std::vector<SpecChange> spec_changes(const JobSpec& before, const JobSpec& after) {
  std::vector<SpecChange> changes;
  for (const SpecField& field : spec_fields()) {
    const auto old_value = printed_value(field, before);
    const auto new_value = printed_value(field, after);
    if (old_value == new_value) continue;
    changes.push_back({field.path, shown(field, old_value), shown(field, new_value),
                       is_allowed(field, old_value, new_value)});
  }
  return changes;
}

Status check_resumable(const JobSpec& before, const JobSpec& after) {
  std::string differences;
  for (const SpecChange& change : spec_changes(before, after))
    if (!change.allowed) differences += (differences.empty() ? "" : "; ") + change.text();
  if (differences.empty()) return {};
  return fail(Errc::invalid_argument, differences);
}

namespace {

// The node of a field, made with the sections around it where they are missing.
YAML::Node node_of(YAML::Node root, const std::string& path) {
  YAML::Node at = root;
  std::size_t begin = 0;
  for (auto dot = path.find('.'); dot != std::string::npos; dot = path.find('.', begin)) {
    YAML::Node next = at[path.substr(begin, dot - begin)];
    at.reset(next);
    begin = dot + 1;
  }
  return at;
}

}  // namespace

Result<JobSpec> with_changes(const JobSpec& spec, const std::vector<std::string>& changes) {
  YAML::Node root = YAML::Load(to_yaml(spec));
  for (const std::string& change : changes) {
    const auto equals = change.find('=');
    const std::string path = change.substr(0, equals);
    const SpecField* field = find_field(path);
    if (equals == std::string::npos || !field || field->kind == FieldKind::section) {
      std::vector<std::string> known;
      for (const SpecField& each : spec_fields())
        if (each.kind != FieldKind::section) known.push_back(each.path);
      const auto nearest = nearest_name(path, known);
      return fail(Errc::invalid_spec, "'" + excerpt(change) + "' is not FIELD=VALUE" +
                                          (nearest ? "; did you mean " + *nearest + "=?" : ""));
    }
    const std::string value = change.substr(equals + 1);
    YAML::Node section = node_of(root, path);
    if (value.empty()) {
      section.remove(leaf_name(path));
      continue;
    }
    try {
      section[leaf_name(path)] = YAML::Load(value);
    } catch (const YAML::Exception& error) {
      return fail(Errc::invalid_spec, "'" + excerpt(change) + "': " + error.what());
    }
  }
  auto changed = parse_job_spec(YAML::Dump(root), "the changed spec");
  if (!changed) return fail(changed.error().error());
  return std::move(*changed);
}

}  // namespace crabcast

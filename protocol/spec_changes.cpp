#include "protocol/spec_changes.h"

#include <optional>

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

}  // namespace crabcast

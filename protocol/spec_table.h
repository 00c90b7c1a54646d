// The one table of the job spec's fields. Parsing, defaults, validation, printing, the JSON Schema
// and the reference page all walk it, so a field is added in one place: its row.
//
// A row's default is what a default-built JobSpec holds; it is written nowhere else.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/job_spec.h"

namespace crabcast {

enum class FieldKind {
  section,   // a mapping of further rows
  text,      // checked by `pattern`
  choice,    // one of `choices`
  whole,     // an integer in [least, most]
  number,    // a decimal number in [low, high]
  bytes,     // a size such as 2GiB in [least, most]
  duration,  // seconds, written such as 60s, in [low, high]
  steps,     // a count written such as "50 steps" in [least, most]
  tasks,     // all, or a list of task ids
  names,     // a list of different texts, each checked by `pattern`; may be empty
  weights,   // a mapping of tasks and data sets to numbers in [low, high]
};

// A value between YAML and the spec: text and choice; whole, bytes and steps; number and duration;
// tasks and names; weights.
using SpecValue =
    std::variant<std::string, std::uint64_t, double, std::vector<std::string>, MixtureWeights>;

// Whether a job that goes on may have another value than the one it was begun with.
enum class OnResume {
  fixed,  // what its next steps compute depends on it
  grows,  // a larger one
  free,   // no step's result depends on it, or the hash of what it names is compared
};

struct SpecField {
  std::string path;  // for example train.optimizer.lr
  FieldKind kind = FieldKind::section;
  std::string description;  // one or two sentences for the reference
  bool required = false;
  std::string default_note;  // instead of the default's value, where it depends on other fields
  std::vector<std::string> examples;

  std::vector<std::string> choices;
  std::string pattern;         // ECMAScript, for the whole text
  std::string pattern_words;   // the pattern in words
  std::size_t longest = 4096;  // text, in bytes; of names, each
  std::uint64_t least = 0;
  std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  double low = 0;
  double high = 0;
  bool low_open = false;   // low itself is refused
  bool high_open = false;  // high itself is refused
  bool off = false;        // duration: "off" stands for 0, which is not in [low, high]
  OnResume on_resume = OnResume::fixed;

  // A choice beside it, and those of its values that have a use for the field. With any other value
  // it must not be given, and is not printed. Empty: it always has a use.
  std::string chooser;
  std::vector<std::string> used_for;

  // Section: the file names it, so it exists from now on, even when it is empty.
  std::function<void(JobSpec&)> open;
  std::function<void(JobSpec&, const SpecValue&)> set;
  // Nothing: the field is not given in this spec (train.epochs beside train.steps).
  std::function<std::optional<SpecValue>(const JobSpec&)> get;
};

// A rule between fields, checked when each field alone is fine.
struct SpecRule {
  std::vector<std::string> fields;  // a mistake is shown at the first of them that is in the file
  std::string text;                 // what must hold, for the reference and for messages
  // The mistake in one sentence; nothing when the rule holds.
  std::function<std::optional<std::string>(const JobSpec&)> broken;
};

// What a list of tasks may name: those of every_task, and the optional ones.
std::vector<std::string> known_tasks();
// In the order in which a spec is printed; a section stands before its fields.
const std::vector<SpecField>& spec_fields();
const std::vector<SpecRule>& spec_rules();

const SpecField* find_field(std::string_view path);
// Last part of a path: lr of train.optimizer.lr.
std::string leaf_name(std::string_view path);
// Path of the section that holds it; empty for the root.
std::string parent_path(std::string_view path);
// Names of the fields that stand directly in a section ("" = the root).
std::vector<std::string> names_in(std::string_view section);

bool is_used(const SpecField& field, const JobSpec& spec);
// "only with model.adapter.kind ilora or crab_v1"; empty for a field that always has a use.
std::string use_text(const SpecField& field);
// What a printed spec says; nothing for a section, and where a field is not given or has no use.
std::optional<SpecValue> printed_value(const SpecField& field, const JobSpec& spec);

// What the field takes, in words: "a whole number from 1 to 1024".
std::string expectation(const SpecField& field);
// A value as a spec file writes it: 2GiB, 50 steps, all, [captioning, segmentation].
std::string value_text(const SpecField& field, const SpecValue& value);
// The default as a spec file writes it; nothing for required fields and for those with a note.
std::optional<std::string> default_text(const SpecField& field);

}  // namespace crabcast

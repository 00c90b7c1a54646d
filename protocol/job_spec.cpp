#include "protocol/job_spec.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <map>
#include <regex>
#include <set>
#include <utility>

#include "protocol/format.h"
#include "protocol/spec_table.h"
#include "protocol/yaml_tree.h"

namespace crabcast {
namespace {

constexpr std::size_t kMostProblems = 100;  // a file with more is not a job spec
constexpr std::uint64_t kDefaultSteps = 200;

std::string joined(const std::string& section, const std::string& name) {
  return section.empty() ? name : section + "." + name;
}

std::string did_you_mean(const std::string& name, const std::vector<std::string>& known) {
  const auto nearest = nearest_name(name, known);
  return nearest ? "; did you mean " + *nearest + "?" : "";
}

// A path that ends in this name, for a field that stands in the wrong section.
std::optional<std::string> same_leaf_elsewhere(const std::string& name) {
  for (const SpecField& field : spec_fields())
    if (leaf_name(field.path) == name) return field.path;
  return std::nullopt;
}

// ---- One value: YAML text -> SpecValue, or what is wrong with it -------------------------------

using Parsed = tl::expected<SpecValue, std::string>;

tl::unexpected<std::string> wrong(std::string message) {
  return tl::make_unexpected(std::move(message));
}

Parsed in_range(const SpecField& field, std::uint64_t value, const std::string& text) {
  if (field.least == field.most && value != field.least)
    return wrong(text + " is not known to this program");
  if (value < field.least) return wrong(text + " is too small");
  if (value > field.most) return wrong(text + " is too large");
  return SpecValue(value);
}

Parsed in_range(const SpecField& field, double value, const std::string& text) {
  if (value < field.low || (field.low_open && value == field.low))
    return wrong(text + " is too small");
  if (value > field.high || (field.high_open && value == field.high))
    return wrong(text + " is too large");
  return SpecValue(value);
}

bool is_negative_number(const std::string& text) {
  return text.starts_with('-') && parse_number(text).has_value();
}

// Plain text that YAML readers take for something else than text.
bool reads_as_other_type(const YamlNode& node) {
  static const std::set<std::string> kTruths = {"true", "True", "TRUE", "false", "False", "FALSE"};
  return !node.quoted && (parse_number(node.text) || kTruths.contains(node.text));
}

Parsed parse_text(const SpecField& field, const YamlNode& node) {
  if (reads_as_other_type(node)) return wrong(node.text + " is not text; put it in quotes");
  for (const char c : node.text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
      return wrong(shown(node) + " holds a control character");
  if (node.text.size() > field.longest) return wrong(shown(node) + " is too long");
  if (!std::regex_match(node.text, std::regex(field.pattern)))
    return wrong(shown(node) +
                 (field.path == "name" ? " is not a job name" : " is not allowed here"));
  return SpecValue(node.text);
}

Parsed parse_whole_value(const SpecField& field, const YamlNode& node) {
  if (node.quoted) return wrong(shown(node) + " is text in quotes");
  if (is_negative_number(node.text)) return wrong(node.text + " is too small");
  const auto value = parse_whole(node.text);
  if (!value) return wrong(shown(node) + " is not a whole number");
  return in_range(field, *value, node.text);
}

Parsed parse_number_value(const SpecField& field, const YamlNode& node) {
  if (node.quoted) return wrong(shown(node) + " is text in quotes");
  const auto value = parse_number(node.text);
  if (!value) return wrong(shown(node) + " is not a number");
  return in_range(field, *value, node.text);
}

Parsed parse_bytes_value(const SpecField& field, const YamlNode& node) {
  const auto value = parse_bytes(node.text);
  return value ? in_range(field, *value, node.text) : wrong(shown(node) + " is not a size");
}

Parsed parse_duration_value(const SpecField& field, const YamlNode& node) {
  if (field.off && node.text == "off") return SpecValue(0.0);
  const auto value = parse_duration(node.text);
  return value ? in_range(field, *value, node.text) : wrong(shown(node) + " is not a duration");
}

Parsed parse_steps_value(const SpecField& field, const YamlNode& node) {
  const std::string& text = node.text;
  const auto end = text.find_first_not_of("0123456789");
  const auto value = parse_whole(text.substr(0, end));
  const std::string unit = end == std::string::npos ? "" : text.substr(end);
  if (!value || !(unit.empty() || unit == " steps" || unit == " step"))
    return wrong(shown(node) + " is not a number of steps");
  return in_range(field, *value, text);
}

Parsed parse_choice(const SpecField& field, const YamlNode& node) {
  if (std::find(field.choices.begin(), field.choices.end(), node.text) != field.choices.end())
    return SpecValue(node.text);
  return wrong(shown(node) + " is not known" + did_you_mean(node.text, field.choices));
}

Parsed parse_scalar(const SpecField& field, const YamlNode& node) {
  switch (field.kind) {
    case FieldKind::text:
      return parse_text(field, node);
    case FieldKind::choice:
      return parse_choice(field, node);
    case FieldKind::whole:
      return parse_whole_value(field, node);
    case FieldKind::number:
      return parse_number_value(field, node);
    case FieldKind::bytes:
      return parse_bytes_value(field, node);
    case FieldKind::duration:
      return parse_duration_value(field, node);
    case FieldKind::steps:
      return parse_steps_value(field, node);
    case FieldKind::section:
    case FieldKind::tasks:
    case FieldKind::names:
    case FieldKind::weights:
      break;  // read by the walk
  }
  return wrong("is not a single value");
}

// ---- The whole file
// ------------------------------------------------------------------------------

struct Position {
  int line = 0;
  int column = 0;
};
Position position_of(const YamlNode& node) {
  return {node.line, node.column};
}

// Walks the tree along the table. Fields that were reported are `bad`: rules leave them alone.
class SpecReader {
 public:
  explicit SpecReader(std::vector<SpecProblem>& problems) : problems_(problems) {}

  JobSpec read(const YamlNode& root) {
    if (root.kind == YamlNode::Kind::mapping) {
      read_section("", root);
      check_required();
      fill_dependent_defaults();
      check_used();
      check_rules();
    } else if (root.kind != YamlNode::Kind::broken) {
      report(position_of(root), "", shown(root) + " is not a job spec",
             "a mapping with " + join_names(names_in("")));
    }
    return std::move(spec_);
  }

 private:
  void report(Position at, const std::string& field, std::string message, std::string expected) {
    bad_.insert(field);
    problems_.push_back({at.line, at.column, field, std::move(expected), std::move(message)});
  }

  void read_section(const std::string& section, const YamlNode& mapping) {
    std::map<std::string, int> seen;  // name -> line
    for (std::size_t i = 0; i < mapping.keys.size(); ++i) {
      const YamlNode& key = mapping.keys[i];
      if (key.kind == YamlNode::Kind::broken) continue;
      if (key.kind != YamlNode::Kind::scalar) {
        report(position_of(key), section, shown(key) + " cannot name a field", "a field name");
        continue;
      }
      const std::string path = joined(section, key.text);
      const auto [earlier, is_new] = seen.emplace(key.text, key.line);
      if (!is_new) {
        report(position_of(key), excerpt(path, 120),
               "is given twice; first in line " + std::to_string(earlier->second), "one value");
        continue;
      }
      if (const SpecField* field = find_field(path))
        read_field(*field, key, mapping.items[i]);
      else
        report_unknown(section, key);
    }
  }

  void report_unknown(const std::string& section, const YamlNode& key) {
    const std::vector<std::string> known = names_in(section);
    std::string hint = did_you_mean(key.text, known);
    if (hint.empty())
      if (const auto elsewhere = same_leaf_elsewhere(key.text))
        hint = "; did you mean " + *elsewhere + "?";
    report(position_of(key), excerpt(joined(section, key.text), 120), "unknown field" + hint,
           "one of " + join_names(known));
  }

  void read_field(const SpecField& field, const YamlNode& key, const YamlNode& value) {
    given_[field.path] = value.kind == YamlNode::Kind::null ? position_of(key) : position_of(value);
    keys_[field.path] = position_of(key);
    if (value.kind == YamlNode::Kind::broken) {
      bad_.insert(field.path);
    } else if (field.kind == FieldKind::section) {
      open_section(field, value);
    } else if (value.kind == YamlNode::Kind::null) {
      report(position_of(key), field.path, "has no value", expectation(field));
    } else if (field.kind == FieldKind::tasks) {
      read_tasks(field, value);
    } else if (field.kind == FieldKind::names) {
      read_names(field, value);
    } else if (field.kind == FieldKind::weights) {
      read_weights(field, value);
    } else if (value.kind != YamlNode::Kind::scalar) {
      report(position_of(value), field.path, shown(value) + " is not a single value",
             expectation(field));
    } else if (auto parsed = parse_scalar(field, value)) {
      field.set(spec_, *parsed);
    } else {
      report(position_of(value), field.path, parsed.error(), expectation(field));
    }
  }

  // An empty section (all of its lines are comments) means all defaults.
  void open_section(const SpecField& field, const YamlNode& value) {
    if (value.kind != YamlNode::Kind::mapping && value.kind != YamlNode::Kind::null) {
      report(position_of(value), field.path, shown(value) + " is not a mapping",
             expectation(field));
      return;
    }
    if (field.open) field.open(spec_);
    read_section(field.path, value);
  }

  void read_tasks(const SpecField& field, const YamlNode& value) {
    if (value.kind == YamlNode::Kind::scalar && value.text == "all") {
      field.set(spec_, every_task());
      return;
    }
    if (value.kind != YamlNode::Kind::sequence) {
      const std::string hint =
          value.kind == YamlNode::Kind::scalar ? did_you_mean(value.text, known_tasks()) : "";
      report(position_of(value), field.path, shown(value) + " is not a list of tasks" + hint,
             expectation(field));
      return;
    }
    const std::size_t before = problems_.size();
    std::set<std::string> chosen;
    for (const YamlNode& item : value.items) read_task(field, item, chosen);
    if (value.items.empty())
      report(position_of(value), field.path, "the list is empty", expectation(field));
    if (problems_.size() != before) return;
    std::vector<std::string> in_order;
    for (const std::string& task : known_tasks())
      if (chosen.contains(task)) in_order.push_back(task);
    field.set(spec_, in_order);
  }

  void read_task(const SpecField& field, const YamlNode& item, std::set<std::string>& chosen) {
    const std::vector<std::string> known = known_tasks();
    if (item.kind == YamlNode::Kind::broken) {
      bad_.insert(field.path);
    } else if (item.kind != YamlNode::Kind::scalar) {
      report(position_of(item), field.path, shown(item) + " is not a task", expectation(field));
    } else if (std::find(known.begin(), known.end(), item.text) == known.end()) {
      report(position_of(item), field.path,
             shown(item) + " is not a task" + did_you_mean(item.text, known), expectation(field));
    } else if (!chosen.insert(item.text).second) {
      report(position_of(item), field.path, item.text + " is given twice", "each task once");
    }
  }

  void read_names(const SpecField& field, const YamlNode& value) {
    if (value.kind != YamlNode::Kind::sequence) {
      report(position_of(value), field.path, shown(value) + " is not a list", expectation(field));
      return;
    }
    const std::size_t before = problems_.size();
    std::vector<std::string> names;
    for (const YamlNode& item : value.items) {
      if (item.kind == YamlNode::Kind::broken) {
        bad_.insert(field.path);
        return;
      }
      const Parsed name = item.kind == YamlNode::Kind::scalar
                              ? parse_text(field, item)
                              : wrong(shown(item) + " is not a single value");
      if (!name)
        report(position_of(item), field.path, name.error(), expectation(field));
      else if (std::find(names.begin(), names.end(), item.text) != names.end())
        report(position_of(item), field.path, item.text + " is given twice", "each name once");
      else
        names.push_back(item.text);
    }
    if (problems_.size() == before) field.set(spec_, names);
  }

  void read_weights(const SpecField& field, const YamlNode& value) {
    if (value.kind != YamlNode::Kind::mapping) {
      report(position_of(value), field.path, shown(value) + " is not a mapping",
             expectation(field));
      return;
    }
    const std::vector<std::string> known = every_weight();
    const std::size_t before = problems_.size();
    std::map<std::string, double> given;
    for (std::size_t i = 0; i < value.keys.size(); ++i) {
      const YamlNode &key = value.keys[i], &item = value.items[i];
      if (key.kind == YamlNode::Kind::broken || item.kind == YamlNode::Kind::broken) {
        bad_.insert(field.path);
        return;
      }
      if (std::find(known.begin(), known.end(), key.text) == known.end())
        report(position_of(key), field.path,
               shown(key) + " is no task and no data set" + did_you_mean(key.text, known),
               "one of " + join_names(known));
      else if (given.contains(key.text))
        report(position_of(key), field.path, key.text + " is given twice", "each name once");
      else if (item.kind != YamlNode::Kind::scalar)
        report(position_of(item), field.path, shown(item) + " is not a number", expectation(field));
      else if (auto weight = parse_number_value(field, item))
        given[key.text] = std::get<double>(*weight);
      else
        report(position_of(item), field.path, weight.error(), expectation(field));
    }
    if (problems_.size() != before) return;
    MixtureWeights in_order;
    for (const std::string& name : known)
      if (const auto found = given.find(name); found != given.end()) in_order.push_back(*found);
    field.set(spec_, in_order);
  }

  // Where a field is, or else the nearest section around it that is in the file.
  [[nodiscard]] Position nearest_position(std::string path) const {
    for (; !path.empty(); path = parent_path(path))
      if (const auto at = keys_.find(path); at != keys_.end()) return at->second;
    return {};
  }

  [[nodiscard]] bool is_bad(std::string path) const {
    for (; !path.empty(); path = parent_path(path))
      if (bad_.contains(path)) return true;
    return false;
  }

  // Something at or below the path was reported.
  [[nodiscard]] bool holds_bad(const std::string& path) const {
    return std::any_of(bad_.begin(), bad_.end(), [&](const std::string& bad) {
      return bad == path || bad.starts_with(path + ".");
    });
  }

  void check_required() {
    for (const SpecField& field : spec_fields())
      if (field.required && !given_.contains(field.path) && !is_bad(field.path))
        report(nearest_position(field.path), field.path, "is missing", expectation(field));
  }

  void fill_dependent_defaults() {
    if (!spec_.train.steps && !spec_.train.epochs) spec_.train.steps = kDefaultSteps;
    if (!given_.contains("evaluate.every"))
      spec_.evaluate.every_steps = 2 * spec_.checkpoint.every_steps;
    if (!given_.contains("evaluate.tasks")) spec_.evaluate.tasks = spec_.data.tasks;
  }

  void check_used() {
    for (const SpecField& field : spec_fields())
      if (const auto key = keys_.find(field.path);
          key != keys_.end() && !is_bad(field.path) && !is_used(field, spec_))
        report(key->second, field.path, "has no use in this job", "it " + use_text(field));
  }

  void check_rules() {
    for (const SpecRule& rule : spec_rules()) {
      if (std::any_of(rule.fields.begin(), rule.fields.end(),
                      [&](const std::string& path) { return is_bad(path) || holds_bad(path); }))
        continue;
      const auto mistake = rule.broken(spec_);
      if (!mistake) continue;
      const auto shown_at = std::find_if(rule.fields.begin(), rule.fields.end(),
                                         [&](const std::string& p) { return given_.contains(p); });
      if (shown_at == rule.fields.end())
        report(nearest_position(rule.fields.front()), rule.fields.front(), *mistake, rule.text);
      else
        report(given_.at(*shown_at), *shown_at, *mistake, rule.text);
    }
  }

  std::vector<SpecProblem>& problems_;
  JobSpec spec_;
  std::map<std::string, Position> given_;  // path -> its value
  std::map<std::string, Position> keys_;   // path -> its name
  std::set<std::string> bad_;
};

// ---- Printing
// -------------------------------------------------------------------------------------

// Text that every YAML reader takes for the same text, without quotes where that is safe.
std::string yaml_text(const std::string& text) {
  const bool starts_like_a_word =
      !text.empty() && (std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '/');
  const bool plain_letters = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '/' || c == '.';
  });
  static const std::set<std::string> kReserved = {"true", "false", "yes", "no", "on",
                                                  "off",  "null",  "y",   "n"};
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (starts_like_a_word && plain_letters && !kReserved.contains(lower)) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "\"";
}

void print_missing_sections(std::string& yaml, std::set<std::string>& printed,
                            const std::string& path) {
  const std::string parent = parent_path(path);
  if (parent.empty() || !printed.insert(parent).second) return;
  print_missing_sections(yaml, printed, parent);
  const auto depth = static_cast<std::size_t>(std::count(parent.begin(), parent.end(), '.'));
  yaml += std::string(2 * depth, ' ') + leaf_name(parent) + ":\n";
}

std::string problem_line(const std::string& file, const SpecProblem& problem) {
  std::string line = file + ":";
  if (problem.line > 0)
    line += std::to_string(problem.line) + ":" + std::to_string(problem.column) + ":";
  if (!problem.field.empty()) line += " " + problem.field + ":";
  line += " " + problem.message;
  if (!problem.expected.empty()) line += " (expected " + problem.expected + ")";
  return line;
}

}  // namespace

std::string SpecProblems::text() const {
  std::string result;
  for (const SpecProblem& problem : problems) {
    if (!result.empty()) result += '\n';
    result += problem_line(file, problem);
  }
  return result;
}

tl::expected<JobSpec, SpecProblems> parse_job_spec(const std::string& yaml,
                                                   const std::string& file) {
  YamlDocument document = read_yaml(yaml);
  std::vector<SpecProblem>& problems = document.problems;
  JobSpec spec;
  if (problems.empty() && document.root.kind == YamlNode::Kind::null)
    problems.push_back({0, 0, "", "a job spec with at least name, model.base and data.corpus",
                        "the file is empty"});
  // After a syntax error the tree is not there; a tag or an alias leaves a tree worth reading.
  if (document.root.kind != YamlNode::Kind::null) spec = SpecReader(problems).read(document.root);
  if (problems.empty()) return spec;

  std::stable_sort(problems.begin(), problems.end(),
                   [](const SpecProblem& a, const SpecProblem& b) {
                     return std::pair(a.line, a.column) < std::pair(b.line, b.column);
                   });
  if (problems.size() > kMostProblems) {
    const std::size_t more = problems.size() - kMostProblems;
    problems.resize(kMostProblems);
    problems.push_back({0, 0, "", "", std::to_string(more) + " more mistakes are not shown"});
  }
  return tl::make_unexpected(SpecProblems{file, std::move(problems)});
}

std::string to_yaml(const JobSpec& spec) {
  std::string yaml;
  std::set<std::string> printed;
  for (const SpecField& field : spec_fields()) {
    const auto value = printed_value(field, spec);
    if (!value) continue;
    print_missing_sections(yaml, printed, field.path);
    const auto depth =
        static_cast<std::size_t>(std::count(field.path.begin(), field.path.end(), '.'));
    const std::string text = value_text(field, *value);
    yaml += std::string(2 * depth, ' ') + leaf_name(field.path) + ": " +
            (field.kind == FieldKind::text ? yaml_text(text) : text) + "\n";
  }
  return yaml;
}

std::string spec_hash(const JobSpec& spec) {
  return spec_text_hash(to_yaml(spec));
}

std::string spec_text_hash(const std::string& yaml) {
  const XXH128_hash_t hash = XXH3_128bits(yaml.data(), yaml.size());
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

}  // namespace crabcast

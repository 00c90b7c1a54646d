// What the table of fields says, as a JSON Schema for editors and as a page for people.
#include <nlohmann/json.hpp>

#include "protocol/format.h"
#include "protocol/job_spec.h"
#include "protocol/spec_table.h"

namespace crabcast {
namespace {

using Json = nlohmann::ordered_json;

// Regular expressions of the units that format.h reads.
constexpr auto kBytesPattern = R"(^[0-9]+(\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)$)";
constexpr auto kDurationPattern = R"(^[0-9]+(\.[0-9]+)? ?(ms|s|sec|m|min|h|d)$)";
constexpr auto kDurationOrOffPattern = R"(^(off|[0-9]+(\.[0-9]+)? ?(ms|s|sec|m|min|h|d))$)";
constexpr auto kStepsPattern = R"(^[0-9]+( steps?)?$)";

void add_number_bounds(Json& schema, const SpecField& field) {
  schema[field.low_open ? "exclusiveMinimum" : "minimum"] = field.low;
  schema[field.high_open ? "exclusiveMaximum" : "maximum"] = field.high;
}

Json default_value(const SpecField& field) {
  JobSpec defaults;
  defaults.data.corpus.synthetic.emplace();
  const SpecValue value = *field.get(defaults);
  switch (field.kind) {
    case FieldKind::whole:
      return std::get<std::uint64_t>(value);
    case FieldKind::number:
      return std::get<double>(value);
    default:
      return value_text(field, value);
  }
}

std::string described(const SpecField& field) {
  const std::string use = use_text(field);
  return use.empty() ? field.description : field.description + " O" + use.substr(1) + ".";
}

Json leaf_schema(const SpecField& field) {
  Json schema;
  schema["description"] = described(field);
  switch (field.kind) {
    case FieldKind::section:
      break;
    case FieldKind::text:
      schema["type"] = "string";
      schema["pattern"] = "^" + field.pattern + "$";
      schema["maxLength"] = field.longest;
      break;
    case FieldKind::choice:
      schema["type"] = "string";
      schema["enum"] = field.choices;
      break;
    case FieldKind::whole:
      schema["type"] = "integer";
      schema["minimum"] = field.least;
      schema["maximum"] = field.most;
      break;
    case FieldKind::number:
      schema["type"] = "number";
      add_number_bounds(schema, field);
      break;
    case FieldKind::bytes:
      schema["type"] = "string";
      schema["pattern"] = kBytesPattern;
      break;
    case FieldKind::duration:
      schema["type"] = "string";
      schema["pattern"] = field.off ? kDurationOrOffPattern : kDurationPattern;
      break;
    case FieldKind::steps:
      schema["anyOf"] = {{{"type", "string"}, {"pattern", kStepsPattern}},
                         {{"type", "integer"}, {"minimum", field.least}, {"maximum", field.most}}};
      break;
    case FieldKind::tasks:
      schema["anyOf"] = {{{"const", "all"}},
                         {{"type", "array"},
                          {"items", {{"type", "string"}, {"enum", known_tasks()}}},
                          {"minItems", 1},
                          {"uniqueItems", true}}};
      break;
    case FieldKind::names:
      schema["type"] = "array";
      schema["items"] = {{"type", "string"},
                         {"pattern", "^(" + field.pattern + ")$"},
                         {"maxLength", field.longest}};
      schema["uniqueItems"] = true;
      break;
    case FieldKind::weights: {
      Json number = {{"type", "number"}};
      add_number_bounds(number, field);
      schema["type"] = "object";
      schema["propertyNames"]["enum"] = every_weight();
      schema["additionalProperties"] = number;
      break;
    }
  }
  if (default_text(field)) schema["default"] = default_value(field);
  if (!field.examples.empty()) schema["examples"] = field.examples;
  return schema;
}

// An object's schema with all rows that stand directly in the section.
Json object_schema(const std::string& section, const std::string& description) {
  Json schema;
  schema["description"] = description;
  Json properties = Json::object();
  Json required = Json::array();
  Json dependent = Json::object();  // what a field asks of the one beside it
  for (const SpecField& field : spec_fields()) {
    if (parent_path(field.path) != section) continue;
    const std::string name = leaf_name(field.path);
    if (field.kind == FieldKind::section)
      properties[name] = object_schema(field.path, field.description);
    else
      properties[name] = leaf_schema(field);
    if (!field.chooser.empty())
      dependent[name]["properties"][leaf_name(field.chooser)]["enum"] = field.used_for;
    // A section is required when something in it is.
    const bool holds_required =
        field.kind == FieldKind::section && properties[name].contains("required");
    if (field.required || holds_required || field.path == "data" || field.path == "data.corpus")
      required.push_back(name);
  }
  // An empty section (null) means all defaults.
  if (required.empty() && !section.empty() && section != "data.corpus")
    schema["type"] = {"object", "null"};
  else
    schema["type"] = "object";
  if (!required.empty()) schema["required"] = required;
  if (section == "data.corpus")
    schema["oneOf"] = {{{"required", {"synthetic"}}}, {{"required", {"avuie"}}}};
  if (section == "train") schema["not"] = {{"type", "object"}, {"required", {"steps", "epochs"}}};
  schema["properties"] = properties;
  schema["additionalProperties"] = false;
  if (!dependent.empty()) schema["dependentSchemas"] = dependent;
  return schema;
}

std::string in_code(const std::string& text) {
  return "`" + text + "`";
}

// The fields by what they may do; a section in place of all of its fields where they agree.
std::string resume_words() {
  const auto list = [](OnResume wanted) {
    std::vector<std::string> names;
    for (const SpecField& field : spec_fields()) {
      const SpecField* around = find_field(parent_path(field.path));
      if (field.on_resume != wanted || (around && around->on_resume == wanted)) continue;
      names.push_back(in_code(field.path));
    }
    return join_names(names);
  };
  return "- anything: " + list(OnResume::free) + "\n- a larger value: " + list(OnResume::grows) +
         "\n- nothing else\n";
}

std::string default_words(const SpecField& field) {
  if (field.required) return "required";
  if (!field.default_note.empty()) return field.default_note;
  return in_code(*default_text(field));
}

// Text as a comment, so wide at most.
std::string comment(const std::string& text, const std::string& indent) {
  constexpr std::size_t kWidth = 96;
  std::string lines, line = indent + "#";
  for (std::size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find(' ', begin), text.size());
    if (line.size() + 1 + end - begin > kWidth) {
      lines += line + "\n";
      line = indent + "#";
    }
    line += " " + text.substr(begin, end - begin);
    begin = end + 1;
  }
  return lines + line + "\n";
}

// As a line of the template shows it.
std::string template_value(const SpecField& field, const std::string& name) {
  if (field.path == "name") return name;
  if (const auto fallback = default_text(field); fallback && !field.required) return *fallback;
  const std::string example = field.examples.empty() ? field.default_note : field.examples.front();
  return field.required ? example : example + "  # default: " + field.default_note;
}

}  // namespace

std::string job_spec_schema() {
  Json schema;
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["$id"] = "urn:crabcast:job-spec:1";
  schema["title"] = "Crabcast job spec";
  schema.update(object_schema("", "What to train, on what, and with what."));
  Json example;
  example["name"] = "quickstart";
  example["model"]["base"] = "nano";
  example["data"]["corpus"]["synthetic"]["seed"] = 7;
  schema["examples"] = Json::array({example});
  return schema.dump(2) + "\n";
}

std::string job_spec_reference() {
  std::string page;
  for (const SpecField& field : spec_fields()) {
    const bool opens_table =
        parent_path(field.path).empty() && (page.empty() || field.kind == FieldKind::section);
    if (opens_table) {
      const bool head = page.empty();
      page += head ? "### The job\n\n"
                   : "\n### " + in_code(field.path) + "\n\n" + field.description + "\n\n";
      page += "| Field | Takes | Default | What it does |\n|---|---|---|---|\n";
      if (!head) continue;
    }
    if (field.kind == FieldKind::section) {
      page += "| " + in_code(field.path) + " | a mapping | | " + field.description + " |\n";
      continue;
    }
    page += "| " + in_code(field.path) + " | " + expectation(field) + " | " + default_words(field) +
            " | " + described(field) + " |\n";
  }
  page += "\n### Rules between fields\n\n";
  for (const SpecRule& rule : spec_rules()) page += "- " + rule.text + "\n";
  page += "\n### What may change when a job goes on\n\n" + resume_words();
  return page;
}

std::string job_spec_template(const std::string& name) {
  std::string text =
      "# A job spec of Crabcast. What is commented out shows the default.\n"
      "# crabcast validate FILE checks it, crabcast plan FILE says what it needs.\n\n";
  for (const SpecField& field : spec_fields()) {
    const auto depth = std::count(field.path.begin(), field.path.end(), '.');
    const std::string indent(2 * static_cast<std::size_t>(depth), ' ');
    if (field.kind == FieldKind::section && depth == 0) text += "\n";
    text += comment(described(field), indent) + indent;
    if (field.kind == FieldKind::section)
      text += leaf_name(field.path) + ":\n";
    else
      text += (field.required ? "" : "# ") + leaf_name(field.path) + ": " +
              template_value(field, name) + "\n";
  }
  return text;
}

}  // namespace crabcast

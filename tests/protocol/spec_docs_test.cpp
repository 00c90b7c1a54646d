// The pages and files that are generated from the table of fields, and the schema's agreement with
// the parser.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "protocol/format.h"
#include "protocol/spec_table.h"
#include "protocol/yaml_tree.h"
#include "tests/protocol/golden.h"

namespace crabcast {
namespace {

using Json = nlohmann::json;

constexpr auto kBegin = "<!-- generated: begin -->\n";
constexpr auto kEnd = "<!-- generated: end -->\n";

TEST(SpecDocs, SchemaFileIsWhatTheTableSays) {
  test::expect_generated("docs/job-spec.schema.json", job_spec_schema());
}

TEST(SpecDocs, ReferencePageIsWhatTheTableSays) {
  const std::string page = test::read_file(test::repository_file("docs/job-spec.md"));
  const auto begin = page.find(kBegin), end = page.find(kEnd);
  ASSERT_TRUE(begin != std::string::npos && end != std::string::npos && begin < end)
      << "docs/job-spec.md lacks its two marks " << kBegin << kEnd;
  const std::string head = page.substr(0, begin + std::string(kBegin).size());
  test::expect_generated("docs/job-spec.md", head + job_spec_reference() + page.substr(end));
}

TEST(SpecDocs, ExamplesAreValid) {
  for (const std::string file : {"examples/quickstart.yaml", "examples/avuie.yaml"}) {
    const auto spec = parse_job_spec(test::read_file(test::repository_file(file)), file);
    EXPECT_TRUE(spec.has_value()) << spec.error().text();
  }
}

TEST(SpecDocs, EveryRowSaysWhatItIs) {
  for (const SpecField& field : spec_fields()) {
    EXPECT_FALSE(field.description.empty()) << field.path;
    EXPECT_FALSE(expectation(field).empty()) << field.path;
    if (parent_path(field.path).empty()) continue;
    EXPECT_NE(find_field(parent_path(field.path)), nullptr)
        << field.path << " stands in no section";
  }
}

// ---- The schema and the parser agree
// ---------------------------------------------------------------

// The part of JSON Schema that the generated file uses. An unknown word fails the test.
bool accepts(const Json& schema, const Json& value);

bool has_type(const std::string& type, const Json& value) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  if (type == "integer") return value.is_number_integer();
  ADD_FAILURE() << "unknown type " << type;
  return false;
}

bool type_accepts(const Json& wanted, const Json& value) {
  if (wanted.is_string()) return has_type(wanted, value);
  return std::any_of(wanted.begin(), wanted.end(),
                     [&](const Json& t) { return has_type(t, value); });
}

bool properties_accept(const Json& schema, const Json& value) {
  for (const auto& [name, item] : value.items()) {
    if (!schema.at("properties").contains(name)) {
      if (schema.contains("additionalProperties")) return false;  // it is false
      continue;
    }
    if (!accepts(schema.at("properties").at(name), item)) return false;
  }
  return true;
}

bool keyword_accepts(const Json& schema, const std::string& word, const Json& rule,
                     const Json& value) {
  const auto accept_count = [&] {
    return std::count_if(rule.begin(), rule.end(),
                         [&](const Json& s) { return accepts(s, value); });
  };
  if (word == "type") return type_accepts(rule, value);
  if (word == "enum") return std::find(rule.begin(), rule.end(), value) != rule.end();
  if (word == "const") return value == rule;
  if (word == "anyOf") return accept_count() > 0;
  if (word == "oneOf") return accept_count() == 1;
  if (word == "not") return !accepts(rule, value);
  if (word == "pattern")
    return !value.is_string() ||
           std::regex_search(value.get<std::string>(), std::regex(rule.get<std::string>()));
  if (word == "maxLength") return !value.is_string() || value.get<std::string>().size() <= rule;
  if (word == "minimum") return !value.is_number() || value >= rule;
  if (word == "maximum") return !value.is_number() || value <= rule;
  if (word == "exclusiveMinimum") return !value.is_number() || value > rule;
  if (word == "exclusiveMaximum") return !value.is_number() || value < rule;
  if (word == "minItems") return !value.is_array() || value.size() >= rule;
  if (word == "uniqueItems")
    return !value.is_array() || std::set<Json>(value.begin(), value.end()).size() == value.size();
  if (word == "items")
    return !value.is_array() ||
           std::all_of(value.begin(), value.end(), [&](const Json& v) { return accepts(rule, v); });
  if (word == "required")
    return !value.is_object() || std::all_of(rule.begin(), rule.end(), [&](const Json& n) {
      return value.contains(n.get<std::string>());
    });
  if (word == "properties") return !value.is_object() || properties_accept(schema, value);
  if (word == "additionalProperties") return rule == false;
  if (word == "dependentSchemas") {
    for (const auto& [name, dependent] : rule.items())
      if (value.contains(name) && !accepts(dependent, value)) return false;
    return true;
  }
  const std::set<std::string> notes = {"description", "default", "examples",
                                       "title",       "$schema", "$id"};
  EXPECT_TRUE(notes.contains(word)) << "unknown schema word " << word;
  return true;
}

bool accepts(const Json& schema, const Json& value) {
  for (const auto& [word, rule] : schema.items())
    if (!keyword_accepts(schema, word, rule, value)) return false;
  return true;
}

// YAML as an editor hands it to a schema checker.
Json to_json(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::mapping: {
      Json object = Json::object();
      for (std::size_t i = 0; i < node.keys.size(); ++i)
        object[node.keys[i].text] = to_json(node.items[i]);
      return object;
    }
    case YamlNode::Kind::sequence: {
      Json array = Json::array();
      for (const YamlNode& item : node.items) array.push_back(to_json(item));
      return array;
    }
    case YamlNode::Kind::scalar: {
      if (node.quoted) return node.text;
      if (const auto value = parse_whole(node.text)) return *value;
      if (const auto value = parse_number(node.text)) {
        if (node.text.find_first_of(".e") == std::string::npos)
          return static_cast<std::int64_t>(*value);
        return *value;
      }
      return node.text;
    }
    default:
      return nullptr;
  }
}

// The printed spec with one field's value replaced.
std::string with_value(const JobSpec& spec, const std::string& path, const std::string& value) {
  std::istringstream lines(to_yaml(spec));
  std::string result, line;
  std::vector<std::string> open;
  while (std::getline(lines, line)) {
    const std::size_t depth = line.find_first_not_of(' ') / 2;
    const std::string name = line.substr(2 * depth, line.find(':') - 2 * depth);
    open.resize(depth);
    open.push_back(name);
    if (join_names(open, ".") == path) line = line.substr(0, line.find(':')) + ": " + value;
    result += line + "\n";
  }
  return result;
}

bool is_rule(const std::string& expected) {
  return std::any_of(spec_rules().begin(), spec_rules().end(),
                     [&](const SpecRule& rule) { return rule.text == expected; });
}

// Texts at and around every border of what a field takes.
std::vector<std::string> trials(const SpecField& field) {
  std::vector<std::string> texts = {"nonsense!", "[1, 2]", "{a: 1}", "-1", "\"5\"", "1.5", "\" \""};
  if (field.kind == FieldKind::whole || field.kind == FieldKind::steps) {
    for (const std::uint64_t border : {field.least, field.most})
      for (const std::uint64_t value : {border - 1, border, border + 1})
        texts.push_back(std::to_string(value));
    texts.insert(texts.end(), {"5 steps", "1 step", "5 hours"});
  }
  if (field.kind == FieldKind::number)
    for (const double border : {field.low, field.high})
      for (const double value :
           {std::nextafter(border, -1e300), border, std::nextafter(border, 1e300)})
        texts.push_back(exact_number(value));
  if (field.kind == FieldKind::bytes)
    texts.insert(texts.end(), {"2GiB", "1.5 GiB", "3", "3 Gi", "1e3MiB", "3GB"});
  if (field.kind == FieldKind::duration)
    texts.insert(texts.end(), {"60s", "5 m", "60", "1.5h", "3 weeks"});
  if (field.kind == FieldKind::tasks)
    texts.insert(texts.end(),
                 {"all", "[all]", "[]", "[captioning]", "[captioning, captioning]", "captioning"});
  if (field.kind == FieldKind::names)
    texts.insert(texts.end(), {"[]", "[abc]", "[abc, abc]", "[a=b]", "[A]", "[[a]]", "abc", "[off]",
                               "[gpu=h100, a=B]", "[" + std::string(128, 'a') + "]"});
  if (field.kind == FieldKind::text)
    texts.insert(texts.end(),
                 {"abc", "eval/mean", std::string(64, 'a'), std::string(128, 'a'), "-a", "a b"});
  texts.insert(texts.end(), field.choices.begin(), field.choices.end());
  return texts;
}

TEST(SpecDocs, TheSchemaTakesExactlyWhatTheParserTakes) {
  const Json schema = Json::parse(job_spec_schema());
  JobSpec spec;
  spec.name = "t";
  spec.model.base = "nano";
  int taken = 0, refused = 0;
  for (const SpecField& field : spec_fields()) {
    if (field.kind == FieldKind::section) continue;
    const bool of_synthetic = field.path != "data.corpus.avuie";
    spec.data.corpus = of_synthetic ? CorpusSpec{SyntheticCorpus{}, {}} : CorpusSpec{{}, "/d"};
    spec.model.adapter.init =
        field.path == "model.adapter.init" ? std::optional<std::string>("/a") : std::nullopt;
    spec.train.steps =
        field.path == "train.epochs" ? std::nullopt : std::optional<std::uint64_t>(9);
    spec.train.epochs = field.path == "train.epochs" ? std::optional<double>(1) : std::nullopt;
    for (const std::string& text : trials(field)) {
      const std::string yaml = with_value(spec, field.path, text);
      const auto result = parse_job_spec(yaml, "t.yaml");
      bool parser_takes = true;  // rules between fields aside, which a schema cannot say
      if (!result)
        for (const SpecProblem& problem : result.error().problems)
          parser_takes = parser_takes && is_rule(problem.expected);
      const YamlDocument document = read_yaml(yaml);
      ASSERT_TRUE(document.problems.empty()) << yaml;
      EXPECT_EQ(accepts(schema, to_json(document.root)), parser_takes)
          << field.path << ": " << text
          << (parser_takes ? " is fine" : "\n" + result.error().text());
      ++(parser_takes ? taken : refused);
    }
  }
  EXPECT_GT(taken, 100);
  EXPECT_GT(refused, 300);
}

TEST(SpecDocs, TheSchemaRefusesUnknownAndMissingFields) {
  const Json schema = Json::parse(job_spec_schema());
  const auto check = [&](const std::string& yaml) {
    return accepts(schema, to_json(read_yaml(yaml).root));
  };
  const std::string good = "name: t\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}}}\n";
  EXPECT_TRUE(check(good));
  EXPECT_TRUE(check(good + "train:\n"));
  EXPECT_FALSE(check(good + "colour: red\n"));
  EXPECT_FALSE(check(good + "train: {lr: 1}\n"));
  EXPECT_FALSE(check(good + "train: {steps: 1, epochs: 1}\n"));
  const std::string data = "data: {corpus: {synthetic: {}}}\n";
  EXPECT_TRUE(check("name: t\nmodel: {base: nano, adapter: {kind: lora, rank: 4}}\n" + data));
  EXPECT_FALSE(check("name: t\nmodel: {base: nano, adapter: {kind: lora, heads: 4}}\n" + data));
  EXPECT_FALSE(check("name: t\nmodel: {base: nano, adapter: {rank: 4, kind: full}}\n" + data));
  EXPECT_FALSE(check("model: {base: nano}\ndata: {corpus: {synthetic: {}}}\n"));
  EXPECT_FALSE(check("name: t\nmodel: {base: nano}\ndata: {corpus: {}}\n"));
  EXPECT_FALSE(check("name: t\nmodel: {base: nano}\ndata: {corpus: {synthetic: {}, avuie: /d}}\n"));
}

}  // namespace
}  // namespace crabcast

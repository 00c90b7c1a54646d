#include "protocol/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>
#include <string_view>
#include <utility>

#include "protocol/format.h"

namespace crabcast {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;
constexpr std::size_t kDeepest = 16;

SpecProblem problem_at(int line, int column, std::string message, std::string expected) {
  return {line, column, "", std::move(expected), std::move(message)};
}

SpecProblem problem_at(const YAML::Mark& mark, std::string message, std::string expected) {
  if (mark.is_null()) return problem_at(0, 0, std::move(message), std::move(expected));
  return problem_at(mark.line + 1, mark.column + 1, std::move(message), std::move(expected));
}

// Bytes of the UTF-8 sequence that starts the text; 0 when it is not valid.
std::size_t utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
  };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF5   ? 0
                             : first >= 0xF0 ? 4
                             : first >= 0xE0 ? 3
                             : first >= 0xC2 ? 2
                                             : 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((at(i) & 0xC0) != 0x80) return 0;
  const unsigned second = at(1);  // overlong forms, surrogates, beyond U+10FFFF
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
      (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F))
    return 0;
  return length;
}

// What yaml-cpp takes in silence: byte 0x04 ends its input, and a tab may count as indentation.
std::vector<SpecProblem> check_bytes(std::string_view text) {
  if (text.size() > kMostBytes)
    return {problem_at(0, 0, "the file has " + std::to_string(text.size()) + " bytes",
                       "a job spec of at most 1 MiB")};
  std::vector<SpecProblem> tabs;
  int line = 1;
  std::size_t line_start = 0;
  bool indentation = true;
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const int column = static_cast<int>(i - line_start) + 1;
    const std::size_t length = utf8_length(text.substr(i, 4));
    if (length == 0)
      return {problem_at(line, column, "a byte is not UTF-8", "a text file in UTF-8")};
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F)
      return {problem_at(line, column, "a control character is in the file", "plain text")};
    if (c == '\t' && indentation) {
      tabs.push_back(problem_at(line, column, "a tab is used for indentation", "blanks"));
      indentation = false;  // one problem a line
    } else if (c != ' ') {
      indentation = false;
    }
    i += length;
    if (c == '\n') {
      ++line;
      line_start = i;
      indentation = true;
    }
  }
  return tabs;
}

// yaml-cpp takes the end of the file for a closing quote. True for block scalars too.
bool quote_is_closed(std::string_view text, const YAML::Mark& mark) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  for (int line = 0; line < mark.line; ++line) text.remove_prefix(text.find('\n') + 1);
  text.remove_prefix(std::min<std::size_t>(text.size(), static_cast<std::size_t>(mark.column)));
  if (text.empty() || (text[0] != '"' && text[0] != '\'')) return true;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[0] == '"' && text[i] == '\\')
      ++i;
    else if (text[i] == text[0])
      return true;
  }
  return false;
}

// Builds the tree from yaml-cpp's events.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(YamlDocument& document, const std::string& text) : document_(document), text_(text) {}

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    add(node_at(mark, YamlNode::Kind::null));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    document_.problems.push_back(
        problem_at(mark, "an alias (*name) is not supported", "the value written out"));
    add(node_at(mark, YamlNode::Kind::broken));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t /*anchor*/,
                const std::string& value) override {
    if (!plain_tag(mark, tag)) return add(node_at(mark, YamlNode::Kind::broken));
    YamlNode node = node_at(mark, YamlNode::Kind::scalar);
    node.text = value;
    node.quoted = tag == "!";
    // Thrown like yaml-cpp's own errors: the text behind it was swallowed.
    if (node.quoted && !quote_is_closed(text_, mark))
      throw YAML::ParserException(mark, "the quote that opens here is never closed");
    add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {
    plain_tag(mark, tag);
    open(mark, YamlNode::Kind::sequence);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {
    plain_tag(mark, tag);
    open(mark, YamlNode::Kind::mapping);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  static YamlNode node_at(const YAML::Mark& mark, YamlNode::Kind kind) {
    YamlNode node;
    node.kind = kind;
    node.line = mark.line + 1;
    node.column = mark.column + 1;
    return node;
  }

  // yaml-cpp's tags for untagged values are "", "?" (plain) and "!" (quoted).
  bool plain_tag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return true;
    document_.problems.push_back(
        problem_at(mark, "a tag (!name) is not supported", "a plain value"));
    return false;
  }

  void open(const YAML::Mark& mark, YamlNode::Kind kind) {
    // Thrown and caught like yaml-cpp's own errors: nothing after it can be read any more.
    if (open_.size() >= kDeepest) throw YAML::ParserException(mark, "nested too deeply");
    open_.push_back(node_at(mark, kind));
  }

  void close() {
    YamlNode node = std::move(open_.back());
    open_.pop_back();
    add(std::move(node));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      document_.root = std::move(node);
      return;
    }
    YamlNode& parent = open_.back();
    const bool is_key =
        parent.kind == YamlNode::Kind::mapping && parent.keys.size() == parent.items.size();
    (is_key ? parent.keys : parent.items).push_back(std::move(node));
  }

  YamlDocument& document_;
  const std::string& text_;
  std::vector<YamlNode> open_;
};

// Notes where a second document starts, and nothing else of it.
class SecondDocument : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override { start = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapEnd() override {}

  YAML::Mark start;
};

}  // namespace

YamlDocument read_yaml(const std::string& text) {
  YamlDocument document;
  document.problems = check_bytes(text);
  if (!document.problems.empty()) return document;
  try {
    std::istringstream input(text);
    YAML::Parser parser(input);
    TreeBuilder builder(document, text);
    if (!parser.HandleNextDocument(builder)) return document;
    SecondDocument second;
    if (parser.HandleNextDocument(second))
      document.problems.push_back(
          problem_at(second.start, "a second YAML document starts here",
                     "one job spec in a file, without --- lines in between"));
  } catch (const YAML::Exception& error) {
    document.problems.push_back(problem_at(error.mark, "not valid YAML: " + error.msg,
                                           "fields as \"name: value\", indented with blanks"));
  } catch (const std::exception& error) {
    document.problems.push_back(
        problem_at(0, 0, std::string("not valid YAML: ") + error.what(), "a job spec in YAML"));
  }
  return document;
}

std::string shown(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::mapping:
      return "a mapping";
    case YamlNode::Kind::sequence:
      return "a list";
    case YamlNode::Kind::null:
      return "nothing";
    default:
      return "\"" + excerpt(node.text) + "\"";
  }
}

}  // namespace crabcast

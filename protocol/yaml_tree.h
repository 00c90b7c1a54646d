// YAML text as a plain tree whose every node knows its line and column, which is what a good error
// message needs. Only what a spec needs of YAML is taken: one document, no tags, no aliases.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "protocol/job_spec.h"

namespace crabcast {

struct YamlNode {
  // `broken` stands for something that was reported already; nobody looks into it.
  enum class Kind { null, scalar, sequence, mapping, broken };
  Kind kind = Kind::null;
  int line = 0;                 // from 1
  int column = 0;               // from 1, in bytes
  std::string text;             // scalar
  bool quoted = false;          // scalar in quotes or as a block: text, never a number
  std::vector<YamlNode> keys;   // mapping; as many as items
  std::vector<YamlNode> items;  // mapping and sequence
};

struct YamlDocument {
  YamlNode root;
  std::vector<SpecProblem> problems;  // when not empty, the tree may miss what they name
};

// An empty file, and one with nothing but comments, has a null root and no problem. Never throws:
// what yaml-cpp refuses, and what it would silently misread (control characters, other encodings,
// tabs in the indentation), becomes a problem.
YamlDocument read_yaml(const std::string& text);
// What stands there, for a message: "a list", "nothing", or the text in quotes, cut when it is
// long.
std::string shown(const YamlNode& node);

}  // namespace crabcast

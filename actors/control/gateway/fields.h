// What a request may carry, as a table that reads it, refuses what is wrong in it, and describes it
// in the OpenAPI file.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "protocol/error.h"

namespace crabcast::gateway {

struct Field {
  enum class Type { text, whole, flag };
  enum class Letters { any, printable, name };  // name: those of job, role and node ids
  std::string name;
  Type type = Type::text;
  std::string about;
  bool required = false;
  std::uint64_t least = 0;                // of a whole number, or the length of a text
  std::uint64_t most = 200;               // the same
  std::vector<std::string> choices = {};  // of a text; empty: any
  Letters letters = Letters::any;         // of a text

  [[nodiscard]] nlohmann::json schema() const;
};

// Names, and values that their fields allow: string, unsigned number or bool.
using Values = nlohmann::json;

// Both name every field that is wrong: unknown, given twice, missing, of another type, out of
// range.
Result<Values> read_query(const std::multimap<std::string, std::string>& query,
                          const std::vector<Field>& fields);
// A JSON object, or nothing at all where no field is required.
Result<Values> read_body(const std::string& body, const std::vector<Field>& fields);
Status check_text(const Field& field, const std::string& value);

}  // namespace crabcast::gateway

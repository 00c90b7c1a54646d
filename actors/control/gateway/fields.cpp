#include "actors/control/gateway/fields.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "protocol/format.h"

namespace crabcast::gateway {
namespace {

using nlohmann::json;

// A body is an object of plain values: it needs no depth. (json::parse goes as deep as the text.)
constexpr int kDeepest = 8;

std::string range_of(const Field& field) {
  return "from " + std::to_string(field.least) + " to " + std::to_string(field.most);
}

// In letters, not bytes, as JSON Schema counts.
std::size_t length_of(const std::string& utf8) {
  return static_cast<std::size_t>(std::count_if(
      utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) >> 6) != 2; }));
}

bool fits(char letter, Field::Letters letters) {
  const auto c = static_cast<unsigned char>(letter);
  if (letters == Field::Letters::printable) return c >= 0x20 && c != 0x7F;
  if (letters == Field::Letters::any) return true;
  return c < 0x80 &&
         (std::isalnum(c) || std::string_view("@:._-").find(letter) != std::string_view::npos);
}

tl::unexpected<Error> wrong(const Field& field, const std::string& why) {
  return fail(Errc::invalid_argument, field.name + " " + why);
}

const Field* find(const std::vector<Field>& fields, const std::string& name) {
  const auto found = std::find_if(fields.begin(), fields.end(),
                                  [&](const Field& field) { return field.name == name; });
  return found == fields.end() ? nullptr : &*found;
}

tl::unexpected<Error> unknown(const std::string& name, const std::vector<Field>& fields) {
  std::vector<std::string> names;
  for (const auto& field : fields) names.push_back(field.name);
  return fail(Errc::invalid_argument,
              "'" + excerpt(name) + "' is not known here; " +
                  (names.empty() ? "nothing is taken" : "there are " + join_names(names)));
}

Status check_whole(const Field& field, std::uint64_t value) {
  if (value < field.least || value > field.most)
    return wrong(field, "is a whole number " + range_of(field));
  return {};
}

Status check_missing(const Values& values, const std::vector<Field>& fields) {
  for (const auto& field : fields)
    if (field.required && !values.contains(field.name)) return wrong(field, "is missing");
  return {};
}

Result<json> value_of(const Field& field, const std::string& text) {
  switch (field.type) {
    case Field::Type::text: {
      if (const Status good = check_text(field, text); !good) return fail(good.error());
      return text;
    }
    case Field::Type::whole: {
      const auto number = parse_whole(text);
      if (!number) return wrong(field, "is a whole number " + range_of(field));
      if (const Status good = check_whole(field, *number); !good) return fail(good.error());
      return *number;
    }
    case Field::Type::flag:
      if (text != "true" && text != "false") return wrong(field, "is true or false");
      return text == "true";
  }
  return fail(Errc::internal, "unknown type of field");
}

Result<json> value_of(const Field& field, const json& value) {
  switch (field.type) {
    case Field::Type::text:
      if (!value.is_string()) return wrong(field, "is a text");
      return value_of(field, value.get_ref<const std::string&>());
    case Field::Type::whole: {
      if (!value.is_number_unsigned()) return wrong(field, "is a whole number " + range_of(field));
      if (const Status good = check_whole(field, value.get<std::uint64_t>()); !good)
        return fail(good.error());
      return value;
    }
    case Field::Type::flag:
      if (!value.is_boolean()) return wrong(field, "is true or false");
      return value;
  }
  return fail(Errc::internal, "unknown type of field");
}

}  // namespace

json Field::schema() const {
  json object;
  switch (type) {
    case Type::text:
      object = {{"type", "string"}};
      if (!choices.empty()) {
        object["enum"] = choices;
        break;
      }
      if (least > 0) object["minLength"] = least;
      object["maxLength"] = most;
      if (letters == Letters::printable) object["pattern"] = R"(^[^\x00-\x1f\x7f]*$)";
      if (letters == Letters::name) object["pattern"] = "^[A-Za-z0-9@:._-]*$";
      break;
    case Type::whole:
      object = {{"type", "integer"}, {"minimum", least}, {"maximum", most}};
      break;
    case Type::flag:
      object = {{"type", "boolean"}};
      break;
  }
  object["description"] = about;
  return object;
}

Status check_text(const Field& field, const std::string& value) {
  if (!field.choices.empty() &&
      std::find(field.choices.begin(), field.choices.end(), value) == field.choices.end())
    return wrong(field, "is one of " + join_names(field.choices));
  if (!field.choices.empty()) return {};
  const auto length = length_of(value);
  if (length < field.least || length > field.most)
    return wrong(field, "has " + range_of(field) + " letters");
  if (!std::all_of(value.begin(), value.end(), [&](char c) { return fits(c, field.letters); }))
    return wrong(field, field.letters == Field::Letters::name ? "has letters, digits and @:._- only"
                                                              : "has a control character");
  return {};
}

Result<Values> read_query(const std::multimap<std::string, std::string>& query,
                          const std::vector<Field>& fields) {
  Values values = json::object();
  for (const auto& [name, text] : query) {
    const Field* field = find(fields, name);
    if (!field) return unknown(name, fields);
    if (values.contains(name)) return wrong(*field, "is given twice");
    auto value = value_of(*field, text);
    if (!value) return fail(value.error());
    values[name] = std::move(*value);
  }
  if (const Status complete = check_missing(values, fields); !complete)
    return fail(complete.error());
  return values;
}

Result<Values> read_body(const std::string& body, const std::vector<Field>& fields) {
  Values values = json::object();
  if (!body.empty()) {
    bool too_deep = false;
    const json parsed = json::parse(
        body,
        [&](int depth, json::parse_event_t, const json&) {
          too_deep = too_deep || depth > kDeepest;
          return !too_deep;
        },
        false);
    if (too_deep || !parsed.is_object())
      return fail(Errc::invalid_argument, "the body is no JSON object");
    for (const auto& [name, given] : parsed.items()) {
      const Field* field = find(fields, name);
      if (!field) return unknown(name, fields);
      auto value = value_of(*field, given);
      if (!value) return fail(value.error());
      values[name] = std::move(*value);
    }
  }
  if (const Status complete = check_missing(values, fields); !complete)
    return fail(complete.error());
  return values;
}

}  // namespace crabcast::gateway

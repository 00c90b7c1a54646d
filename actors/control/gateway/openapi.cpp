#include "actors/control/gateway/openapi.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "actors/control/gateway/json.h"
#include "actors/control/gateway/routes.h"
#include "protocol/ids.h"

namespace crabcast::gateway {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using json = nlohmann::ordered_json;

json reference(const std::string& name) {
  return {{"$ref", "#/components/schemas/" + name}};
}

// Collects the messages that are referred to.
class Schemas {
 public:
  json of(const Descriptor& message) {
    const std::string& name = message.name();
    if (!known_.contains(name)) {
      known_[name] = json();  // it may hold itself
      known_[name] = object_of(message);
    }
    return reference(name);
  }
  // Sorted by name.
  [[nodiscard]] json all() const {
    json object = json::object();
    for (const auto& [name, schema] : known_) object[name] = schema;
    return object;
  }

 private:
  json object_of(const Descriptor& message);
  json value_of(const FieldDescriptor& field);

  std::map<std::string, json> known_;
};

json Schemas::object_of(const Descriptor& message) {
  json properties = json::object(), required = json::array();
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    json value =
        field.is_map() ? value_of(*field.message_type()->FindFieldByNumber(2)) : value_of(field);
    if (field.is_map())
      value = {{"type", "object"}, {"additionalProperties", value}};
    else if (field.is_repeated())
      value = {{"type", "array"}, {"items", value}};
    properties[field.name()] = value;
    // A message that is not set is left out.
    if (field.is_repeated() || field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE)
      required.push_back(field.name());
  }
  json schema = {{"type", "object"}, {"properties", properties}};
  if (!required.empty()) schema["required"] = required;
  schema["additionalProperties"] = false;
  return schema;
}

json Schemas::value_of(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return {{"type", "integer"}};
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
      return {{"type", "integer"}, {"minimum", 0}};
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return {{"type", "number"}, {"nullable", true}};  // null: not finite
    case FieldDescriptor::CPPTYPE_BOOL:
      return {{"type", "boolean"}};
    case FieldDescriptor::CPPTYPE_ENUM: {
      json names = json::array();
      for (int i = 0; i < field.enum_type()->value_count(); ++i)
        names.push_back(short_name(*field.enum_type()->value(i)));
      return {{"type", "string"}, {"enum", names}};
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return {{"type", "string"}};
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return of(*field.message_type());
  }
  return json::object();
}

void add_fields(json& schema, const std::vector<Field>& fields) {
  for (const auto& field : fields) {
    schema["properties"][field.name] = field.schema();
    if (field.required) schema["required"].push_back(field.name);
  }
}

json object_of(const std::vector<Field>& fields) {
  json schema = {{"type", "object"}, {"properties", json::object()}};
  add_fields(schema, fields);
  schema["additionalProperties"] = false;
  return schema;
}

json parameter(const Field& field, const char* in) {
  auto schema = field.schema();
  schema.erase("description");
  return {{"name", field.name},
          {"in", in},
          {"required", field.required},
          {"description", field.about},
          {"schema", schema}};
}

json parameters(const Route& route) {
  json list = json::array();
  for (const auto& part : parts_of(route.path))
    if (part.starts_with('{'))
      list.push_back(parameter(path_field(part.substr(1, part.size() - 2)), "path"));
  for (const auto& field : route.query) list.push_back(parameter(field, "query"));
  return list;
}

json answer_schema(const Route& route, Schemas& schemas) {
  if (route.id == "getOpenApi") return {{"type", "object"}};
  if (route.also.empty()) return schemas.of(*route.answer);
  if (!route.answer) return object_of(route.also);
  schemas.of(*route.answer);
  json schema = schemas.all()[route.answer->name()];
  add_fields(schema, route.also);
  return schema;
}

json responses(const Route& route, Schemas& schemas) {
  const bool is_json = route.type == "application/json";
  json list;
  list[std::to_string(route.success)] = {
      {"description", "Done"},
      {"content",
       {{route.type,
         {{"schema", is_json ? answer_schema(route, schemas) : json{{"type", "string"}}}}}}}};
  std::set<std::pair<std::string, std::string>> errors = {
      {"400", "BadRequest"}, {"421", "WrongHost"}, {"429", "TooManyRequests"}};
  if (route.role != Role::anyone)
    errors.insert({{"401", "NoToken"}, {"403", "NotAllowed"}, {"503", "Unavailable"}});
  if (route.asks) errors.insert({{"500", "Failed"}, {"503", "Unavailable"}, {"504", "Timeout"}});
  if (route.asks && route.role != Role::anyone)
    errors.insert({{"404", "NotFound"}, {"409", "Conflict"}, {"501", "Unsupported"}});
  if (route.method != "GET")
    errors.insert({{"411", "NoLength"}, {"413", "TooLarge"}, {"415", "NotJson"}});
  for (const auto& [status, name] : errors)
    list[status] = {{"$ref", "#/components/responses/" + name}};
  if (route.id == "readyz")
    list["503"] = {{"description", "Not ready"},
                   {"content", {{"text/plain", {{"schema", {{"type", "string"}}}}}}}};
  return list;
}

json operation(const Route& route, Schemas& schemas) {
  json object = {{"operationId", route.id}, {"summary", route.summary}};
  if (route.role == Role::anyone)
    object["security"] = json::array();
  else
    object["description"] = "Needs the role " + std::string(to_string(route.role)) + ".";
  if (auto list = parameters(route); !list.empty()) object["parameters"] = list;
  if (!route.body.empty())
    object["requestBody"] = {
        {"required", std::any_of(route.body.begin(), route.body.end(),
                                 [](const Field& field) { return field.required; })},
        {"content", {{"application/json", {{"schema", object_of(route.body)}}}}}};
  object["responses"] = responses(route, schemas);
  return object;
}

json error_responses() {
  const std::pair<const char*, const char*> all[] = {
      {"BadRequest", "Something in the request is wrong; the message says what"},
      {"NoToken", "A token is needed, or the one that was sent is unknown or revoked"},
      {"NotAllowed", "The token's role or owner may not do this"},
      {"NotFound", "No such job, role or node"},
      {"Conflict", "Its name or key is taken, or the job has gone on"},
      {"NoLength", "A body needs Content-Length; pieces of unknown length are not taken"},
      {"TooLarge", "The body is larger than 1 MiB"},
      {"NotJson", "The body is not application/json"},
      {"WrongHost", "Without tokens, only localhost and 127.0.0.1 are answered to"},
      {"TooManyRequests", "Retry-After says in how many seconds there is room"},
      {"Failed", "The controller could not do it"},
      {"Unsupported", "This controller cannot do this"},
      {"Unavailable", "It cannot be done now; trying again may help"},
      {"Timeout", "The controller did not answer in time"}};
  json object;
  for (const auto& [name, text] : all)
    object[name] = {{"description", text},
                    {"content", {{"application/json", {{"schema", reference("Error")}}}}}};
  return object;
}

}  // namespace

std::string openapi() {
  Schemas schemas;
  json paths = json::object();
  for (const auto& route : routes()) {
    if (route.summary.empty()) continue;
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    paths[route.path][method] = operation(route, schemas);
  }
  json all = schemas.all();
  all["Error"] = {
      {"type", "object"},
      {"properties",
       {{"error",
         {{"type", "object"},
          {"properties", {{"code", {{"type", "string"}}}, {"message", {{"type", "string"}}}}},
          {"required", json::array({"code", "message"})},
          {"additionalProperties", false}}}}},
      {"required", json::array({"error"})},
      {"additionalProperties", false}};
  const json file = {
      {"openapi", "3.0.3"},
      {"info",
       {{"title", "Crabcast"},
        {"description", "The HTTP gateway of a Crabcast controller (docs/http-api.md)"},
        {"version", "1"}}},
      {"security", json::array({json{{"token", json::array()}}})},
      {"paths", paths},
      {"components",
       {{"securitySchemes", {{"token", {{"type", "http"}, {"scheme", "bearer"}}}}},
        {"responses", error_responses()},
        {"schemas", all}}}};
  return file.dump(2) + "\n";
}

}  // namespace crabcast::gateway

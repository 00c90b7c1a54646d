#include "actors/control/gateway/json.h"

#include <cmath>

namespace crabcast::gateway {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::json;

json number(double value) {
  return std::isfinite(value) ? json(value) : json();
}

// The field's value; with index >= 0 that of a repeated field.
json value_of(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& read = *message.GetReflection();
  const bool many = index >= 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return many ? read.GetRepeatedInt32(message, &field, index) : read.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return many ? read.GetRepeatedInt64(message, &field, index) : read.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return many ? read.GetRepeatedUInt32(message, &field, index)
                  : read.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return many ? read.GetRepeatedUInt64(message, &field, index)
                  : read.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return number(many ? read.GetRepeatedDouble(message, &field, index)
                         : read.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return number(many ? read.GetRepeatedFloat(message, &field, index)
                         : read.GetFloat(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return many ? read.GetRepeatedBool(message, &field, index) : read.GetBool(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return short_name(many ? *read.GetRepeatedEnum(message, &field, index)
                             : *read.GetEnum(message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return many ? read.GetRepeatedString(message, &field, index)
                  : read.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return to_json(many ? read.GetRepeatedMessage(message, &field, index)
                          : read.GetMessage(message, &field));
  }
  return {};
}

json map_of(const Message& message, const FieldDescriptor& field) {
  json object = json::object();
  const Reflection& read = *message.GetReflection();
  const auto& entry = *field.message_type();
  for (int i = 0; i < read.FieldSize(message, &field); ++i) {
    const Message& pair = read.GetRepeatedMessage(message, &field, i);
    object[value_of(pair, *entry.FindFieldByNumber(1), -1).get<std::string>()] =
        value_of(pair, *entry.FindFieldByNumber(2), -1);
  }
  return object;
}

}  // namespace

std::string short_name(const google::protobuf::EnumValueDescriptor& value) {
  const std::string& name = value.name();
  std::string text = name.substr(name.find('_') + 1);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

json to_json(const Message& message) {
  json object = json::object();
  const auto& type = *message.GetDescriptor();
  const Reflection& read = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_map()) {
      object[field.name()] = map_of(message, field);
    } else if (field.is_repeated()) {
      json list = json::array();
      for (int k = 0; k < read.FieldSize(message, &field); ++k)
        list.push_back(value_of(message, field, k));
      object[field.name()] = std::move(list);
    } else if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE ||
               read.HasField(message, &field)) {
      object[field.name()] = value_of(message, field, -1);
    }
  }
  return object;
}

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace crabcast::gateway

// Protobuf messages as JSON, by reflection, so that a field that is added is shown at once.
//
// Keys are the fields' names. All fields are there but messages that are not set. Enums are the
// names of their values without the prefix, in lower case ("running"). Numbers are numbers, 64 bits
// too; one that is not finite is null. Bytes are text. What is not UTF-8 is replaced.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>

namespace crabcast::gateway {

nlohmann::json to_json(const google::protobuf::Message& message);
// "JOB_RUNNING" -> "running"
std::string short_name(const google::protobuf::EnumValueDescriptor& value);
std::string dump(const nlohmann::json& value);

}  // namespace crabcast::gateway

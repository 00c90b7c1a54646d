// The table of all that the gateway answers: it routes, checks and describes (openapi.h).
#pragma once

#include <google/protobuf/descriptor.h>

#include <optional>
#include <string>
#include <vector>

#include "actors/control/gateway/fields.h"
#include "actors/control/gateway/http.h"
#include "actors/control/gateway/tokens.h"

namespace crabcast::gateway {

class Api;

// A request that was let in and whose values are good.
struct Call {
  const Request& request;
  Caller caller;
  Values values;  // of path, query and body

  [[nodiscard]] bool has(const std::string& name) const { return values.contains(name); }
  [[nodiscard]] std::string text(const std::string& name) const { return values.value(name, ""); }
  [[nodiscard]] std::uint64_t whole(const std::string& name, std::uint64_t otherwise) const {
    return values.value(name, otherwise);
  }
  [[nodiscard]] bool flag(const std::string& name) const { return values.value(name, false); }
};

struct Route {
  std::string method;
  std::string path;  // "/api/v1/jobs/{job}": a part in braces is a field of the same name
  std::string id;    // operationId, and label of the metrics
  Role role = Role::viewer;
  std::string summary;
  Response (Api::*handler)(const Call&);
  std::vector<Field> query = {};
  std::vector<Field> body = {};
  const google::protobuf::Descriptor* answer = nullptr;  // its JSON; null: see `type`
  std::vector<Field> also = {};                          // fields beside those of `answer`
  std::string type = "application/json";                 // of the response
  int success = 200;
  bool asks = true;  // the controller, which may be slow or gone
};

const std::vector<Route>& routes();
// The parts of a path's pattern, without slashes.
std::vector<std::string> parts_of(const std::string& pattern);
// What a part in braces may be.
const Field& path_field(const std::string& name);

// Where a request goes. With a null route: the methods that its path has; none: it has no page.
struct Match {
  const Route* route = nullptr;
  Values values = nlohmann::json::object();
  std::vector<std::string> methods = {};
};
Match match(const std::string& method, const std::vector<std::string>& path);

}  // namespace crabcast::gateway

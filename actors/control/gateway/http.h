// A request and its response as the gateway's own code sees them: nothing of a library, so that
// everything but the sockets is tested without one.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace crabcast::gateway {

struct Request {
  std::string method;
  std::string target;             // as it was sent: path and query
  std::vector<std::string> path;  // its parts, percent-decoded
  std::multimap<std::string, std::string> query;
  std::map<std::string, std::string> headers;  // names in lower case; the first of each name
  std::string body;
  std::string address;  // of the client

  [[nodiscard]] std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

// Writes a piece of a streamed response. False: the client is gone or does not read.
using Sink = std::function<bool(std::string_view)>;

struct Response {
  int status = 200;
  std::string type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};
  // Set: called again and again for more, until it returns false. It waits at most a second.
  std::function<bool(const Sink&)> stream = {};
  bool close = false;  // the connection, after this
};

// Fills in path and query. False for a target that is no path, has a bad escape, an empty or a dot
// part, or bytes that are not UTF-8.
bool split_target(Request& request);

}  // namespace crabcast::gateway

// The gateway on a TCP port: cpp-httplib parses requests and writes responses, `Listener` accepts,
// `ConnectionStream` bounds, and `Api` answers.
//
// The library's own server is not used for what a hostile client could turn against it: it accepts
// without a bound, reads a body that is too large to its end, has no limit on the time of a whole
// request, expands compressed bodies, and matches paths with std::regex (0.11.4).
#pragma once

#include <memory>
#include <string>

#include "actors/control/gateway/api.h"
#include "actors/control/gateway/listener.h"

namespace crabcast::gateway {

struct GatewayOptions {
  std::string bind = "127.0.0.1:8080";
  std::filesystem::path tokens;    // file; need not be there for a loopback address
  std::function<bool()> is_ready;  // the controller has recovered
  std::string version;
  ApiOptions api = {};  // its loopback, tokens, is_ready and version come from here
  Listener::Options connections = {};
};

class Gateway {
 public:
  // permission_denied for an address that others reach, without tokens; address_in_use; ...
  static Result<std::unique_ptr<Gateway>> start(GatewayOptions options, std::unique_ptr<Ask> ask);
  ~Gateway();
  [[nodiscard]] const std::string& address() const;  // "127.0.0.1:8080"
  [[nodiscard]] bool needs_tokens() const { return needs_tokens_; }
  void stop();

 private:
  class Http;
  Gateway() = default;
  bool needs_tokens_ = false;
  std::unique_ptr<Api> api_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Http> http_;
};

}  // namespace crabcast::gateway

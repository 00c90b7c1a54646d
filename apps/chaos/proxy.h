// The network between staged nodes: a SOCKS5 proxy (RFC 1928, CONNECT without authentication) that
// each node's processes dial through, and that delays, holds back, breaks or garbles what passes.
//
// Nodes are told apart by the proxy's port that they dial (the source) and by the loopback address
// that they listen on (the destination). One thread; methods from any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::chaos {

class Proxy {
 public:
  struct Node {
    std::string name;
    std::string address;  // 127.0.0.2
  };
  static Result<std::unique_ptr<Proxy>> start(const std::vector<Node>& nodes);
  virtual ~Proxy() = default;

  // For CRABCAST_SOCKS_PROXY of the node's processes: HOST:PORT.
  [[nodiscard]] virtual std::string endpoint(const std::string& node) const = 0;
  // From now on no byte passes between the node and the others, and no connection is made: what is
  // under way waits, as packets that are sent again and again do.
  virtual void partition(const std::string& node, bool on) = 0;
  // Every byte from or to the node takes so much longer; zero ends it.
  virtual void delay(const std::string& node, Duration by) = 0;
  // Every connection of the node breaks, once.
  virtual void sever(const std::string& node) = 0;
  // The next bytes on every connection of the node come twice, or with a bit flipped.
  virtual void repeat_next(const std::string& node) = 0;
  virtual void garble_next(const std::string& node) = 0;
};

}  // namespace crabcast::chaos

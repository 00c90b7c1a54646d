// The real processes of a chaos run: a controller, an agent for each node, and what those start.
// One thread, but for the notices of ends.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apps/chaos/proxy.h"
#include "apps/chaos/scenario.h"
#include "cluster/child_process.h"
#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::chaos {

struct CastOptions {
  std::filesystem::path program;  // crabcast
  std::filesystem::path folder;   // of this run; made here
  std::filesystem::path corpora;  // rendered ones, shared by runs
  std::uint32_t nodes = 1;
  std::string orders;  // fault points; empty: none are armed
  bool proxied = false;
};

class Cast {
 public:
  static Result<std::unique_ptr<Cast>> start(const CastOptions& options);
  ~Cast();

  [[nodiscard]] std::filesystem::path controller_state() const {
    return options_.folder / "controller";
  }
  [[nodiscard]] std::filesystem::path node_state(const std::string& node) const {
    return options_.folder / node;
  }
  [[nodiscard]] std::vector<std::string> nodes() const;
  // The node whose folder has this job's store, the one that wrote last; empty: none.
  [[nodiscard]] std::string home_of(const std::string& job) const;

  // Carries a fault out; unavailable when its target is not there now.
  Status strike(const Fault& fault, const std::string& job);
  // Until a daemon ends, and at most so long.
  void rest(Duration most);
  // Starts daemons again that ended, and ends faults whose time is over. Often.
  void tick();
  // Ends the daemons in good order; what is left then is named by left_over().
  void stop();
  [[nodiscard]] std::vector<std::string> left_over() const;

 private:
  struct Daemon {
    std::vector<std::string> arguments;
    std::vector<std::string> environment;
    std::filesystem::path log;
    pid_t pid = 0;
    bool wanted = true;
    std::optional<TimePoint> ended;
  };
  explicit Cast(CastOptions options) : options_(std::move(options)) {}
  Status start_all();
  Status start(Daemon& daemon);
  [[nodiscard]] std::optional<pid_t> pid_of(const std::string& target,
                                            const std::string& job) const;
  Status strike_process(const Fault& fault, pid_t pid);
  Status strike_node(const Fault& fault);
  Status corrupt(const std::string& job);
  Status remove_node(const std::string& node);
  bool wait_until(const std::function<bool()>& done, Duration patience);
  void later(double seconds, std::function<void()> what);

  const CastOptions options_;
  std::unique_ptr<Proxy> proxy_;
  std::map<std::string, Daemon> daemons_;  // controller, agent@NODE
  std::vector<std::pair<TimePoint, std::function<void()>>> due_;
  std::set<pid_t> killed_;
  mutable std::mutex ends_mutex_;  // guards ends_
  std::condition_variable ended_;
  std::vector<pid_t> ends_;
  std::unique_ptr<cluster::ChildProcesses> children_;  // last: its thread uses the others
};

}  // namespace crabcast::chaos

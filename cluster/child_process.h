// Child processes over pidfd: an exit is known at once, and no child outlives its parent.
//
// Concurrency: a ChildProcesses owns one thread that starts children (so that PR_SET_PDEATHSIG,
// which is tied to the starting thread, holds for the life of the object) and polls their pidfds.
// Handlers run on that thread and must not block; they may call start, signal and stop. An exit
// may be reported before start has returned to another thread. Children that the destructor kills
// are not reported.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "protocol/clock.h"
#include "protocol/error.h"

namespace crabcast::cluster {

struct ChildOptions {
  std::filesystem::path program;
  std::vector<std::string> arguments;    // without the program's name
  std::vector<std::string> environment;  // NAME=value, added to this process's own
  std::filesystem::path log_file;        // stdout and stderr are appended; empty: inherited
  std::uint64_t memory_bytes = 0;        // RLIMIT_DATA; 0 = no limit
};

struct ChildExit {
  pid_t pid = 0;
  int exit_code = -1;  // -1 when a signal ended it
  int signal = 0;
};

class ChildProcesses {
 public:
  static Result<std::unique_ptr<ChildProcesses>> create(std::function<void(ChildExit)> on_exit);
  virtual ~ChildProcesses() = default;  // kills and reaps what is left
  // The child gets SIGKILL when this process dies, default signal handlers and an empty signal
  // mask, stdin from /dev/null, no other open file, and a process group of its own (so that Ctrl-C
  // on the terminal reaches only this process). Returns when the program runs; an error when it
  // cannot be run.
  virtual Result<pid_t> start(const ChildOptions& options) = 0;
  virtual Status signal(pid_t pid, int signal) = 0;
  // SIGTERM, and SIGKILL after `grace`.
  virtual void stop(pid_t pid, Duration grace) = 0;
};

}  // namespace crabcast::cluster

#include "cluster/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "cluster/wake_up.h"
#include "protocol/descriptor.h"

namespace crabcast::cluster {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(30);
// After SIGKILL only a process that is stuck inside the kernel is still there.
constexpr auto kReapTimeout = std::chrono::seconds(5);

// The same file under a number above the standard streams', which the child redirects.
Descriptor above_standard_streams(int fd) {
  Descriptor low(fd);
  if (fd < 0 || fd > STDERR_FILENO) return low;
  return Descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

int pidfd_open(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}
int pidfd_send_signal(int pidfd, int signal) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

// What the child did when it failed, over a pipe that exec closes.
struct ChildFailure {
  enum Stage : int { parent_gone, set_limit, redirect, exec } stage;
  int number;
};

// Everything the child needs, made before the fork: between fork and exec only calls that are safe
// in a signal handler are allowed, since other threads may have held any lock.
struct Plan {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  const char* program = nullptr;
  int null_fd = -1;
  int log_fd = -1;  // -1: inherited
  int failure_fd = -1;
  pid_t parent = 0;
  std::uint64_t memory_bytes = 0;
};

[[noreturn]] void give_up(const Plan& plan, ChildFailure::Stage stage) {
  const ChildFailure failure{stage, errno};
  (void)!::write(plan.failure_fd, &failure, sizeof failure);
  ::_exit(127);
}

[[noreturn]] void become(const Plan& plan) {
  // The parent may have died before the request took effect; then nobody would ever kill this
  // child.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != plan.parent)
    give_up(plan, ChildFailure::parent_gone);
  // Ctrl-C on a terminal goes to the parent alone, which stops its children in its own order.
  ::setpgid(0, 0);
  // An ignored signal stays ignored over exec.
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (plan.memory_bytes > 0) {
    const rlimit limit{plan.memory_bytes, plan.memory_bytes};
    if (::setrlimit(RLIMIT_DATA, &limit) != 0) give_up(plan, ChildFailure::set_limit);
  }
  if (::dup2(plan.null_fd, STDIN_FILENO) < 0) give_up(plan, ChildFailure::redirect);
  if (plan.log_fd >= 0 &&
      (::dup2(plan.log_fd, STDOUT_FILENO) < 0 || ::dup2(plan.log_fd, STDERR_FILENO) < 0))
    give_up(plan, ChildFailure::redirect);
  // Marked, not closed: the pipe for failures is needed until exec.
  ::syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
  ::execve(plan.program, plan.arguments.data(), plan.environment.data());
  give_up(plan, ChildFailure::exec);
}

std::string describe(const ChildFailure& failure, const ChildOptions& options) {
  const std::string name = options.program.string();
  switch (failure.stage) {
    case ChildFailure::parent_gone:
      return "starting " + name + ": its parent went away";
    case ChildFailure::set_limit:
      return "limiting the memory of " + name + " to " + std::to_string(options.memory_bytes) +
             " bytes";
    case ChildFailure::redirect:
      return "redirecting the output of " + name;
    case ChildFailure::exec:
      return "running " + name;
  }
  return name;
}

std::string name_of(const std::string& setting) {
  return setting.substr(0, setting.find('='));
}

// This process's own environment with `added` on top.
std::vector<std::string> environment_with(const std::vector<std::string>& added) {
  std::map<std::string, std::string> settings;
  for (char** entry = environ; *entry != nullptr; ++entry) settings[name_of(*entry)] = *entry;
  for (const std::string& entry : added) settings[name_of(entry)] = entry;
  std::vector<std::string> all;
  all.reserve(settings.size());
  for (auto& [name, entry] : settings) all.push_back(std::move(entry));
  return all;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

struct Child {
  Descriptor pidfd;
  std::optional<TimePoint> kill_at;
};

struct Started {
  pid_t pid;
  Descriptor pidfd;
};

Result<Started> start_child(const ChildOptions& options) {
  std::vector<std::string> arguments{options.program.string()};
  arguments.insert(arguments.end(), options.arguments.begin(), options.arguments.end());
  std::vector<std::string> environment = environment_with(options.environment);
  const Descriptor null = above_standard_streams(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (null.get() < 0) return fail(error_from_errno(errno, "opening /dev/null"));
  Descriptor log;
  if (!options.log_file.empty()) {
    log = above_standard_streams(
        ::open(options.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (log.get() < 0)
      return fail(error_from_errno(errno, "opening the log " + options.log_file.string()));
  }
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(error_from_errno(errno, "opening a pipe"));
  const Descriptor failure_in(ends[0]);
  Descriptor failure_out = above_standard_streams(ends[1]);
  if (failure_out.get() < 0) return fail(error_from_errno(errno, "opening a pipe"));

  Plan plan;
  plan.arguments = pointers(arguments);
  plan.environment = pointers(environment);
  plan.program = arguments.front().c_str();
  plan.null_fd = null.get();
  plan.log_fd = log.get();
  plan.failure_fd = failure_out.get();
  plan.parent = ::getpid();
  plan.memory_bytes = options.memory_bytes;

  // No signal handler of this process may run in the child before its handlers are reset.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) become(plan);
  const int fork_problem = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return fail(error_from_errno(fork_problem, "starting " + options.program.string()));

  failure_out.reset();
  // The child is not reaped before its pidfd is open, so the pid cannot mean anyone else.
  Descriptor pidfd(pidfd_open(pid));
  const int pidfd_problem = errno;
  ChildFailure failure{};
  ssize_t got = 0;
  do {
    got = ::read(failure_in.get(), &failure, sizeof failure);  // ends with exec or the child
  } while (got < 0 && errno == EINTR);
  if (got == sizeof failure) {
    ::waitpid(pid, nullptr, 0);
    return fail(error_from_errno(failure.number, describe(failure, options)));
  }
  if (pidfd.get() < 0) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail(error_from_errno(pidfd_problem, "watching " + options.program.string()));
  }
  return Started{pid, std::move(pidfd)};
}

// The exit of a child whose pidfd is readable; nothing when it has not ended.
std::optional<ChildExit> reap(pid_t pid, int pidfd) {
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info,
               WEXITED | WNOHANG) != 0 ||
      info.si_pid == 0)
    return std::nullopt;
  ChildExit exit;
  exit.pid = pid;
  if (info.si_code == CLD_EXITED)
    exit.exit_code = info.si_status;
  else
    exit.signal = info.si_status;
  return exit;
}

class PidfdChildren final : public ChildProcesses {
 public:
  PidfdChildren(std::function<void(ChildExit)> on_exit, std::shared_ptr<WakeUp> wake)
      : on_exit_(std::move(on_exit)), wake_(std::move(wake)), thread_([this] { run(); }) {}

  ~PidfdChildren() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_->wake();
    thread_.join();
  }

  Result<pid_t> start(const ChildOptions& options) override {
    if (std::this_thread::get_id() == thread_.get_id()) return start_here(options);
    auto answer = std::make_shared<std::promise<Result<pid_t>>>();
    auto result = answer->get_future();
    {
      const std::lock_guard lock(mutex_);
      commands_.push_back([this, options, answer] { answer->set_value(start_here(options)); });
    }
    wake_->wake();
    if (result.wait_for(kStartTimeout) != std::future_status::ready)
      return fail(Errc::timeout, "starting " + options.program.string() +
                                     ": a handler blocks the thread of the child processes");
    return result.get();
  }

  Status signal(pid_t pid, int signal) override {
    const std::lock_guard lock(mutex_);
    const auto found = children_.find(pid);
    if (found == children_.end())
      return fail(Errc::not_found, "process " + std::to_string(pid) + " has ended or is no child");
    if (pidfd_send_signal(found->second.pidfd.get(), signal) != 0)
      return fail(error_from_errno(errno, "signalling process " + std::to_string(pid)));
    return {};
  }

  void stop(pid_t pid, Duration grace) override {
    {
      const std::lock_guard lock(mutex_);
      const auto found = children_.find(pid);
      if (found == children_.end()) return;
      // A second stop may shorten the grace, never extend it.
      const TimePoint kill_at = Clock::now() + grace;
      auto& due = found->second.kill_at;
      if (!due || kill_at < *due) due = kill_at;
      pidfd_send_signal(found->second.pidfd.get(), SIGTERM);
    }
    wake_->wake();
  }

 private:
  Result<pid_t> start_here(const ChildOptions& options) {
    auto started = start_child(options);
    if (!started) return fail(started.error());
    const std::lock_guard lock(mutex_);
    children_[started->pid].pidfd = std::move(started->pidfd);
    return started->pid;
  }

  void run() {
    while (true) {
      std::vector<std::function<void()>> commands;
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) break;
        commands.swap(commands_);
      }
      for (const auto& command : commands) command();
      wait_and_report();
    }
    kill_all();
  }

  // Waits for an exit, a command, or the end of a grace.
  void wait_and_report() {
    std::vector<pollfd> polled{{wake_->fd(), POLLIN, 0}};
    std::vector<pid_t> pids;
    TimePoint next = Clock::now() + std::chrono::seconds(60);
    {
      const std::lock_guard lock(mutex_);
      if (!commands_.empty() || stopping_) return;
      for (auto& [pid, child] : children_) {
        if (child.kill_at && *child.kill_at <= Clock::now()) {
          pidfd_send_signal(child.pidfd.get(), SIGKILL);
          child.kill_at.reset();
        }
        if (child.kill_at) next = std::min(next, *child.kill_at);
        polled.push_back({child.pidfd.get(), POLLIN, 0});
        pids.push_back(pid);
      }
    }
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
    ::poll(polled.data(), polled.size(), static_cast<int>(std::max<decltype(wait)>(wait, 0)));
    if (polled[0].revents != 0) wake_->clear();
    for (std::size_t i = 0; i < pids.size(); ++i) {
      if (polled[i + 1].revents == 0) continue;
      const auto exit = reap(pids[i], polled[i + 1].fd);
      if (!exit) continue;
      {
        const std::lock_guard lock(mutex_);
        children_.erase(pids[i]);
      }
      if (on_exit_) on_exit_(*exit);
    }
  }

  void kill_all() {
    std::map<pid_t, Child> left;
    {
      const std::lock_guard lock(mutex_);
      left.swap(children_);
    }
    for (const auto& [pid, child] : left) pidfd_send_signal(child.pidfd.get(), SIGKILL);
    const TimePoint deadline = Clock::now() + kReapTimeout;
    for (const auto& [pid, child] : left) {
      const auto wait = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      pollfd polled{child.pidfd.get(), POLLIN, 0};
      ::poll(&polled, 1, static_cast<int>(std::max<std::int64_t>(wait.count(), 0)));
      if (!reap(pid, child.pidfd.get()))
        spdlog::error("process {} did not end after SIGKILL; it is stuck in the kernel", pid);
    }
  }

  const std::function<void(ChildExit)> on_exit_;
  const std::shared_ptr<WakeUp> wake_;
  std::mutex mutex_;  // guards what follows
  std::map<pid_t, Child> children_;
  std::vector<std::function<void()>> commands_;
  bool stopping_ = false;
  std::thread thread_;  // last: starts when everything else stands
};

}  // namespace

Result<std::unique_ptr<ChildProcesses>> ChildProcesses::create(
    std::function<void(ChildExit)> on_exit) {
  auto wake = WakeUp::create();
  if (!wake) return fail(wake.error());
  return std::make_unique<PidfdChildren>(std::move(on_exit), std::move(*wake));
}

}  // namespace crabcast::cluster

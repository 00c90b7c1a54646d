// Real children: the shell, and a parent that is killed with -9.
#include "cluster/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>

namespace crabcast::cluster {
namespace {

namespace fs = std::filesystem;
constexpr auto kPatience = std::chrono::seconds(20);

int open_pidfd(pid_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

// True when the process ends in time. Works for processes that are not our children.
bool ends_soon(int pidfd) {
  pollfd polled{pidfd, POLLIN, 0};
  return ::poll(&polled, 1, 20000) == 1;
}

class ChildProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "crabcast-child-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    children_ = ChildProcesses::create([this](ChildExit exit) {
                  const std::lock_guard lock(mutex_);
                  exits_.push_back(exit);
                  arrived_.notify_one();
                }).value();
  }
  void TearDown() override {
    children_.reset();
    fs::remove_all(folder_);
  }
  ChildOptions shell(const std::string& script) {
    ChildOptions options;
    options.program = "/bin/sh";
    options.arguments = {"-c", script};
    options.log_file = folder_ / "log";
    return options;
  }
  ChildExit next_exit() {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, kPatience, [this] { return !exits_.empty(); })) {
      ADD_FAILURE() << "no exit was reported in time";
      return {};
    }
    const ChildExit exit = exits_.front();
    exits_.pop_front();
    return exit;
  }
  std::string log() {
    std::ifstream in(folder_ / "log");
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  void wait_for_log(const std::string& text) {
    const TimePoint deadline = Clock::now() + kPatience;
    while (log().find(text) == std::string::npos) {
      ASSERT_LT(Clock::now(), deadline) << "the log never said " << text;
      ::usleep(1000);
    }
  }
  fs::path folder_;
  std::unique_ptr<ChildProcesses> children_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<ChildExit> exits_;
};

TEST_F(ChildProcess, ExitCodeAndSignalAreReported) {
  const auto first = children_->start(shell("exit 7"));
  ASSERT_TRUE(first) << first.error().message;
  ChildExit exit = next_exit();
  EXPECT_EQ(exit.pid, *first);
  EXPECT_EQ(exit.exit_code, 7);
  EXPECT_EQ(exit.signal, 0);
  const auto second = children_->start(shell("exec sleep 1000"));
  ASSERT_TRUE(second);
  ASSERT_TRUE(children_->signal(*second, SIGKILL));
  exit = next_exit();
  EXPECT_EQ(exit.pid, *second);
  EXPECT_EQ(exit.exit_code, -1);
  EXPECT_EQ(exit.signal, SIGKILL);
  const auto gone = children_->signal(*second, SIGTERM);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Errc::not_found);
}

TEST_F(ChildProcess, OutputIsAppendedAndEnvironmentIsAdded) {
  ::setenv("CRABCAST_TEST_KEPT", "kept", 1);
  ::setenv("CRABCAST_TEST_CHANGED", "old", 1);
  std::ofstream(folder_ / "log") << "before\n";
  auto options = shell("echo $CRABCAST_TEST_KEPT $CRABCAST_TEST_CHANGED; echo problem >&2; cat");
  options.environment = {"CRABCAST_TEST_CHANGED=new"};
  ASSERT_TRUE(children_->start(options));
  EXPECT_EQ(next_exit().exit_code, 0) << "cat did not see the end of /dev/null";
  EXPECT_EQ(log(), "before\nkept new\nproblem\n");
}

TEST_F(ChildProcess, StartsClean) {
  const int leaked = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC
  ASSERT_GE(leaked, 0);
  ::signal(SIGUSR1, SIG_IGN);
  sigset_t usr2;
  ::sigemptyset(&usr2);
  ::sigaddset(&usr2, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &usr2, nullptr);
  // The shell reads its own state, without another program: while it starts one, it blocks signals.
  ASSERT_TRUE(
      children_->start(shell("ls /proc/$$/fd; while IFS= read -r line; do case $line in "
                             "SigBlk*|SigIgn*) echo \"$line\";; esac; done < /proc/$$/status")));
  EXPECT_EQ(next_exit().exit_code, 0);
  ::signal(SIGUSR1, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &usr2, nullptr);
  ::close(leaked);
  EXPECT_EQ(log(), "0\n1\n2\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(ChildProcess, MemoryLimitAndProcessGroup) {
  auto options = shell("ulimit -d; ps -o pgid= -p $$ | tr -d ' '; echo $$");
  options.memory_bytes = 512ULL << 20;
  ASSERT_TRUE(children_->start(options));
  EXPECT_EQ(next_exit().exit_code, 0);
  std::istringstream lines(log());
  std::string limit, group, pid;
  lines >> limit >> group >> pid;
  EXPECT_EQ(limit, std::to_string(512 << 10));
  EXPECT_EQ(group, pid);
}

TEST_F(ChildProcess, WhatCannotRunIsAnErrorThatNamesIt) {
  ChildOptions options;
  options.program = folder_ / "no-such-program";
  auto started = children_->start(options);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Errc::not_found);
  EXPECT_NE(started.error().message.find("no-such-program"), std::string::npos);
  options = shell("true");
  options.log_file = folder_ / "no-such-folder" / "log";
  started = children_->start(options);
  ASSERT_FALSE(started);
  EXPECT_NE(started.error().message.find("no-such-folder"), std::string::npos);
}

TEST_F(ChildProcess, StopAsksFirstAndKillsAfterTheGrace) {
  const auto polite =
      children_->start(shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done"));
  ASSERT_TRUE(polite);
  wait_for_log("ready");
  children_->stop(*polite, kPatience);
  EXPECT_EQ(next_exit().exit_code, 3);
  const auto stubborn =
      children_->start(shell("trap '' TERM; echo deaf; while :; do sleep 0.01; done"));
  ASSERT_TRUE(stubborn);
  wait_for_log("deaf");
  const TimePoint asked = Clock::now();
  children_->stop(*stubborn, std::chrono::milliseconds(200));
  EXPECT_EQ(next_exit().signal, SIGKILL);
  EXPECT_GE(seconds(Clock::now() - asked), 0.2);
}

TEST_F(ChildProcess, ManyChildrenAreAllReported) {
  std::set<pid_t> started, ended;
  for (int i = 0; i < 50; ++i) started.insert(children_->start(shell("exit 0")).value());
  for (int i = 0; i < 50; ++i) ended.insert(next_exit().pid);
  EXPECT_EQ(started, ended);
}

TEST_F(ChildProcess, HandlersMayStartChildren) {
  std::mutex mutex;
  std::condition_variable arrived;
  int exits = 0;
  std::unique_ptr<ChildProcesses> chain;
  auto made = ChildProcesses::create([&](ChildExit) {
    const std::lock_guard lock(mutex);
    if (++exits < 3) {
      EXPECT_TRUE(chain->start(shell("exit 0")));
    }
    arrived.notify_one();
  });
  ASSERT_TRUE(made);
  chain = std::move(*made);
  ASSERT_TRUE(chain->start(shell("exit 0")));
  std::unique_lock lock(mutex);
  EXPECT_TRUE(arrived.wait_for(lock, kPatience, [&] { return exits == 3; }));
}

TEST_F(ChildProcess, DestructorKillsAndReaps) {
  const auto pid = children_->start(shell("trap '' TERM; while :; do sleep 0.01; done"));
  ASSERT_TRUE(pid);
  children_.reset();
  EXPECT_EQ(::kill(*pid, 0), -1);
  EXPECT_EQ(errno, ESRCH) << "the child is alive or was not reaped";
  EXPECT_TRUE(exits_.empty());
}

TEST_F(ChildProcess, ParentKilledWith9LeavesNoChild) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    auto own = ChildProcesses::create([](ChildExit) {});
    pid_t pids[2] = {-1, -1};
    ChildOptions options;
    options.program = "/bin/sleep";
    options.arguments = {"1000"};
    for (pid_t& pid : pids) pid = own && *own ? (*own)->start(options).value_or(-1) : -1;
    (void)!::write(ends[1], pids, sizeof pids);
    while (true) ::pause();
  }
  pid_t pids[2] = {-1, -1};
  ASSERT_EQ(::read(ends[0], pids, sizeof pids), static_cast<ssize_t>(sizeof pids));
  for (const pid_t pid : pids) ASSERT_GT(pid, 0);
  const int watched[2] = {open_pidfd(pids[0]), open_pidfd(pids[1])};
  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);
  for (const int pidfd : watched) {
    ASSERT_GE(pidfd, 0);
    EXPECT_TRUE(ends_soon(pidfd)) << "a child outlived its parent";
    ::close(pidfd);
  }
  ::close(ends[0]);
  ::close(ends[1]);
}

}  // namespace
}  // namespace crabcast::cluster

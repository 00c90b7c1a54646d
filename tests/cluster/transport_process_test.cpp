// A peer in a real process that is killed or stopped.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "tests/cluster/transport_fixture.h"

namespace crabcast::cluster {
namespace {

TransportOptions quick() {
  TransportOptions options;
  options.heartbeat_every = std::chrono::milliseconds(100);
  options.peer_timeout = std::chrono::milliseconds(1500);
  options.reconnect_grace = std::chrono::milliseconds(300);
  return options;
}

// Forks before this process has threads. The child runs `body` with both ends of two pipes and
// then waits to be killed.
class Child {
 public:
  template <class Body>
  explicit Child(Body body) {
    EXPECT_EQ(::pipe(to_child_.data()), 0);
    EXPECT_EQ(::pipe(from_child_.data()), 0);
    pid = ::fork();
    if (pid == 0) {
      body(to_child_[0], from_child_[1]);
      while (true) ::pause();
    }
  }
  ~Child() {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    for (const int fd : {to_child_[0], to_child_[1], from_child_[0], from_child_[1]}) ::close(fd);
  }
  void tell(const std::string& line) {
    const std::string text = line + "\n";
    EXPECT_EQ(::write(to_child_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  std::string hear() { return read_line(from_child_[0]); }

  static std::string read_line(int fd) {
    std::string line;
    for (char c = 0; ::read(fd, &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  pid_t pid = -1;

 private:
  std::array<int, 2> to_child_{}, from_child_{};
};

void dial(int in, int) {
  Node node("child", quick());
  const auto endpoint = Child::read_line(in);
  (void)node.transport->connect(endpoint, kPatience);
  while (true) ::pause();
}

void listen(int, int out) {
  Node node("child", quick());
  const std::string line = node.bind() + "\n";
  (void)!::write(out, line.data(), line.size());
  while (true) ::pause();
}

TEST(TransportProcess, KilledDialerIsDownSoon) {
  (void)test_keys();
  Child child(dial);
  Node server("server", quick());
  child.tell(server.bind());
  ASSERT_EQ(server.next().kind, Event::Kind::up);
  const TimePoint killed = Clock::now();
  ::kill(child.pid, SIGKILL);
  const Event down = server.next();
  EXPECT_EQ(down.kind, Event::Kind::down);
  EXPECT_EQ(down.peer.process.value(), "child");
  EXPECT_NE(down.why.message.find("connection broke"), std::string::npos) << down.why.message;
  EXPECT_LT(seconds(Clock::now() - killed), 1.4)
      << "found by silence, not by the broken connection";
}

TEST(TransportProcess, KilledListenerIsDownSoon) {
  (void)test_keys();
  Child child(listen);
  const auto endpoint = child.hear();
  Node client("client", quick());
  ASSERT_TRUE(client.transport->connect(endpoint, kPatience));
  ASSERT_EQ(client.next().kind, Event::Kind::up);
  const TimePoint killed = Clock::now();
  ::kill(child.pid, SIGKILL);
  const Event down = client.next();
  EXPECT_EQ(down.kind, Event::Kind::down);
  EXPECT_NE(down.why.message.find("connection broke"), std::string::npos) << down.why.message;
  EXPECT_LT(seconds(Clock::now() - killed), 1.4)
      << "found by silence, not by the broken connection";
  EXPECT_EQ(client.transport->send(ProcessId("child"), numbered(1)).error().code,
            Errc::unavailable);
}

TEST(TransportProcess, StoppedProcessIsDownBySilence) {
  (void)test_keys();
  Child child(dial);
  Node server("server", quick());
  child.tell(server.bind());
  ASSERT_EQ(server.next().kind, Event::Kind::up);
  EXPECT_TRUE(server.quiet_for(std::chrono::milliseconds(1800)))
      << "an idle link was taken for a dead one";
  const TimePoint stopped = Clock::now();
  ::kill(child.pid, SIGSTOP);
  const Event down = server.next();
  EXPECT_EQ(down.kind, Event::Kind::down);
  EXPECT_NE(down.why.message.find("silent"), std::string::npos) << down.why.message;
  EXPECT_GT(seconds(Clock::now() - stopped), 1.0);
}

}  // namespace
}  // namespace crabcast::cluster

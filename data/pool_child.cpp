#include "data/pool_child.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

namespace crabcast::data {
namespace {

constexpr auto kStartTimeout = std::chrono::seconds(60);
// A child notices its deadline itself between two frames; only a decoder that hangs needs longer.
constexpr auto kGrace = std::chrono::milliseconds(500);
// How often a child may end for reasons that are not the sample's.
constexpr int kTries = 3;
constexpr int kChildSocket = 3;

std::string describe_end(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  const char* name = WIFSIGNALED(status) ? ::sigdescr_np(WTERMSIG(status)) : nullptr;
  return name != nullptr ? name : "status " + std::to_string(status);
}

// Attributes and file actions of posix_spawn.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }

  // Default signal handlers, no blocked signal, a process group of its own (Ctrl-C is the pool's
  // business), stdin from /dev/null, and no open file but the socket and the standard outputs.
  void prepare(int socket) {
    ::posix_spawn_file_actions_adddup2(&actions_, socket, kChildSocket);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, kChildSocket + 1);
    sigset_t all, none;
    ::sigfillset(&all);
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  }

  Result<pid_t> run(const std::string& program, std::vector<std::string> arguments) {
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_t pid = 0;
    const int code =
        ::posix_spawn(&pid, program.c_str(), &actions_, &attributes_, argv.data(), environ);
    if (code != 0) return fail(error_from_errno(code, "starting " + program + " to decode"));
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

const std::string& first_file(const pb::DecodeRequest& request) {
  return !request.video().empty()   ? request.video()
         : !request.image().empty() ? request.image()
                                    : request.audio();
}

}  // namespace

Status PoolChild::spawn() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return fail(error_from_errno(errno, "opening a socket for a decoding process"));
  socket_ = Descriptor(ends[0]);
  const Descriptor theirs(ends[1]);
  // By this name also a program that was replaced on disk starts itself again.
  const std::string program =
      options_.program.empty() ? "/proc/self/exe" : options_.program.string();
  SpawnPlan plan;
  plan.prepare(theirs.get());
  auto pid =
      plan.run(program, {"crabcast-compute", "decode-child", "--socket",
                         std::to_string(kChildSocket), "--parent", std::to_string(::getpid()),
                         "--memory", std::to_string(options_.memory_bytes)});
  if (!pid) return fail(pid.error());
  pid_ = *pid;
  return {};
}

Status PoolChild::start() {
  CRABCAST_TRY(spawn());
  auto packet = receive_packet(socket_.get(), Clock::now() + kStartTimeout);
  pb::DecodeReply reply;
  if (packet && *packet && reply.ParseFromString((*packet)->bytes) && reply.has_ready()) return {};
  const std::string end = describe_end(stop());
  if (!packet) return fail(packet.error().within("starting a decoding process"));
  return fail(Errc::process_died, "a decoding process ended before it was ready (" + end + ")");
}

int PoolChild::stop() {
  if (pid_ == 0) return 0;
  // A child that has ended of itself keeps its own status.
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  socket_.reset();
  return status;
}

Result<SampleMedia> PoolChild::read(const pb::DecodeRequest& request, Duration deadline) {
  Error last;
  for (int tries = 0; tries < kTries; ++tries) {
    if (pid_ == 0) CRABCAST_TRY(start());
    // One that died while it had nothing to do is no sample's fault.
    if (auto sent = send_packet(socket_.get(), request); !sent) {
      const std::string end = describe_end(stop());
      if (sent.error().code != Errc::unavailable) return fail(sent.error());
      last = {Errc::process_died, "decoding processes end without work (" + end + ")"};
      continue;
    }
    auto media = wait_for_answer(request, Clock::now() + deadline + kGrace);
    if (media || media.error().code != Errc::process_died) return media;
    last = media.error();
  }
  return fail(last);
}

// process_died: it was killed from outside; another try may help.
Result<SampleMedia> PoolChild::wait_for_answer(const pb::DecodeRequest& request, TimePoint until) {
  std::string file = first_file(request);
  const auto nonsense = [&] {
    stop();
    return fail(Errc::data_error, file + ": decode: the decoding process answered nonsense");
  };
  while (true) {
    auto packet = receive_packet(socket_.get(), until);
    if (!packet && packet.error().code == Errc::timeout) {
      stop();
      return fail(Errc::timeout, file +
                                     ": decode: the deadline for this sample passed; the "
                                     "decoder hung and its process was killed");
    }
    if (!packet) return nonsense();
    if (!*packet) return died(file);
    pb::DecodeReply reply;
    if (!reply.ParseFromString((*packet)->bytes)) return nonsense();
    switch (reply.body_case()) {
      case pb::DecodeReply::kReading:
        file = reply.reading();
        break;
      case pb::DecodeReply::kFailure:
        return fail(errc_from_number(reply.failure().code()), reply.failure().text());
      case pb::DecodeReply::kMedia: {
        auto media = take(reply.media(), (*packet)->descriptor);
        if (!media && media.error().code == Errc::corrupt) return nonsense();
        return media;
      }
      default:
        return nonsense();
    }
  }
}

Result<SampleMedia> PoolChild::died(const std::string& file) {
  const int status = stop();
  const std::string end = describe_end(status);
  spdlog::warn("a decoding process ended while it read {} ({})", file, end);
  // No decoder sends this signal: an operator or the kernel, short of memory, did.
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
    return fail(Errc::process_died, file + ": decode: its process was killed from outside " +
                                        std::to_string(kTries) +
                                        " times; is the machine out of memory?");
  return fail(Errc::data_error, file + ": decode: the decoder crashed (" + end + ")");
}

}  // namespace crabcast::data

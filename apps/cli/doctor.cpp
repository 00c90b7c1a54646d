// doctor: is this machine fit to run Crabcast, and if not, what to do.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "actors/control/state_folder.h"
#include "apps/cli/client.h"
#include "apps/cli/output.h"
#include "apps/cli/programs.h"
#include "apps/cli/verbs.h"
#include "cluster/child_process.h"
#include "cluster/keys.h"
#include "protocol/clock.h"
#include "protocol/format.h"
#include "storage/registry.h"

namespace crabcast::apps {
namespace {

namespace fs = std::filesystem;

using actors::StateFolder;

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kRoomNeeded = 256 * kMiB;  // a small job's checkpoints and ledger
constexpr std::uint64_t kRoomAdvised = 4 * kGiB;   // and its corpus
constexpr std::uint64_t kMemoryNeeded = 1 * kGiB;
constexpr std::uint64_t kMemoryAdvised = 4 * kGiB;
constexpr rlim_t kFilesNeeded = 256;
constexpr rlim_t kFilesAdvised = 1024;
constexpr std::uint16_t kControllerPort = 7117;  // where `crabcast controller` listens
constexpr auto kComputeTimeout = std::chrono::seconds(60);

enum class Verdict { ok, warn, fail };

struct Check {
  std::string name;
  Verdict verdict = Verdict::ok;
  std::string finding;
  std::string advice;  // empty when all is well
};

std::string text_of(Verdict verdict) {
  return verdict == Verdict::ok ? "ok" : verdict == Verdict::warn ? "warn" : "FAIL";
}

std::string file_text(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The folder itself, or the nearest one above it that is there.
fs::path existing_part(fs::path folder) {
  std::error_code ignored;
  folder = fs::absolute(folder, ignored);
  while (!fs::exists(folder, ignored) && folder.has_parent_path() && folder != folder.parent_path())
    folder = folder.parent_path();
  return folder;
}

Check state_folder(const StateFolder& state) {
  const fs::path there = existing_part(state.root);
  std::error_code ignored;
  if (!fs::is_directory(there, ignored))
    return {"state folder", Verdict::fail, there.string() + " is not a folder",
            "choose another one with --state or CRABCAST_STATE"};
  // A write says more than permission bits: it finds read-only and full disks too.
  std::string probe = (there / ".crabcast-doctor-XXXXXX").string();
  const int fd = ::mkstemp(probe.data());
  if (fd < 0) {
    const auto error = error_from_errno(errno, "cannot write in " + there.string());
    return {"state folder", Verdict::fail, error.message,
            "make it writable for this user, or choose another one with --state"};
  }
  ::close(fd);
  ::unlink(probe.c_str());
  if (there != fs::absolute(state.root, ignored))
    return {"state folder", Verdict::ok, state.root.string() + " is not there yet; it can be made",
            ""};
  return {"state folder", Verdict::ok, state.root.string() + " is writable", ""};
}

Check free_space(const StateFolder& state) {
  const fs::path there = existing_part(state.root);
  struct statvfs disk {};
  if (::statvfs(there.c_str(), &disk) != 0)
    return {"free space", Verdict::fail, error_from_errno(errno, there.string()).message,
            "choose another state folder with --state"};
  const std::uint64_t free = static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize;
  const std::string finding = format_bytes(free) + " free for " + state.root.string();
  if (free < kRoomNeeded)
    return {"free space", Verdict::fail, finding,
            "checkpoints would not fit; free some room, or choose another disk with --state"};
  if (free < kRoomAdvised)
    return {"free space", Verdict::warn, finding,
            "enough for a small job; corpora and checkpoints of a larger one need more"};
  return {"free space", Verdict::ok, finding, ""};
}

Check keys(const StateFolder& state) {
  auto ring = cluster::load_keyring(state.keys());
  if (ring)
    return {"keys", Verdict::ok,
            state.keys().string() + ": " + std::to_string(ring->authorized.size()) +
                " client keys are let in",
            ""};
  if (ring.error().code == Errc::not_found && !fs::exists(state.keys()))
    return {"keys", Verdict::ok, "none yet; the first run or controller makes them", ""};
  return {"keys", Verdict::fail, ring.error().message,
          "see \"Keys\" in docs/operations.md; a folder with fresh keys is made when " +
              state.keys().string() + " is moved away"};
}

Check registry(const StateFolder& state) {
  std::error_code ignored;
  if (!fs::exists(state.registry() / "CURRENT", ignored))
    return {"registry", Verdict::ok, "none yet; the first run or controller makes it", ""};
  auto opened = storage::Registry::open_read_only(state.registry());
  if (!opened)
    return {"registry", Verdict::fail, opened.error().message,
            "see \"Recovery\" in docs/operations.md"};
  auto jobs = (*opened)->jobs();
  if (!jobs)
    return {"registry", Verdict::fail, jobs.error().message,
            "see \"Recovery\" in docs/operations.md"};
  return {"registry", Verdict::ok, std::to_string(jobs->size()) + " jobs are recorded", ""};
}

// A clock that stands before this program was built is wrong.
Check clock_check() {
  const auto now = std::chrono::system_clock::now();
  const std::string finding = time_text(unix_ms_now());
  auto program = own_program();
  std::error_code error;
  const auto built = program ? fs::last_write_time(*program, error) : fs::file_time_type();
  if (!program || error) return {"clock", Verdict::ok, finding, ""};
  const auto built_at = std::chrono::file_clock::to_sys(built);
  if (now + std::chrono::minutes(1) < built_at)
    return {"clock", Verdict::fail, finding + " is before this program was installed",
            "set the clock, for example with systemd-timesyncd or chrony; event times and ages "
            "would be wrong"};
  return {"clock", Verdict::ok, finding, ""};
}

// A socket that listens on loopback; port 0 is any. The error is errno.
std::optional<int> listen_on_loopback(std::uint16_t port, int& error) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  if (fd >= 0 && ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      ::listen(fd, 1) == 0)
    return fd;
  error = errno;
  if (fd >= 0) ::close(fd);
  return std::nullopt;
}

Check ports(bool controller_recorded) {
  int error = 0;
  const auto listening = listen_on_loopback(0, error);
  if (!listening)
    return {"ports", Verdict::fail, error_from_errno(error, "cannot listen on 127.0.0.1").message,
            "processes of a job talk over loopback; bring the interface up (ip link set lo up)"};
  sockaddr_in address{};
  socklen_t size = sizeof address;
  const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool reached =
      client >= 0 && ::getsockname(*listening, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
      ::connect(client, reinterpret_cast<const sockaddr*>(&address), size) == 0;
  error = errno;
  ::close(*listening);
  if (client >= 0) ::close(client);
  if (!reached)
    return {"ports", Verdict::fail, error_from_errno(error, "cannot reach 127.0.0.1").message,
            "a firewall may be in the way: let loopback traffic through"};
  const std::string port = std::to_string(kControllerPort);
  const auto controller_port = listen_on_loopback(kControllerPort, error);
  if (controller_port) {
    ::close(*controller_port);
    return {"ports", Verdict::ok, "loopback works; port " + port + " is free for a controller", ""};
  }
  if (controller_recorded)
    return {"ports", Verdict::ok, "loopback works; port " + port + " is in use", ""};
  return {"ports", Verdict::warn, "loopback works, but another program has port " + port,
          "give crabcast controller another one with --bind HOST:PORT; crabcast run needs none"};
}

Check open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return {"open files", Verdict::warn, error_from_errno(errno, "getrlimit").message, ""};
  if (limit.rlim_cur == RLIM_INFINITY) return {"open files", Verdict::ok, "no limit", ""};
  const std::string finding = "limit " + std::to_string(limit.rlim_cur);
  if (limit.rlim_cur < kFilesNeeded)
    return {"open files", Verdict::fail, finding, "raise it: ulimit -n 4096"};
  if (limit.rlim_cur < kFilesAdvised)
    return {"open files", Verdict::warn, finding,
            "a controller of many nodes needs more: ulimit -n 4096"};
  return {"open files", Verdict::ok, finding, ""};
}

std::optional<std::uint64_t> available_memory() {
  std::istringstream lines(file_text("/proc/meminfo"));
  for (std::string line; std::getline(lines, line);) {
    std::uint64_t kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %lu kB", &kib) == 1) return kib << 10;
  }
  return std::nullopt;
}

Check memory() {
  const auto total = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                     static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE));
  const auto available = available_memory().value_or(total);
  const std::string finding = format_bytes(available) + " of " + format_bytes(total) + " available";
  if (available < kMemoryNeeded)
    return {"memory", Verdict::fail, finding,
            "a worker of the smallest base needs about 1 GiB; end other programs"};
  if (available < kMemoryAdvised)
    return {"memory", Verdict::warn, finding, "lower resources.*.memory and the number of workers"};
  return {"memory", Verdict::ok, finding, ""};
}

Check cores() {
  const unsigned count = std::max(1U, std::thread::hardware_concurrency());
  if (count < 2)
    return {"cores", Verdict::warn, "1 core",
            "loader, workers and evaluator share it; expect slow steps"};
  return {"cores", Verdict::ok, std::to_string(count) + " cores", ""};
}

struct ChildOutcome {
  cluster::ChildExit exit;
  std::string output;
  double seconds = 0;
};

// Runs the program to its end; timeout.
Result<ChildOutcome> run_child(const fs::path& program, const std::vector<std::string>& arguments,
                               Duration timeout) {
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<cluster::ChildExit> exit;
  std::string log = (fs::temp_directory_path() / "crabcast-doctor-XXXXXX").string();
  const int fd = ::mkstemp(log.data());
  if (fd < 0) return fail(error_from_errno(errno, log));
  ::close(fd);
  const auto started = Clock::now();
  ChildOutcome outcome;
  Status result;
  {
    auto children = cluster::ChildProcesses::create([&](cluster::ChildExit ended) {
      const std::scoped_lock lock(mutex);
      exit = ended;
      changed.notify_all();
    });
    if (children) {
      cluster::ChildOptions options;
      options.program = program;
      options.arguments = arguments;
      options.log_file = log;
      if (auto pid = (*children)->start(options); !pid) result = fail(pid.error());
      std::unique_lock lock(mutex);
      if (result && !changed.wait_for(lock, timeout, [&] { return exit.has_value(); }))
        result = fail(Errc::timeout, "it did not end within " + format_duration(seconds(timeout)));
    } else {
      result = fail(children.error());
    }
  }  // ends what still runs
  outcome.seconds = seconds(Clock::now() - started);
  outcome.output = file_text(log);
  ::unlink(log.c_str());
  if (!result) return fail(result.error());
  outcome.exit = *exit;
  return outcome;
}

Check compute() {
  const std::string advice =
      "build it with ./dev build, or install both programs of one version "
      "into one folder";
  auto program = compute_program();
  if (!program) return {"crabcast-compute", Verdict::fail, program.error().message, advice};
  auto outcome = run_child(*program, {"version"}, kComputeTimeout);
  if (!outcome)
    return {"crabcast-compute", Verdict::fail,
            program->string() + " does not run: " + outcome.error().message, advice};
  const std::string said = excerpt(outcome->output.substr(0, outcome->output.find('\n')), 200);
  if (outcome->exit.exit_code != 0)
    return {"crabcast-compute", Verdict::fail, program->string() + " does not start: " + said,
            "a library is missing (run ldd on it); " + advice};
  if (said.find(std::string(" ") + CRABCAST_VERSION) == std::string::npos)
    return {"crabcast-compute", Verdict::fail,
            "it says \"" + said + "\", and this is " + CRABCAST_VERSION, advice};
  return {"crabcast-compute", Verdict::ok,
          said + ", starts in " + format_duration(outcome->seconds), ""};
}

Check gpus() {
  std::error_code error;
  std::size_t count = 0;
  for (fs::directory_iterator it("/proc/driver/nvidia/gpus", error), end; !error && it != end;
       it.increment(error))
    ++count;
  if (count == 0) {
    const bool device = fs::exists("/dev/nvidiactl", error);
    return {"gpus", device ? Verdict::warn : Verdict::ok,
            device ? "a device file is there, but the NVIDIA driver shows no GPU"
                   : "none; training runs on CPUs",
            device ? "load the driver: nvidia-smi says what is wrong" : ""};
  }
  const std::string version = file_text("/proc/driver/nvidia/version");
  const std::string driver = excerpt(version.substr(0, version.find('\n')), 120);
  if (!fs::exists("/dev/nvidia0", error))
    return {"gpus", Verdict::warn, std::to_string(count) + " visible, but no /dev/nvidia0",
            "give this user or container access to the devices"};
  return {"gpus", Verdict::ok, std::to_string(count) + " visible; " + driver, ""};
}

Check controller_check(const Common& common, bool recorded) {
  if (!recorded && common.controller.empty())
    return {"controller", Verdict::ok, "none runs with this state folder", ""};
  auto client = ControllerClient::connect(common);
  if (!client && client.error().code == Errc::not_found && common.controller.empty())
    return {"controller", Verdict::warn, client.error().message, ""};
  Result<pb::Envelope> nodes =
      client ? (*client)->ask(pb::ListNodes()) : Result<pb::Envelope>(fail(client.error()));
  if (!nodes)
    return {"controller", Verdict::fail, nodes.error().message,
            nodes.error().code == Errc::unauthenticated
                ? "see \"Keys\" in docs/operations.md"
                : "see that it runs and that no firewall is in the way"};
  return {"controller", Verdict::ok,
          "answers; " + std::to_string(nodes->node_list().nodes_size()) + " nodes have joined", ""};
}

}  // namespace

Exit doctor(const Common& common) {
  const StateFolder state{common.state};
  std::error_code ignored;
  const bool recorded = fs::exists(state.controller_endpoint(), ignored);
  const Check checks[] = {state_folder(state),
                          free_space(state),
                          keys(state),
                          registry(state),
                          clock_check(),
                          ports(recorded),
                          open_files(),
                          memory(),
                          cores(),
                          compute(),
                          gpus(),
                          controller_check(common, recorded)};
  bool ok = true;
  nlohmann::json list = nlohmann::json::array();
  std::string text;
  for (const Check& check : checks) {
    ok = ok && check.verdict != Verdict::fail;
    std::string verdict = text_of(check.verdict);
    list.push_back({{"name", check.name},
                    {"verdict", check.verdict == Verdict::fail ? "fail" : verdict},
                    {"finding", check.finding},
                    {"advice", check.advice}});
    verdict.resize(6, ' ');
    text += verdict + check.name + ": " + check.finding +
            (check.advice.empty() ? "" : "; " + check.advice) + "\n";
  }
  if (common.json)
    print_json({{"ok", ok}, {"checks", list}});
  else
    print_text(text);
  return ok ? Exit::ok : Exit::failed;
}

}  // namespace crabcast::apps

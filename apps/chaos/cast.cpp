#include "apps/chaos/cast.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "actors/control/state_folder.h"
#include "protocol/format.h"

namespace crabcast::chaos {
namespace {

namespace fs = std::filesystem;
using actors::StateFolder;

constexpr auto kUp = std::chrono::seconds(20);                // for the controller to be there
constexpr auto kStartAgain = std::chrono::milliseconds(500);  // as a service manager would
constexpr auto kLookEvery = std::chrono::milliseconds(20);
constexpr auto kGrace = std::chrono::seconds(5);
constexpr auto kGone = std::chrono::seconds(10);
constexpr double kGrownUp = 1;       // seconds
constexpr double kSlowPeriod = 0.2;  // seconds, of which it runs one fifth

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Every process that has `text` in its command line, and the line.
std::vector<std::pair<pid_t, std::string>> processes_with(const std::string& text) {
  std::vector<std::pair<pid_t, std::string>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const auto pid = parse_whole(entry.path().filename().string());
    if (!pid) continue;
    auto line = read_text(entry.path() / "cmdline");
    std::replace(line.begin(), line.end(), '\0', ' ');
    if (line.find(text) != std::string::npos)
      found.emplace_back(static_cast<pid_t>(*pid), std::move(line));
  }
  return found;
}

// Seconds since it was started; 0 when it is gone. proc(5): starttime is field 22, in clock ticks
// since boot, and the name before it may hold blanks.
double age_of(pid_t pid) {
  const auto stat = read_text("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream rest(stat.substr(std::min(stat.rfind(')'), stat.size())));
  std::string field;
  for (int i = 2; i < 22 && rest >> field; ++i) {
  }
  double ticks = 0, uptime = 0;
  std::istringstream boot(read_text("/proc/uptime"));
  if (!(rest >> ticks) || !(boot >> uptime)) return 0;
  return uptime - ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

Status send_signal(pid_t pid, int signal) {
  if (::kill(pid, signal) == 0) return {};
  return fail(error_from_errno(errno, "signal to process " + std::to_string(pid)));
}

// No more memory than it has: the next allocation that needs some fails.
Status limit_memory(pid_t pid) {
  std::istringstream statm(read_text("/proc/" + std::to_string(pid) + "/statm"));
  std::uint64_t pages = 0;
  statm >> pages;
  const rlim_t bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE));
  const rlimit limit{bytes, bytes};
  if (pages > 0 && ::prlimit(pid, RLIMIT_AS, &limit, nullptr) == 0) return {};
  return fail(error_from_errno(errno, "memory of process " + std::to_string(pid)));
}

}  // namespace

Result<std::unique_ptr<Cast>> Cast::start(const CastOptions& options) {
  std::unique_ptr<Cast> cast(new Cast(options));
  CRABCAST_TRY(cast->start_all());
  return cast;
}

Cast::~Cast() = default;

void Cast::rest(Duration most) {
  std::unique_lock lock(ends_mutex_);
  ended_.wait_for(lock, most);
}

bool Cast::wait_until(const std::function<bool()>& done, Duration patience) {
  const auto until = Clock::now() + patience;
  while (!done()) {
    if (Clock::now() > until) return false;
    rest(kLookEvery);
  }
  return true;
}

std::vector<std::string> Cast::nodes() const {
  std::vector<std::string> names;
  for (std::uint32_t i = 1; i <= options_.nodes; ++i) names.push_back("node-" + std::to_string(i));
  return names;
}

Status Cast::start_all() {
  auto children = cluster::ChildProcesses::create([this](cluster::ChildExit exit) {
    {
      const std::scoped_lock lock(ends_mutex_);
      ends_.push_back(exit.pid);
    }
    ended_.notify_all();
  });
  if (!children) return fail(children.error());
  children_ = std::move(*children);
  std::error_code error;
  fs::create_directories(options_.folder / "faults", error);
  if (error) return fail(error_from_errno(error.value(), options_.folder.string()));
  std::vector<std::string> environment = {
      "CRABCAST_FAULTS=" + options_.orders,
      "CRABCAST_FAULTS_DIR=" + (options_.folder / "faults").string()};

  Daemon& controller = daemons_["controller"];
  controller.environment = environment;
  controller.log = options_.folder / "controller.log";
  controller.arguments = {"--state", controller_state(), "controller", "--bind", "127.0.0.1:*"};
  CRABCAST_TRY(start(controller));
  const StateFolder state{controller_state()};
  std::string endpoint;
  if (!wait_until(
          [&] {
            endpoint = read_text(state.controller_endpoint());
            return endpoint.ends_with('\n');
          },
          kUp))
    return fail(Errc::timeout, "the controller does not come up; see " + controller.log.string());
  endpoint.pop_back();
  const auto address = endpoint.substr(endpoint.find("//") + 2);
  controller.arguments.back() = address;  // the next one listens where this one did

  std::vector<Proxy::Node> places;
  for (const auto& node : nodes())
    places.push_back({node, "127.0.0." + std::to_string(places.size() + 2)});
  if (options_.proxied) {
    auto proxy = Proxy::start(places);
    if (!proxy) return fail(proxy.error());
    proxy_ = std::move(*proxy);
  }
  for (const auto& [node, place] : places) {
    Daemon& agent = daemons_["agent@" + node];
    agent.environment = environment;
    if (proxy_) agent.environment.push_back("CRABCAST_SOCKS_PROXY=" + proxy_->endpoint(node));
    agent.log = options_.folder / (node + ".log");
    // On several nodes no two workers fit beside the others.
    agent.arguments = {"--state",
                       node_state(node),
                       "agent",
                       "--join",
                       address,
                       "--node",
                       node,
                       "--bind",
                       place,
                       "--keys",
                       state.keys(),
                       "--cpus",
                       options_.nodes > 1 ? "2.3" : "16"};
    fs::create_directories(node_state(node), error);
    fs::create_directories(options_.corpora, error);
    fs::create_directory_symlink(options_.corpora, StateFolder{node_state(node)}.corpora(), error);
    if (error) return fail(error_from_errno(error.value(), node_state(node).string()));
    CRABCAST_TRY(start(agent));
  }
  return {};
}

Status Cast::start(Daemon& daemon) {
  cluster::ChildOptions child;
  child.program = options_.program;
  child.arguments = daemon.arguments;
  child.environment = daemon.environment;
  child.log_file = daemon.log;
  auto pid = children_->start(child);
  if (!pid) return fail(pid.error());
  daemon.pid = *pid;
  daemon.ended.reset();
  return {};
}

std::string Cast::home_of(const std::string& job) const {
  std::string home;
  fs::file_time_type newest{};
  for (const auto& node : nodes()) {
    const auto store = StateFolder::store(StateFolder{node_state(node)}.job(job));
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(store, missing)) {
      const auto written = entry.last_write_time(missing);
      if (missing || (!home.empty() && written <= newest)) continue;
      newest = written;
      home = node;
    }
  }
  return home;
}

std::optional<pid_t> Cast::pid_of(const std::string& target, const std::string& job) const {
  if (auto daemon = daemons_.find(target); daemon != daemons_.end())
    return daemon->second.ended ? std::nullopt : std::optional(daemon->second.pid);
  for (const auto& node : nodes()) {
    const auto launch = StateFolder::launch(StateFolder{node_state(node)}.job(job), target);
    if (const auto found = processes_with(launch.string()); !found.empty())
      return found.front().first;
  }
  return std::nullopt;
}

void Cast::later(double seconds, std::function<void()> what) {
  due_.emplace_back(
      Clock::now() + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)),
      std::move(what));
}

Status Cast::strike(const Fault& fault, const std::string& job) {
  if (fault.of_the_network()) return strike_node(fault);
  if (fault.kind == Fault::Kind::corrupt) return corrupt(job);
  if (fault.kind == Fault::Kind::remove) return remove_node(fault.target);
  const auto pid = pid_of(fault.target, job);
  if (pid && killed_.contains(*pid))
    return fail(Errc::unavailable, fault.target + " was killed and is not gone yet");
  // Two deaths within its start may be told as one; points strike there.
  if (pid && age_of(*pid) < kGrownUp)
    return fail(Errc::unavailable, fault.target + " has only just been started");
  if (!pid) return fail(Errc::unavailable, "no process of " + fault.target + " runs now");
  return strike_process(fault, *pid);
}

Status Cast::strike_process(const Fault& fault, pid_t pid) {
  switch (fault.kind) {
    case Fault::Kind::kill:
      killed_.insert(pid);
      return send_signal(pid, SIGKILL);
    case Fault::Kind::terminate:
      killed_.insert(pid);
      return send_signal(pid, SIGTERM);
    case Fault::Kind::memory:
      return limit_memory(pid);
    case Fault::Kind::stop:
      CRABCAST_TRY(send_signal(pid, SIGSTOP));
      // It may have been killed meanwhile.
      if (fault.seconds > 0) later(fault.seconds, [pid] { (void)send_signal(pid, SIGCONT); });
      return {};
    case Fault::Kind::slow:
      for (double at = 0; at < fault.seconds; at += kSlowPeriod) {
        later(at, [pid] { (void)send_signal(pid, SIGSTOP); });
        later(at + kSlowPeriod * 4 / 5, [pid] { (void)send_signal(pid, SIGCONT); });
      }
      return {};
    default:
      return fail(Errc::internal, "no fault of a process: " + to_string(fault));
  }
}

Status Cast::strike_node(const Fault& fault) {
  const auto& node = fault.target;
  const auto known = nodes();
  if (std::find(known.begin(), known.end(), node) == known.end())
    return fail(Errc::invalid_argument, "no node is named '" + node + "'");
  switch (fault.kind) {
    case Fault::Kind::partition:
      proxy_->partition(node, true);
      later(fault.seconds, [this, node] { proxy_->partition(node, false); });
      break;
    case Fault::Kind::delay:
      proxy_->delay(node, std::chrono::duration_cast<Duration>(
                              std::chrono::duration<double, std::milli>(fault.milliseconds)));
      later(fault.seconds, [this, node] { proxy_->delay(node, {}); });
      break;
    case Fault::Kind::sever:
      proxy_->sever(node);
      break;
    case Fault::Kind::repeat:
      proxy_->repeat_next(node);
      break;
    default:
      proxy_->garble_next(node);
  }
  return {};
}

// The chunk files are by far the largest; the newest of them is that of the newest checkpoint.
Status Cast::corrupt(const std::string& job) {
  const auto home = home_of(job);
  if (home.empty()) return fail(Errc::unavailable, "the job has no store yet");
  std::vector<fs::directory_entry> files;
  std::uintmax_t largest = 0;
  for (const auto& entry :
       fs::directory_iterator(StateFolder::store(StateFolder{node_state(home)}.job(job)))) {
    if (entry.path().extension() != ".sst") continue;
    files.push_back(entry);
    largest = std::max(largest, entry.file_size());
  }
  std::erase_if(files, [&](const auto& file) { return file.file_size() < largest / 2; });
  if (files.empty()) return fail(Errc::unavailable, "the job has no checkpoint yet");
  const auto newest = *std::max_element(
      files.begin(), files.end(),
      [](const auto& a, const auto& b) { return a.last_write_time() < b.last_write_time(); });
  std::fstream file(newest.path(), std::ios::binary | std::ios::in | std::ios::out);
  const auto middle = static_cast<std::streamoff>(newest.file_size() / 2);
  file.seekg(middle);
  const auto byte = file.get();
  file.seekp(middle);
  file.put(static_cast<char>(byte ^ 0x10));
  file.flush();
  if (!file) return fail(Errc::io_error, "cannot change " + newest.path().string());
  return {};
}

Status Cast::remove_node(const std::string& node) {
  auto found = daemons_.find("agent@" + node);
  if (found == daemons_.end())
    return fail(Errc::invalid_argument, "no node is named '" + node + "'");
  found->second.wanted = false;
  if (!found->second.ended) CRABCAST_TRY(send_signal(found->second.pid, SIGKILL));
  if (!wait_until([&] { return processes_with(node_state(node).string()).empty(); }, kGone))
    return fail(Errc::timeout, "processes of " + node + " outlive their agent");
  std::error_code error;
  fs::remove_all(node_state(node), error);
  if (error) return fail(error_from_errno(error.value(), node_state(node).string()));
  return {};
}

void Cast::tick() {
  const auto now = Clock::now();
  std::vector<pid_t> ends;
  {
    const std::scoped_lock lock(ends_mutex_);
    ends.swap(ends_);
  }
  for (auto& [name, daemon] : daemons_) {
    if (std::find(ends.begin(), ends.end(), daemon.pid) != ends.end()) daemon.ended = now;
    // One that cannot be started now is tried again with the next tick.
    if (daemon.wanted && daemon.ended && now - *daemon.ended >= kStartAgain) (void)start(daemon);
  }
  for (std::size_t i = 0; i < due_.size();) {
    if (due_[i].first > now) {
      ++i;
      continue;
    }
    const auto what = std::move(due_[i].second);
    due_.erase(due_.begin() + static_cast<std::ptrdiff_t>(i));
    what();
  }
}

void Cast::stop() {
  for (auto& [at, what] : std::exchange(due_, {})) what();
  for (auto& [name, daemon] : daemons_) {
    daemon.wanted = false;
    if (daemon.pid > 0 && !daemon.ended) children_->stop(daemon.pid, kGrace);
  }
  // What is left after that is left_over.
  (void)wait_until([&] { return left_over().empty(); }, kGone);
}

std::vector<std::string> Cast::left_over() const {
  std::vector<std::string> lines;
  for (const auto& [pid, line] : processes_with(options_.folder.string() + "/"))
    if (pid != ::getpid()) lines.push_back(std::to_string(pid) + ": " + line);
  return lines;
}

}  // namespace crabcast::chaos

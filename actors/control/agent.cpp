#include "actors/control/agent.h"

#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <caf/all.hpp>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "actors/control/gpu_slots.h"
#include "actors/launch.h"
#include "cluster/child_process.h"
#include "protocol/fault_points.h"
#include "protocol/format.h"

namespace crabcast::actors {

// A child process of the agent ended.
struct Exited {
  cluster::ChildExit exit;
};
using StartAgain = std::shared_ptr<const pb::StartRole>;

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::Exited)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::StartAgain)

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;

using tick_atom = caf::atom_constant<caf::atom("tick")>;

constexpr auto kReportEvery = std::chrono::seconds(1);
constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr auto kReconnectEvery = std::chrono::seconds(1);
constexpr auto kCoordinatorBackOff = std::chrono::milliseconds(500);
constexpr std::uint32_t kCoordinatorRestarts = 5;
constexpr std::size_t kExitsKept = 1024;
constexpr std::size_t kLogTail = 400;  // bytes of a log that go into an incident
constexpr std::uint32_t kLogPiece = 1U << 20;

struct Role {
  pb::RoleLaunch launch;
  pid_t pid = 0;
  std::vector<std::string> gpus;  // its own, by name
  bool stopping = false;
};

struct AgentState {
  static inline const char* name = "agent";
  explicit AgentState(caf::event_based_actor* s) : self(s) {}

  caf::event_based_actor* self;
  AgentOptions options;
  std::unique_ptr<cluster::ChildProcesses> children;
  GpuSlots gpus;
  std::map<std::pair<std::string, std::string>, Role> roles;   // (job, role)
  std::map<std::string, caf::actor> watchers;                  // by job: its coordinator
  std::map<std::string, std::vector<pb::RoleExited>> unheard;  // exits while nobody watched
  caf::actor controller;

  void deliver(const DeliveryPtr& message);
  void connected(const Connected& result);
  Result<pb::RoleStarted> start(pb::RoleLaunch launch);
  Status stop(const pb::StopRole& stop);
  void exited(const cluster::ChildExit& exit);
  bool restart_coordinator(Role& role, const pb::RoleExited& notice);
  void watch(const std::string& job, const caf::actor& who);
  void read_log(const Delivery& request) const;
  void register_here();
  void report();
  std::string log_tail(const pb::RoleLaunch& launch) const;
  static pb::RoleStarted describe(const Role& role);
};

pb::RoleStarted AgentState::describe(const Role& role) {
  pb::RoleStarted started;
  started.set_job(role.launch.job());
  started.set_role(role.launch.slot().role());
  started.set_kind(role.launch.slot().kind());
  started.set_pid(role.pid);
  *started.mutable_resources() = role.launch.slot().resources();
  return started;
}

void AgentState::deliver(const DeliveryPtr& message) {
  const auto& envelope = *message->envelope;
  switch (envelope.body_case()) {
    case pb::Envelope::kStartRole: {
      auto started = start(envelope.start_role().launch());
      if (started)
        answer(*message, *started);
      else
        answer(*message, started.error());
      break;
    }
    case pb::Envelope::kStopRole:
      if (auto stopped = stop(envelope.stop_role()); stopped)
        answer(*message, pb::Done{});
      else
        answer(*message, stopped.error());
      break;
    case pb::Envelope::kWatchRoles:
      watch(envelope.watch_roles().job(), message->sender);
      answer(*message, pb::Done{});
      break;
    case pb::Envelope::kGetLog:
      read_log(*message);
      break;
    case pb::Envelope::kDone:
      break;
    default:
      answer(*message, Error{Errc::unsupported, "an agent takes no such message"});
  }
}

Result<pb::RoleStarted> AgentState::start(pb::RoleLaunch launch) {
  const auto key = std::pair(launch.job(), launch.slot().role());
  if (roles.contains(key))
    return fail(Errc::already_exists, key.second + " of " + key.first + " runs here already");
  // What only this node knows.
  launch.set_job_dir(options.state.job(launch.job()));
  launch.set_keys_dir(options.keys);
  launch.set_corpora_dir(options.state.corpora());
  launch.set_index_dir(options.state.indexes());
  launch.set_bases_dir(options.state.bases());
  launch.set_cache_dir(options.state.cache());
  launch.set_bind_host(options.bind_host);
  CRABCAST_TRY(fault_point("role.start"));
  const auto launch_file = StateFolder::launch(launch.job_dir(), key.second);
  const auto log_file = StateFolder::log(launch.job_dir(), key.second);
  CRABCAST_TRY(write_launch(launch_file, launch));
  std::error_code error;
  fs::create_directories(log_file.parent_path(), error);
  if (error)
    return fail(error_from_errno(error.value(), "cannot make " + log_file.parent_path().string()));

  const bool control = launch.slot().kind() == pb::ROLE_COORDINATOR;
  cluster::ChildOptions child;
  child.program = control ? options.program : options.compute_program;
  child.arguments = {"role", launch_file};
  child.log_file = log_file;
  auto own_gpus = gpus.take(launch.slot().resources().gpus());
  if (!own_gpus) return fail(own_gpus.error().within(key.second));
  child.environment.push_back("CUDA_VISIBLE_DEVICES=" + visible_devices(*own_gpus));
  auto pid = children->start(child);
  if (!pid) {
    gpus.give_back(*own_gpus);
    return fail(pid.error());
  }
  Role& role = roles[key];
  role.launch = std::move(launch);
  role.pid = *pid;
  role.gpus = std::move(*own_gpus);
  spdlog::info("{} of {} starts as process {}", key.second, key.first, *pid);
  return describe(role);
}

Status AgentState::stop(const pb::StopRole& stop) {
  auto found = roles.find({stop.job(), stop.role()});
  if (found == roles.end())
    return fail(Errc::not_found, stop.role() + " of " + stop.job() + " does not run here");
  found->second.stopping = true;
  const auto grace =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(stop.grace_seconds()));
  if (grace <= Duration::zero()) {
    if (auto killed = children->signal(found->second.pid, SIGKILL); !killed)
      spdlog::warn("{}: {}", stop.role(), killed.error().message);
  } else {
    children->stop(found->second.pid, grace);
  }
  return {};
}

std::string AgentState::log_tail(const pb::RoleLaunch& launch) const {
  std::ifstream file(StateFolder::log(launch.job_dir(), launch.slot().role()), std::ios::binary);
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::size_t>(std::max<std::streamoff>(file.tellg(), 0));
  const auto from = size > kLogTail ? size - kLogTail : 0;
  std::string text(size - from, '\0');
  file.seekg(static_cast<std::streamoff>(from));
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (from > 0) text.erase(0, std::min(text.find('\n'), text.size() - 1) + 1);  // whole lines
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

void AgentState::exited(const cluster::ChildExit& exit) {
  auto found = std::find_if(roles.begin(), roles.end(),
                            [&](const auto& entry) { return entry.second.pid == exit.pid; });
  if (found == roles.end()) return;
  Role role = std::move(found->second);
  roles.erase(found);
  gpus.give_back(role.gpus);
  pb::RoleExited notice;
  notice.set_job(role.launch.job());
  notice.set_role(role.launch.slot().role());
  notice.set_pid(exit.pid);
  notice.set_exit_code(exit.exit_code);
  notice.set_signal(exit.signal);
  notice.set_unix_ms(unix_ms_now());
  // Whoever is killed from outside has said nothing about it.
  if (exit.exit_code != 0 && exit.signal != SIGKILL) notice.set_last_lines(log_tail(role.launch));
  spdlog::info("{} of {} (process {}) ended: exit code {}, signal {}", notice.role(), notice.job(),
               exit.pid, exit.exit_code, exit.signal);
  if (role.launch.slot().kind() == pb::ROLE_COORDINATOR) {
    watchers.erase(notice.job());
    if (restart_coordinator(role, notice)) return;
    if (controller) self->send(controller, outbound(notice));
    return;
  }
  if (auto watcher = watchers.find(notice.job()); watcher != watchers.end()) {
    self->send(watcher->second, outbound(notice));
  } else {
    auto& kept = unheard[notice.job()];
    if (kept.size() < kExitsKept) kept.push_back(std::move(notice));
  }
}

// A coordinator that died goes on from its ledger; its members hold their state meanwhile.
bool AgentState::restart_coordinator(Role& role, const pb::RoleExited& notice) {
  if (notice.exit_code() == 0 || role.stopping) return false;
  if (notice.exit_code() > 0) return false;  // it said itself why it cannot go on
  if (role.launch.restarts() >= kCoordinatorRestarts) return false;
  role.launch.set_restarts(role.launch.restarts() + 1);
  *role.launch.mutable_predecessor() = notice;
  spdlog::warn("the coordinator of {} died; restart {}", notice.job(), role.launch.restarts());
  pb::StartRole again;
  *again.mutable_launch() = role.launch;
  self->delayed_send(self, kCoordinatorBackOff,
                     std::make_shared<const pb::StartRole>(std::move(again)));
  return true;
}

void AgentState::watch(const std::string& job, const caf::actor& who) {
  watchers[job] = who;
  self->monitor(who);
  for (const auto& [key, role] : roles)
    if (key.first == job && role.launch.slot().kind() != pb::ROLE_COORDINATOR)
      self->send(who, outbound(describe(role)));
  if (auto missed = unheard.extract(job); !missed.empty())
    for (const auto& notice : missed.mapped()) self->send(who, outbound(notice));
}

void AgentState::read_log(const Delivery& request) const {
  const auto& body = request.envelope->get_log();
  const auto path = StateFolder::log(options.state.job(body.job()), body.role());
  // A role name is no path.
  if (body.role().find('/') != std::string::npos || body.job().find('/') != std::string::npos)
    return answer(request, Error{Errc::invalid_argument, "a job or role name has no '/'"});
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return answer(request, Error{Errc::not_found, "no log of " + body.role() + " of " + body.job() +
                                                      " on node " + options.node});
  file.seekg(static_cast<std::streamoff>(body.offset()));
  std::string text(std::min(body.limit() == 0 ? kLogPiece : body.limit(), kLogPiece), '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  pb::LogPiece piece;
  piece.set_next_offset(body.offset() + text.size());
  piece.set_end(file.eof());
  piece.set_text(std::move(text));
  answer(request, piece);
}

void AgentState::connected(const Connected& result) {
  if (!result.peer->has_value()) {
    spdlog::warn("controller at {}: {}", result.endpoint, result.peer->error().message);
    self->delayed_send(self, kReconnectEvery, Connected{result.endpoint, nullptr});
    return;
  }
  controller = options.switchboard->proxy((*result.peer)->process, "controller");
  self->monitor(controller);
  register_here();
}

void AgentState::register_here() {
  pb::RegisterAgent hello;
  hello.set_node(options.node);
  hello.set_endpoint(options.endpoint);
  *hello.mutable_total() = options.total;
  for (const auto& [key, role] : roles) *hello.add_running() = describe(role);
  self->send(controller, outbound(hello));
}

void AgentState::report() {
  if (!controller) return;
  pb::AgentReport report;
  report.set_node(options.node);
  for (const auto& [key, role] : roles) *report.add_running() = describe(role);
  self->send(controller, outbound(report));
}

caf::behavior agent(caf::stateful_actor<AgentState>* self, const AgentOptions& options) {
  auto& state = self->state;
  state.options = options;
  auto names = machine_gpus();
  if (names.size() > options.total.gpus()) names.resize(options.total.gpus());
  state.gpus = GpuSlots(std::move(names));
  auto me = caf::actor_cast<caf::actor>(self);
  // Weak: the exit handler runs on another thread and must not keep the actor alive.
  caf::actor_addr address = me.address();
  auto children = cluster::ChildProcesses::create([address](cluster::ChildExit exit) {
    if (auto agent = caf::actor_cast<caf::actor>(address)) caf::anon_send(agent, Exited{exit});
  });
  if (!children) {
    self->quit(to_caf(children.error()));
    return {};
  }
  state.children = std::move(*children);
  options.switchboard->publish("agent", me);
  self->set_down_handler([self, &state](const caf::down_msg& down) {
    if (state.controller && down.source == state.controller.address()) {
      state.controller = nullptr;
      self->delayed_send(self, kReconnectEvery,
                         Connected{state.options.controller_endpoint, nullptr});
    }
    std::erase_if(state.watchers,
                  [&](const auto& entry) { return entry.second.address() == down.source; });
  });
  options.switchboard->connect_async(options.controller_endpoint, kConnectTimeout, me);
  self->delayed_send(self, kReportEvery, tick_atom::value);
  return {
      [&state](const DeliveryPtr& message) { state.deliver(message); },
      [&state](const Exited& exited) { state.exited(exited.exit); },
      [&state, me_addr = address](const Connected& result) {
        if (result.peer) return state.connected(result);
        state.options.switchboard->connect_async(result.endpoint, kConnectTimeout,
                                                 caf::actor_cast<caf::actor>(me_addr));
      },
      [&state](const StartAgain& again) {
        if (auto started = state.start(again->launch()); !started)
          spdlog::error("coordinator not restarted: {}", started.error().message);
      },
      [self, &state](tick_atom) {
        self->delayed_send(self, kReportEvery, tick_atom::value);
        state.report();
      },
  };
}

}  // namespace

caf::actor spawn_agent(caf::actor_system& system, const AgentOptions& options) {
  return system.spawn(agent, options);
}

pb::Resources machine_resources() {
  pb::Resources total;
  total.set_cpus(std::max(1U, std::thread::hardware_concurrency()));
  total.set_gpus(static_cast<std::uint32_t>(machine_gpus().size()));
  total.set_memory_bytes(static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                         static_cast<std::uint64_t>(::sysconf(_SC_PAGE_SIZE)));
  return total;
}

}  // namespace crabcast::actors

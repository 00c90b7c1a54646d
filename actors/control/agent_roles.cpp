// The agent: processes of jobs, who may order them about, and their logs.
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <fstream>

#include "actors/control/agent_state.h"
#include "actors/launch.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;

constexpr auto kCoordinatorBackOff = std::chrono::milliseconds(500);
constexpr auto kRestoreTimeout =
    std::chrono::seconds(50);  // the disk may be busy with other copies
constexpr std::uint32_t kCoordinatorRestarts =
    5;  // of one that does not run for kCoordinatorSteady
constexpr auto kCoordinatorSteady = std::chrono::minutes(10);
constexpr std::size_t kExitsKept = 1024;
constexpr auto kControllerTimeout = std::chrono::seconds(10);
constexpr std::size_t kLogTail = 400;  // bytes of a log that go into an incident
constexpr std::uint32_t kLogPiece = 1U << 20;

bool is_coordinator(const pb::RoleLaunch& launch) {
  return launch.slot().kind() == pb::ROLE_COORDINATOR;
}

}  // namespace

pb::RoleStarted AgentState::describe(const Role& role) {
  pb::RoleStarted started;
  started.set_job(role.launch.job());
  started.set_role(role.launch.slot().role());
  started.set_kind(role.launch.slot().kind());
  started.set_pid(role.pid);
  started.set_fence(role.launch.fence());
  *started.mutable_resources() = role.launch.slot().resources();
  return started;
}

// ---- fences -------------------------------------------------------------------------------------

Status AgentState::check_fence(const std::string& job, std::uint64_t fence) {
  auto& known = fences[job];
  if (fence < known)
    return fail(Errc::stale_generation, "node " + options.node + " takes orders for " + job +
                                            " from a coordinator with fence " +
                                            std::to_string(known) + ", not with " +
                                            std::to_string(fence));
  if (fence == known) return {};
  known = fence;
  watchers.erase(job);
  unheard.erase(job);
  farewells.erase(job);
  for (auto& [key, role] : roles) {
    if (key.first != job || role.launch.fence() >= fence) continue;
    role.displaced = true;
    spdlog::warn("{} of {} ends: it has fence {}, and {} is at work", key.second, job,
                 role.launch.fence(), fence);
    if (auto killed = children->signal(role.pid, SIGKILL); !killed)
      spdlog::warn("{}: {}", key.second, killed.error().message);
  }
  return {};
}

bool AgentState::being_displaced(const std::string& job) const {
  return std::any_of(roles.begin(), roles.end(), [&](const auto& entry) {
    return entry.first.first == job && entry.second.displaced;
  });
}

void AgentState::fence_seen(const FenceSeen& seen) {
  if (!check_fence(seen.job, seen.fence)) return;
  // Its own store may be older now. With a coordinator here it is in use; the next copy asks again.
  if (!roles.contains({seen.job, "coordinator"}) && !waiting.contains(seen.job))
    self->send(stores, SetOlderAside{seen.job});
}

// ---- start --------------------------------------------------------------------------------------

void AgentState::order_start(const DeliveryPtr& message) {
  const auto& launch = message->envelope->start_role().launch();
  if (const Status mine = check_fence(launch.job(), launch.fence()); !mine)
    return answer(*message, mine.error());
  if (being_displaced(launch.job()))
    waiting[launch.job()].push_back(message);
  else
    start_when_restored(message);
}

void AgentState::start_when_restored(const DeliveryPtr& message) {
  const auto& launch = message->envelope->start_role().launch();
  if (!is_coordinator(launch)) return start_and_answer(*message);
  self->request(stores, kRestoreTimeout, RestoreStore{launch.job()})
      .then(
          [this, message](const StoreRestored& restored) {
            if (restored.checkpoint)
              spdlog::warn("the copy of the store of {} becomes its store; newest checkpoint {}",
                           message->envelope->start_role().launch().job(), *restored.checkpoint);
            start_and_answer(*message);
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

// A higher fence may have been seen while it waited.
void AgentState::start_and_answer(const Delivery& message) {
  const auto& launch = message.envelope->start_role().launch();
  Result<pb::RoleStarted> started = fail(Errc::internal, "");
  if (const Status mine = check_fence(launch.job(), launch.fence()); mine)
    started = start(launch);
  else
    started = fail(mine.error());
  if (started)
    answer(message, *started);
  else
    answer(message, started.error());
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

  const bool control = is_coordinator(launch);
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
  role.started = Clock::now();
  role.gpus = std::move(*own_gpus);
  spdlog::info("{} of {} starts as process {}", key.second, key.first, *pid);
  return describe(role);
}

void AgentState::start_again(const pb::RoleLaunch& launch) {
  if (!check_fence(launch.job(), launch.fence())) return;
  const auto started = start(launch);
  if (!started) spdlog::error("coordinator not restarted: {}", started.error().message);
}

// ---- end ----------------------------------------------------------------------------------------

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
  notice.set_fence(role.launch.fence());
  // Whoever is killed from outside has said nothing about it.
  if (exit.exit_code != 0 && exit.signal != SIGKILL) notice.set_last_lines(log_tail(role.launch));
  spdlog::info("{} of {} (process {}) ended: exit code {}, signal {}", notice.role(), notice.job(),
               exit.pid, exit.exit_code, exit.signal);
  if (is_coordinator(role.launch)) self->send(stores, LookAgain{notice.job()});
  if (role.displaced) {  // nobody asks for it any more
    if (being_displaced(notice.job())) return;
    if (const auto orders = waiting.extract(notice.job()); !orders.empty())
      for (const auto& message : orders.mapped()) start_when_restored(message);
    return;
  }
  if (is_coordinator(role.launch)) {
    watchers.erase(notice.job());
    if (restart_coordinator(role, notice)) return;
    if (farewells.size() < kExitsKept) farewells[notice.job()] = notice;
    tell_controller(notice);
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
  // One that ran for long had nothing wrong with it: a job of months may see many deaths.
  if (Clock::now() - role.started >= kCoordinatorSteady) role.launch.set_restarts(0);
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

// Until it says that it knows, again each time that it is back.
void AgentState::tell_controller(const pb::RoleExited& farewell) {
  if (!controller) return;
  self->request(controller, kControllerTimeout, outbound(farewell))
      .then(
          [this, job = farewell.job(), pid = farewell.pid()](const DeliveryPtr&) {
            const auto kept = farewells.find(job);
            if (kept != farewells.end() && kept->second.pid() == pid) farewells.erase(kept);
          },
          [](const caf::error&) {});  // it is told when it is back
}

void AgentState::watch(const std::string& job, const caf::actor& who) {
  watchers[job] = who;
  self->monitor(who);
  for (const auto& [key, role] : roles)
    if (key.first == job && role.launch.slot().kind() != pb::ROLE_COORDINATOR && !role.displaced)
      self->send(who, outbound(describe(role)));
  if (auto missed = unheard.extract(job); !missed.empty())
    for (const auto& notice : missed.mapped()) self->send(who, outbound(notice));
}

// ---- logs ---------------------------------------------------------------------------------------

std::string AgentState::log_tail(const pb::RoleLaunch& launch) {
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

}  // namespace crabcast::actors

#include "protocol/fault_points.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "protocol/format.h"

namespace crabcast {
namespace {

constexpr std::array kPoints = {
    FaultPoint{"ledger.commit.before", "coordinator: a step is decided and not yet on the disk"},
    FaultPoint{"ledger.commit.after", "coordinator: a step is on the disk and nobody knows it yet"},
    FaultPoint{"checkpoint.begin", "coordinator: a checkpoint's chunks begin to come"},
    FaultPoint{"checkpoint.chunk", "coordinator: a chunk is about to be written"},
    FaultPoint{"checkpoint.commit.before",
               "coordinator: all chunks are there, the manifest is not"},
    FaultPoint{"checkpoint.commit.after", "coordinator: the manifest is on the disk"},
    FaultPoint{"checkpoint.retain", "coordinator: old checkpoints are about to be deleted"},
    FaultPoint{"replica.begin", "coordinator: a copy of a checkpoint is about to be sent"},
    FaultPoint{"replica.seal", "agent: a copy is about to become visible"},
    FaultPoint{"registry.write.before", "controller: a record is not yet on the disk"},
    FaultPoint{"registry.write.after", "controller: a record is on the disk and not answered yet"},
    FaultPoint{"role.start", "agent: a process of a job is about to start"},
    FaultPoint{"member.register", "member: is about to register"},
    FaultPoint{"state.load", "worker: is about to get its state"},
    FaultPoint{"state.copy", "worker: a chunk of a peer's state came"},
    FaultPoint{"state.serve", "worker: a chunk is about to be sent to one that joins"},
    FaultPoint{"collective.form", "worker: the members of a generation meet"},
    FaultPoint{"collective.all_to_all", "worker: inside the exchange of gradient shards"},
    FaultPoint{"collective.all_gather", "worker: inside the gathering of the sums"},
    FaultPoint{"step.forward", "worker: before a lane's forward pass"},
    FaultPoint{"step.report", "worker: before StepReady"},
    FaultPoint{"step.apply", "worker: a commit came and is not yet applied"},
    FaultPoint{"checkpoint.save", "worker: its snapshot is about to be sent"},
    FaultPoint{"batch.make", "loader: a batch is about to be made"},
    FaultPoint{"evaluate.batch", "evaluator: a batch of samples is about to be answered"},
    FaultPoint{"disk.append", "the stores' disk: bytes are appended to a file"},
    FaultPoint{"disk.sync", "the stores' disk: a file is synced"},
    FaultPoint{"clock.wall", "any: wall time is read"},
};

constexpr std::array<std::pair<std::string_view, FaultOrder::Action>, 6> kActions = {{
    {"kill", FaultOrder::Action::kill},
    {"stop", FaultOrder::Action::stop},
    {"exit", FaultOrder::Action::exit},
    {"error", FaultOrder::Action::error},
    {"delay", FaultOrder::Action::delay},
    {"jump", FaultOrder::Action::jump},
}};

constexpr std::uint32_t kCodes = static_cast<std::uint32_t>(Errc::unsupported) + 1;

// One of this process's orders and how often its point was passed.
struct Armed {
  FaultOrder order;
  std::string claim;  // file; empty: none is made
  std::uint64_t passed = 0;
  bool done = false;
};

struct Orders {
  std::mutex mutex;
  std::multimap<std::string, Armed, std::less<>> by_point;
};
Orders& orders() {
  static Orders all;
  return all;
}
std::atomic<std::int64_t> jumped_ms{0};

Error wrong(std::string_view text, const std::string& why) {
  return {Errc::invalid_argument, "fault order '" + std::string(text) + "': " + why +
                                      "; expected ROLE@POINT#N=ACTION, such as "
                                      "worker-1@step.report#3=kill"};
}

bool read_number(std::string_view text, double& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

Status read_action(std::string_view text, FaultOrder& order) {
  const auto colon = text.find(':');
  const auto name = text.substr(0, colon);
  const auto argument =
      colon == std::string_view::npos ? std::string_view{} : text.substr(colon + 1);
  const auto* known = std::find_if(kActions.begin(), kActions.end(),
                                   [&](const auto& action) { return action.first == name; });
  if (known == kActions.end())
    return fail(Errc::invalid_argument, "no action is named '" + std::string(name) + "'");
  order.action = known->second;
  switch (order.action) {
    case FaultOrder::Action::error:
      for (std::uint32_t code = 1; code < kCodes; ++code) {
        if (to_string(static_cast<Errc>(code)) != argument) continue;
        order.code = static_cast<Errc>(code);
        return {};
      }
      return fail(Errc::invalid_argument, "no error is named '" + std::string(argument) + "'");
    case FaultOrder::Action::delay:
    case FaultOrder::Action::jump:
      if (!read_number(argument, order.amount) ||
          (order.action == FaultOrder::Action::delay && order.amount < 0))
        return fail(Errc::invalid_argument, "'" + std::string(argument) + "' is no number");
      return {};
    default:
      if (!argument.empty())
        return fail(Errc::invalid_argument, std::string(name) + " takes nothing behind it");
      return {};
  }
}

Result<FaultOrder> read_order(std::string_view text) {
  FaultOrder order;
  const auto at = text.find('@');
  const auto equals = text.find('=');
  if (at == std::string_view::npos || equals == std::string_view::npos || at == 0 || equals < at)
    return fail(wrong(text, "it has no '@' or no '='"));
  order.role = text.substr(0, at);
  auto point = text.substr(at + 1, equals - at - 1);
  if (const auto hash = point.find('#'); hash != std::string_view::npos) {
    auto count = point.substr(hash + 1);
    if (order.repeats = count.ends_with('+'); order.repeats) count.remove_suffix(1);
    const auto [end, error] =
        std::from_chars(count.data(), count.data() + count.size(), order.count);
    if (error != std::errc{} || end != count.data() + count.size() || order.count == 0)
      return fail(wrong(text, "'" + std::string(count) + "' is no count from 1 on"));
    point = point.substr(0, hash);
  }
  order.point = point;
  const auto points = fault_points();
  if (std::none_of(points.begin(), points.end(),
                   [&](const FaultPoint& known) { return known.name == point; }))
    return fail(wrong(text, "no point is named '" + order.point + "'"));
  if (const Status action = read_action(text.substr(equals + 1), order); !action)
    return fail(wrong(text, action.error().message));
  if (order.repeats && order.action != FaultOrder::Action::error &&
      order.action != FaultOrder::Action::delay)
    return fail(wrong(text, "only errors and delays repeat"));
  return order;
}

// True for the first process that gets here. Nobody may die twice of one order.
bool claim(const Armed& armed) {
  if (armed.claim.empty()) return true;
  const int fd = ::open(armed.claim.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0 && errno != EEXIST)
    spdlog::error("staged fault {} does not strike: {}", to_string(armed.order),
                  error_from_errno(errno, armed.claim).message);
  if (fd < 0) return false;
  ::close(fd);
  return true;
}

Status carry_out(const FaultOrder& order) {
  spdlog::warn("staged fault: {}", to_string(order));
  switch (order.action) {
    case FaultOrder::Action::kill:
      ::kill(::getpid(), SIGKILL);
      for (;;) ::pause();
    case FaultOrder::Action::stop:
      ::kill(::getpid(), SIGSTOP);
      return {};
    case FaultOrder::Action::exit:
      ::_exit(70);
    case FaultOrder::Action::error:
      return fail(order.code, "staged at " + order.point);
    case FaultOrder::Action::delay:
      std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(order.amount));
      return {};
    case FaultOrder::Action::jump:
      jumped_ms += static_cast<std::int64_t>(order.amount * 1000);
      return {};
  }
  return {};
}

}  // namespace

std::span<const FaultPoint> fault_points() {
  return kPoints;
}

std::string to_string(const FaultOrder& order) {
  const auto* action = std::find_if(kActions.begin(), kActions.end(), [&](const auto& known) {
    return known.second == order.action;
  });
  std::string text = order.role + "@" + order.point + "#" + std::to_string(order.count) +
                     (order.repeats ? "+" : "") + "=" + std::string(action->first);
  if (order.action == FaultOrder::Action::error) text += ":" + std::string(to_string(order.code));
  if (order.action == FaultOrder::Action::delay || order.action == FaultOrder::Action::jump)
    text += ":" + exact_number(order.amount);
  return text;
}

Result<std::vector<FaultOrder>> parse_fault_orders(std::string_view text) {
  std::vector<FaultOrder> all;
  while (!text.empty()) {
    const auto end = std::min(text.find(';'), text.size());
    if (end > 0) {
      auto order = read_order(text.substr(0, end));
      if (!order) return fail(order.error());
      all.push_back(std::move(*order));
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return all;
}

Status arm_faults(const std::string& role) {
  const char* text = std::getenv("CRABCAST_FAULTS");
  if (text == nullptr || *text == '\0') return {};
  auto all = parse_fault_orders(text);
  if (!all) return fail(all.error().within("$CRABCAST_FAULTS"));
  const char* folder = std::getenv("CRABCAST_FAULTS_DIR");
  auto& mine = orders();
  const std::scoped_lock lock(mine.mutex);
  mine.by_point.clear();
  for (std::size_t i = 0; i < all->size(); ++i) {
    auto& order = (*all)[i];
    if (order.role != role && order.role != "*") continue;
    Armed armed;
    if (folder != nullptr && !order.repeats)
      armed.claim = (std::filesystem::path(folder) / std::to_string(i)).string();
    armed.order = std::move(order);
    auto point = armed.order.point;
    mine.by_point.emplace(std::move(point), std::move(armed));
  }
  faults::armed = !mine.by_point.empty();
  return {};
}

namespace faults {

std::atomic<bool> armed{false};

Status strike(std::string_view point) {
  std::vector<FaultOrder> due;
  {
    auto& mine = orders();
    const std::scoped_lock lock(mine.mutex);
    const auto [begin, end] = mine.by_point.equal_range(point);
    for (auto it = begin; it != end; ++it) {
      auto& one = it->second;
      ++one.passed;
      if (one.done || one.passed < one.order.count) continue;
      if (!one.order.repeats) one.done = true;
      if (claim(one)) due.push_back(one.order);
    }
  }
  Status status;
  for (const auto& order : due)
    if (Status staged = carry_out(order); !staged) status = std::move(staged);
  return status;
}

std::int64_t wall_offset_ms() {
  return jumped_ms.load(std::memory_order_relaxed);
}

}  // namespace faults
}  // namespace crabcast

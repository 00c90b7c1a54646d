#include "apps/chaos/run.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

#include "actors/control/state_folder.h"
#include "apps/chaos/cast.h"
#include "apps/cli/client.h"
#include "apps/cli/output.h"
#include "protocol/checksum.h"
#include "protocol/fault_points.h"

namespace crabcast::chaos {
namespace {

namespace fs = std::filesystem;
using actors::StateFolder;

constexpr auto kTick = std::chrono::milliseconds(10);
constexpr auto kLookEvery = std::chrono::milliseconds(50);
constexpr auto kAnswer = std::chrono::seconds(3);
constexpr auto kSubmit = std::chrono::seconds(30);
constexpr auto kEnded = std::chrono::seconds(10);  // for the last words after the end
constexpr std::uint32_t kEventsPage = 500;

// The controller, asked again by another connection when it was away.
class Controller {
 public:
  explicit Controller(const fs::path& state) { common_.state = state; }
  Result<pb::Envelope> ask(const google::protobuf::Message& body) {
    if (!client_) {
      auto connected = apps::ControllerClient::connect(common_);
      if (!connected) return fail(connected.error());
      client_ = std::move(*connected);
    }
    auto answer = client_->ask(body, kAnswer);
    if (!answer &&
        (answer.error().code == Errc::timeout || answer.error().code == Errc::unavailable))
      client_.reset();
    return answer;
  }

 private:
  apps::Common common_;
  std::unique_ptr<apps::ControllerClient> client_;
};

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool needs_proxy(const Scenario& scenario) {
  return std::any_of(scenario.faults.begin(), scenario.faults.end(),
                     [](const Fault& fault) { return fault.of_the_network(); });
}

std::string joined(const std::vector<std::string>& orders) {
  std::string text;
  for (const auto& order : orders) text += (text.empty() ? "" : ";") + order;
  return text;
}

// A job on a cast, watched to its end.
class Performance {
 public:
  Performance(Cast& cast, const Scenario& scenario, const RunOptions& options, RunResult& result)
      : cast_(cast),
        scenario_(scenario),
        options_(options),
        result_(result),
        controller_(cast.controller_state()) {}

  Status play();

 private:
  Status submit();
  void look();
  void strike_what_is_due();
  [[nodiscard]] bool due(const Moment& moment) const;
  [[nodiscard]] bool over() const {
    return status_.state() != pb::JOB_UNSPECIFIED && apps::job_is_over(status_.state());
  }
  void judge();
  std::vector<pb::Event> incidents_of_the_registry();
  void note_orders();

  Cast& cast_;
  const Scenario& scenario_;
  const RunOptions& options_;
  RunResult& result_;
  Controller controller_;
  std::string job_;
  pb::JobStatus status_;
  std::size_t next_ = 0;  // fault
  TimePoint struck_at_{};
  TimePoint looked_at_{};
};

Status Performance::submit() {
  pb::SubmitJob submit;
  submit.set_spec_yaml(text_of(scenario_.job));
  submit.set_client_key("chaos");
  const auto until = Clock::now() + kSubmit;
  while (true) {
    auto answer = controller_.ask(submit);
    if (answer) {
      job_ = answer->job_accepted().job();
      return {};
    }
    if (Clock::now() > until) return fail(answer.error().within("submit"));
    cast_.tick();
    cast_.rest(kLookEvery);
  }
}

void Performance::look() {
  if (Clock::now() - looked_at_ < kLookEvery) return;
  pb::GetJob get;
  get.set_job(job_);
  if (auto answer = controller_.ask(get)) status_ = answer->job_status();  // else it is away
  looked_at_ = Clock::now();
}

bool Performance::due(const Moment& moment) const {
  if (moment.step && status_.step() < *moment.step) return false;
  if (moment.checkpoint && status_.newest_checkpoint() < *moment.checkpoint) return false;
  const auto wait =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(moment.after));
  return Clock::now() - struck_at_ >= wait;
}

void Performance::strike_what_is_due() {
  while (next_ < scenario_.faults.size() && due(scenario_.faults[next_].moment)) {
    auto fault = scenario_.faults[next_];
    // The node of the coordinator, which placement chose.
    if (fault.target == "home") fault.target = cast_.home_of(job_);
    const Status struck = cast_.strike(fault, job_);
    if (!struck && struck.error().code == Errc::unavailable) return;  // it is being started
    if (!struck) result_.problems.push_back(to_string(fault) + ": " + struck.error().message);
    result_.played.faults.push_back(std::move(fault));
    struck_at_ = Clock::now();
    ++next_;
  }
}

Status Performance::play() {
  CRABCAST_TRY(submit());
  const auto started = Clock::now();
  struck_at_ = started;
  const auto limit =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(scenario_.limit_seconds));
  while (!over() && Clock::now() - started < limit) {
    cast_.tick();
    look();
    if (!over()) strike_what_is_due();
    if (options_.interrupted && options_.interrupted()) {
      cast_.stop();
      return fail(Errc::cancelled, "interrupted");
    }
    cast_.rest(kTick);
  }
  result_.seconds = seconds(Clock::now() - started);
  judge();
  return {};
}

void Performance::judge() {
  auto& problems = result_.problems;
  const auto state = apps::job_state_name(status_.state());
  if (!over())
    problems.push_back("the job did not end within its limit; it is " + state + " at step " +
                       std::to_string(status_.step()) + ": " + status_.reason());
  else if (state != scenario_.ends)
    problems.push_back("J-1: the job ended as " + state + ", expected " + scenario_.ends + ": " +
                       status_.reason());
  if (next_ < scenario_.faults.size())
    problems.push_back("the job was over before this could strike: " +
                       to_string(scenario_.faults[next_]));
  note_orders();
  // Until the job's processes have ended, and the controller has heard their last words.
  const auto until = Clock::now() + kEnded;
  while (Clock::now() < until && over()) {
    cast_.tick();
    cast_.rest(kLookEvery);
    if (cast_.left_over().size() <= 1 + scenario_.nodes) break;  // the daemons
  }
  auto of_the_registry = incidents_of_the_registry();
  const auto home = cast_.home_of(job_);
  cast_.stop();
  for (const auto& process : cast_.left_over())
    problems.push_back("a process is left behind: " + process);
  if (home.empty()) return problems.push_back("no node has a store of the job");
  auto outcome = read_outcome(StateFolder::store(StateFolder{cast_.node_state(home)}.job(job_)));
  if (!outcome) return problems.push_back("the store cannot be read: " + outcome.error().message);
  result_.outcome = std::move(*outcome);
  // A coordinator tells the controller of what it has in its own store.
  for (auto& event : of_the_registry) {
    const auto& own = result_.outcome.incidents;
    const bool known = std::any_of(own.begin(), own.end(), [&](const pb::Event& one) {
      return one.subject() == event.subject() && one.unix_ms() == event.unix_ms();
    });
    if (!known) result_.outcome.incidents.push_back(std::move(event));
  }
}

std::vector<pb::Event> Performance::incidents_of_the_registry() {
  std::vector<pb::Event> incidents;
  for (std::uint64_t after = 0;;) {
    pb::GetEvents get;
    get.set_job(job_);
    get.set_after_seq(after);
    get.set_limit(kEventsPage);
    auto answer = controller_.ask(get);
    if (!answer || answer->event_list().events().empty()) return incidents;
    for (const auto& event : answer->event_list().events()) {
      after = event.seq();
      if (event.has_incident()) incidents.push_back(event);
    }
  }
}

// Each order that was carried out has left its claim.
void Performance::note_orders() {
  const auto folder = cast_.controller_state().parent_path() / "faults";
  for (std::size_t i = 0; i < scenario_.orders.size(); ++i) {
    const auto& order = scenario_.orders[i];
    if (order.find('+') != std::string::npos || fs::exists(folder / std::to_string(i)))
      result_.played.orders.push_back(order);
    else if (i < scenario_.orders_of_the_file)
      result_.problems.push_back("the job was over before this could strike: " + order);
  }
}

Result<RunResult> perform(const RunOptions& options, const Scenario& scenario,
                          const std::string& name) {
  RunResult result;
  result.played = scenario;
  result.played.faults.clear();
  result.played.orders.clear();
  result.folder = options.work / name;
  std::error_code error;
  fs::remove_all(result.folder, error);
  CastOptions cast_options;
  cast_options.program = options.program;
  cast_options.folder = result.folder;
  cast_options.corpora = options.work / "corpora";
  cast_options.nodes = scenario.nodes;
  cast_options.orders = joined(scenario.orders);
  cast_options.proxied = needs_proxy(scenario);
  auto cast = Cast::start(cast_options);
  if (!cast) return fail(cast.error());
  CRABCAST_TRY(Performance(**cast, scenario, options, result).play());
  return result;
}

}  // namespace

std::vector<std::string> RunResult::struck() const {
  std::vector<std::string> all;
  for (const auto& fault : played.faults) all.push_back(to_string(fault));
  all.insert(all.end(), played.orders.begin(), played.orders.end());
  return all;
}

Result<Outcome> undisturbed(const RunOptions& options, const fs::path& job) {
  Scenario calm;
  calm.job = job;
  const auto text = text_of(job);
  const auto name = "undisturbed-" + std::to_string(checksum64(std::as_bytes(std::span(text))));
  // From an earlier call with this work folder.
  const auto old = StateFolder::store(
      StateFolder{options.work / name / "node-1"}.job(text_of(options.work / name / "job")));
  if (fs::exists(old))
    if (auto outcome = read_outcome(old)) return outcome;
  auto result = perform(options, calm, name);
  if (!result) return fail(result.error().within("undisturbed run"));
  if (!result->problems.empty())
    return fail(Errc::internal, "the undisturbed run: " + result->problems.front() + " (see " +
                                    result->folder.string() + ")");
  for (const auto& entry : fs::directory_iterator(result->folder / "node-1" / "jobs"))
    std::ofstream(result->folder / "job") << entry.path().filename().string();
  return result->outcome;
}

Result<RunResult> run_scenario(const RunOptions& options, const Scenario& scenario,
                               std::uint64_t seed, const Outcome& calm) {
  auto result = perform(options, scenario, scenario.name + "-" + std::to_string(seed));
  if (!result) return fail(result.error());
  auto found = scenario.same_result ? compare(calm, result->outcome) : result->outcome.problems;
  for (auto& problem :
       check_incidents(result->outcome.incidents, expected_incidents(result->played)))
    found.push_back(std::move(problem));
  result->problems.insert(result->problems.end(), std::make_move_iterator(found.begin()),
                          std::make_move_iterator(found.end()));
  return result;
}

}  // namespace crabcast::chaos

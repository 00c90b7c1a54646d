// chaos run, chaos points.
#include <algorithm>
#include <cstdlib>
#include <map>

#include "apps/chaos/run.h"
#include "apps/cli/output.h"
#include "apps/cli/programs.h"
#include "apps/cli/signals.h"
#include "apps/cli/verbs.h"
#include "protocol/fault_points.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A folder of its own unless one is given; deleted when all went well.
struct WorkFolder {
  fs::path path;
  bool own = false;
  bool keep = false;
  ~WorkFolder() {
    std::error_code ignored;
    if (own && !keep) fs::remove_all(path, ignored);
  }
};

Status make_folder(const ChaosOptions& options, WorkFolder& work) {
  work.keep = options.keep;
  if (!options.work.empty()) {
    std::error_code error;
    fs::create_directories(options.work, error);
    if (error) return fail(error_from_errno(error.value(), options.work.string()));
    work.path = fs::absolute(options.work);
    return {};
  }
  std::string name = (fs::temp_directory_path() / "crabcast-chaos-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    return fail(error_from_errno(errno, "a folder in " + fs::temp_directory_path().string()));
  work.path = name;
  work.own = true;
  return {};
}

json result_json(const chaos::Scenario& scenario, std::uint64_t seed,
                 const chaos::RunResult& result) {
  json incidents = json::array();
  for (const auto& event : result.outcome.incidents) incidents.push_back(to_json(event));
  return {{"scenario", scenario.name},
          {"seed", seed},
          {"holds", result.problems.empty()},
          {"faults", result.struck()},
          {"problems", result.problems},
          {"steps", result.outcome.steps.size()},
          {"checkpoints", result.outcome.checkpoints},
          {"incidents", incidents},
          {"seconds", result.seconds}};
}

std::string result_text(const chaos::Scenario& scenario, const std::string& file,
                        std::uint64_t seed, const chaos::RunResult& result) {
  std::string text = result.problems.empty() ? "holds   " : "BROKEN  ";
  text += scenario.name + ", seed " + std::to_string(seed) + ": " +
          std::to_string(result.struck().size()) + " faults, " +
          std::to_string(result.outcome.incidents.size()) + " incidents, " +
          std::to_string(result.outcome.steps.size()) + " steps in " +
          format_duration(result.seconds) + "\n";
  if (result.problems.empty()) return text;
  for (const auto& fault : result.struck()) text += "        struck: " + fault + "\n";
  for (const auto& problem : result.problems) text += "        " + problem + "\n";
  return text + "        kept: " + result.folder.string() + "\n        again: crabcast chaos run " +
         file + " --seed " + std::to_string(seed) + "\n";
}

struct Tally {
  std::size_t runs = 0, faults = 0, broken = 0;
};

class ChaosRuns {
 public:
  ChaosRuns(const Common& common, chaos::RunOptions options)
      : common_(common), options_(std::move(options)) {}

  // One scenario with one seed.
  Status run(const std::string& file, std::uint64_t seed, bool keep) {
    auto scenario = chaos::read_scenario(file, seed);
    if (!scenario) return fail(scenario.error());
    auto& calm = calm_[scenario->job.string()];
    if (!calm) {
      auto outcome = chaos::undisturbed(options_, scenario->job);
      if (!outcome) return fail(outcome.error());
      calm = std::move(*outcome);
    }
    auto result = chaos::run_scenario(options_, *scenario, seed, *calm);
    if (!result) return fail(result.error().within(scenario->name));
    ++tally.runs;
    tally.faults += result->struck().size();
    if (common_.json)
      print_json_line(result_json(*scenario, seed, *result));
    else
      print_text(result_text(*scenario, file, seed, *result));
    if (!result->problems.empty()) {
      ++tally.broken;
    } else if (!keep) {
      std::error_code ignored;
      fs::remove_all(result->folder, ignored);
    }
    return {};
  }

  Tally tally;

 private:
  const Common& common_;
  const chaos::RunOptions options_;
  std::map<std::string, std::optional<chaos::Outcome>> calm_;  // by job spec
};

}  // namespace

Exit chaos_run(const Common& common, const ChaosOptions& options) {
  const StopSignals signals;
  WorkFolder work;
  if (const Status made = make_folder(options, work); !made)
    return complain(made.error(), common.json);
  const auto program = own_program();
  if (!program) return complain(program.error(), common.json);
  for (const auto& file : options.scenarios)  // a mistake in the last one is told at once
    if (const auto scenario = chaos::read_scenario(file, options.seed); !scenario)
      return complain(scenario.error(), common.json);
  bool interrupted = false;
  const auto stop = [&] { return interrupted |= signals.wait(std::chrono::milliseconds(0)); };
  ChaosRuns runs(common, {*program, work.path, stop});
  const auto until = Clock::now() + std::chrono::duration_cast<Duration>(
                                        std::chrono::duration<double>(options.minutes * 60));
  auto seed = options.seed;
  do {
    for (const auto& file : options.scenarios) {
      if (stop()) break;
      if (options.minutes > 0 && Clock::now() > until) break;
      if (const Status ran = runs.run(file, seed, options.keep); !ran) {
        work.keep = true;
        return complain(ran.error(), common.json);
      }
    }
    ++seed;
  } while (!interrupted && Clock::now() < until);
  const auto& tally = runs.tally;
  work.keep |= tally.broken > 0;
  note(std::to_string(tally.runs) + " runs, " + std::to_string(tally.faults) + " faults, " +
           std::to_string(tally.broken) + " broken",
       common.quiet);
  return tally.broken > 0 || tally.runs == 0 ? Exit::failed : Exit::ok;
}

Exit chaos_points(const Common& common) {
  std::vector<std::vector<std::string>> rows;
  json points = json::array();
  for (const auto& point : fault_points()) {
    rows.push_back({std::string(point.name), std::string(point.where)});
    points.push_back({{"point", point.name}, {"where", point.where}});
  }
  if (common.json)
    print_json(json::object({{"points", points}}));
  else
    print_text(format_table({"POINT", "WHERE"}, rows));
  return Exit::ok;
}

}  // namespace crabcast::apps

// `./dev bench recovery`: one of two workers is killed with SIGKILL in a running job, several
// times. Seconds until the next step counts and until both train again, beside PyTorch's elastic
// agent (torchrun) and torchft (recovery_torch.py) with as many parameters and steps as long, in
// the same run. And what the commit protocol costs each step.
//
// Ours is `crabcast run` with its defaults: real processes, a synthetic corpus, times from the
// ledger against the clock at the kill. docs/benchmarks.md says what the figures mean.
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/figure.h"
#include "bench/measure.h"
#include "protocol/clock.h"
#include "storage/job_store.h"
#include "tests/support/program.h"

namespace {

namespace fs = std::filesystem;
using namespace crabcast::bench;
using namespace crabcast::testing;
using crabcast::Step;
using crabcast::pb::CommitRecord;
using crabcast::storage::JobStore;
using nlohmann::json;

constexpr int kKills = 5, kKillsOfPeers = 3;
constexpr int kStepsBetweenKills = 20;
constexpr const char* kJob = "recovery-1";

// 0.8 million parameters.
std::string spec(const fs::path& corpus) {
  return "crabcast: 1\n"
         "name: recovery\n"
         "model: {base: nano, adapter: {kind: ilora, rank: 16, alpha: 32, heads: 3}}\n"
         "data: {corpus: {avuie: " +
         corpus.string() +
         "}}\n"
         "train: {steps: 1000000, lanes: 2, samples_per_lane: 1}\n"
         "resources: {workers: {min: 1, max: 2}, worker: {cpus: 1, memory: 1GiB}, evaluators: 0}\n"
         "checkpoint: {every: 50 steps}\n";
}

double now() {  // seconds since 1970
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double time_of(const CommitRecord& commit) {
  return static_cast<double>(commit.unix_ms()) / 1e3;
}

std::vector<CommitRecord> ledger(const fs::path& state) {
  const auto store = must(JobStore::open_read_only(state / "jobs" / kJob / "store"));
  std::vector<CommitRecord> commits;
  must(store->for_each_commit(Step{0}, [&](const CommitRecord& commit) {
    commits.push_back(commit);
    return true;
  }));
  return commits;
}

// Waits until both workers have trained together for a while after `since`.
std::vector<CommitRecord> trained_together(const fs::path& state, double since,
                                           const Program& run) {
  std::vector<CommitRecord> commits;
  const auto enough = [&] {
    if (!fs::exists(state / "jobs" / kJob / "store" / "CURRENT")) return false;
    std::this_thread::sleep_for(200ms);  // reading takes time from the workers
    commits = ledger(state);
    return std::count_if(commits.begin(), commits.end(), [&](const CommitRecord& commit) {
             return time_of(commit) > since && commit.members() == 2;
           }) >= kStepsBetweenKills;
  };
  if (!eventually(enough, 180s))
    throw std::runtime_error("two workers did not train together: " + run.err());
  return commits;
}

pid_t pid_of(const fs::path& state, const std::string& role) {
  const auto answer =
      run_program("crabcast", {"--state", state.string(), "status", kJob, "--json"}, 20s);
  const auto status = json::parse(answer.out, nullptr, false);
  if (status.is_object())
    for (const auto& actor : status.value("actors", json::array()))
      if (actor.value("name", "") == role) return actor.value("pid", -1);
  throw std::runtime_error(role + " is not there: " + answer.out + answer.err);
}

struct Recovery {
  std::vector<double> next, full, redone;  // one for each kill
};

struct Ours {
  Recovery recovery;
  double step_seconds = 0, commit_seconds = 0;  // medians where nothing was wrong
};

struct Kill {
  double at;
  std::uint64_t step, generation;  // of the last commit before it
};

Recovery recovery_of(const std::vector<Kill>& kills, const std::vector<CommitRecord>& commits) {
  Recovery recovery;
  for (const Kill& kill : kills) {
    const auto next = std::find_if(commits.begin(), commits.end(), [&](const CommitRecord& commit) {
      return commit.generation() > kill.generation;
    });
    const auto full = std::find_if(
        next, commits.end(), [](const CommitRecord& commit) { return commit.members() == 2; });
    if (full == commits.end()) throw std::runtime_error("a worker did not come back");
    recovery.next.push_back(time_of(*next) - kill.at);
    recovery.full.push_back(time_of(*full) - kill.at);
    recovery.redone.push_back(
        next->step() > kill.step ? 0 : static_cast<double>(kill.step - next->step() + 1));
  }
  return recovery;
}

// Where the seconds went, as the job's incidents say.
void print_incidents(const fs::path& state) {
  const auto store = must(JobStore::open_read_only(state / "jobs" / kJob / "store"));
  for (const auto& event : must(store->events(0, 10'000))) {
    if (!event.has_incident()) continue;
    const auto& incident = event.incident();
    std::printf("%s: detect %.3f s, decide %.3f s, re-form %.3f s, load %.3f s, redo %.3f s\n",
                incident.culprit().c_str(), incident.detect_seconds(), incident.decide_seconds(),
                incident.reform_seconds(), incident.load_seconds(), incident.redo_seconds());
  }
}

Ours measure_ours(const fs::path& folder) {
  const fs::path state = folder / "state", corpus = folder / "corpus";
  const auto made = run_program(
      "crabcast",
      {"data", "synth", "--out", corpus.string(), "--seed", "5", "--samples-per-dataset", "4"},
      300s);
  if (made.code != 0) throw std::runtime_error("data synth: " + made.err);
  write_file(folder / "job.yaml", spec(corpus));
  Program run("crabcast", {"--state", state.string(), "run", (folder / "job.yaml").string()});
  std::vector<Kill> kills;
  std::vector<double> steps, commits_took;
  std::uint64_t seen = 2;  // the first steps warm up
  for (int i = 0; i <= kKills; ++i) {
    const auto commits = trained_together(state, kills.empty() ? 0 : kills.back().at, run);
    for (const auto& commit : commits) {
      if (commit.step() <= seen || commit.members() != 2) continue;
      steps.push_back(commit.seconds());
      commits_took.push_back(commit.stages().commit());
    }
    seen = commits.back().step();
    if (i == kKills) break;
    const pid_t victim = pid_of(state, i % 2 == 0 ? "worker-1" : "worker-0");
    const auto last = ledger(state).back();
    kills.push_back({now(), last.step(), last.generation()});
    if (::kill(victim, SIGKILL) != 0) throw std::runtime_error("there is no worker to kill");
  }
  run.signal(SIGINT);
  if (!run.wait(60s)) throw std::runtime_error("the job did not end");
  print_incidents(state);
  return {recovery_of(kills, ledger(state)), median(steps), median(commits_took)};
}

// ---- The peers ----------------------------------------------------------------------------------

std::map<std::string, Recovery> measure_peers(double step_seconds) {
  const std::string command = "CRABCAST_LIBTORCH=" CRABCAST_LIBTORCH
                              " python3 bench/recovery_torch.py "
                              "build/bench_recovery " +
                              std::to_string(step_seconds) + " " + std::to_string(kKillsOfPeers);
  std::FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot start " + command);
  std::string out;
  for (int ch = std::fgetc(pipe); ch != EOF; ch = std::fgetc(pipe)) out += static_cast<char>(ch);
  const int status = ::pclose(pipe);
  std::map<std::string, Recovery> peers;
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);) {
    const json peer = json::parse(line, nullptr, false);
    if (!peer.is_object()) {
      std::printf("not measured: %s\n", line.c_str());
      continue;
    }
    const std::string name = peer.at("peer");
    for (const json& problem : peer.at("problems"))
      std::printf("%s: %s\n", name.c_str(), problem.get<std::string>().c_str());
    if (!peer.at("next").empty())
      peers[name] = {peer.at("next"), peer.at("full"), peer.at("redone")};
  }
  if (peers.empty()) std::printf("no peer was measured (exit status %d)\n", status);
  return peers;
}

void compare(const std::string& peer, const Recovery& ours, const Recovery& theirs) {
  const auto print = [&](const std::string& figure, const std::vector<double>& mine,
                         const std::vector<double>& other) {
    const auto worst = [](const std::vector<double>& all) {
      return *std::max_element(all.begin(), all.end());
    };
    print_figure(figure + "_against_" + peer, median(mine), median(other), "s", Better::less);
    print_figure(figure + "_worst_against_" + peer, worst(mine), worst(other), "s", Better::less);
  };
  print("recovery_next_step", ours.next, theirs.next);
  print("recovery_full_strength", ours.full, theirs.full);
  std::printf("steps redone after each kill: ours %s, %s %s\n", json(ours.redone).dump().c_str(),
              peer.c_str(), json(theirs.redone).dump().c_str());
}

}  // namespace

int main() {
  try {
    const TemporaryFolder folder;
    const Ours ours = measure_ours(folder.path());
    std::printf("a step of two workers takes %.3f s\n", ours.step_seconds);
    // Against what it may cost: 2 % of a step of 250 ms.
    print_figure("commit_protocol", ours.commit_seconds * 1e3, 0.02 * 250, "ms", Better::less);
    for (const auto& [peer, theirs] : measure_peers(ours.step_seconds))
      compare(peer, ours.recovery, theirs);
    std::printf("ours, next step after each kill: %s s; full strength: %s s\n",
                json(ours.recovery.next).dump().c_str(), json(ours.recovery.full).dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench recovery: %s\n", error.what());
    return 1;
  }
  return 0;
}

#include "tests/process/small_job.h"

#include <gtest/gtest.h>

#include <sstream>

namespace crabcast::testing {

std::string SmallJob::yaml() const {
  std::ostringstream text;
  text << "crabcast: 1\n"
       << "name: " << name << "\n"
       << "priority: " << priority << "\n"
       << "model: {base: nano, adapter: " << adapter << "}\n"
       << "data: {corpus: {avuie: " << (corpus.empty() ? shared_corpus().string() : corpus)
       << "}, tasks: " << tasks << ", mixture: " << mixture << ", cache: " << cache << "}\n"
       << "train: {steps: " << steps << ", lanes: 4, samples_per_lane: " << samples_per_lane
       << (pack_tokens > 0 ? ", pack_tokens: " + std::to_string(pack_tokens) : "")
       << ", optimizer: {lr: 0.001}}\n"
       << "resources: {workers: {min: " << workers_min << ", max: " << workers_max
       << "}, worker: {cpus: " << worker_cpus << ", memory: 1GiB}}\n"
       << "checkpoint: {every: " << checkpoint_every
       << " steps}\n"
       // Only the final checkpoint is scored.
       << "evaluate: {every: " << 1000 * checkpoint_every << " steps, tasks: " << tasks
       << ", samples_per_task: 2}\n"
       << "failure: {restarts: 10, hang_after: 60s, bad_samples: " << bad_samples << "}\n";
  return text.str();
}

const std::filesystem::path& shared_corpus() {
  static const TemporaryFolder folder;
  static const std::filesystem::path corpus = [] {
    const auto path = folder / "corpus";
    const auto made = run_program(
        "crabcast",
        {"data", "synth", "--out", path.string(), "--seed", "5", "--samples-per-dataset", "4"},
        300s);
    if (made.code != 0) throw std::runtime_error("data synth: " + made.err);
    return path;
  }();
  return corpus;
}

nlohmann::json job_status(const std::filesystem::path& state, const std::string& job) {
  const auto answer =
      run_program("crabcast", {"--state", state.string(), "status", job, "--json"}, 20s);
  if (answer.code != 0) return nlohmann::json::object();
  auto parsed = nlohmann::json::parse(answer.out, nullptr, false);
  return parsed.is_object() ? parsed : nlohmann::json::object();
}

pid_t pid_of(const std::filesystem::path& state, const std::string& job, const std::string& role) {
  // The coordinator is not a member of its own job: it is found by its launch file.
  if (role == "coordinator") {
    const auto found = processes_with((state / "jobs" / job / "launch" / "coordinator").string());
    return found.empty() ? -1 : found.front();
  }
  for (const auto& actor : job_status(state, job).value("actors", nlohmann::json::array()))
    if (actor.value("name", "") == role) return actor.value("pid", -1);
  return -1;
}

}  // namespace crabcast::testing

// What the tests of the command line share: the real program over a state folder of its own, with
// registries and stores that were made with storage/.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "storage/job_store.h"
#include "storage/registry.h"
#include "tests/storage/fixtures.h"
#include "tests/support/program.h"

namespace crabcast::testing {

using nlohmann::json;
using storage::must;

// A spec with nothing but what is required.
inline std::string small_spec(const std::string& name) {
  return "crabcast: 1\nname: " + name +
         "\nmodel:\n  base: nano\ndata:\n  corpus:\n    synthetic: {seed: 7}\n"
         "train:\n  steps: 40\n";
}

class CliTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::filesystem::path state() const { return folder_ / "state"; }
  [[nodiscard]] std::filesystem::path job_dir(const std::string& job) const {
    return state() / "jobs" / job;
  }

  // Runs `crabcast ARGUMENTS` with this test's state folder.
  Finished run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"--state", state().string()});
    return run_program("crabcast", arguments);
  }
  // The same with --json, parsed; the test fails when it does not end with `code`.
  json run_json(std::vector<std::string> arguments, int code = 0) const {
    arguments.emplace_back("--json");
    const Finished done = run(arguments);
    EXPECT_EQ(done.code, code) << done.out << done.err;
    const json parsed = json::parse(done.out, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << done.out;
    return parsed;
  }

  [[nodiscard]] std::unique_ptr<storage::Registry> open_registry() const {
    return must(storage::Registry::open(state() / "controller" / "registry"));
  }
  [[nodiscard]] std::unique_ptr<storage::JobStore> open_store(const std::string& job) const {
    return must(storage::JobStore::open(job_dir(job) / "store"));
  }

  TemporaryFolder folder_;
};

inline pb::JobRecord job_record(const std::string& name, std::uint64_t seq, pb::JobState job_state,
                                const std::string& reason = "") {
  pb::JobRecord record;
  record.set_job(name + "-" + std::to_string(seq));
  record.set_name(name);
  record.set_spec_yaml(small_spec(name));
  record.set_state(job_state);
  record.set_reason(reason);
  record.set_submit_seq(seq);
  record.set_submitted_unix_ms(1'700'000'000'000 + static_cast<std::int64_t>(seq));
  return record;
}

inline pb::Event event_of(const std::string& job, const std::string& kind, std::int64_t unix_ms,
                          const std::string& message) {
  pb::Event event;
  event.set_job(job);
  event.set_subject(job);
  event.set_kind(kind);
  event.set_unix_ms(unix_ms);
  event.set_message(message);
  return event;
}

inline pb::Event incident_of(const std::string& job, std::int64_t unix_ms) {
  pb::Event event = event_of(job, "incident", unix_ms, "killed by SIGKILL; repaired after 3.1 s");
  event.set_subject("worker-1");
  event.set_severity(pb::SEVERITY_WARNING);
  event.set_step(7);
  auto& incident = *event.mutable_incident();
  incident.set_culprit("worker-1");
  incident.set_last_operation("step 7: backward");
  incident.set_evidence("killed by SIGKILL");
  incident.set_detect_seconds(0.25);
  incident.set_decide_seconds(0.5);
  incident.set_reform_seconds(1);
  incident.set_load_seconds(0.125);
  incident.set_redo_seconds(2);
  return event;
}

inline void add_loss(pb::CommitRecord& commit, const std::string& task, double loss_sum,
                     std::uint64_t tokens, std::uint32_t samples) {
  auto& loss = *commit.add_losses();
  loss.set_task(task);
  loss.set_loss_sum(loss_sum);
  loss.set_tokens(tokens);
  loss.set_samples(samples);
  for (std::uint32_t i = 0; i < samples; ++i) commit.add_samples()->set_index(i);
}

}  // namespace crabcast::testing

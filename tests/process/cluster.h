// A controller and agents as daemons, all on this machine.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/process/small_job.h"

namespace crabcast::testing {

class Cluster : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
  std::filesystem::path state_ = folder_ / "controller";
  std::vector<std::unique_ptr<Program>> daemons_;

  void start_controller() {
    daemons_.push_back(std::make_unique<Program>(
        "crabcast", std::vector<std::string>{"--state", state_.string(), "controller", "--bind",
                                             "127.0.0.1:*"}));
    ASSERT_TRUE(eventually(
        [&] { return std::filesystem::exists(state_ / "controller" / "endpoint"); }, 20s))
        << daemons_.back()->err();
  }
  std::string endpoint() {
    auto text = read_file(state_ / "controller" / "endpoint");
    return text.substr(0, text.find('\n'));
  }
  Program& start_agent(const std::string& node, const std::string& address) {
    daemons_.push_back(std::make_unique<Program>(
        "crabcast",
        std::vector<std::string>{"--state", (folder_ / node).string(), "agent", "--join",
                                 endpoint(), "--node", node, "--bind", address, "--cpus", "2.3",
                                 "--keys", (state_ / "keys").string()}));
    return *daemons_.back();
  }
  Finished ask(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--state", state_.string()});
    return run_program("crabcast", arguments, 30s);
  }
  std::string submit(const SmallJob& job) {
    const auto file = folder_ / (job.name + ".yaml");
    write_file(file, job.yaml());
    const auto done = ask({"submit", file.string(), "--json"});
    EXPECT_EQ(done.code, 0) << done.out << done.err;
    return nlohmann::json::parse(done.out)["job"];
  }
  std::string state_of(const std::string& job) {
    return job_status(state_, job).value("state", "");
  }
};

}  // namespace crabcast::testing

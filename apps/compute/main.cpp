// crabcast-compute: the member processes of jobs, and the offline verbs that need tensors or media.
// People call `crabcast`, which hands on to it.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <caf/all.hpp>
#include <cstdio>
#include <thread>

#include "actors/compute/roles.h"
#include "apps/cli/exit_codes.h"
#include "apps/cli/signals.h"
#include "apps/compute/adapter_verbs.h"
#include "apps/compute/base_verbs.h"
#include "apps/compute/data_verbs.h"
#include "apps/compute/generate_verb.h"
#include "apps/compute/plan_verb.h"
#include "data/decode_child.h"
#include "protocol/ids.h"

namespace {

using crabcast::apps::Exit;

struct Config : caf::actor_system_config {
  Config() { set("scheduler.max-threads", std::size_t{2}); }
};

constexpr auto kSignalsEvery = std::chrono::milliseconds(100);

// Says to the member that it is to go when SIGTERM comes.
class DrainWatch {
 public:
  DrainWatch(const crabcast::apps::StopSignals& signals, crabcast::actors::MemberProcess& member)
      : thread_([this, &signals, &member] {
          while (!over_)
            if (signals.wait(kSignalsEvery)) member.told_to_go = true;
        }) {}
  ~DrainWatch() {
    over_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

int run_role(const std::string& launch_file) {
  const crabcast::apps::StopSignals signals;  // before any thread
  Config config;
  caf::actor_system system{config};
  auto process = crabcast::actors::MemberProcess::open(system, launch_file);
  if (!process) {
    spdlog::critical("{}", process.error().message);
    return crabcast::actors::kMemberFailed;
  }
  auto& member = **process;
  const DrainWatch drain(signals, member);
  spdlog::info("{} of {} starts", member.role(), member.launch.job());
  int code = crabcast::actors::kMemberFailed;
  switch (member.launch.slot().kind()) {
    case crabcast::pb::ROLE_WORKER:
      code = crabcast::actors::run_worker(system, member);
      break;
    case crabcast::pb::ROLE_LOADER:
      code = crabcast::actors::run_loader(system, member);
      break;
    case crabcast::pb::ROLE_EVALUATOR:
      code = crabcast::actors::run_evaluator(system, member);
      break;
    default:
      spdlog::critical("{} has no such role", launch_file);
  }
  member.control->stop();
  member.bulk->stop();
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("crabcast"));
  // Help speaks of the program that people call.
  CLI::App app{"The compute half of Crabcast; call crabcast instead", "crabcast"};
  app.require_subcommand(1);
  int code = 0;
  app.add_subcommand("version", "Print the version")->callback([] {
    std::printf("crabcast-compute %s (protocol %u)\n", CRABCAST_VERSION,
                crabcast::kProtocolVersion);
  });
  std::string launch;
  auto* role = app.add_subcommand("role", "A member process of a job; started by an agent");
  role->add_option("launch", launch, "Launch file")->required();
  role->callback([&] { code = run_role(launch); });
  crabcast::data::DecodeChildOptions decoding;
  auto* child = app.add_subcommand("decode-child", "A process of a decode pool")->group("");
  child->add_option("--socket", decoding.socket)->required();
  child->add_option("--parent", decoding.parent)->required();
  child->add_option("--memory", decoding.memory_bytes)->required();
  child->callback([&] { code = crabcast::data::run_decode_child(decoding); });
  std::string request;
  auto* generate = app.add_subcommand("generate", "Answers a request of crabcast generate");
  generate->add_option("request", request, "pb::GenerateRequest")->required();
  generate->callback([&] { code = static_cast<int>(crabcast::apps::generate(request)); });
  crabcast::apps::add_data_verbs(app, code);
  crabcast::apps::add_base_verbs(app, code);
  crabcast::apps::add_adapter_verbs(app, code);
  crabcast::apps::add_plan_verb(app, code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(Exit::usage);
  }
  return code;
}

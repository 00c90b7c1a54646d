// `crabcast controller` and `crabcast agent`: the actors of control/ as daemons.
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <fstream>

#include "actors/control/agent.h"
#include "actors/control/controller.h"
#include "apps/cli/control_process.h"
#include "apps/cli/output.h"
#include "apps/cli/programs.h"
#include "apps/cli/signals.h"
#include "apps/cli/verbs.h"
#include "protocol/fault_points.h"

namespace crabcast::apps {
namespace {

// Waits for SIGINT or SIGTERM, or for `actor` to end by itself (then its reason is an error).
Status wait_for_end(caf::actor_system& system, const caf::actor& actor,
                    const StopSignals& signals) {
  caf::scoped_actor self{system};
  self->monitor(actor);
  Status status;
  bool ended = false;
  while (!ended && !signals.wait(std::chrono::milliseconds(200))) {
    self->receive(
        [&](const caf::down_msg& down) {
          status = fail(actors::from_caf(down.reason));
          ended = true;
        },
        caf::after(std::chrono::milliseconds(0)) >> [] {});
  }
  return status;
}

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "node";
  return name;
}

std::string as_endpoint(const std::string& address) {
  return address.starts_with("tcp://") ? address : "tcp://" + address;
}

}  // namespace

Exit controller(const Common& common, const ControllerDaemonOptions& options) {
  const StopSignals signals;  // before any thread
  if (const Status armed = arm_faults("controller"); !armed)
    return complain(armed.error(), common.json);
  const actors::StateFolder state{common.state};
  ActorSystem actors;
  auto process = ControllerProcess::start(actors.system(), state, as_endpoint(options.bind), true,
                                          options.policy);
  if (!process) return complain(process.error(), common.json);
  spdlog::info("controller {} listens at {}; agents join with: crabcast agent --join {}",
               CRABCAST_VERSION, (*process)->endpoint(), (*process)->endpoint().substr(6));
  if (!options.http.empty()) {
    const auto address = (*process)->serve_http(options.http);
    if (!address) return complain(address.error(), common.json);
    spdlog::info("dashboard and API at http://{}/", *address);
  }
  const auto status = wait_for_end(actors.system(), (*process)->actor(), signals);
  (*process)->stop();
  if (!status) return complain(status.error().within("controller"), common.json);
  spdlog::info("controller ends; running jobs go on");
  return Exit::ok;
}

Exit agent(const Common& common, const AgentDaemonOptions& options) {
  const StopSignals signals;
  if (const Status armed = arm_faults("agent"); !armed) return complain(armed.error(), common.json);
  actors::StateFolder state{common.state};
  ActorSystem actors;
  actors::AgentOptions agent;
  agent.node = options.node.empty() ? host_name() : options.node;
  agent.total = actors::machine_resources();
  if (options.cpus > 0) agent.total.set_cpus(options.cpus);
  if (options.gpus > static_cast<int>(agent.total.gpus()))
    return complain(
        {Errc::invalid_argument,
         "--gpus is " + std::to_string(options.gpus) + ", but this machine has " +
             std::to_string(agent.total.gpus()) + " (CUDA_VISIBLE_DEVICES counts where it is set)"},
        common.json);
  if (options.gpus >= 0) agent.total.set_gpus(static_cast<std::uint32_t>(options.gpus));
  if (options.memory_bytes > 0) agent.total.set_memory_bytes(options.memory_bytes);
  agent.labels = options.labels;
  agent.taints = options.taints;
  agent.state = state;
  agent.bind_host = options.bind;
  agent.controller_endpoint = as_endpoint(options.join);
  const auto keys = options.keys.empty() ? state.keys() : options.keys;
  auto process = AgentProcess::start(actors.system(), std::move(agent), keys);
  if (!process) return complain(process.error(), common.json);
  spdlog::info("agent {} of node {} listens at {}", CRABCAST_VERSION, (*process)->node(),
               (*process)->endpoint());
  const auto status = wait_for_end(actors.system(), (*process)->actor(), signals);
  (*process)->stop();
  if (!status) return complain(status.error().within("agent"), common.json);
  return Exit::ok;
}

}  // namespace crabcast::apps

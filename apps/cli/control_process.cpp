#include "apps/cli/control_process.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <random>

#include "apps/cli/programs.h"
#include "cluster/keys.h"
#include "storage/files.h"

namespace crabcast::apps {
namespace {

constexpr std::size_t kThreads = 2;

Status make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail(error_from_errno(error.value(), "state folder " + folder.string()));
  return {};
}

// Tells the actor to end and waits until it has, so that nothing it uses goes before it.
void end(caf::actor_system& system, caf::actor& actor) {
  if (!actor) return;
  caf::scoped_actor self{system};
  self->monitor(actor);
  self->send_exit(actor, caf::exit_reason::user_shutdown);
  actor = nullptr;
  self->receive([](const caf::down_msg&) {}, caf::after(std::chrono::seconds(10)) >> [] {});
}

}  // namespace

struct ActorSystem::Impl {
  struct Config : caf::actor_system_config {
    Config() { set("scheduler.max-threads", kThreads); }
  };
  Config config;
  caf::actor_system system{config};
};

ActorSystem::ActorSystem() : impl_(std::make_unique<Impl>()) {}
ActorSystem::~ActorSystem() = default;
caf::actor_system& ActorSystem::system() {
  return impl_->system;
}

std::string unique_process_name(const std::string& kind) {
  std::random_device random;
  char suffix[24];
  std::snprintf(suffix, sizeof suffix, "%d-%08x", ::getpid(), random());
  return kind + ":" + suffix;
}

Result<std::unique_ptr<ControllerProcess>> ControllerProcess::start(
    caf::actor_system& system, const actors::StateFolder& state, const std::string& bind,
    bool recover, const std::filesystem::path& policy) {
  std::unique_ptr<ControllerProcess> process(new ControllerProcess);
  process->state_ = state;
  CRABCAST_TRY(make_folder(state.registry()));
  auto keys = cluster::load_or_create_keyring(state.keys());
  if (!keys) return fail(keys.error());
  auto registry = storage::Registry::open(state.registry());
  if (!registry) return fail(registry.error());

  cluster::TransportOptions options;
  options.process = ProcessId{unique_process_name("controller")};
  options.kind = pb::ROLE_CONTROLLER;
  options.keys = std::move(*keys);
  auto switchboard = actors::Switchboard::start(system, std::move(options));
  if (!switchboard) return fail(switchboard.error());
  process->switchboard_ = std::move(*switchboard);
  auto endpoint = process->switchboard_->bind(bind);
  if (!endpoint) return fail(endpoint.error());
  process->endpoint_ = *endpoint;
  CRABCAST_TRY(storage::replace_file(state.controller_endpoint(), *endpoint + "\n"));

  actors::ControllerOptions controller;
  controller.endpoint = *endpoint;
  controller.switchboard = process->switchboard_.get();
  controller.registry = std::move(*registry);
  controller.recover = recover;
  controller.policy = policy;
  controller.recovered = process->recovered_;
  process->actor_ = actors::spawn_controller(system, controller);
  return process;
}

Result<std::string> ControllerProcess::serve_http(const std::string& bind) {
  gateway::GatewayOptions options;
  options.bind = bind;
  options.tokens = state_.tokens();
  options.is_ready = [recovered = recovered_] { return recovered->load(); };
  options.version = CRABCAST_VERSION;
  auto started = gateway::Gateway::start(std::move(options),
                                         gateway::ask_actor(actor_->home_system(), actor_));
  if (!started) return fail(started.error());
  gateway_ = std::move(*started);
  if (!gateway_->needs_tokens())
    spdlog::warn(
        "everybody on this machine is admin at http://{}, for there are no tokens; make "
        "one with crabcast token add",
        gateway_->address());
  return gateway_->address();
}

ControllerProcess::~ControllerProcess() {
  stop();
}

void ControllerProcess::stop() {
  if (!switchboard_) return;
  if (gateway_) gateway_->stop();
  if (actor_) end(actor_->home_system(), actor_);
  switchboard_->stop();
  switchboard_.reset();
  std::error_code
      ignored;  // somebody else's endpoint may be there by now; a stale one does no harm
  std::filesystem::remove(state_.controller_endpoint(), ignored);
}

Result<std::unique_ptr<AgentProcess>> AgentProcess::start(caf::actor_system& system,
                                                          actors::AgentOptions options,
                                                          const std::filesystem::path& keys) {
  std::unique_ptr<AgentProcess> process(new AgentProcess);
  process->node_ = options.node;
  options.version = CRABCAST_VERSION;
  CRABCAST_TRY(make_folder(options.state.root));
  auto own = own_program();
  if (!own) return fail(own.error());
  options.program = *own;
  auto compute = compute_program();
  if (!compute) return fail(compute.error());
  options.compute_program = *compute;
  auto keyring = cluster::load_keyring(keys);
  if (!keyring) return fail(keyring.error());
  options.keys = keys;

  cluster::TransportOptions transport;
  transport.process = ProcessId{unique_process_name("agent/" + options.node)};
  transport.kind = pb::ROLE_AGENT;
  transport.node = options.node;
  transport.keys = std::move(*keyring);
  auto switchboard = actors::Switchboard::start(system, transport);
  if (!switchboard) return fail(switchboard.error());
  process->switchboard_ = std::move(*switchboard);
  transport.process = ProcessId{transport.process.value() + "/bulk"};
  auto bulk = actors::Switchboard::start(system, std::move(transport));
  if (!bulk) return fail(bulk.error());
  process->bulk_ = std::move(*bulk);
  const std::string address = "tcp://" + options.bind_host + ":*";
  auto endpoint = process->switchboard_->bind(address);
  if (!endpoint) return fail(endpoint.error());
  process->endpoint_ = *endpoint;
  auto bulk_endpoint = process->bulk_->bind(address);
  if (!bulk_endpoint) return fail(bulk_endpoint.error());
  // A refused key or a wrong address is said at once; later losses are waited out.
  auto peer = process->switchboard_->connect(options.controller_endpoint, std::chrono::seconds(5));
  if (!peer) return fail(peer.error().within("controller at " + options.controller_endpoint));
  options.endpoint = *endpoint;
  options.bulk_endpoint = *bulk_endpoint;
  options.switchboard = process->switchboard_.get();
  options.bulk = process->bulk_.get();
  process->actor_ = actors::spawn_agent(system, options);
  return process;
}

AgentProcess::~AgentProcess() {
  stop();
}

void AgentProcess::stop() {
  if (!bulk_) return;
  if (actor_) end(actor_->home_system(), actor_);
  bulk_->stop();
  switchboard_->stop();
  bulk_.reset();
  switchboard_.reset();
}

}  // namespace crabcast::apps

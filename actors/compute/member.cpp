#include "actors/compute/member.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <caf/all.hpp>
#include <cmath>

#include "actors/launch.h"
#include "protocol/base_location.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(10);
constexpr auto kReconnectEvery = std::chrono::milliseconds(300);
constexpr auto kFaultTimeout = std::chrono::seconds(5);

}  // namespace

Result<std::unique_ptr<MemberProcess>> MemberProcess::open(caf::actor_system& system,
                                                           const std::string& launch_file) {
  std::unique_ptr<MemberProcess> process(new MemberProcess);
  auto launch = read_launch(launch_file);
  if (!launch) return fail(launch.error());
  process->launch = std::move(*launch);
  CRABCAST_TRY(arm_faults(process->role()));
  auto spec = parse_job_spec(process->launch.spec_yaml(), launch_file);
  if (!spec) return fail(spec.error().error());
  process->spec = std::move(*spec);
  auto keys = cluster::load_keyring(process->launch.keys_dir());
  if (!keys) return fail(keys.error());
  process->keys = *keys;

  cluster::TransportOptions options;
  const std::string unique =
      process->role() + "@" + process->launch.slot().node() + ":" + std::to_string(::getpid());
  options.kind = process->launch.slot().kind();
  options.node = process->launch.slot().node();
  options.keys = *keys;
  options.process = ProcessId{process->launch.job() + "/" + unique};
  auto control = Switchboard::start(system, options);
  if (!control) return fail(control.error());
  process->control = std::move(*control);
  options.process = ProcessId{process->launch.job() + "/" + unique + "/bulk"};
  auto bulk = Switchboard::start(system, options);
  if (!bulk) return fail(bulk.error());
  process->bulk = std::move(*bulk);
  auto endpoint = process->bulk->bind("tcp://" + process->launch.bind_host() + ":*");
  if (!endpoint) return fail(endpoint.error());
  process->bulk_endpoint = *endpoint;

  auto peer = process->control->connect(process->launch.coordinator_endpoint(), kConnectTimeout);
  if (!peer) return fail(peer.error().within("coordinator"));
  process->coordinator = *peer;
  auto store = process->bulk->connect(process->launch.coordinator_bulk_endpoint(), kConnectTimeout);
  if (!store) return fail(store.error().within("coordinator (bulk)"));
  process->coordinator_bulk = *store;
  return process;
}

int MemberProcess::threads() const {
  return std::max(1, static_cast<int>(std::floor(launch.slot().resources().cpus())));
}

Result<std::string> MemberProcess::base() const {
  return locate_base(spec.model.base, launch.bases_dir());
}

void MemberProcess::report_fatal(caf::actor_system& system, const std::string& operation,
                                 const Error& error) {
  spdlog::error("{}: {}", operation, error.message);
  pb::MemberFault fault;
  fault.set_role(role());
  fault.set_code(static_cast<std::uint32_t>(error.code));
  fault.set_message(error.message);
  fault.set_operation(operation);
  fault.set_fatal(true);
  caf::scoped_actor self{system};
  self->request(control->proxy(coordinator.process, "job"), kFaultTimeout, outbound(fault))
      .receive([](const DeliveryPtr&) {},
               [](const caf::error& why) {
                 spdlog::error("the coordinator did not hear of it: {}", from_caf(why).message);
               });
}

namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;

struct PreparingState {
  static inline const char* name = "preparing";
  std::unique_ptr<CoordinatorLink> link;
};

caf::behavior preparing(caf::stateful_actor<PreparingState>* self, MemberProcess* process) {
  auto& state = self->state;
  state.link = std::make_unique<CoordinatorLink>(self, process);
  self->set_down_handler([&state](const caf::down_msg& down) { state.link->on_down(down); });
  state.link->start();
  self->send(self, tick_atom::value);
  return {
      [self, &state](tick_atom) {
        state.link->report_progress(0);
        self->delayed_send(self, CoordinatorLink::kProgressEvery, tick_atom::value);
      },
      [self, &state](const Connected& result) {
        state.link->on_connected(result);
        if (state.link->lost()) self->quit(caf::exit_reason::remote_link_unreachable);
      },
  };
}

}  // namespace

Preparation::Preparation(caf::actor_system& system, MemberProcess& process)
    : actor_(system.spawn(preparing, &process)) {}

Preparation::~Preparation() {
  caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
}

void CoordinatorLink::start(std::function<pb::RegisterMember()> registration) {
  registration_ = std::move(registration);
  attach(process_->coordinator);
}

void CoordinatorLink::attach(const cluster::PeerInfo& peer) {
  coordinator_ = process_->control->proxy(peer.process, "job");
  self_->monitor(coordinator_);
  gone_since_ = {};
  drain_reported_ = false;
  if (!registration_) return;
  if (const Status staged = fault_point("member.register"); !staged)
    spdlog::warn("{}", staged.error().message);
  auto body = registration_();
  body.set_role(process_->role());
  body.set_kind(process_->launch.slot().kind());
  body.set_pid(::getpid());
  body.set_bulk_endpoint(process_->bulk_endpoint);
  send(body);
}

void CoordinatorLink::send(const google::protobuf::Message& body) {
  if (coordinator_) self_->send(coordinator_, outbound(body));
}

void CoordinatorLink::send_message(const OutboundPtr& message) {
  if (coordinator_) self_->send(coordinator_, message);
}

void CoordinatorLink::report_progress(std::size_t mailbox) {
  const auto view = process_->progress->view();
  pb::MemberProgress body;
  body.set_role(process_->role());
  body.set_doing(view.doing);
  body.set_step(view.step);
  body.set_progress(view.count);
  body.set_pid(::getpid());
  body.set_mailbox(static_cast<std::uint32_t>(mailbox));
  send(body);
  if (!process_->told_to_go || !coordinator_ || std::exchange(drain_reported_, true)) return;
  pb::MemberDraining draining;
  draining.set_role(process_->role());
  draining.set_reason("got SIGTERM");
  send(draining);
}

void CoordinatorLink::on_down(const caf::down_msg& message) {
  if (!coordinator_ || message.source != coordinator_.address()) return;
  coordinator_ = nullptr;
  gone_since_ = self_->clock().now();
  spdlog::warn("the coordinator is gone; waiting for it to come back");
  self_->delayed_send(self_, kReconnectEvery,
                      Connected{process_->launch.coordinator_endpoint(), nullptr});
}

void CoordinatorLink::on_connected(const Connected& result) {
  if (result.endpoint != process_->launch.coordinator_endpoint() || coordinator_) return;
  if (self_->clock().now() - gone_since_ > kCoordinatorGrace) {
    lost_ = true;
    return;
  }
  if (!result.peer) {  // our own reminder
    process_->control->connect_async(result.endpoint, kConnectTimeout,
                                     caf::actor_cast<caf::actor>(self_));
  } else if (result.peer->has_value()) {
    attach(**result.peer);
  } else {
    self_->delayed_send(self_, kReconnectEvery, Connected{result.endpoint, nullptr});
  }
}

}  // namespace crabcast::actors

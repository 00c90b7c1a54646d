// The job actor: what it makes of each message.
#include "actors/control/job.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <cstring>

#include "actors/control/job_state.h"
#include "actors/control/scrub.h"
#include "actors/control/store_actors.h"

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;
using register_atom = caf::atom_constant<caf::atom("register")>;
using report_atom = caf::atom_constant<caf::atom("report")>;

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kReportEvery = std::chrono::milliseconds(500);
constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr auto kReconnectEvery = std::chrono::seconds(1);
constexpr auto kFarewell = std::chrono::seconds(5);  // for the controller to hear of the end
// For the last checkpoint to reach other nodes before this process ends.
constexpr auto kLastCopies = std::chrono::seconds(10);

// "killed by SIGKILL", "exit code 3", with the end of its log.
std::string describe_exit(const pb::RoleExited& exit) {
  std::string text = exit.signal() != 0
                         ? std::string("killed by SIG") + ::sigabbrev_np(exit.signal())
                         : "ended with exit code " + std::to_string(exit.exit_code());
  if (!exit.last_lines().empty()) text += "; its log ends: " + exit.last_lines();
  return text;
}

}  // namespace

void JobState::init(const JobOptions& o) {
  options = o;
  std::vector<pb::RoleSlot> placement(o.launch.placement().begin(), o.launch.placement().end());
  machine.emplace(o.launch.job(), o.spec, placement, o.history);
  ledger = spawn_ledger(self->system(), o.store, o.spec.checkpoint);
  checkpoints = spawn_checkpoints(self->system(), o.store, spec_hash(o.spec),
                                  caf::actor_cast<caf::actor>(self));
  if (const double every = o.spec.checkpoint.scrub_seconds; every > 0) {
    scrub = spawn_scrub(self->system(), o.store,
                        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(every)),
                        caf::actor_cast<caf::actor>(self));
    self->link_to(scrub);
  }
  self->link_to(ledger);
  self->link_to(checkpoints);
  start_replicator();
  options.control->publish("job", caf::actor_cast<caf::actor>(self));
  options.bulk->publish("checkpoints", checkpoints);
  for (const auto& slot : placement) agents[slot.node()].endpoint = slot.agent_endpoint();
  for (const auto& [node, agent] : agents) connect_to(agent.endpoint);
  if (!o.launch.controller_endpoint().empty()) connect_to(o.launch.controller_endpoint());
  tell_restored();
  machine->start(now());
  if (o.launch.has_predecessor()) {
    const auto& end = o.launch.predecessor();
    machine->on_restarted(describe_exit(end),
                          static_cast<double>(unix_ms_now() - end.unix_ms()) / 1000, now());
  }
  carry_out();
}

void JobState::connected(const Connected& result) {
  const bool ok = result.peer->has_value();
  if (result.endpoint == options.launch.controller_endpoint()) {
    if (!ok) {
      self->delayed_send(self, kReconnectEvery, Connected{result.endpoint, nullptr});
      return;
    }
    controller = options.control->proxy((*result.peer)->process, "controller");
    self->monitor(controller);
    register_here();
  }
  for (auto& [node, agent] : agents) {
    if (agent.endpoint != result.endpoint) continue;
    if (!ok) {
      spdlog::warn("agent of node {} at {}: {}", node, agent.endpoint,
                   result.peer->error().message);
      self->delayed_send(self, kReconnectEvery, Connected{result.endpoint, nullptr});
      continue;
    }
    agent.handle = options.control->proxy((*result.peer)->process, "agent");
    self->monitor(agent.handle);
    pb::WatchRoles watch;
    watch.set_job(options.launch.job());
    watch.set_fence(options.launch.fence());
    self->request(agent.handle, kControllerTimeout, outbound(watch))
        .then([](const DeliveryPtr&) {},
              [this](const caf::error& error) { displaced(from_caf(error)); });
    for (const auto& message : std::exchange(agent.waiting, {})) give_order(node, message);
  }
}

void JobState::register_here() {
  pb::RegisterCoordinator hello;
  hello.set_job(options.launch.job());
  hello.set_endpoint(options.control_endpoint);
  hello.set_pid(::getpid());
  hello.set_fence(options.launch.fence());
  *hello.mutable_status() = status();
  self->request(controller, kControllerTimeout, outbound(hello))
      .then([](const DeliveryPtr&) {},
            [this](const caf::error& error) {
              const auto why = from_caf(error);
              if (displaced(why) || why.code != Errc::unavailable) return;
              self->delayed_send(self, kReconnectEvery, register_atom::value);
            });
}

void JobState::deliver(const DeliveryPtr& message) {
  const auto& envelope = *message->envelope;
  // A member's message counts only from the process that is registered under its role.
  auto sender_role = [&]() -> std::string {
    for (const auto& [role, handle] : members)
      if (handle == message->sender) return role;
    return {};
  };
  switch (envelope.body_case()) {
    case pb::Envelope::kRegisterMember: {
      const auto& registration = envelope.register_member();
      answer(*message, pb::Done{});
      if (message->from.node != machine->node_of(registration.role())) break;  // it moved since
      if (!machine->on_registered(registration, now())) break;
      forget_starts(registration.role());
      members[registration.role()] = message->sender;
      self->monitor(message->sender);
      break;
    }
    case pb::Envelope::kGenerationReady:
      machine->on_generation_ready(sender_role(), envelope.generation_ready(), now());
      break;
    case pb::Envelope::kStepReady:
      machine->on_step_ready(sender_role(), envelope.step_ready(), now());
      break;
    case pb::Envelope::kMemberFault:
      answer(*message, pb::Done{});
      machine->on_fault(envelope.member_fault().role(), envelope.member_fault(), now());
      break;
    case pb::Envelope::kMemberProgress: {
      // Before it is registered, its node and its pid say whose it is.
      const auto& progress = envelope.member_progress();
      const auto sender = sender_role();
      if (sender.empty() ? message->from.node == machine->node_of(progress.role())
                         : sender == progress.role())
        machine->on_progress(progress, now());
      break;
    }
    case pb::Envelope::kMemberDraining:
      machine->on_draining(sender_role(), envelope.member_draining().reason(), now());
      break;
    case pb::Envelope::kEvaluationDone: {
      const auto& done = envelope.evaluation_done();
      if (!machine->on_evaluation(sender_role(), done, now())) break;
      self->request(ledger, kStoreTimeout,
                    StoreEvaluation{std::make_shared<const pb::EvaluationRecord>(done.record())})
          .then([] {},
                [](const caf::error& error) {
                  spdlog::error("evaluation not stored: {}", from_caf(error).message);
                });
      break;
    }
    case pb::Envelope::kRoleStarted:  // already running when we began to watch
      role_started(node_of(*message), envelope.role_started());
      break;
    case pb::Envelope::kRoleExited: {
      const auto& exit = envelope.role_exited();
      if (node_of(*message) != machine->node_of(exit.role())) break;  // the role moved since
      machine->on_gone(exit.role(), describe_exit(exit), true, now(), exit.pid());
      break;
    }
    case pb::Envelope::kStopJob:
      answer(*message, pb::Done{});
      machine->on_stop(envelope.stop_job().keep(), envelope.stop_job().reason(), now());
      break;
    case pb::Envelope::kPinCheckpoint:
      set_pin(message);
      break;
    case pb::Envelope::kReplicaNodes:
      if (replicator)
        self->send(
            replicator,
            NodesForReplicas{std::make_shared<const pb::ReplicaNodes>(envelope.replica_nodes())});
      break;
    case pb::Envelope::kPlacementChanged: {
      const auto& slots = envelope.placement_changed().placement();
      for (const auto& slot : slots) {
        auto& agent = agents[slot.node()];
        if (agent.endpoint == slot.agent_endpoint()) continue;
        agent.endpoint = slot.agent_endpoint();  // of a new node, or of its next agent
        if (!agent.handle) connect_to(agent.endpoint);
      }
      machine->on_placement({slots.begin(), slots.end()}, now());
      const auto& removed = envelope.placement_changed().removed();
      machine->on_scaled({removed.begin(), removed.end()},
                         envelope.placement_changed().workers_min(), now());
      break;
    }
    case pb::Envelope::kDone:
      if (over) end();  // the controller heard of the end
      break;
    default:
      answer(*message, Error{Errc::unsupported, "a coordinator takes no such message"});
  }
  carry_out();
}

void JobState::down(const caf::down_msg& message) {
  if (controller && message.source == controller.address()) {
    controller = nullptr;
    if (over) return end();
    self->delayed_send(self, kReconnectEvery,
                       Connected{options.launch.controller_endpoint(), nullptr});
    return;
  }
  for (auto& [node, agent] : agents) {
    if (!agent.handle || message.source != agent.handle.address()) continue;
    agent.handle = nullptr;
    self->delayed_send(self, kReconnectEvery, Connected{agent.endpoint, nullptr});
    machine->on_node_gone(node, now());  // its processes die with it (PR_SET_PDEATHSIG)
  }
  for (const auto& [role, handle] : members) {
    if (message.source != handle.address()) continue;
    const std::string lost = role;
    members.erase(lost);
    machine->on_gone(lost, kConnectionLost, false, now());
    break;
  }
  carry_out();
}

void JobState::connect_to(const std::string& endpoint) {
  options.control->connect_async(endpoint, kConnectTimeout, caf::actor_cast<caf::actor>(self));
}

void JobState::act(const Finish&) {
  over = true;
  self->request(ledger, kStoreTimeout, StoreValue{"status", status().SerializeAsString()})
      .await([] {},
             [](const caf::error& error) {
               spdlog::error("final status not stored: {}", from_caf(error).message);
             });
  const auto conclude = [this] {
    report(true);
    self->delayed_send(self, kFarewell, give_up_atom::value);
    if (!controller) end();
  };
  if (!replicator) return conclude();
  self->request(replicator, kLastCopies, LastCopies{})
      .then(conclude, [conclude](const caf::error&) { conclude(); });
}

void JobState::report(bool ended) {
  if (!controller || displaced_by) return;
  pb::JobReport body;
  *body.mutable_status() = status();
  body.set_ended(ended);
  body.set_fence(options.launch.fence());
  for (const auto& event : unreported) *body.add_events() = event;
  unreported.clear();
  if (ended) {
    self->request(controller, kFarewell, outbound(body))
        .then([this](const DeliveryPtr&) { end(); }, [this](const caf::error&) { end(); });
    return;
  }
  self->request(controller, kControllerTimeout, outbound(body))
      .then([](const DeliveryPtr&) {},
            [this](const caf::error& error) { displaced(from_caf(error)); });
}

void JobState::end() {
  if (displaced_by) return self->quit(to_caf(*displaced_by));
  self->quit(caf::exit_reason::user_shutdown);
}

namespace {

caf::behavior job(caf::stateful_actor<JobState>* self, const JobOptions& options) {
  auto& state = self->state;
  self->set_down_handler([&state](const caf::down_msg& down) { state.down(down); });
  self->set_exit_handler([self](const caf::exit_msg& message) {
    // A store actor died: nothing can be made durable any more, so this process must not go on.
    spdlog::critical("the store is gone: {}", caf::to_string(message.reason));
    self->quit(message.reason);
  });
  state.init(options);
  self->delayed_send(self, kTick, tick_atom::value);
  self->delayed_send(self, kReportEvery, report_atom::value);
  return {
      [&state](const DeliveryPtr& message) { state.deliver(message); },
      [&state](const Connected& result) {
        // Without a result it is our own reminder to try again.
        if (!result.peer)
          state.connect_to(result.endpoint);
        else
          state.connected(result);
        state.carry_out();
      },
      [self, &state](const CheckpointOutcome& outcome) {
        if (outcome.error)
          state.machine->on_checkpoint_failed(outcome.id, *outcome.error, state.now());
        else
          state.machine->on_checkpoint_stored(outcome.id, state.now());
        if (!outcome.error && state.replicator)
          self->send(state.replicator, CheckpointStored{outcome.id});
        state.carry_out();
      },
      [&state](const ReplicationNews& news) { state.replication_news(news); },
      [&state](const ReplicaTrouble& trouble) { state.replica_trouble(trouble); },
      [&state](const Displaced& displaced) { state.displaced(displaced.error); },
      [&state](const PatientWrite& write) { state.write(write); },
      [&state](const DamageFound& damage) { state.damage_found(damage.report); },
      [self, &state](tick_atom) {
        self->delayed_send(self, kTick, tick_atom::value);
        state.machine->on_tick(state.now());
        state.carry_out();
      },
      [self, &state](report_atom) {
        self->delayed_send(self, kReportEvery, report_atom::value);
        if (!state.over) state.report(false);
      },
      [&state](register_atom) {
        if (state.controller) state.register_here();
      },
      [&state](give_up_atom) { state.end(); },
  };
}

}  // namespace

caf::actor spawn_job(caf::actor_system& system, const JobOptions& options) {
  return system.spawn(job, options);
}

}  // namespace crabcast::actors

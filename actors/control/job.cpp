#include "actors/control/job.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <cstring>
#include <deque>
#include <map>
#include <set>

#include "actors/control/store_actors.h"

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;
using report_atom = caf::atom_constant<caf::atom("report")>;
using give_up_atom = caf::atom_constant<caf::atom("giveup")>;

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kReportEvery = std::chrono::milliseconds(500);
constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr auto kReconnectEvery = std::chrono::seconds(1);
constexpr auto kStoreTimeout = std::chrono::seconds(60);
constexpr auto kStartTimeout = std::chrono::seconds(20);
constexpr auto kFarewell = std::chrono::seconds(5);   // for the controller to hear of the end
constexpr std::size_t kEventsKept = 4096;             // while the controller is away
constexpr std::size_t kEventsRead = 1000;             // at once
constexpr const char* kGenerationKey = "generation";  // of the newest number that was given away

// "killed by SIGKILL", "exit code 3", with the end of its log.
std::string describe_exit(const pb::RoleExited& exit) {
  std::string text = exit.signal() != 0
                         ? std::string("killed by SIG") + ::sigabbrev_np(exit.signal())
                         : "ended with exit code " + std::to_string(exit.exit_code());
  if (!exit.last_lines().empty()) text += "; its log ends: " + exit.last_lines();
  return text;
}

// The role that a message to an agent is about.
const std::string& role_of(const Outbound& message) {
  const auto& envelope = message.envelope;
  return envelope.has_start_role() ? envelope.start_role().launch().slot().role()
                                   : envelope.stop_role().role();
}

struct JobState {
  static inline const char* name = "job";

  JobState(caf::event_based_actor* s) : self(s) {}

  caf::event_based_actor* self;
  JobOptions options;
  std::optional<JobMachine> machine;
  caf::actor ledger, checkpoints;

  struct Agent {
    std::string endpoint;
    caf::actor handle;                 // null while not connected
    std::vector<OutboundPtr> waiting;  // StartRole, StopRole until it is connected
  };
  std::map<std::string, Agent> agents;        // by node
  std::map<std::string, caf::actor> members;  // by role
  caf::actor controller;
  std::deque<pb::Event> unreported;
  bool over = false;
  bool farewell_sent = false;

  void init(const JobOptions& o);
  void deliver(const DeliveryPtr& message);
  void connected(const Connected& result);
  void down(const caf::down_msg& message);
  void carry_out();
  void report(bool ended);
  void end();

  void act(const SendTo& action);
  void act(const PublishGeneration& action);
  void act(const WriteCommit& action);
  void act(const RewindLedger& action);
  void act(const RecordEvent& action);
  void act(const StartProcess& action);
  void act(const StopProcess& action);
  void act(const FindCheckpoint& action);
  void act(const ApplyRetention& action);
  void act(const Finish& action);

  void connect_to(const std::string& endpoint) {
    options.control->connect_async(endpoint, kConnectTimeout, caf::actor_cast<caf::actor>(self));
  }
  void send(const std::string& role, OutboundPtr message);
  // Node of the agent that sent it; empty when it is no agent of this job.
  std::string node_of(const Delivery& message) const;
  void role_started(const std::string& node, const pb::RoleStarted& started);
  void forget_starts(const std::string& role);
  void to_agent(const std::string& node, OutboundPtr message);
  void give_order(const std::string& node, const OutboundPtr& message);
  TimePoint now() const { return self->clock().now(); }
};

void JobState::init(const JobOptions& o) {
  options = o;
  std::vector<pb::RoleSlot> placement(o.launch.placement().begin(), o.launch.placement().end());
  machine.emplace(o.launch.job(), o.spec, placement, o.history);
  ledger = spawn_ledger(self->system(), o.store, o.spec.checkpoint);
  checkpoints = spawn_checkpoints(self->system(), o.store, spec_hash(o.spec),
                                  caf::actor_cast<caf::actor>(self));
  self->link_to(ledger);
  self->link_to(checkpoints);
  options.control->publish("job", caf::actor_cast<caf::actor>(self));
  options.bulk->publish("checkpoints", checkpoints);
  for (const auto& slot : placement) agents[slot.node()].endpoint = slot.agent_endpoint();
  for (const auto& [node, agent] : agents) connect_to(agent.endpoint);
  if (!o.launch.controller_endpoint().empty()) connect_to(o.launch.controller_endpoint());
  machine->start(now());
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
    pb::RegisterCoordinator hello;
    hello.set_job(options.launch.job());
    hello.set_endpoint(options.control_endpoint);
    hello.set_pid(::getpid());
    *hello.mutable_status() = machine->status(now(), unix_ms_now());
    self->send(controller, outbound(hello));
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
    self->send(agent.handle, outbound(watch));
    for (const auto& message : std::exchange(agent.waiting, {})) give_order(node, message);
  }
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
    case pb::Envelope::kMemberProgress:
      if (sender_role() == envelope.member_progress().role())
        machine->on_progress(envelope.member_progress(), now());
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
    case pb::Envelope::kPlacementChanged: {
      const auto& slots = envelope.placement_changed().placement();
      for (const auto& slot : slots) {
        auto& agent = agents[slot.node()];
        if (agent.endpoint == slot.agent_endpoint()) continue;
        agent.endpoint = slot.agent_endpoint();  // of a new node, or of its next agent
        if (!agent.handle) connect_to(agent.endpoint);
      }
      machine->on_placement({slots.begin(), slots.end()}, now());
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
    // Its processes die with it (PR_SET_PDEATHSIG).
    for (const auto& role : machine->roles_on(node))
      machine->on_gone(role, "the agent of node " + node + " is gone", true, now());
  }
  for (const auto& [role, handle] : members) {
    if (message.source != handle.address()) continue;
    const std::string lost = role;
    members.erase(lost);
    machine->on_gone(lost, "its connection was lost", false, now());
    break;
  }
  carry_out();
}

void JobState::carry_out() {
  for (auto actions = machine->take_actions(); !actions.empty(); actions = machine->take_actions())
    for (const auto& action : actions) std::visit([this](const auto& a) { act(a); }, action);
}

void JobState::act(const SendTo& action) {
  auto message = std::make_shared<Outbound>();
  message->envelope = action.envelope;
  send(action.role, std::move(message));
}

void JobState::send(const std::string& role, OutboundPtr message) {
  if (auto found = members.find(role); found != members.end())
    self->send(found->second, std::move(message));
}

// No later coordinator may give the number away again, even if no commit ever carries it.
void JobState::act(const PublishGeneration& action) {
  const auto number = action.generation.number();
  self->request(ledger, kStoreTimeout, StoreValue{kGenerationKey, std::to_string(number)})
      .then(
          [this, roles = action.roles, message = outbound(action.generation)] {
            for (const auto& role : roles) send(role, message);
          },
          [this, number](const caf::error& error) {
            machine->on_generation_failed(number, from_caf(error), now());
            carry_out();
          });
}

void JobState::act(const WriteCommit& action) {
  auto record = std::make_shared<pb::CommitRecord>(action.record);
  record->set_unix_ms(unix_ms_now());
  const auto step = record->step();
  self->request(ledger, kStoreTimeout, AppendCommit{std::move(record)})
      .then(
          [this, step] {
            machine->on_commit_durable(step, now());
            carry_out();
          },
          [this, step](const caf::error& error) {
            machine->on_commit_failed(step, from_caf(error), now());
            carry_out();
          });
}

void JobState::act(const RewindLedger& action) {
  self->request(ledger, kStoreTimeout, RewindTo{action.step})
      .then([] {},
            [this](const caf::error& error) {
              spdlog::critical("the ledger cannot be rewound: {}", from_caf(error).message);
              self->quit(caf::exit_reason::unhandled_exception);
            });
}

void JobState::act(const RecordEvent& action) {
  auto event = action.event;
  event.set_unix_ms(unix_ms_now());
  event.set_job(options.launch.job());
  const auto level = event.severity() == pb::SEVERITY_ERROR     ? spdlog::level::err
                     : event.severity() == pb::SEVERITY_WARNING ? spdlog::level::warn
                                                                : spdlog::level::info;
  spdlog::log(level, "{} {}: {}", event.kind(), event.subject(), event.message());
  self->request(ledger, kStoreTimeout, AppendEvent{std::make_shared<const pb::Event>(event)})
      .then([] {},
            [](const caf::error& error) {
              spdlog::error("an event was not stored: {}", from_caf(error).message);
            });
  unreported.push_back(std::move(event));
  if (unreported.size() > kEventsKept) unreported.pop_front();
}

void JobState::act(const StartProcess& action) {
  forget_starts(action.slot.role());
  pb::StartRole start;
  auto& launch = *start.mutable_launch();
  launch.set_job(options.launch.job());
  *launch.mutable_slot() = action.slot;
  launch.set_spec_yaml(options.launch.spec_yaml());
  launch.set_coordinator_endpoint(options.control_endpoint);
  launch.set_coordinator_bulk_endpoint(options.bulk_endpoint);
  launch.set_restarts(action.restarts);
  to_agent(action.slot.node(), outbound(start));
}

void JobState::act(const StopProcess& action) {
  forget_starts(action.role);
  pb::StopRole stop;
  stop.set_job(options.launch.job());
  stop.set_role(action.role);
  to_agent(action.node, outbound(stop));
}

void JobState::act(const FindCheckpoint& action) {
  self->request(ledger, kStoreTimeout, FindNewest{action.at_most})
      .then(
          [this](const FoundCheckpoint& found) {
            for (const auto& problem : found.problems) {
              pb::Event event;
              event.set_kind("checkpoint_corrupt");
              event.set_severity(pb::SEVERITY_ERROR);
              event.set_subject(options.launch.job());
              event.set_message(problem);
              act(RecordEvent{event});
            }
            machine->on_checkpoint_found(found.id, now());
            carry_out();
          },
          [this](const caf::error& error) {
            spdlog::critical("checkpoints cannot be read: {}", from_caf(error).message);
            self->quit(caf::exit_reason::unhandled_exception);
          });
}

void JobState::act(const ApplyRetention& action) {
  self->request(ledger, kStoreTimeout, Retain{action.in_use})
      .then([] {},
            [](const caf::error& error) {
              spdlog::warn("old checkpoints were not deleted: {}", from_caf(error).message);
            });
}

void JobState::act(const Finish&) {
  over = true;
  auto final_status = machine->status(now(), unix_ms_now());
  self->request(ledger, kStoreTimeout, StoreValue{"status", final_status.SerializeAsString()})
      .await([] {},
             [](const caf::error& error) {
               spdlog::error("final status not stored: {}", from_caf(error).message);
             });
  report(true);
  self->delayed_send(self, kFarewell, give_up_atom::value);
  if (!controller) end();
}

// ---- agents -----------------------------------------------------------------------------------

std::string JobState::node_of(const Delivery& message) const {
  for (const auto& [node, agent] : agents)
    if (agent.handle && agent.handle == message.sender) return node;
  return {};
}

// It runs there already when we begin to watch. If the role moved to another node since, what was
// left behind must not act any more.
void JobState::role_started(const std::string& node, const pb::RoleStarted& started) {
  if (node == machine->node_of(started.role()))
    machine->adopt_process(started.role(), started.pid(), now());
  else if (!node.empty())
    act(StopProcess{started.role(), node});
}

// Orders that wait for their agent are void: the role starts elsewhere, runs, or is stopped.
void JobState::forget_starts(const std::string& role) {
  for (auto& [node, agent] : agents)
    std::erase_if(agent.waiting, [&](const OutboundPtr& order) {
      return order->envelope.has_start_role() && role_of(*order) == role;
    });
}

void JobState::to_agent(const std::string& node, OutboundPtr message) {
  auto& agent = agents[node];
  if (agent.handle) return give_order(node, message);
  std::erase_if(agent.waiting, [&](const OutboundPtr& order) {  // it is repeated
    return order->envelope.has_stop_role() && message->envelope.has_stop_role() &&
           role_of(*order) == role_of(*message);
  });
  agent.waiting.push_back(std::move(message));
}

void JobState::give_order(const std::string& node, const OutboundPtr& message) {
  const bool starts = message->envelope.has_start_role();
  self->request(agents.at(node).handle, kStartTimeout, message)
      .then(
          [this, node](const DeliveryPtr& answer) {
            const auto& started = answer->envelope->role_started();  // empty: it was stopped
            if (node == machine->node_of(started.role()))
              machine->on_started(started.role(), started.pid());
          },
          [this, node, starts, role = role_of(*message)](const caf::error& error) {
            const auto why = from_caf(error);
            if (node != machine->node_of(role)) return;  // the role moved since
            if (starts)
              machine->on_start_failed(role, why, now());
            else if (why.code == Errc::not_found)
              machine->on_nothing_to_stop(role, now());
            carry_out();
          });
}

void JobState::report(bool ended) {
  if (!controller) return;
  pb::JobReport body;
  *body.mutable_status() = machine->status(now(), unix_ms_now());
  body.set_ended(ended);
  for (const auto& event : unreported) *body.add_events() = event;
  unreported.clear();
  if (!ended) {
    self->send(controller, outbound(body));
    return;
  }
  self->request(controller, kFarewell, outbound(body))
      .then([this](const DeliveryPtr&) { end(); }, [this](const caf::error&) { end(); });
}

void JobState::end() {
  self->quit(caf::exit_reason::user_shutdown);
}

// What was taken from the budget failure.restarts since the job ended for the last time.
Result<std::uint32_t> count_restarts(const storage::JobStore& store) {
  static const std::set<std::string> ends = {"job_stopped", "job_failed", "job_cancelled",
                                             "job_succeeded"};
  std::uint32_t restarts = 0;
  std::uint64_t seen = 0;
  while (true) {
    auto events = store.events(seen, kEventsRead);
    if (!events) return fail(events.error());
    if (events->empty()) return restarts;
    for (const auto& event : *events) {
      if (event.kind() == "restart" || event.kind() == "disagreement") ++restarts;
      if (ends.contains(event.kind())) restarts = 0;
    }
    seen = events->back().seq();
  }
}

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
      [&state](const CheckpointOutcome& outcome) {
        if (outcome.error)
          state.machine->on_checkpoint_failed(outcome.id, *outcome.error, state.now());
        else
          state.machine->on_checkpoint_stored(outcome.id, state.now());
        state.carry_out();
      },
      [self, &state](tick_atom) {
        self->delayed_send(self, kTick, tick_atom::value);
        state.machine->on_tick(state.now());
        state.carry_out();
      },
      [self, &state](report_atom) {
        self->delayed_send(self, kReportEvery, report_atom::value);
        if (!state.over) state.report(false);
      },
      [&state](give_up_atom) { state.end(); },
  };
}

}  // namespace

caf::actor spawn_job(caf::actor_system& system, const JobOptions& options) {
  return system.spawn(job, options);
}

Result<JobHistory> read_history(const storage::JobStore& store) {
  JobHistory history;
  auto last = store.last_commit();
  if (!last) return fail(last.error());
  if (*last) {
    history.last_commit = (*last)->step();
    history.last_skipped = (*last)->skipped();
    history.last_generation = (*last)->generation();
  }
  auto generation = store.value(kGenerationKey);
  if (!generation) return fail(generation.error());
  if (*generation) history.generation = std::strtoull((*generation)->c_str(), nullptr, 10);
  // Their ids only: one whose manifest is damaged must not keep the others from being used.
  auto checkpoints = store.checkpoint_ids();
  if (!checkpoints) return fail(checkpoints.error());
  for (const auto& id : *checkpoints) history.checkpoints.insert(id.value());
  auto evaluations = store.evaluations();
  if (!evaluations) return fail(evaluations.error());
  for (const auto& record : *evaluations) history.evaluated.insert(record.checkpoint());
  auto restarts = count_restarts(store);
  if (!restarts) return fail(restarts.error());
  history.restarts = *restarts;
  return history;
}

}  // namespace crabcast::actors

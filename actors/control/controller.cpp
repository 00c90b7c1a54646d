// The controller actor: brings messages to the ClusterMachine, and carries out what it decides.
#include "actors/control/controller.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>
#include <map>
#include <optional>

#include "actors/control/cluster_machine.h"
#include "actors/control/policy_file.h"
#include "actors/control/registry_actor.h"
#include "actors/control/series_keeper.h"

namespace crabcast::actors {
namespace {

using recovered_atom = caf::atom_constant<caf::atom("recovered")>;
using tick_atom = caf::atom_constant<caf::atom("tick")>;

constexpr auto kTick = std::chrono::milliseconds(500);
// How long the controller waits for its registry before it takes a write for failed.
constexpr auto kRegistryTimeout = std::chrono::seconds(30);
// An agent may wait for processes to end and for its disk before it starts a coordinator.
constexpr auto kPeerTimeout = std::chrono::seconds(60);
constexpr std::size_t kEventsLimit = 1000;

Moment now() {
  return {Clock::now(), unix_ms_now()};
}

struct ControllerState {
  static inline const char* name = "controller";
  explicit ControllerState(caf::event_based_actor* s) : self(s) {}

  caf::event_based_actor* self;
  ControllerOptions options;
  std::optional<PolicyFile> policy;
  std::optional<ClusterMachine> machine;
  caf::actor registry;
  std::optional<SeriesKeeper> charts;
  std::map<PeerNumber, caf::actor> peers;  // agents and coordinators
  std::map<caf::actor_addr, PeerNumber> numbers;
  PeerNumber last_peer = 0;
  std::map<RequestNumber, DeliveryPtr> waiting;
  RequestNumber last_request = 0;

  Status load();
  void deliver(const DeliveryPtr& message);
  PeerNumber number_of(const caf::actor& peer);
  RequestNumber note(const DeliveryPtr& message);
  void down(const caf::down_msg& message);
  void send_events(const DeliveryPtr& message);
  void load_policy(const DeliveryPtr& message);
  void follow_policy();

  void carry_out();
  DeliveryPtr take(RequestNumber request);
  void act(Answer& action);
  void act(Refuse& action);
  void act(StoreJob& action);
  void act(StoreNode& action);
  void act(StoreEvents& action);
  void act(Tell& action);
  void act(Forward& action);
  void act(StartCoordinator& action);
  void stored(std::uint64_t write);
  void not_stored(std::uint64_t write, const caf::error& error);
};

// ---- start ------------------------------------------------------------------------------------

Status ControllerState::load() {
  policy.emplace(options.policy);
  auto read = policy->read();
  if (!read) return fail(read.error());
  auto jobs = options.registry->jobs();  // before any other thread uses the registry
  if (!jobs) return fail(jobs.error());
  auto nodes = options.registry->nodes();
  if (!nodes) return fail(nodes.error());
  // Numbers count on from here; those of jobs that were stored are not given again.
  auto seq = options.registry->next_submit_seq();
  if (!seq) return fail(seq.error());
  machine.emplace(ClusterOptions{options.endpoint, options.recover, std::move(*read)});
  for (const Error& error : machine->start({std::move(*jobs), std::move(*nodes), *seq}, now()))
    spdlog::error("{}", error.message);
  return {};
}

// ---- messages ---------------------------------------------------------------------------------

void ControllerState::deliver(const DeliveryPtr& message) {
  switch (message->envelope->body_case()) {
    case pb::Envelope::kGetEvents:
      return send_events(message);
    case pb::Envelope::kLoadPolicy:
      return load_policy(message);
    case pb::Envelope::kGetPolicy:
      return answer(*message, policy->text());
    case pb::Envelope::kGetSeries:
      if (const auto& job = message->envelope->get_series().job(); !machine->knows(job))
        return answer(*message, Error{Errc::not_found, "no job is named '" + job + "'"});
      return charts->send(message);
    case pb::Envelope::kJobReport:
      if (const auto& report = message->envelope->job_report();
          machine->is_current(report.status().job(), report.fence()))
        charts->report(report.status());
      break;
    default:
      break;
  }
  const bool joins =
      message->envelope->has_register_agent() || message->envelope->has_register_coordinator();
  const auto peer = joins ? number_of(message->sender) : PeerNumber{0};
  machine->on_message(peer, note(message), *message->envelope, now());
  carry_out();
}

PeerNumber ControllerState::number_of(const caf::actor& peer) {
  const auto [known, is_new] = numbers.emplace(peer.address(), last_peer + 1);
  if (is_new) {
    peers[++last_peer] = peer;
    self->monitor(peer);
  }
  return known->second;
}

RequestNumber ControllerState::note(const DeliveryPtr& message) {
  if (message->envelope->request() == 0) return 0;
  waiting[++last_request] = message;
  return last_request;
}

void ControllerState::down(const caf::down_msg& message) {
  const auto known = numbers.find(message.source);
  if (known == numbers.end()) return;
  const PeerNumber number = known->second;
  numbers.erase(known);
  peers.erase(number);
  machine->on_down(number, now());
  carry_out();
}

void ControllerState::send_events(const DeliveryPtr& message) {
  const auto& query = message->envelope->get_events();
  if (!query.job().empty() && !machine->knows(query.job()))
    return answer(*message, Error{Errc::not_found, "no job is named '" + query.job() + "'"});
  const auto limit =
      query.limit() == 0 ? kEventsLimit : std::min<std::size_t>(query.limit(), kEventsLimit);
  self->request(registry, kRegistryTimeout, ReadEvents{query.job(), query.after_seq(), limit})
      .then(
          [message](const EventsRead& read) {
            pb::EventList list;
            for (const auto& one : *read.events) *list.add_events() = one;
            answer(*message, list);
          },
          [message](const caf::error& error) { answer(*message, from_caf(error)); });
}

void ControllerState::load_policy(const DeliveryPtr& message) {
  const auto& yaml = message->envelope->load_policy().yaml();
  auto loaded = yaml.empty() ? policy->read() : policy->replace(yaml);
  if (!loaded) return answer(*message, loaded.error());
  machine->set_policy(std::move(*loaded), now());
  carry_out();
  answer(*message, pb::Done{});
}

void ControllerState::follow_policy() {
  auto changed = policy->read_if_changed();
  if (!changed) return;
  if (!*changed) {
    spdlog::error("the policy stays as it was: {}", changed->error().message);
    return;
  }
  spdlog::info("the policy is read again");
  machine->set_policy(std::move(**changed), now());
}

// ---- actions ----------------------------------------------------------------------------------

void ControllerState::carry_out() {
  while (!machine->actions.empty()) {
    auto actions = std::exchange(machine->actions, {});
    for (auto& action : actions) std::visit([this](auto& each) { act(each); }, action);
  }
}

DeliveryPtr ControllerState::take(RequestNumber request) {
  const auto known = waiting.extract(request);
  return known.empty() ? nullptr : known.mapped();
}

void ControllerState::act(Answer& action) {
  if (const auto message = take(action.request)) answer_with(*message, std::move(action.body));
}

void ControllerState::act(Refuse& action) {
  if (const auto message = take(action.request)) answer(*message, action.error);
}

void ControllerState::act(StoreJob& action) {
  if (is_over(action.record.state()) || action.record.state() == pb::JOB_STOPPED)
    charts->close(action.record.job());
  self->request(registry, kRegistryTimeout,
                PutJob{std::make_shared<const pb::JobRecord>(std::move(action.record))})
      .then([this, write = action.write] { stored(write); },
            [this, write = action.write](const caf::error& error) { not_stored(write, error); });
}

void ControllerState::act(StoreNode& action) {
  self->request(registry, kRegistryTimeout,
                PutNode{std::make_shared<const pb::NodeRecord>(std::move(action.record))})
      .then([this, write = action.write] { stored(write); },
            [this, write = action.write](const caf::error& error) { not_stored(write, error); });
}

void ControllerState::stored(std::uint64_t write) {
  machine->on_stored(write, now());
  carry_out();
}

void ControllerState::not_stored(std::uint64_t write, const caf::error& error) {
  const Error why = from_caf(error);
  spdlog::error("the registry did not store a record: {}", why.message);
  machine->on_not_stored(write, why);
  carry_out();
}

void ControllerState::act(StoreEvents& action) {
  self->request(registry, kRegistryTimeout,
                PutEvents{std::make_shared<const std::vector<pb::Event>>(std::move(action.events))})
      .then([] {},
            [](const caf::error& error) {
              spdlog::error("events were not stored: {}", from_caf(error).message);
            });
}

void ControllerState::act(Tell& action) {
  const auto peer = peers.find(action.peer);
  if (peer == peers.end()) return;  // its end is on its way to the machine
  auto message = std::make_shared<Outbound>();
  message->envelope = std::move(action.body);
  self->send(peer->second, OutboundPtr(std::move(message)));
}

void ControllerState::act(Forward& action) {
  const auto asked = take(action.request);
  const auto peer = peers.find(action.peer);
  if (peer == peers.end()) {
    if (asked) answer(*asked, Error{Errc::unavailable, "it has gone this moment; try again"});
    return;
  }
  auto message = std::make_shared<Outbound>();
  message->envelope = std::move(action.body);
  message->envelope.clear_request();
  message->envelope.clear_answers();
  self->request(peer->second, kPeerTimeout, OutboundPtr(std::move(message)))
      .then(
          [asked](const DeliveryPtr& reply) {
            if (asked) answer_with(*asked, *reply->envelope);
          },
          [asked](const caf::error& error) {
            if (asked) answer(*asked, from_caf(error));
          });
}

void ControllerState::act(StartCoordinator& action) {
  const std::string job = action.launch.job();
  const std::uint64_t fence = action.launch.fence();
  const auto answered = [this, job, fence](const Result<pb::RoleStarted>& result) {
    machine->on_start_answered(job, fence, result, now());
    carry_out();
  };
  const auto agent = peers.find(action.agent);
  if (agent == peers.end()) return;  // its end is on its way to the machine
  pb::StartRole start;
  *start.mutable_launch() = std::move(action.launch);
  self->request(agent->second, kPeerTimeout, outbound(start))
      .then([answered](const DeliveryPtr& reply) { answered(reply->envelope->role_started()); },
            [answered](const caf::error& error) { answered(fail(from_caf(error))); });
}

caf::behavior controller(caf::stateful_actor<ControllerState>* self,
                         const ControllerOptions& options) {
  auto& state = self->state;
  state.options = options;
  if (auto loaded = state.load(); !loaded) {
    self->quit(to_caf(loaded.error()));
    return {};
  }
  state.registry = spawn_registry(self->system(), options.registry);
  state.charts.emplace(self, state.registry);
  self->link_to(state.registry);
  self->set_down_handler([&state](const caf::down_msg& down) { state.down(down); });
  state.carry_out();
  if (options.recover)
    self->delayed_send(self, options.recovery, recovered_atom::value);
  else if (options.recovered)
    *options.recovered = true;
  options.switchboard->publish("controller", caf::actor_cast<caf::actor>(self));
  self->delayed_send(self, kTick, tick_atom::value);
  return {
      [&state](const DeliveryPtr& message) { state.deliver(message); },
      [&state](recovered_atom) {
        if (state.options.recovered) *state.options.recovered = true;
        state.machine->on_recovery_over(now());
        state.carry_out();
      },
      [self, &state](tick_atom) {
        self->delayed_send(self, kTick, tick_atom::value);
        state.follow_policy();
        state.machine->on_tick(now());
        state.carry_out();
      },
  };
}

}  // namespace

caf::actor spawn_controller(caf::actor_system& system, const ControllerOptions& options) {
  return system.spawn(controller, options);
}

}  // namespace crabcast::actors

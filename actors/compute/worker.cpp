// The worker process: the actor that talks to the coordinator; training itself is in trainer.cpp.
#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/compute/feature_cache.h"
#include "actors/compute/roles.h"
#include "actors/compute/trainer.h"

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;

struct WorkerState {
  static inline const char* name = "worker";
  explicit WorkerState(caf::event_based_actor* s) : self(s) {}

  caf::event_based_actor* self;
  std::shared_ptr<WorkerParts> parts;
  caf::actor trainer;
  std::unique_ptr<CoordinatorLink> link;
  std::uint64_t generation = 0;

  pb::RegisterMember registration() const {
    pb::RegisterMember body;
    body.set_base_hash(parts->session->base_hash());
    body.set_parameters(static_cast<std::uint64_t>(parts->session->parameters()));
    body.set_collective_endpoint(parts->collective_host->endpoint());
    body.set_holds_state(parts->control.applied() > 0);
    body.set_state_step(parts->control.applied());
    body.set_pending_step(parts->control.pending());
    body.set_generation(generation);
    body.set_device(parts->session_options.device);
    return body;
  }

  void deliver(const Delivery& message) {
    const auto& envelope = *message.envelope;
    switch (envelope.body_case()) {
      case pb::Envelope::kGeneration:
        generation = envelope.generation().number();
        parts->control.supersede(generation);
        self->send(trainer, GenerationPtr(message.envelope, &envelope.generation()));
        break;
      case pb::Envelope::kCommit:
        if (envelope.commit().step() > parts->control.applied())
          parts->control.commit(envelope.commit());
        else if (envelope.commit().checkpoint() != 0)
          self->send(trainer, SaveNow{envelope.commit().checkpoint()});
        break;
      case pb::Envelope::kSkipStep:
        parts->control.skip(envelope.skip_step().step());
        break;
      case pb::Envelope::kLoaderDirectory: {
        const auto& loaders = envelope.loader_directory().loaders();
        parts->batches->set_loaders({loaders.begin(), loaders.end()});
        break;
      }
      case pb::Envelope::kLeaveJob:
        spdlog::info("leaves the job: {}", envelope.leave_job().finished()
                                               ? "it is finished"
                                               : envelope.leave_job().reason());
        leave(caf::exit_reason::normal);
        break;
      default:
        break;  // answers to our own messages
    }
  }

  void leave(caf::exit_reason reason) {
    parts->control.stop();
    self->send_exit(trainer, caf::exit_reason::user_shutdown);
    self->quit(reason);
  }
};

caf::behavior worker(caf::stateful_actor<WorkerState>* self,
                     const std::shared_ptr<WorkerParts>& parts) {
  auto& state = self->state;
  auto me = caf::actor_cast<caf::actor>(self);
  state.parts = parts;
  parts->worker = me;
  state.trainer = spawn_trainer(self->system(), parts);
  parts->process->control->publish("member", me);
  state.link = std::make_unique<CoordinatorLink>(self, parts->process);
  self->set_down_handler([&state](const caf::down_msg& down) { state.link->on_down(down); });
  state.link->start([&state] { return state.registration(); });
  self->delayed_send(self, CoordinatorLink::kProgressEvery, tick_atom::value);
  return {
      [&state](const DeliveryPtr& message) { state.deliver(*message); },
      [&state](const ForCoordinator& message) { state.link->send_message(message.message); },
      [&state](const Connected& result) {
        state.link->on_connected(result);
        if (state.link->lost()) state.leave(caf::exit_reason::remote_link_unreachable);
      },
      [self, &state](tick_atom) {
        self->delayed_send(self, CoordinatorLink::kProgressEvery, tick_atom::value);
        state.link->report_progress(self->mailbox().size());
      },
  };
}

Result<std::shared_ptr<WorkerParts>> make_parts(caf::actor_system& system, MemberProcess& process) {
  auto base = process.base();
  if (!base) return fail(base.error());
  auto parts = std::make_shared<WorkerParts>();
  parts->process = &process;
  auto& options = parts->session_options;
  options.model = process.spec.model;
  options.model.base = *base;
  options.optimizer = process.spec.train.optimizer;
  options.seed = process.spec.train.seed;
  options.precision = process.spec.train.precision;
  options.recompute = process.spec.train.recompute;
  options.pack_tokens = static_cast<std::int64_t>(process.spec.train.pack_tokens.value_or(0));
  options.device = process.launch.slot().resources().gpus() > 0 ? "cuda:0" : "cpu";
  options.threads = process.threads();
  if (const auto bytes = process.spec.data.cache.features; bytes > 0) {
    auto features = open_feature_cache(process.launch.cache_dir() + "/features", bytes);
    if (!features)
      spdlog::warn("features are computed anew in every epoch: {}", features.error().message);
    else
      options.features = std::move(*features);
  }
  auto session = model::Session::open(options);
  if (!session) return fail(session.error());
  parts->session = std::move(*session);
  auto host =
      cluster::CollectiveHost::listen("tcp://" + process.launch.bind_host() + ":*", process.keys);
  if (!host) return fail(host.error());
  parts->collective_host = std::move(*host);
  // An eighth of the worker's memory, and no more than the steps ahead that it can use.
  parts->batches = std::make_unique<BatchClient>(
      system, process,
      BatchBudget((kStepsAhead + 1) * static_cast<std::size_t>(process.spec.train.lanes),
                  process.spec.resources.worker.memory_bytes / 8));
  parts->saver = spawn_saver(system, parts);
  parts->peer = spawn_peer(system);
  process.bulk->publish("peer", parts->peer);
  return parts;
}

}  // namespace

int run_worker(caf::actor_system& system, MemberProcess& process) {
  process.progress->begin("open the base", 0);
  auto parts = [&] {
    const Preparation preparation(system, process);
    return make_parts(system, process);
  }();
  if (!parts) {
    process.report_fatal(system, "open the base", parts.error());
    return kMemberFailed;
  }
  caf::scoped_actor self{system};
  auto actor = system.spawn(worker, *parts);
  int code = kMemberDone;
  self->monitor(actor);
  actor = nullptr;
  self->receive([&](const caf::down_msg& down) {
    if (down.reason != caf::exit_reason::normal) code = kMemberFailed;
  });
  self->send_exit((*parts)->saver, caf::exit_reason::user_shutdown);
  self->send_exit((*parts)->peer, caf::exit_reason::user_shutdown);
  return code;
}

}  // namespace crabcast::actors

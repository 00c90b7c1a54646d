#include "actors/compute/trainer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <caf/all.hpp>
#include <cmath>
#include <map>
#include <optional>

#include "actors/compute/device_collective.h"
#include "actors/compute/gradient_exchange.h"
#include "actors/compute/tensor_frames.h"
#include "protocol/checksum.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

constexpr auto kFormTimeout = std::chrono::seconds(60);     // joiners copy state meanwhile
constexpr auto kVerdictTimeout = std::chrono::seconds(75);  // longer than a coordinator's restart

double since(TimePoint start) {
  return seconds(Clock::now() - start);
}

// One generation of one worker. Lives on the trainer's thread.
class GenerationRun {
 public:
  GenerationRun(caf::actor_system& system, WorkerParts& parts, const pb::Generation& generation,
                const pb::GenerationMember& me)
      : system_(system),
        parts_(parts),
        session_(*parts.session),
        generation_(generation),
        me_(me),
        train_(parts.process->spec.train) {}

  void run();

 private:
  Status load_state();
  std::vector<const pb::GenerationMember*> sources() const;
  bool offers_state() const;
  Status copy_state(std::uint64_t step);
  Status form();
  Status step(std::uint64_t number);
  Result<pb::LaneReport> lane(std::uint64_t step, std::uint32_t lane, GradientExchange& exchange);
  void ask_ahead(std::uint64_t step, std::uint32_t lane);
  Status decide(std::uint64_t step, const at::Tensor& gradient, const StepTotals& totals);
  SnapshotPtr snapshot(std::uint64_t step) const;
  void report(const google::protobuf::Message& body) {
    caf::anon_send(parts_.worker, ForCoordinator{outbound(body)});
  }
  void report_fault(const Error& error);
  bool superseded() const { return parts_.control.superseded(generation_.number()); }
  Duration patience() const {
    return std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(parts_.process->spec.failure.hang_after_seconds));
  }

  caf::actor_system& system_;
  WorkerParts& parts_;
  model::Session& session_;
  const pb::Generation& generation_;
  const pb::GenerationMember& me_;
  const TrainSpec& train_;
  std::shared_ptr<cluster::Collective> collective_;  // shared with who may abort it
  std::vector<cluster::LaneRange> owned_;
  std::string operation_;
  bool fatal_ = false;
  pb::StageSeconds stages_;

  void begin(const std::string& operation, std::uint64_t step = 0) {
    operation_ = operation;
    parts_.process->progress->begin(operation, step);
  }
};

void GenerationRun::run() {
  Status status = load_state();
  if (status) status = form();
  for (auto number = generation_.first_step(); status && number <= generation_.steps(); ++number)
    status = step(number);
  parts_.control.on_supersede(UINT64_MAX, {});
  if (status) {
    begin("finished; waits for the job to end (wait for commit)");
  } else if (!superseded()) {
    report_fault(status.error());
  }
}

void GenerationRun::report_fault(const Error& error) {
  spdlog::warn("generation {}: {}: {}", generation_.number(), operation_, error.message);
  pb::MemberFault fault;
  fault.set_role(me_.role());
  fault.set_generation(generation_.number());
  fault.set_code(static_cast<std::uint32_t>(error.code));
  fault.set_message(error.message);
  fault.set_operation(operation_);
  fault.set_fatal(fatal_);
  report(fault);
}

SnapshotPtr GenerationRun::snapshot(std::uint64_t step) const {
  auto copy = std::make_shared<StateSnapshot>();
  copy->step = step;
  copy->generation = generation_.number();
  copy->tensors = session_.state();
  return copy;
}

Status GenerationRun::load_state() {
  const auto before = generation_.first_step() - 1;
  const auto started = Clock::now();
  begin("load state");
  CRABCAST_TRY(fault_point("state.load"));
  session_.set_schedule_steps(generation_.steps());
  if (me_.needs_state()) {
    if (generation_.state_source() == "checkpoint") {
      auto loaded = load_checkpoint(system_, *parts_.process, generation_.source_checkpoint(),
                                    [](const std::string&) { return true; });
      if (!loaded) return fail(loaded.error());
      if (loaded->manifest.base_hash() != session_.base_hash()) {
        fatal_ = true;
        return fail(Errc::invalid_argument, "the checkpoint belongs to base " +
                                                loaded->manifest.base_hash() +
                                                ", this job's base is " + session_.base_hash());
      }
      CRABCAST_TRY(session_.load_state(loaded->tensors, false));
    } else if (generation_.state_source() == "peer") {
      CRABCAST_TRY(copy_state(before));
    } else if (parts_.control.applied() != 0) {
      fatal_ = true;  // cannot happen: who has applied a step holds state
      return fail(Errc::internal, "asked to begin afresh after steps were applied");
    } else if (const Status initial = session_.load_initial_adapter(); !initial) {
      fatal_ = true;  // it will not fit the next time either
      return initial;
    }
    parts_.control.reset_to(before);
  } else if (parts_.control.applied() != before) {
    return fail(Errc::internal, "holds the state after step " +
                                    std::to_string(parts_.control.applied()) + ", not " +
                                    std::to_string(before));
  }
  if (offers_state())
    caf::anon_send(parts_.peer, OfferState{snapshot(before), generation_.number()});
  pb::GenerationReady ready;
  ready.set_generation(generation_.number());
  ready.set_state_step(before);
  ready.set_load_seconds(since(started));
  report(ready);
  return {};
}

// Those that serve the state to joiners, in the order in which they are asked. A copy of the state
// costs memory, so there is one stand-in and no more.
std::vector<const pb::GenerationMember*> GenerationRun::sources() const {
  constexpr std::size_t kSources = 2;
  std::vector<const pb::GenerationMember*> found;
  for (const auto& member : generation_.members())
    if (!member.needs_state()) found.push_back(&member);
  std::stable_partition(found.begin(), found.end(), [&](const auto* member) {
    return member->role() == generation_.source_role();
  });
  if (found.size() > kSources) found.resize(kSources);
  return found;
}

bool GenerationRun::offers_state() const {
  const auto& members = generation_.members();
  if (std::none_of(members.begin(), members.end(),
                   [](const auto& member) { return member.needs_state(); }))
    return false;
  const auto offering = sources();
  return std::find(offering.begin(), offering.end(), &me_) != offering.end();
}

Status GenerationRun::copy_state(std::uint64_t step) {
  Status status = fail(Errc::unavailable, "no member of the generation holds the state");
  for (const auto* source : sources()) {
    auto& process = *parts_.process;
    status = parts_.copy.fetch(system_, *process.bulk, *process.progress, source->bulk_endpoint(),
                               generation_.number(), step, [this] { return superseded(); });
    if (status) return session_.load_state(parts_.copy.take(), false);
    if (superseded()) break;
    spdlog::warn("{}: {}; {} of {} chunks are missing", source->role(), status.error().message,
                 parts_.copy.missing(), parts_.copy.chunks());
  }
  return status;
}

Status GenerationRun::form() {
  begin("form");
  CRABCAST_TRY(fault_point("collective.form"));
  std::vector<cluster::CollectiveMember> members(
      static_cast<std::size_t>(generation_.members_size()));
  owned_.resize(members.size());
  for (const auto& member : generation_.members()) {
    members[member.rank()] = {member.role(), member.collective_endpoint()};
    owned_[member.rank()] = {member.first_lane(), member.lanes()};
  }
  auto* host = parts_.collective_host.get();
  parts_.control.on_supersede(generation_.number(),
                              [host] { host->abort_forming("a newer generation is there"); });
  const auto operation_timeout = patience() + std::chrono::seconds(5);
  auto met = host->form(generation_.number(), me_.rank(), members, kFormTimeout, operation_timeout);
  if (!met) return fail(met.error());
  auto formed = collective_for(parts_.session_options.device, std::move(*met), kFormTimeout,
                               operation_timeout, [this] { return superseded(); });
  if (!formed) return fail(formed.error());
  collective_ = std::move(*formed);
  if (offers_state()) caf::anon_send(parts_.peer, OfferState{nullptr, generation_.number()});
  auto* batches = parts_.batches.get();
  parts_.control.on_supersede(generation_.number(), [collective = collective_, batches] {
    collective->abort("a newer generation is there");
    batches->wake();
  });
  batches->keep_only(me_.first_lane(), me_.lanes(), generation_.first_step());
  std::vector<pb::LoaderEntry> loaders(generation_.loaders().begin(), generation_.loaders().end());
  if (!loaders.empty()) parts_.batches->set_loaders(std::move(loaders));
  return {};
}

// In the order of use: this step's lanes from `lane` on, then the steps to come.
void GenerationRun::ask_ahead(std::uint64_t step, std::uint32_t lane) {
  const auto last = std::min(step + kStepsAhead, generation_.steps());
  for (; step <= last; ++step, lane = 0)
    for (; lane < me_.lanes(); ++lane)
      if (!parts_.batches->want(step, me_.first_lane() + lane)) return;
}

Result<pb::LaneReport> GenerationRun::lane(std::uint64_t step, std::uint32_t lane,
                                           GradientExchange& exchange) {
  auto started = Clock::now();
  begin("wait for batch", step);
  auto batch = parts_.batches->get(step, lane, 2 * patience(), [this] { return superseded(); });
  if (!batch) {
    const auto code = batch.error().code;
    fatal_ = code == Errc::data_error || code == Errc::invalid_argument;
    return fail(batch.error());
  }
  stages_.set_data(stages_.data() + since(started));
  begin("forward and backward", step);
  if (Status staged = fault_point("step.forward"); !staged) return fail(staged.error());
  auto result = session_.lane_gradient(batch->input, step, lane);
  if (!result) return fail(result.error());
  stages_.set_forward(stages_.forward() + result->forward_seconds);
  stages_.set_backward(stages_.backward() + result->backward_seconds);
  exchange.add_lane(*result);

  pb::LaneReport report;
  report.set_lane(lane);
  for (const auto& sample : batch->samples) *report.add_samples() = sample;
  for (const auto& substitution : batch->substitutions) *report.add_substitutions() = substitution;
  *report.mutable_work() = batch->work;
  for (const auto& bad : batch->bad) *report.add_bad() = bad;
  std::map<std::string, pb::TaskLoss> losses;
  for (std::size_t i = 0; i < result->samples.size() && i < batch->tasks.size(); ++i) {
    auto& loss = losses[batch->tasks[i]];
    loss.set_task(batch->tasks[i]);
    loss.set_loss_sum(loss.loss_sum() + result->samples[i].loss_sum);
    loss.set_tokens(loss.tokens() + static_cast<std::uint64_t>(result->samples[i].tokens));
    loss.set_samples(loss.samples() + 1);
  }
  for (auto& [task, loss] : losses) *report.add_losses() = std::move(loss);
  return report;
}

Status GenerationRun::step(std::uint64_t number) {
  if (superseded()) return fail(Errc::cancelled, "a newer generation is there");
  GradientExchange exchange(train_.reduction, train_.lanes, owned_, me_.rank(),
                            static_cast<std::size_t>(session_.parameters()),
                            session_.parameter_tensors());
  pb::StepReady ready;
  for (std::uint32_t i = 0; i < me_.lanes(); ++i) {
    ask_ahead(number, i);
    auto report = lane(number, me_.first_lane() + i, exchange);
    if (!report) return fail(report.error());
    *ready.add_lanes() = std::move(*report);
    if (superseded()) return fail(Errc::cancelled, "a newer generation is there");
  }
  ask_ahead(number, me_.lanes());

  begin("reduce", number);
  const auto started = Clock::now();
  at::Tensor gradient;
  auto totals = exchange.finish(*collective_, gradient);
  if (!totals) return fail(totals.error());
  stages_.set_reduce(since(started));

  begin("report", number);
  CRABCAST_TRY(fault_point("step.report"));
  const double norm = totals->tokens > 0
                          ? session_.gradient_norm(gradient, static_cast<double>(totals->tokens))
                          : 0;
  totals->finite = totals->finite && std::isfinite(norm);
  ready.set_generation(generation_.number());
  ready.set_step(number);
  ready.set_gradient_norm(norm);
  ready.set_finite(totals->finite);
  ready.set_gradient_checksum(checksum64(bytes_of(gradient)));
  ready.set_parameter_checksum(session_.parameter_checksum());
  ready.set_learning_rate(session_.learning_rate(number));
  *ready.mutable_stages() = stages_;
  stages_.Clear();
  report(ready);
  return decide(number, gradient, *totals);
}

Status GenerationRun::decide(std::uint64_t step, const at::Tensor& gradient,
                             const StepTotals& totals) {
  begin("wait for commit", step);
  auto started = Clock::now();
  const auto verdict = parts_.control.wait(generation_.number(), step, kVerdictTimeout);
  if (verdict == StepControl::Verdict::interrupted)
    return fail(Errc::cancelled, "a newer generation is there");
  if (verdict == StepControl::Verdict::timeout)
    return fail(Errc::timeout, "the coordinator did not decide step " + std::to_string(step));
  stages_.set_commit(since(started));
  started = Clock::now();
  begin("optimizer", step);
  CRABCAST_TRY(fault_point("step.apply"));
  if (verdict == StepControl::Verdict::commit && totals.tokens > 0)
    session_.apply_update(gradient, static_cast<double>(totals.tokens), totals.touched, step);
  stages_.set_optimizer(since(started));
  parts_.control.set_applied(step);
  if (const auto id = parts_.control.checkpoint_of(step); id != 0) {
    begin("snapshot", step);
    caf::anon_send(parts_.saver, SaveSnapshot{snapshot(step), id});
  }
  return {};
}

struct TrainerState {
  static inline const char* name = "trainer";
  std::shared_ptr<WorkerParts> parts;
};

caf::behavior trainer(caf::stateful_actor<TrainerState>* self,
                      const std::shared_ptr<WorkerParts>& parts) {
  self->state.parts = parts;
  return {
      [self](const GenerationPtr& generation) {
        auto& parts = *self->state.parts;
        if (parts.control.superseded(generation->number()))
          return;  // a newer one is in the mailbox
        for (const auto& member : generation->members()) {
          if (member.role() != parts.process->role()) continue;
          GenerationRun(self->system(), parts, *generation, member).run();
          return;
        }
      },
      [self](const SaveNow& save) {
        auto& parts = *self->state.parts;
        auto copy = std::make_shared<StateSnapshot>();
        copy->step = parts.control.applied();
        copy->tensors = parts.session->state();
        caf::anon_send(parts.saver, SaveSnapshot{std::move(copy), save.id});
      },
  };
}

struct SaverState {
  static inline const char* name = "saver";
  std::shared_ptr<WorkerParts> parts;
};

caf::behavior saver(caf::stateful_actor<SaverState>* self,
                    const std::shared_ptr<WorkerParts>& parts) {
  self->state.parts = parts;
  return {
      [self](const SaveSnapshot& save) {
        auto& parts = *self->state.parts;
        const Status staged = fault_point("checkpoint.save");
        auto saved = !staged ? staged
                             : save_checkpoint(self->system(), *parts.process, *save.snapshot,
                                               save.id, parts.session->base_hash());
        // The store told the coordinator of an error of its own; one on the way it cannot know.
        if (saved) return;
        spdlog::warn("checkpoint {} was not saved: {}", save.id, saved.error().message);
        pb::CheckpointAbandon abandon;
        abandon.set_id(save.id);
        abandon.set_reason(saved.error().message);
        auto& process = *parts.process;
        caf::anon_send(process.bulk->proxy(process.coordinator_bulk.process, "checkpoints"),
                       outbound(abandon));
      },
  };
}

// Serves this worker's state to joiners, out of a copy, so that training is not disturbed.
struct PeerState {
  static inline const char* name = "peer";
  std::optional<StateOffer> offer;
  std::uint64_t generation = 0;      // the newest that something was offered for
  std::vector<DeliveryPtr> waiting;  // for a generation to come; one for each that joins it

  static std::uint64_t generation_of(const pb::Envelope& request) {
    return request.has_state_request() ? request.state_request().generation()
                                       : request.state_chunk_request().generation();
  }
  void offered(const OfferState& state) {
    generation = state.generation;
    offer.reset();
    if (state.snapshot) offer.emplace(*state.snapshot, generation);
    for (const auto& request : std::exchange(waiting, {})) serve(request);
  }
  void serve(const DeliveryPtr& request) {
    if (generation_of(*request->envelope) > generation) {
      if (waiting.size() < kWaiting) return waiting.push_back(request);
      return answer(*request, Error{Errc::queue_full, "too many wait for the state"});
    }
    if (!offer)
      return answer(*request,
                    Error{Errc::stale_generation, "no state is offered any more in generation " +
                                                      std::to_string(generation)});
    offer->serve(*request);
  }
  static constexpr std::size_t kWaiting = 64;
};

caf::behavior peer(caf::stateful_actor<PeerState>* self, int) {
  return {
      [self](const OfferState& offer) { self->state.offered(offer); },
      [self](const DeliveryPtr& message) {
        const auto& envelope = *message->envelope;
        if (envelope.has_state_request() || envelope.has_state_chunk_request())
          self->state.serve(message);
        else
          answer(*message, Error{Errc::unsupported, "a peer serves its state only"});
      },
  };
}

}  // namespace

caf::actor spawn_trainer(caf::actor_system& system, const std::shared_ptr<WorkerParts>& parts) {
  return system.spawn<caf::detached>(trainer, parts);
}

caf::actor spawn_saver(caf::actor_system& system, const std::shared_ptr<WorkerParts>& parts) {
  return system.spawn<caf::detached>(saver, parts);
}

caf::actor spawn_peer(caf::actor_system& system) {
  return system.spawn(peer, 0);
}

}  // namespace crabcast::actors

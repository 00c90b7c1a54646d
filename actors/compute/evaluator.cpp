// The evaluator process: loads a verified checkpoint, generates, scores, reports, while training
// goes on.
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <atomic>
#include <caf/all.hpp>
#include <optional>

#include "actors/compute/corpus_access.h"
#include "actors/compute/evaluation.h"
#include "actors/compute/roles.h"
#include "actors/compute/state_transfer.h"
#include "model/session.h"

namespace crabcast::actors {

struct EvaluatorParts {
  MemberProcess* process = nullptr;
  std::unique_ptr<model::Session> session;  // used by the evaluating thread only
  std::unique_ptr<data::Corpus> corpus;
  std::unique_ptr<SampleReader> reader;
  std::optional<References> references;  // measured before the first checkpoint
  std::atomic<bool> leaving{false};
};
using EvaluatePtr = std::shared_ptr<const pb::Evaluate>;
struct EvaluationOutcome {
  std::shared_ptr<const pb::EvaluationDone> done;
};

}  // namespace crabcast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::EvaluatePtr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(crabcast::actors::EvaluationOutcome)

namespace crabcast::actors {
namespace {

using tick_atom = caf::atom_constant<caf::atom("tick")>;
using prepare_atom = caf::atom_constant<caf::atom("prepare")>;

constexpr int kNiceness = 10;  // training goes first where they share cores

// While the session still holds the adapter that no step has changed.
Status prepare_references(EvaluatorParts& parts) {
  if (parts.references) return {};
  CRABCAST_TRY(parts.session->load_initial_adapter());
  pb::Evaluate request;
  const auto& spec = parts.process->spec.evaluate;
  for (const auto& task : spec.tasks) request.add_tasks(task);
  request.set_samples_per_task(spec.samples_per_task);
  auto measured =
      measure_references(*parts.session, *parts.reader, *parts.corpus, request,
                         *parts.process->progress, [&] { return parts.leaving.load(); });
  CRABCAST_TRY(measured);
  parts.references = std::move(*measured);
  return {};
}

Result<pb::EvaluationRecord> run_evaluation(caf::actor_system& system, EvaluatorParts& parts,
                                            const pb::Evaluate& request) {
  CRABCAST_TRY(prepare_references(parts));
  parts.process->progress->begin("load checkpoint " + std::to_string(request.checkpoint()), 0);
  auto loaded =
      load_checkpoint(system, *parts.process, request.checkpoint(),
                      [](const std::string& name) { return name.starts_with("adapter/"); });
  if (!loaded) return fail(loaded.error());
  if (loaded->manifest.base_hash() != parts.session->base_hash())
    return fail(Errc::invalid_argument, "the checkpoint belongs to another base");
  CRABCAST_TRY(parts.session->load_state(loaded->tensors, true));
  return evaluate(*parts.session, *parts.reader, *parts.corpus, request, *parts.references,
                  *parts.process->progress, [&] { return parts.leaving.load(); });
}

struct EvaluatingState {
  static inline const char* name = "evaluating";
  std::shared_ptr<EvaluatorParts> parts;
};

// On a thread of its own, so that the evaluator itself always answers.
caf::behavior evaluating(caf::stateful_actor<EvaluatingState>* self,
                         const std::shared_ptr<EvaluatorParts>& parts,
                         const caf::actor& evaluator) {
  self->state.parts = parts;
  self->send(self, prepare_atom::value);  // there is time until the first checkpoint
  return {
      [self](prepare_atom) {
        // A problem is met again, and told, when a checkpoint is to be evaluated.
        if (const Status ready = prepare_references(*self->state.parts); !ready)
          spdlog::warn("nothing to compare with: {}", ready.error().message);
        self->state.parts->process->progress->begin("wait for a checkpoint", 0);
      },
      [self, evaluator](const EvaluatePtr& request) {
        auto& parts = *self->state.parts;
        auto done = std::make_shared<pb::EvaluationDone>();
        auto record = run_evaluation(self->system(), parts, *request);
        if (record)
          *done->mutable_record() = std::move(*record);
        else
          *done->mutable_failure() = failure_of(record.error());
        parts.process->progress->begin("wait for a checkpoint", 0);
        self->send(evaluator, EvaluationOutcome{std::move(done)});
      },
  };
}

struct EvaluatorState {
  static inline const char* name = "evaluator";
  std::shared_ptr<EvaluatorParts> parts;
  std::unique_ptr<CoordinatorLink> link;
  caf::actor evaluating;
};

caf::behavior evaluator(caf::stateful_actor<EvaluatorState>* self,
                        const std::shared_ptr<EvaluatorParts>& parts) {
  auto& state = self->state;
  auto me = caf::actor_cast<caf::actor>(self);
  state.parts = parts;
  state.evaluating = self->spawn<caf::detached>(evaluating, parts, me);
  parts->process->control->publish("member", me);
  state.link = std::make_unique<CoordinatorLink>(self, parts->process);
  self->set_down_handler([&state](const caf::down_msg& down) { state.link->on_down(down); });
  state.link->start([&state] {
    pb::RegisterMember body;
    body.set_base_hash(state.parts->session->base_hash());
    *body.mutable_corpus() = describe_corpus(*state.parts->corpus);
    return body;
  });
  self->delayed_send(self, CoordinatorLink::kProgressEvery, tick_atom::value);
  const auto leave = [self, &state](caf::exit_reason reason) {
    state.parts->leaving = true;
    self->send_exit(state.evaluating, caf::exit_reason::user_shutdown);
    self->quit(reason);
  };
  return {
      [self, &state, leave](const DeliveryPtr& message) {
        if (message->envelope->has_evaluate())
          self->send(state.evaluating,
                     EvaluatePtr(message->envelope, &message->envelope->evaluate()));
        else if (message->envelope->has_leave_job())
          leave(caf::exit_reason::normal);
      },
      [&state](const EvaluationOutcome& outcome) { state.link->send(*outcome.done); },
      [&state, leave](const Connected& result) {
        state.link->on_connected(result);
        if (state.link->lost()) leave(caf::exit_reason::remote_link_unreachable);
      },
      [self, &state](tick_atom) {
        self->delayed_send(self, CoordinatorLink::kProgressEvery, tick_atom::value);
        state.link->report_progress(self->mailbox().size());
      },
  };
}

Result<std::shared_ptr<EvaluatorParts>> make_parts(MemberProcess& process) {
  auto parts = std::make_shared<EvaluatorParts>();
  parts->process = &process;
  auto corpus = open_corpus(process);
  if (!corpus) return fail(corpus.error());
  parts->corpus = std::move(*corpus);
  auto base = process.base();
  if (!base) return fail(base.error());
  model::SessionOptions options;
  options.model = process.spec.model;
  options.model.base = *base;
  options.optimizer = process.spec.train.optimizer;
  options.seed = process.spec.train.seed;
  options.precision = process.spec.train.precision;
  options.device = process.launch.slot().resources().gpus() > 0 ? "cuda:0" : "cpu";
  options.threads = process.threads();
  auto session = model::Session::open(options);
  if (!session) return fail(session.error());
  parts->session = std::move(*session);
  auto reader = SampleReader::open(process, parts->session->front_end(), 1);
  if (!reader) return fail(reader.error());
  parts->reader = std::move(*reader);
  return parts;
}

}  // namespace

int run_evaluator(caf::actor_system& system, MemberProcess& process) {
  if (::setpriority(PRIO_PROCESS, 0, kNiceness) != 0)
    spdlog::warn("the evaluator could not lower its priority");
  process.progress->begin("open the corpus and the base", 0);
  auto parts = [&] {
    const Preparation preparation(system, process);
    return make_parts(process);
  }();
  if (!parts) {
    process.report_fatal(system, "open the corpus and the base", parts.error());
    return kMemberFailed;
  }
  caf::scoped_actor self{system};
  auto actor = system.spawn(evaluator, *parts);
  self->monitor(actor);
  actor = nullptr;
  int code = kMemberDone;
  self->receive([&](const caf::down_msg& down) {
    if (down.reason != caf::exit_reason::normal) code = kMemberFailed;
  });
  return code;
}

}  // namespace crabcast::actors

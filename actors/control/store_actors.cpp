#include "actors/control/store_actors.h"

#include <spdlog/spdlog.h>

#include <caf/all.hpp>

#include "actors/control/incoming_checkpoints.h"
#include "actors/control/step_watch.h"
#include "protocol/fault_points.h"
#include "protocol/sums.h"

namespace crabcast::actors {
namespace {

using storage::Sync;

caf::result<void> to_result(const Status& status) {
  if (status) return caf::unit;
  return to_caf(status.error());
}

Status append_commit(storage::JobStore& store, const pb::CommitRecord& record) {
  CRABCAST_TRY(fault_point("ledger.commit.before"));
  CRABCAST_TRY(store.append_commit(record, Sync::yes));
  return fault_point("ledger.commit.after");
}

struct LedgerState {
  static inline const char* name = "ledger";
  std::shared_ptr<storage::JobStore> store;
  storage::RetentionPolicy retention;
};

caf::behavior ledger(caf::stateful_actor<LedgerState>* self,
                     std::shared_ptr<storage::JobStore> store, const CheckpointSpec& spec) {
  self->state.store = std::move(store);
  self->state.retention = storage::retention_of(spec);
  return {
      // J-1: a commit is history only when it survives power loss.
      [self](const AppendCommit& append) {
        return to_result(append_commit(*self->state.store, *append.record));
      },
      [self](const StoreQuarantine& quarantine) {
        return to_result(self->state.store->put_quarantine(quarantine.samples, Sync::yes));
      },
      [self](const RewindTo& rewind) {
        return to_result(self->state.store->rewind_ledger(Step{rewind.step}));
      },
      [self](const DropCheckpoints& drop) {
        return to_result(self->state.store->drop_checkpoints_after(CheckpointId{drop.after}));
      },
      [self](const AppendEvent& append) -> caf::result<void> {
        auto seq = self->state.store->append_event(*append.event, Sync::no);
        if (!seq) return to_caf(seq.error());
        return caf::unit;
      },
      [self](const StoreEvaluation& evaluation) {
        return to_result(self->state.store->put_evaluation(*evaluation.record, Sync::yes));
      },
      [self](const StoreValue& entry) {
        return to_result(self->state.store->put_value(entry.key, entry.value, Sync::yes));
      },
      [self](const SetPin& set) {
        const CheckpointId id{set.checkpoint};
        return to_result(set.pin ? self->state.store->pin(id, *set.pin)
                                 : self->state.store->unpin(id));
      },
      [self](const MarkDamaged& mark) {
        return to_result(self->state.store->mark_damaged(mark.report));
      },
      [self](const Retain& retain) -> caf::result<void> {
        if (const Status staged = fault_point("checkpoint.retain"); !staged)
          return to_caf(staged.error());
        std::set<CheckpointId> in_use;
        for (const auto id : retain.in_use) in_use.insert(CheckpointId{id});
        auto removed = self->state.store->apply_retention(self->state.retention, in_use);
        if (!removed) return to_caf(removed.error());
        for (const auto& id : *removed) spdlog::info("checkpoint {} deleted", id.value());
        return caf::unit;
      },
      [self](const FindNewest& find) -> caf::result<FoundCheckpoint> {
        FoundCheckpoint found;
        const auto problem = [&](const storage::VerifyReport& bad) {
          for (const auto& one : bad.problems)
            found.problems.push_back("checkpoint " + std::to_string(bad.id.value()) + ": " + one);
          // A mark saves the next search the reading; without it nothing is lost.
          if (bad.damaged) (void)self->state.store->mark_damaged(bad);
        };
        auto newest = self->state.store->newest_verified_up_to(CheckpointId{find.at_most}, problem);
        if (!newest) return to_caf(newest.error());
        if (*newest) found.id = (*newest)->id();
        if (found.id && find.adapt_every > 0) {
          auto window = losses_between(*self->state.store,
                                       last_decision(*found.id, find.adapt_every), *found.id);
          if (!window) return to_caf(window.error());
          found.window = std::move(*window);
        }
        auto losses = losses_for_watch(*self->state.store, found.id.value_or(0));
        if (!losses) return to_caf(losses.error());
        found.losses = std::move(*losses);
        return found;
      },
  };
}

struct CheckpointsState {
  static inline const char* name = "checkpoints";
  std::shared_ptr<storage::JobStore> store;
  std::string spec_hash;
  caf::actor job;
  IncomingCheckpoints incoming;

  void begin(const Delivery& request);
  void chunk(const Delivery& request);
  void seal(const Delivery& request);
  void abandon(const pb::CheckpointAbandon& body, const caf::actor& sender);
  void give_up(std::uint64_t id, const Error& error);
  void open_for_reading(const Delivery& request) const;
  void read_chunk(const Delivery& request) const;
};

void CheckpointsState::begin(const Delivery& request) {
  const auto id = request.envelope->checkpoint_begin().id();
  Status begun = fault_point("checkpoint.begin");
  if (begun) begun = incoming.begin(*store, id, request.sender.address());
  if (begun) return answer(request, pb::Done{});
  answer(request, begun.error());
  give_up(id, begun.error());
}

void CheckpointsState::chunk(const Delivery& request) {
  const auto& body = request.envelope->checkpoint_chunk();
  if (const Status mine = incoming.check_sender(body.id(), request.sender.address()); !mine)
    return answer(request, mine.error());
  Status put = fault_point("checkpoint.chunk");
  if (put) put = incoming.put_chunk(body, request.frames);
  if (put) return answer(request, pb::Done{});
  answer(request, put.error());
  give_up(body.id(), put.error());
}

void CheckpointsState::seal(const Delivery& request) {
  auto manifest = request.envelope->checkpoint_seal().manifest();
  if (const Status mine = incoming.check_sender(manifest.id(), request.sender.address()); !mine)
    return answer(request, mine.error());
  manifest.set_spec_hash(spec_hash);
  manifest.set_ledger_step(manifest.step());
  manifest.set_unix_ms(unix_ms_now());
  Status committed = fault_point("checkpoint.commit.before");
  if (committed) committed = incoming.commit(manifest);
  if (!committed) {
    answer(request, committed.error());
    give_up(manifest.id(), committed.error());
    return;
  }
  // Whoever dies here has stored it and told nobody.
  if (Status staged = fault_point("checkpoint.commit.after"); !staged)
    spdlog::warn("{}", staged.error().message);
  answer(request, pb::Done{});
  caf::anon_send(job, CheckpointOutcome{manifest.id(), std::nullopt});
}

void CheckpointsState::abandon(const pb::CheckpointAbandon& body, const caf::actor& sender) {
  if (incoming.has(body.id()) && !incoming.check_sender(body.id(), sender.address())) return;
  give_up(body.id(), {Errc::cancelled, body.reason()});
}

void CheckpointsState::give_up(std::uint64_t id, const Error& error) {
  incoming.drop(id);
  caf::anon_send(job, CheckpointOutcome{id, error});
}

void CheckpointsState::open_for_reading(const Delivery& request) const {
  auto id = request.envelope->checkpoint_read().id();
  if (id == 0) {
    auto newest = store->newest_verified([](const storage::VerifyReport&) {});
    if (!newest) return answer(request, newest.error());
    if (!*newest) return answer(request, Error{Errc::not_found, "the job has no checkpoint yet"});
    id = (*newest)->id();
  }
  auto manifest = store->manifest(CheckpointId{id});
  if (!manifest) return answer(request, manifest.error());
  pb::CheckpointOpened opened;
  *opened.mutable_manifest() = std::move(*manifest);
  answer(request, opened);
}

void CheckpointsState::read_chunk(const Delivery& request) const {
  const auto& body = request.envelope->chunk_read();
  auto manifest = store->manifest(CheckpointId{body.id()});
  if (!manifest) return answer(request, manifest.error());
  if (body.index() >= static_cast<std::uint32_t>(manifest->chunks_size()))
    return answer(request, Error{Errc::invalid_argument,
                                 "checkpoint " + std::to_string(body.id()) + " has only " +
                                     std::to_string(manifest->chunks_size()) + " chunks"});
  auto bytes = store->read_chunk(CheckpointId{body.id()}, body.index());
  if (!bytes) return answer(request, bytes.error());
  pb::ChunkData data;
  data.set_id(body.id());
  *data.mutable_entry() = manifest->chunks(static_cast<int>(body.index()));
  auto shared = std::make_shared<const std::string>(std::move(*bytes));
  answer(request, data, {cluster::Frame(shared, shared->data(), shared->size())});
}

caf::behavior checkpoints(caf::stateful_actor<CheckpointsState>* self,
                          std::shared_ptr<storage::JobStore> store, const std::string& spec_hash,
                          const caf::actor& job) {
  self->state.store = std::move(store);
  self->state.spec_hash = spec_hash;
  self->state.job = job;
  // A worker that died while it saved: the job actor knows by itself; here its writer is closed.
  self->set_down_handler(
      [self](const caf::down_msg& down) { self->state.incoming.drop_from(down.source); });
  return {
      [self](const DeliveryPtr& request) {
        switch (request->envelope->body_case()) {
          case pb::Envelope::kCheckpointBegin:
            self->monitor(request->sender);
            return self->state.begin(*request);
          case pb::Envelope::kCheckpointChunk:
            return self->state.chunk(*request);
          case pb::Envelope::kCheckpointSeal:
            return self->state.seal(*request);
          case pb::Envelope::kCheckpointAbandon:
            return self->state.abandon(request->envelope->checkpoint_abandon(), request->sender);
          case pb::Envelope::kCheckpointRead:
            return self->state.open_for_reading(*request);
          case pb::Envelope::kChunkRead:
            return self->state.read_chunk(*request);
          default:
            answer(*request,
                   Error{Errc::unsupported, "the checkpoint store takes no such message"});
        }
      },
      [self](const DropCheckpoints& drop) { self->state.incoming.drop_after(drop.after); },
  };
}

}  // namespace

Result<TaskLosses> losses_between(const storage::JobStore& store, std::uint64_t after,
                                  std::uint64_t until) {
  TaskLosses sums;
  CRABCAST_TRY(store.for_each_commit(Step{after}, [&](const pb::CommitRecord& commit) {
    if (commit.step() > until) return false;
    add_losses(sums, commit);
    return true;
  }));
  return sums;
}

Result<std::vector<double>> losses_for_watch(const storage::JobStore& store, std::uint64_t until) {
  std::vector<double> losses;
  // Skipped steps do not count, so it may take more than one look.
  for (auto end = until; end > 0 && losses.size() < LossWatch::kWindow;) {
    const auto begin = end - std::min<std::uint64_t>(end, LossWatch::kWindow);
    std::vector<double> piece;
    CRABCAST_TRY(store.for_each_commit(Step{begin}, [&](const pb::CommitRecord& commit) {
      if (commit.step() > end) return false;
      if (!commit.skipped()) piece.push_back(mean_loss(commit.losses()));
      return true;
    }));
    losses.insert(losses.begin(), piece.begin(), piece.end());
    end = begin;
  }
  if (losses.size() > LossWatch::kWindow)
    losses.erase(losses.begin(), losses.end() - static_cast<std::ptrdiff_t>(LossWatch::kWindow));
  return losses;
}

caf::actor spawn_ledger(caf::actor_system& system, std::shared_ptr<storage::JobStore> store,
                        const CheckpointSpec& retention) {
  return system.spawn<caf::detached>(ledger, std::move(store), retention);
}

caf::actor spawn_checkpoints(caf::actor_system& system, std::shared_ptr<storage::JobStore> store,
                             const std::string& spec_hash, const caf::actor& job) {
  return system.spawn<caf::detached>(checkpoints, std::move(store), spec_hash, job);
}

}  // namespace crabcast::actors

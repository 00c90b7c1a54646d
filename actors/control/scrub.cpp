#include "actors/control/scrub.h"

#include <linux/ioprio.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <deque>

namespace crabcast::actors {
namespace {

using round_atom = caf::atom_constant<caf::atom("round")>;
using piece_atom = caf::atom_constant<caf::atom("piece")>;

constexpr std::uint32_t kChunksAtOnce = 16;  // 4 MiB: it notices soon that it is to end

// Of the calling thread. Where the kernel refuses, the scrub only costs more.
void yield_to_everybody() {
  constexpr int kSelf = 0;
  if (::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, kSelf,
                IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)) != 0)
    spdlog::info("the scrub runs at usual disk priority");
  if (::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 19) != 0)
    spdlog::info("the scrub runs at usual CPU priority");
}

struct ScrubState {
  static inline const char* name = "scrub";
  std::shared_ptr<storage::JobStore> store;
  Duration every{};
  caf::actor job;
  bool yields = false;
  std::deque<CheckpointId> left;  // of this round
  std::uint32_t next_chunk = 0;   // of the first of them
  storage::VerifyReport report;   // so far

  Status begin_round();
  void read_piece();
  void end_checkpoint();
};

Status ScrubState::begin_round() {
  const auto ids = store->checkpoint_ids();
  if (!ids) return fail(ids.error());
  const auto damages = store->damages();
  if (!damages) return fail(damages.error());
  for (const CheckpointId id : *ids)
    if (!damages->contains(id)) left.push_back(id);
  return {};
}

void ScrubState::read_piece() {
  const CheckpointId id = left.front();
  if (next_chunk == 0) {
    report = {};
    store->evict(id);
  }
  const auto piece = store->verify_chunks(id, next_chunk, kChunksAtOnce);
  // Retention took it, or a save wrote it again: the next round reads what is there then.
  if (!piece || (next_chunk > 0 && piece->write != report.write)) return end_checkpoint();
  report.id = id;
  report.write = piece->write;
  report.damaged = report.damaged || piece->damaged;
  report.problems.insert(report.problems.end(), piece->problems.begin(), piece->problems.end());
  next_chunk += kChunksAtOnce;
  if (piece->chunks == kChunksAtOnce) return;
  for (const std::string& problem : report.problems) spdlog::warn("scrub: {}", problem);
  if (report.damaged) caf::anon_send(job, DamageFound{report});
  end_checkpoint();
}

void ScrubState::end_checkpoint() {
  left.pop_front();
  next_chunk = 0;
}

caf::behavior scrub(caf::stateful_actor<ScrubState>* self, std::shared_ptr<storage::JobStore> store,
                    Duration every, const caf::actor& job) {
  auto& state = self->state;
  state.store = std::move(store);
  state.every = every;
  state.job = job;
  self->delayed_send(self, every, round_atom::value);
  return {
      [self, &state](round_atom) {
        if (!std::exchange(state.yields, true)) yield_to_everybody();
        self->delayed_send(self, state.every, round_atom::value);
        if (!state.left.empty()) return;  // the round before is not over yet
        if (const Status begun = state.begin_round(); !begun)
          spdlog::warn("scrub: {}", begun.error().message);
        if (!state.left.empty()) self->send(self, piece_atom::value);
      },
      [self, &state](piece_atom) {
        state.read_piece();
        if (!state.left.empty()) self->send(self, piece_atom::value);
      },
  };
}

}  // namespace

caf::actor spawn_scrub(caf::actor_system& system, std::shared_ptr<storage::JobStore> store,
                       Duration every, const caf::actor& job) {
  return system.spawn<caf::detached>(scrub, std::move(store), every, job);
}

}  // namespace crabcast::actors

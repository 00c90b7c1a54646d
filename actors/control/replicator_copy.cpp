// The replicator: one copy, from the node's answer about what it holds to what it is to keep.
#include <spdlog/spdlog.h>

#include "actors/control/replicator_state.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr std::uint32_t kChunksUnderWay = 4;
constexpr std::size_t kPageBytes = 1ULL << 20;  // of records in one message

// Equal but for the scores, which come later.
bool same_checkpoint(pb::CheckpointManifest a, pb::CheckpointManifest b) {
  a.clear_metrics();
  b.clear_metrics();
  return a.SerializeAsString() == b.SerializeAsString();
}

}  // namespace

void ReplicatorState::begin(const std::string& node, std::uint64_t checkpoint) {
  auto& peer = peers.at(node);
  peer.work = std::make_shared<Work>();
  peer.work->checkpoint = checkpoint;
  if (const Status staged = fault_point("replica.begin"); !staged)
    return failed(node, staged.error());
  if (checkpoint > 0) {
    auto source = options.store->open_checkpoint(CheckpointId{checkpoint});
    if (!source) return unreadable(node, source.error());
    peer.work->source = std::move(*source);
  }
  if (peer.open) return rewind(node);
  if (peer.handle) return open(node);
  options.bulk->connect_async(peer.endpoint, kConnectTimeout, caf::actor_cast<caf::actor>(self));
}

void ReplicatorState::open(const std::string& node) {
  pb::ReplicaOpen body;
  body.set_job(options.job);
  body.set_fence(options.fence);
  body.set_spec_yaml(options.spec_yaml);
  ask(node, body,
      [this, node](const Delivery& answer) { opened(node, answer.envelope->replica_opened()); });
}

void ReplicatorState::opened(const std::string& node, const pb::ReplicaOpened& answer) {
  auto& peer = peers.at(node);
  peer.open = true;
  peer.last_step = answer.last_step();
  peer.scored.clear();
  peer.holds.clear();
  for (const auto& manifest : answer.checkpoints()) peer.holds[manifest.id()] = manifest;
  const auto equal = equal_here(peer);
  const auto newest = equal.empty() ? 0 : *equal.rbegin();
  replication->on_opened(node, equal, peer.holds.upper_bound(newest) != peer.holds.end());
  rewind(node);
}

std::set<std::uint64_t> ReplicatorState::equal_here(const Peer& peer) const {
  std::set<std::uint64_t> equal;
  const auto newest = newest_here();
  for (const auto& [id, manifest] : peer.holds) {
    const auto own = options.store->manifest(CheckpointId{id});
    if (id <= newest && own && same_checkpoint(*own, manifest)) equal.insert(id);
  }
  return equal;
}

// To where both histories are surely one.
void ReplicatorState::rewind(const std::string& node) {
  auto& peer = peers.at(node);
  const auto equal = equal_here(peer);
  const std::uint64_t common = equal.empty() ? 0 : *equal.rbegin();
  peer.work->sent_step = common;
  if (const Status collected = collect_others(peer); !collected)
    return failed(node, collected.error());
  const bool too_much =
      peer.last_step > common || peer.holds.upper_bound(common) != peer.holds.end();
  if (!too_much) return send_records(node);
  pb::ReplicaRewind body;
  body.set_step(common);
  ask(node, body, [this, node, common](const Delivery&) {
    auto& peer = peers.at(node);
    peer.last_step = common;
    peer.holds.erase(peer.holds.upper_bound(common), peer.holds.end());
    send_records(node);
  });
}

// Bad samples are known ahead of the commits that record them, and scores come after checkpoints.
Status ReplicatorState::collect_others(Peer& peer) const {
  const auto quarantine = options.store->quarantine();
  if (!quarantine) return fail(quarantine.error());
  const auto evaluations = options.store->evaluations();
  if (!evaluations) return fail(evaluations.error());
  auto& others = peer.work->others;
  for (const auto& bad : *quarantine)
    if (bad.step() > peer.work->sent_step) *others.emplace_back().mutable_quarantined() = bad;
  for (const auto& scores : *evaluations)
    if (scores.checkpoint() <= peer.work->checkpoint && !peer.scored.contains(scores.checkpoint()))
      *others.emplace_back().mutable_evaluation() = scores;
  return {};
}

void ReplicatorState::send_records(const std::string& node) {
  auto& peer = peers.at(node);
  auto& work = *peer.work;
  if (work.checkpoint == 0) return prune(node);
  const auto until = work.source->manifest().ledger_step();
  pb::ReplicaRecords page;
  std::size_t bytes = 0;
  std::vector<std::uint64_t> scored;
  for (; !work.others.empty() && bytes < kPageBytes; work.others.pop_front()) {
    auto& record = *page.add_records() = std::move(work.others.front());
    bytes += record.ByteSizeLong();
    if (record.has_evaluation()) scored.push_back(record.evaluation().checkpoint());
  }
  const Status read =
      options.store->for_each_commit(Step{work.sent_step}, [&](const pb::CommitRecord& commit) {
        if (commit.step() > until || bytes >= kPageBytes) return false;
        *page.add_records()->mutable_commit() = commit;
        bytes += commit.ByteSizeLong();
        work.sent_step = commit.step();
        return true;
      });
  if (!read) return unreadable(node, read.error());
  if (page.records_size() == 0) {
    if (work.sent_step < until)
      return unreadable(node, {Errc::not_found, "the ledger ends before the checkpoint"});
    pb::CheckpointBegin body;
    body.set_id(work.checkpoint);
    body.set_step(work.source->manifest().step());
    body.set_generation(work.source->manifest().generation());
    body.set_bytes(work.source->manifest().bytes());
    return ask(node, body, [this, node](const Delivery&) { send_chunks(node); });
  }
  ask(node, page, [this, node, scored](const Delivery&) {
    auto& peer = peers.at(node);
    peer.scored.insert(scored.begin(), scored.end());
    peer.last_step = peer.work->sent_step;
    send_records(node);
  });
}

void ReplicatorState::send_chunks(const std::string& node) {
  auto& work = *peers.at(node).work;
  const auto& chunks = work.source->manifest().chunks();
  if (work.next_chunk == chunks.size() && work.under_way == 0) return seal(node);
  while (work.under_way < kChunksUnderWay && work.next_chunk < chunks.size()) {
    pb::CheckpointChunk body;
    body.set_id(work.checkpoint);
    *body.mutable_entry() = chunks[work.next_chunk];
    auto bytes = work.source->chunk(body.entry().index());
    if (!bytes) return unreadable(node, bytes.error());
    const auto shared = std::make_shared<const std::string>(std::move(*bytes));
    ++work.next_chunk;
    ++work.under_way;
    ask(node, body,
        [this, node](const Delivery&) {
          --peers.at(node).work->under_way;
          send_chunks(node);
        },
        {cluster::Frame(shared, shared->data(), shared->size())});
  }
}

void ReplicatorState::seal(const std::string& node) {
  auto& peer = peers.at(node);
  // Scores may have come since it was opened.
  const auto newest = options.store->manifest(CheckpointId{peer.work->checkpoint});
  const auto& opened = peer.work->source->manifest();
  pb::CheckpointSeal body;
  *body.mutable_manifest() = newest && same_checkpoint(*newest, opened) ? *newest : opened;
  ask(node, body, [this, node, sealed = body.manifest()](const Delivery&) {
    peers.at(node).holds[sealed.id()] = sealed;
    prune(node);
  });
}

// The node keeps what is kept here.
void ReplicatorState::prune(const std::string& node) {
  const auto ids = options.store->checkpoint_ids();
  if (!ids) return failed(node, ids.error());
  std::set<std::uint64_t> kept;
  pb::ReplicaRetain body;
  for (const CheckpointId id : *ids) {
    kept.insert(id.value());
    body.add_checkpoints(id.value());
  }
  ask(node, body, [this, node, kept](const Delivery&) { copied(node, kept); });
}

void ReplicatorState::copied(const std::string& node, const std::set<std::uint64_t>& kept) {
  auto& peer = peers.at(node);
  const auto work = std::exchange(peer.work, nullptr);
  peer.trouble.reset();
  std::erase_if(peer.holds, [&](const auto& entry) {
    return entry.first != work->checkpoint && !kept.contains(entry.first);
  });
  replication->on_copied(node, work->checkpoint, kept);
  pump();
}

void ReplicatorState::failed(const std::string& node, const Error& error) {
  auto& peer = peers.at(node);
  peer.work = nullptr;
  peer.open = false;  // what it holds is asked for anew
  replication->on_failed(node, self->clock().now());
  if (error.code == Errc::stale_generation) caf::anon_send(job, Displaced{error});
  if (peer.trouble != error.code) caf::anon_send(job, ReplicaTrouble{node, error});
  peer.trouble = error.code;
  tell();
}

// Retention took it, or it is damaged: a later one is copied.
void ReplicatorState::unreadable(const std::string& node, const Error& error) {
  const auto checkpoint = peers.at(node).work->checkpoint;
  spdlog::warn("checkpoint {} is not copied to node {}: {}", checkpoint, node, error.message);
  replication->on_unreadable(checkpoint);
  give_up(node);
}

void ReplicatorState::give_up(const std::string& node) {
  auto& peer = peers.at(node);
  pb::CheckpointAbandon body;
  body.set_id(peer.work->checkpoint);
  body.set_reason("its sender cannot go on with it");
  if (peer.open) self->send(peer.handle, outbound(body));
  peer.work = nullptr;
  peer.open = false;
  replication->on_interrupted(node);
}

}  // namespace crabcast::actors

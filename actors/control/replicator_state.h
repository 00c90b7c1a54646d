// The state of the replicator actor. Only replicator*.cpp include this; others see replicator.h.
#pragma once

#include <caf/all.hpp>
#include <deque>
#include <map>
#include <optional>

#include "actors/control/replication.h"
#include "actors/control/replicator.h"

namespace crabcast::actors {

// For a node to answer. One that is dead is noticed by its connection; one that seals or prunes
// reads a whole checkpoint.
inline constexpr auto kReplicaAnswer = std::chrono::minutes(5);

struct ReplicatorState {
  static inline const char* name = "replicator";
  explicit ReplicatorState(caf::event_based_actor* s) : self(s) {}

  // A copy that is being made.
  struct Work {
    std::uint64_t checkpoint = 0;  // 0: nothing but a rewind
    std::unique_ptr<storage::CheckpointReader> source;
    std::uint64_t sent_step = 0;            // the node's ledger has all up to it
    std::deque<pb::ExportedRecord> others;  // besides commits
    int next_chunk = 0;
    std::uint32_t under_way = 0;  // chunks
  };
  struct Peer {
    std::string endpoint;
    caf::actor handle;  // null while not connected
    bool open = false;  // what it holds is known:
    std::map<std::uint64_t, pb::CheckpointManifest> holds;
    std::uint64_t last_step = 0;
    std::set<std::uint64_t> scored;  // evaluations that it was sent
    std::optional<Errc> trouble;     // that was told
    std::shared_ptr<Work> work;
  };

  caf::event_based_actor* self;
  ReplicatorOptions options;
  caf::actor job;
  std::optional<Replication> replication;
  std::map<std::string, Peer> peers;           // by node
  std::vector<caf::response_promise> waiting;  // for the last copies
  std::set<std::uint64_t> told_in_use;
  std::uint64_t told_safe = 0;

  void init();
  void nodes(const pb::ReplicaNodes& nodes);
  void connected(const Connected& result);
  void down(const caf::actor_addr& who);
  void voided(std::uint64_t after);
  void pump();
  // A copy, step by step:
  void begin(const std::string& node, std::uint64_t checkpoint);
  void open(const std::string& node);
  void opened(const std::string& node, const pb::ReplicaOpened& answer);
  void rewind(const std::string& node);
  Status collect_others(Peer& peer) const;
  void send_records(const std::string& node);
  void send_chunks(const std::string& node);
  void seal(const std::string& node);
  void prune(const std::string& node);
  void copied(const std::string& node, const std::set<std::uint64_t>& kept);
  void failed(const std::string& node, const Error& error);
  void unreadable(const std::string& node, const Error& error);
  void give_up(const std::string& node);
  // What the node holds that is the same here.
  [[nodiscard]] std::set<std::uint64_t> equal_here(const Peer& peer) const;
  [[nodiscard]] std::uint64_t newest_here() const;
  void tell();

  // What comes of a copy that was given up meanwhile is not looked at.
  template <class Then>
  void ask(const std::string& node, const google::protobuf::Message& body, Then then,
           std::vector<cluster::Frame> frames = {}) {
    const Peer& peer = peers.at(node);
    self->request(peer.handle, kReplicaAnswer, outbound(body, std::move(frames)))
        .then(
            [this, node, work = peer.work, then](const DeliveryPtr& answer) {
              if (peers.at(node).work == work) then(*answer);
            },
            [this, node, work = peer.work](const caf::error& error) {
              if (peers.at(node).work == work) failed(node, from_caf(error));
            });
  }
};

}  // namespace crabcast::actors

// Which nodes get a copy of a job's newest checkpoint, when, and which checkpoint is safe.
//
// Pure: no I/O, no clock, no threads. The replicator (replicator.h) tells it what happened and
// carries out what is due; tests stage any history in virtual time.
//
// The nodes of a job are the first `checkpoint.replicas` of those that are there, in an order that
// depends on the job's and the nodes' names alone: a node that comes or goes moves at most one copy
// (rendezvous hashing, Thaler and Ravishankar 1998). A node that failed kTries times in a row is
// passed over for kRest; then it has one try.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/clock.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

class Replication {
 public:
  static constexpr std::uint32_t kTries = 5;
  static constexpr Duration kFirstBackOff = std::chrono::seconds(1);  // doubled with each try
  static constexpr Duration kRest = std::chrono::minutes(10);

  // `safe`: the newest checkpoint that an earlier coordinator knew to be safe, 0 for none.
  Replication(std::string job, const CheckpointSpec& spec, std::uint64_t safe)
      : job_(std::move(job)),
        replicas_(spec.replicas),
        quorum_(spec.stores_for_safety()),
        safe_(safe) {}

  // All that may keep copies now.
  void on_nodes(const std::set<std::string>& nodes);
  // The job's own store holds it.
  void on_stored(std::uint64_t checkpoint);
  // What came after the step is void; `newest` is the own store's newest then, 0 for none.
  void on_voided(std::uint64_t after, std::uint64_t newest);
  // Its own bytes cannot be read: it is not copied.
  void on_unreadable(std::uint64_t checkpoint);
  // A node says what it holds that equals the own store's; `ahead`: and what is newer, and void.
  void on_opened(const std::string& node, const std::set<std::uint64_t>& equal, bool ahead);
  // The copy that was due is done, and the node keeps `kept` of what it had.
  void on_copied(const std::string& node, std::uint64_t checkpoint,
                 const std::set<std::uint64_t>& kept);
  void on_failed(const std::string& node, TimePoint now);
  // Given up for reasons of our own: no failure of the node's.
  void on_interrupted(const std::string& node);

  struct Copy {
    std::string node;
    std::uint64_t checkpoint = 0;  // 0: there is none, only what the node has too much is dropped
  };
  // Copies to be begun now. Each is under way until one of the last three calls above.
  std::vector<Copy> due(TimePoint now);

  // The newest checkpoint that the quorum of stores has held; 0: none.
  [[nodiscard]] std::uint64_t safe() const { return safe_; }
  // Nodes that hold it, besides the job's own.
  [[nodiscard]] std::vector<std::string> holders(std::uint64_t checkpoint) const;
  // Checkpoints that the own store must keep: the safe one, and those that are being copied.
  [[nodiscard]] std::set<std::uint64_t> in_use() const;
  // Nothing is under way.
  [[nodiscard]] bool idle() const;

 private:
  struct Node {
    bool here = false;
    std::optional<std::uint64_t> copying;
    std::set<std::uint64_t> holds;
    bool ahead = false;  // it holds what is void
    std::uint32_t failures = 0;
    TimePoint retry_at{};
  };
  [[nodiscard]] std::vector<std::string> chosen(TimePoint now) const;
  void find_safe();

  std::string job_;
  std::uint32_t replicas_, quorum_;
  std::uint64_t safe_ = 0;
  std::uint64_t newest_ = 0;
  bool readable_ = true;  // the newest
  std::map<std::string, Node> nodes_;
};

}  // namespace crabcast::actors

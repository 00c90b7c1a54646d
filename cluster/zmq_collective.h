// Collectives over ZeroMQ with CURVE. zmq_collective.cpp: the host and the forming of a
// communicator. zmq_exchange.cpp: the operations.
//
// Each member listens on one ROUTER and dials every other member once per generation; it sends on
// what it dialed and receives on its ROUTER. Nobody sends data before the receiver has entered the
// same operation and granted room (credit), so memory stays bounded however far the members drift
// apart, and data can be copied straight to where it belongs. Between members of one machine the
// bytes lie in a ring of shared memory as large as that room; the frames only tell of them.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>
#include <zmq.hpp>

#include "cluster/collective.h"
#include "cluster/collective_wire.h"
#include "cluster/curve.h"
#include "cluster/shared_memory.h"
#include "cluster/wake_up.h"

namespace crabcast::cluster {

// Who said hello, by routing id, for the newest generation that was heard of.
struct Arrivals {
  std::uint64_t generation = 0;
  struct Hello {
    std::uint32_t rank;
    std::uint32_t members;
    std::string ticket;  // of its shared memory for us
  };
  std::unordered_map<std::string, Hello> by_route;
};

// What a host and its communicators share; it lives as long as any of them.
struct CollectiveCore {
  CollectiveCore(const Keyring& keyring, LocalPath local_path, std::shared_ptr<WakeUp> wake_up)
      : keys(keyring), local(local_path), wake(std::move(wake_up)) {}

  const Keyring keys;
  const LocalPath local;
  const std::shared_ptr<WakeUp> wake;
  zmq::context_t context{1};
  std::unique_ptr<ZapThread> zap;

  std::mutex turn;  // held while a communicator forms or works: one user of the sockets
  zmq::socket_t router;
  std::uint64_t generation = 0;  // of the newest communicator
  Arrivals arrivals;

  // A frame with its routing id, if one is there. Hellos of new generations are noted on the way.
  struct Received {
    std::string route;
    FrameHeader header;
    zmq::message_t message;
  };
  std::optional<Received> receive();
};

// A member as the others see it, and the connection to it.
struct MemberLink {
  CollectiveMember member;
  std::optional<zmq::socket_t> dealer;  // none for the own rank
  std::optional<SocketMonitor> monitor;
  bool secured = false;              // our connection to it passed the key handshake
  bool arrived = false;              // its hello came
  std::optional<std::string> left;   // it said bye; why
  bool failed = false;               // its bye ends the communicator for everybody
  std::optional<TimePoint> lost_at;  // when our connection to it broke
  // The newest credit: it may be for an operation that we have not entered yet.
  std::uint64_t credit_operation = 0;
  std::uint64_t credit = 0;
  std::uint64_t credit_total = 0;
  // Rings of kWindowBytes; none where the member is on another machine.
  std::unique_ptr<SharedMemory> ours;    // what we write for it
  std::unique_ptr<SharedMemory> theirs;  // what it writes for us
  bool reads_ours = false;
};

// Room that a receiver grants ahead of what it has copied: the most that waits in libzmq, or in
// shared memory, for one member.
inline constexpr std::size_t kWindowBytes = 4 << 20;

class ZmqCollective final : public Collective {
 public:
  ZmqCollective(std::shared_ptr<CollectiveCore> core, std::uint64_t generation, std::uint32_t rank,
                const std::vector<CollectiveMember>& members, Duration operation_timeout);
  ~ZmqCollective() override;

  [[nodiscard]] std::uint32_t rank() const override { return rank_; }
  [[nodiscard]] std::uint32_t size() const override {
    return static_cast<std::uint32_t>(members_.size());
  }
  Status all_to_all(std::span<const Buffer> send, std::span<const Buffer> receive) override;
  Status all_gather(const Buffer& send, std::span<const Buffer> receive) override;
  Status all_reduce(const Buffer& inout) override;
  Status broadcast(const Buffer& inout, std::uint32_t root) override;
  void abort(const std::string& reason) override;

  // Dials the members and waits for their hellos. Called once, with the core's turn.
  Status form(Duration timeout);

 private:
  struct Transfer {
    const char* out = nullptr;
    std::size_t out_bytes = 0, sent = 0;
    char* in = nullptr;
    std::size_t in_bytes = 0, received = 0, granted = 0;
    [[nodiscard]] bool done() const { return sent == out_bytes && received == in_bytes; }
  };

  // ---- Forming (zmq_collective.cpp)
  Status dial_all();
  void say_hello(MemberLink& to);
  static void open_memory(MemberLink& link, const std::string& ticket);
  void say(MemberLink& to, FrameHeader header, std::string_view bytes = {});
  void say_bye(const std::string& reason, bool failed);
  Status read_monitors();
  // Notes hellos, credits and byes; data frames are the caller's.
  Status note(const CollectiveCore::Received& received);
  Status take_arrivals();
  [[nodiscard]] std::string missing_members() const;
  Status check_abort();
  void wait_for_news(TimePoint deadline);

  // ---- Operations (zmq_exchange.cpp)
  Status exchange(const char* name, std::span<const Buffer> send, std::span<const Buffer> receive);
  Status move_bytes(std::vector<Transfer>& transfers);
  Result<bool> send_pieces(std::vector<Transfer>& transfers);
  Result<bool> receive_frames(std::vector<Transfer>& transfers);
  void send_piece(MemberLink& to, Transfer& transfer);
  Status on_data(std::uint32_t source, const CollectiveCore::Received& received,
                 Transfer& transfer);
  Status check_members(const std::vector<Transfer>& transfers, TimePoint now);
  void grant(std::uint32_t from, Transfer& transfer);
  [[nodiscard]] std::string waited_for(const std::vector<Transfer>& transfers) const;

  const std::shared_ptr<CollectiveCore> core_;
  const std::uint64_t generation_;
  const std::uint32_t rank_;
  const Duration operation_timeout_;
  std::vector<MemberLink> members_;
  std::unordered_map<std::string, std::uint32_t> rank_of_route_;
  std::uint64_t operation_ = 0;
  bool formed_ = false;
  std::optional<Error> broken_;  // why this communicator is unusable
  std::vector<float> scratch_;   // of all_reduce
  std::vector<zmq::pollitem_t> poll_items_;

  std::mutex abort_mutex_;  // guards abort_reason_
  std::optional<std::string> abort_reason_;
  std::atomic<bool> aborted_{false};
};

}  // namespace crabcast::cluster

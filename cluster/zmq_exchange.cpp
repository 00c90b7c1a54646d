// The operations of the ZeroMQ collectives. All of them are exchanges: each pair of members moves
// a known number of bytes each way.
#include <algorithm>
#include <cstring>
#include <utility>

#include "cluster/shards.h"
#include "cluster/zmq_collective.h"
#include "protocol/fault_points.h"

namespace crabcast::cluster {
namespace {

// Small enough to stay in the cache between copying and encrypting, large enough that the cost of
// a frame does not show.
constexpr std::size_t kPieceBytes = 256 << 10;
// Pieces sent to one member before the others and the receiving side get their turn.
constexpr int kSendBurst = 4;
constexpr int kReceiveBurst = 16;
// What a member sent before it went away may still be on its way when its connection to us is gone.
constexpr auto kLostGrace = std::chrono::milliseconds(200);
// From here on a broadcast to several members is a scatter and an all-gather: each byte leaves the
// root once instead of once for each member.
constexpr std::size_t kScatterFrom = 1 << 20;

Buffer part(const Buffer& whole, std::size_t first, std::size_t bytes) {
  return {static_cast<char*>(whole.data) + first, bytes, whole.type, whole.memory};
}

}  // namespace

Status ZmqCollective::all_to_all(std::span<const Buffer> send, std::span<const Buffer> receive) {
  CRABCAST_TRY(fault_point("collective.all_to_all"));
  return exchange("all_to_all", send, receive);
}

Status ZmqCollective::all_gather(const Buffer& send, std::span<const Buffer> receive) {
  CRABCAST_TRY(fault_point("collective.all_gather"));
  const std::vector<Buffer> to_each(size(), send);
  return exchange("all_gather", to_each, receive);
}

Status ZmqCollective::all_reduce(const Buffer& inout) {
  if (inout.type != ElementType::float32 || inout.bytes % sizeof(float) != 0)
    return fail(Errc::invalid_argument, "all_reduce adds float32 elements only");
  auto* const values = static_cast<float*>(inout.data);
  const std::size_t elements = inout.bytes / sizeof(float);
  // Each member sums its shard of a block, and then everybody gathers the shards.
  for (std::size_t first = 0; first < elements && size() > 1; first += kReduceBlock) {
    const std::size_t count = std::min(kReduceBlock, elements - first);
    const Shard mine = shard_of(count, rank_, size());
    scratch_.resize(mine.count * size());
    std::vector<Buffer> shards(size()), parts(size());
    for (std::uint32_t peer = 0; peer < size(); ++peer) {
      const Shard shard = shard_of(count, peer, size());
      shards[peer] =
          part(inout, (first + shard.first) * sizeof(float), shard.count * sizeof(float));
      parts[peer] = {scratch_.data() + peer * mine.count, mine.count * sizeof(float),
                     ElementType::float32, MemoryKind::host};
    }
    parts[rank_] = shards[rank_];  // stays where it is
    CRABCAST_TRY(exchange("all_reduce", shards, parts));
    float* const sum = values + first + mine.first;
    for (std::uint32_t peer = 0; peer < size(); ++peer)
      if (peer != rank_) add_into(sum, scratch_.data() + peer * mine.count, mine.count);
    const std::vector<Buffer> to_each(size(), shards[rank_]);
    CRABCAST_TRY(exchange("all_reduce", to_each, shards));
  }
  return {};
}

Status ZmqCollective::broadcast(const Buffer& inout, std::uint32_t root) {
  if (root >= size())
    return fail(Errc::invalid_argument,
                "broadcast from rank " + std::to_string(root) + " of " + std::to_string(size()));
  std::vector<Buffer> send(size()), receive(size());
  if (size() <= 2 || inout.bytes < kScatterFrom) {
    if (rank_ == root)
      for (std::uint32_t peer = 0; peer < size(); ++peer) send[peer] = inout;
    receive[root] = inout;
    return exchange("broadcast", send, receive);
  }
  const auto shard = [&](std::uint32_t peer) {
    const Shard elements = shard_of(inout.bytes, peer, size());
    return part(inout, elements.first, elements.count);
  };
  if (rank_ == root)
    for (std::uint32_t peer = 0; peer < size(); ++peer) send[peer] = shard(peer);
  receive[root] = shard(rank_);
  CRABCAST_TRY(exchange("broadcast", send, receive));
  // The root has everything already.
  for (std::uint32_t peer = 0; peer < size(); ++peer) {
    send[peer] = peer == root ? Buffer{} : shard(rank_);
    receive[peer] = rank_ == root ? Buffer{} : shard(peer);
  }
  return exchange("broadcast", send, receive);
}

Status ZmqCollective::exchange(const char* name, std::span<const Buffer> send,
                               std::span<const Buffer> receive) {
  const std::lock_guard turn(core_->turn);
  if (broken_) return fail(*broken_);
  if (send.size() != size() || receive.size() != size() ||
      send[rank_].bytes != receive[rank_].bytes)
    return fail(Errc::invalid_argument, std::string(name) + " needs one buffer for each of " +
                                            std::to_string(size()) +
                                            " ranks, and equal sizes for the own one");
  std::vector<Transfer> transfers(size());
  for (std::uint32_t peer = 0; peer < size(); ++peer) {
    if (send[peer].memory != MemoryKind::host || receive[peer].memory != MemoryKind::host)
      return fail(Errc::unsupported, "the ZeroMQ collectives move host memory only");
    if (peer == rank_) continue;
    transfers[peer].out = static_cast<const char*>(send[peer].data);
    transfers[peer].out_bytes = send[peer].bytes;
    transfers[peer].in = static_cast<char*>(receive[peer].data);
    transfers[peer].in_bytes = receive[peer].bytes;
  }
  if (send[rank_].bytes > 0 && send[rank_].data != receive[rank_].data)
    std::memcpy(receive[rank_].data, send[rank_].data, send[rank_].bytes);

  Status moved;
  try {
    moved = move_bytes(transfers);
  } catch (const zmq::error_t& problem) {
    moved = fail(Errc::internal, std::string("libzmq: ") + problem.what());
  }
  if (moved) return {};
  broken_ =
      moved.error().within(std::string(name) + " of generation " + std::to_string(generation_) +
                           ", operation " + std::to_string(operation_));
  say_bye(broken_->message, true);
  return fail(*broken_);
}

Status ZmqCollective::move_bytes(std::vector<Transfer>& transfers) {
  ++operation_;
  CRABCAST_TRY(check_abort());
  for (std::uint32_t peer = 0; peer < size(); ++peer) grant(peer, transfers[peer]);
  TimePoint deadline = Clock::now() + operation_timeout_;
  while (true) {
    auto sent = send_pieces(transfers);
    if (!sent) return fail(sent.error());
    auto received = receive_frames(transfers);
    if (!received) return fail(received.error());
    CRABCAST_TRY(check_abort());
    if (std::all_of(transfers.begin(), transfers.end(),
                    [](const Transfer& transfer) { return transfer.done(); }))
      return {};
    const TimePoint now = Clock::now();
    if (*sent || *received) {
      deadline = now + operation_timeout_;
      continue;
    }
    CRABCAST_TRY(read_monitors());
    CRABCAST_TRY(check_members(transfers, now));
    if (now >= deadline)
      return fail(Errc::timeout, "nothing moved for " +
                                     std::to_string(seconds(operation_timeout_)) +
                                     " s; waited for " + waited_for(transfers));
    // A lost member is judged again when its grace is over.
    const bool losing = std::any_of(members_.begin(), members_.end(), [](const MemberLink& link) {
      return link.lost_at.has_value();
    });
    wait_for_news(losing ? std::min(deadline, now + kLostGrace / 4) : deadline);
  }
}

void ZmqCollective::grant(std::uint32_t from, Transfer& transfer) {
  if (transfer.granted == transfer.in_bytes) return;
  const std::size_t room = std::min(transfer.in_bytes, transfer.received + kWindowBytes);
  // Half a window at a time, so that credits are rare.
  if (transfer.granted > 0 && room - transfer.granted < kWindowBytes / 2 &&
      room != transfer.in_bytes)
    return;
  transfer.granted = room;
  FrameHeader credit;
  credit.kind = FrameKind::credit;
  credit.operation = operation_;
  credit.offset = room;
  credit.total = transfer.in_bytes;
  credit.shared = members_[from].theirs ? 1 : 0;
  say(members_[from], credit);
}

Result<bool> ZmqCollective::send_pieces(std::vector<Transfer>& transfers) {
  bool progress = false;
  // Each member starts with its right neighbour, so that not all send to rank 0 first.
  for (std::uint32_t step = 1; step < size(); ++step) {
    const std::uint32_t peer = (rank_ + step) % size();
    MemberLink& link = members_[peer];
    Transfer& transfer = transfers[peer];
    if (link.credit_operation != operation_) continue;
    if (link.credit_total != transfer.out_bytes || link.credit > transfer.out_bytes)
      return fail(Errc::invalid_argument,
                  link.member.role + " expects " + std::to_string(link.credit_total) +
                      " bytes, this member sends it " + std::to_string(transfer.out_bytes));
    for (int burst = 0; burst < kSendBurst && transfer.sent < link.credit; ++burst) {
      send_piece(link, transfer);
      progress = true;
    }
  }
  return progress;
}

// Copied, so that the caller's buffer is free again when the operation returns.
void ZmqCollective::send_piece(MemberLink& to, Transfer& transfer) {
  FrameHeader data;
  data.kind = FrameKind::data;
  data.operation = operation_;
  data.offset = transfer.sent;
  data.total = transfer.out_bytes;
  const char* const from = transfer.out + transfer.sent;
  std::size_t bytes = std::min<std::size_t>(kPieceBytes, to.credit - transfer.sent);
  if (to.reads_ours) {
    // The credit says that the member has read what was here before.
    const std::size_t at = transfer.sent % kWindowBytes;
    bytes = std::min(bytes, kWindowBytes - at);
    std::memcpy(to.ours->data() + at, from, bytes);
    data.shared = static_cast<std::uint32_t>(bytes);
    say(to, data);
  } else {
    say(to, data, {from, bytes});
  }
  transfer.sent += bytes;
}

Result<bool> ZmqCollective::receive_frames(std::vector<Transfer>& transfers) {
  bool progress = false;
  for (int burst = 0; burst < kReceiveBurst; ++burst) {
    const auto received = core_->receive();
    if (!received) break;
    progress = true;
    if (auto noted = note(*received); !noted) return fail(noted.error());
    if (received->header.kind != FrameKind::data) continue;
    const auto known = rank_of_route_.find(received->route);
    if (known == rank_of_route_.end() || received->header.generation != generation_ ||
        received->header.source != known->second)
      continue;
    auto placed = on_data(known->second, *received, transfers[known->second]);
    if (!placed) return fail(placed.error());
  }
  return progress;
}

Status ZmqCollective::on_data(std::uint32_t source, const CollectiveCore::Received& received,
                              Transfer& transfer) {
  const FrameHeader& header = received.header;
  const std::unique_ptr<SharedMemory>& memory = members_[source].theirs;
  const std::size_t in_frame = received.message.size() - sizeof header;
  const std::size_t at = header.offset % kWindowBytes;
  if (header.shared != 0 && (!memory || in_frame != 0 || header.shared > kWindowBytes - at))
    return fail(Errc::corrupt, members_[source].member.role + " tells of " +
                                   std::to_string(header.shared) +
                                   " bytes in shared memory that are not there");
  const std::size_t bytes = header.shared != 0 ? header.shared : in_frame;
  if (header.operation != operation_ || header.offset != transfer.received ||
      bytes > transfer.granted - transfer.received || header.total != transfer.in_bytes)
    return fail(Errc::corrupt, members_[source].member.role + " sent " + std::to_string(bytes) +
                                   " bytes that nobody asked for");
  std::memcpy(
      transfer.in + transfer.received,
      header.shared != 0 ? memory->data() + at : received.message.data<char>() + sizeof header,
      bytes);
  transfer.received += bytes;
  grant(source, transfer);
  return {};
}

// A member that failed ends the operation; one that went away in order does so only when something
// is still due from it or to it. A lost member comes first: the others may have failed because of
// it, and it is the one to name.
Status ZmqCollective::check_members(const std::vector<Transfer>& transfers, TimePoint now) {
  for (std::uint32_t peer = 0; peer < size(); ++peer) {
    const MemberLink& link = members_[peer];
    if (transfers[peer].done() || !link.lost_at) continue;
    if (now - *link.lost_at < kLostGrace) return {};
    return fail(Errc::unavailable, link.member.role + " is gone: its connection broke");
  }
  for (std::uint32_t peer = 0; peer < size(); ++peer)
    if (members_[peer].left && (members_[peer].failed || !transfers[peer].done()))
      return fail(Errc::unavailable, members_[peer].member.role + " left: " + *members_[peer].left);
  return {};
}

std::string ZmqCollective::waited_for(const std::vector<Transfer>& transfers) const {
  std::string names;
  for (std::uint32_t peer = 0; peer < size(); ++peer)
    if (!transfers[peer].done()) names += (names.empty() ? "" : ", ") + members_[peer].member.role;
  return names;
}

}  // namespace crabcast::cluster

#include "cluster/zmq_collective.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace crabcast::cluster {
namespace {

constexpr int kRedialMs = 50;
// How long a bye may take to leave.
constexpr int kByeLingerMs = 300;
// A data frame is at most kPieceBytes plus its header (zmq_exchange.cpp); anything larger is no
// frame of ours.
constexpr std::int64_t kMaxFrameBytes = 4 << 20;

class ZmqCollectiveHost final : public CollectiveHost {
 public:
  ZmqCollectiveHost(std::shared_ptr<CollectiveCore> core, std::string endpoint)
      : core_(std::move(core)), endpoint_(std::move(endpoint)) {}

  [[nodiscard]] std::string endpoint() const override { return endpoint_; }

  Result<std::unique_ptr<Collective>> form(std::uint64_t generation, std::uint32_t rank,
                                           const std::vector<CollectiveMember>& members,
                                           Duration form_timeout,
                                           Duration operation_timeout) override {
    if (rank >= members.size())
      return fail(Errc::invalid_argument, "rank " + std::to_string(rank) + " of " +
                                              std::to_string(members.size()) + " members");
    const std::lock_guard turn(core_->turn);
    if (generation <= core_->generation)
      return fail(Errc::stale_generation, "generation " + std::to_string(generation) +
                                              " is over; the newest here is " +
                                              std::to_string(core_->generation));
    try {
      auto made =
          std::make_unique<ZmqCollective>(core_, generation, rank, members, operation_timeout);
      const Forming forming(*this, *made);
      core_->generation = generation;
      CRABCAST_TRY(made->form(form_timeout));
      return made;
    } catch (const zmq::error_t& problem) {
      return fail(Errc::resource_exhausted,
                  std::string("forming a communicator: ") + problem.what());
    }
  }

  void abort_forming(const std::string& reason) override {
    const std::lock_guard lock(forming_mutex_);
    if (forming_ != nullptr) forming_->abort(reason);
  }

 private:
  // Shows abort_forming the communicator that forms, for as long as this object lives.
  class Forming {
   public:
    Forming(ZmqCollectiveHost& host, ZmqCollective& made) : host_(host) { set(&made); }
    ~Forming() { set(nullptr); }

   private:
    void set(ZmqCollective* made) {
      const std::lock_guard lock(host_.forming_mutex_);
      host_.forming_ = made;
    }
    ZmqCollectiveHost& host_;
  };

  const std::shared_ptr<CollectiveCore> core_;
  const std::string endpoint_;
  std::mutex forming_mutex_;
  ZmqCollective* forming_ = nullptr;
};

}  // namespace

Result<std::unique_ptr<CollectiveHost>> CollectiveHost::listen(const std::string& bind_address,
                                                               const Keyring& keys,
                                                               LocalPath local) {
  if (keys.server_secret.empty())
    return fail(Errc::permission_denied,
                "cannot listen on " + bind_address + ": the keyring has no server.secret");
  auto wake = WakeUp::create();
  if (!wake) return fail(wake.error());
  try {
    auto core = std::make_shared<CollectiveCore>(keys, local, std::move(*wake));
    auto zap = ZapThread::start(core->context, keys.authorized);
    if (!zap) return fail(zap.error());
    core->zap = std::move(*zap);
    core->router = zmq::socket_t(core->context, zmq::socket_type::router);
    use_server_keys(core->router, keys);
    core->router.set(zmq::sockopt::linger, 0);  // it never sends
    core->router.set(zmq::sockopt::rcvhwm, 0);  // credits bound what comes in
    core->router.set(zmq::sockopt::maxmsgsize, kMaxFrameBytes);
    auto endpoint = bind_socket(core->router, bind_address);
    if (!endpoint) return fail(endpoint.error());
    return std::make_unique<ZmqCollectiveHost>(std::move(core), std::move(*endpoint));
  } catch (const zmq::error_t& problem) {
    return fail(Errc::resource_exhausted, "listening on " + bind_address + ": " + problem.what());
  }
}

std::optional<CollectiveCore::Received> CollectiveCore::receive() {
  zmq::message_t route;
  while (router.recv(route, zmq::recv_flags::dontwait)) {
    zmq::message_t message, extra;
    bool more = route.more() && router.recv(message, zmq::recv_flags::dontwait) && message.more();
    const bool too_many_parts = more;
    while (more) more = router.recv(extra, zmq::recv_flags::dontwait) && extra.more();
    const auto header = parse_frame(message.data(), message.size());
    if (!header || too_many_parts) {
      spdlog::warn("dropped {} bytes that are no frame of a collective", message.size());
      continue;
    }
    if (header->generation < generation) continue;  // of a communicator that is over
    if (header->kind == FrameKind::hello) {
      if (!was_let_in(message)) continue;
      if (header->generation > arrivals.generation) arrivals = {header->generation, {}};
      if (header->generation == arrivals.generation)
        arrivals.by_route[route.to_string()] = {
            header->source, static_cast<std::uint32_t>(header->total),
            std::string(message.data<char>() + sizeof *header, message.size() - sizeof *header)};
    }
    return Received{route.to_string(), *header, std::move(message)};
  }
  return std::nullopt;
}

ZmqCollective::ZmqCollective(std::shared_ptr<CollectiveCore> core, std::uint64_t generation,
                             std::uint32_t rank, const std::vector<CollectiveMember>& members,
                             Duration operation_timeout)
    : core_(std::move(core)),
      generation_(generation),
      rank_(rank),
      operation_timeout_(operation_timeout),
      members_(members.size()) {
  for (std::size_t i = 0; i < members.size(); ++i) members_[i].member = members[i];
}

ZmqCollective::~ZmqCollective() {
  try {
    if (!broken_) say_bye("it closed the communicator", false);
  } catch (const zmq::error_t& problem) {
    spdlog::error("closing a communicator: {}", problem.what());
  }
}

void ZmqCollective::abort(const std::string& reason) {
  {
    const std::lock_guard lock(abort_mutex_);
    if (!abort_reason_) abort_reason_ = reason;
  }
  aborted_ = true;
  core_->wake->wake();
}

Status ZmqCollective::check_abort() {
  if (!aborted_) return {};
  const std::lock_guard lock(abort_mutex_);
  return fail(Errc::cancelled, "aborted: " + *abort_reason_);
}

Status ZmqCollective::dial_all() {
  for (std::uint32_t peer = 0; peer < size(); ++peer) {
    if (peer == rank_) continue;
    MemberLink& link = members_[peer];
    link.dealer.emplace(core_->context, zmq::socket_type::dealer);
    use_client_keys(*link.dealer, core_->keys);
    link.dealer->set(zmq::sockopt::linger, kByeLingerMs);
    link.dealer->set(zmq::sockopt::sndhwm, 0);  // credits bound what goes out
    link.dealer->set(zmq::sockopt::reconnect_ivl, kRedialMs);
    link.monitor.emplace(
        core_->context, *link.dealer,
        ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH);
    if (zmq_connect(link.dealer->handle(), link.member.endpoint.c_str()) != 0)
      return fail(Errc::invalid_argument, "cannot connect to " + link.member.role + " at '" +
                                              link.member.endpoint + "': expected tcp://HOST:PORT");
  }
  return {};
}

void ZmqCollective::say_hello(MemberLink& to) {
  FrameHeader hello;
  hello.kind = FrameKind::hello;
  hello.total = members_.size();
  if (core_->local == LocalPath::shared_memory && !to.ours) {
    if (auto ring = SharedMemory::create(kWindowBytes))
      to.ours = std::move(*ring);
    else
      spdlog::warn("{} gets its bytes by socket: {}", to.member.role, ring.error().message);
  }
  say(to, hello, to.ours ? to.ours->ticket().as_bytes() : std::string_view());
}

void ZmqCollective::open_memory(MemberLink& link, const std::string& bytes) {
  const auto ticket = SharedMemoryTicket::parse(bytes);
  if (!ticket || ticket->bytes != kWindowBytes) return;
  auto opened = SharedMemory::open(*ticket);
  if (opened) link.theirs = std::move(*opened);  // else it is on another machine
}

Status ZmqCollective::form(Duration timeout) {
  const auto give_up = [this](Error why) {
    why = why.within("forming generation " + std::to_string(generation_));
    say_bye(why.message, true);
    broken_ = why;
    return fail(std::move(why));
  };
  if (size() == 1) return {};
  if (auto dialed = dial_all(); !dialed) return give_up(dialed.error());
  const TimePoint deadline = Clock::now() + timeout;
  while (true) {
    if (auto fine = check_abort(); !fine) return give_up(fine.error());
    if (auto fine = read_monitors(); !fine) return give_up(fine.error());
    if (auto fine = take_arrivals(); !fine) return give_up(fine.error());
    // A quicker member may be in its first operation already: its credit is noted.
    while (const auto received = core_->receive())
      if (auto fine = note(*received); !fine) return give_up(fine.error());
    for (const MemberLink& link : members_)
      if (link.left)
        return give_up({Errc::unavailable, link.member.role + " gave up: " + *link.left});
    const std::string missing = missing_members();
    if (missing.empty()) {
      formed_ = true;
      return {};
    }
    if (Clock::now() >= deadline) return give_up({Errc::timeout, missing});
    wait_for_news(deadline);
  }
}

void ZmqCollective::say(MemberLink& to, FrameHeader header, std::string_view bytes) {
  header.source = rank_;
  header.generation = generation_;
  zmq::message_t message(sizeof header + bytes.size());
  std::memcpy(message.data(), &header, sizeof header);
  if (!bytes.empty()) std::memcpy(message.data<char>() + sizeof header, bytes.data(), bytes.size());
  // Never refused: there is no high-water mark, and the pipe stands from connect on.
  if (!to.dealer->send(message, zmq::send_flags::dontwait))
    spdlog::error("libzmq refused a frame for {}", to.member.role);
}

void ZmqCollective::say_bye(const std::string& reason, bool failed) {
  FrameHeader header;
  header.kind = FrameKind::bye;
  header.total = failed ? 1 : 0;
  for (MemberLink& link : members_) {
    if (!link.dealer) continue;
    if (link.secured && !link.lost_at)
      say(link, header, reason);
    else
      link.dealer->set(zmq::sockopt::linger, 0);
  }
}

Status ZmqCollective::read_monitors() {
  for (MemberLink& link : members_) {
    while (link.monitor) {
      const auto event = link.monitor->next();
      if (!event) break;
      switch (event->event) {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: {
          link.secured = true;
          say_hello(link);
          break;
        }
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
          return fail(Errc::unauthenticated, link.member.role + " at " + link.member.endpoint +
                                                 " refused this process's key");
        default:
          // Before the communicator stands a member may still come back; after that it is lost.
          if (link.secured && !link.lost_at) link.lost_at = Clock::now();
          link.secured = false;
      }
    }
    if (link.secured && !formed_) link.lost_at.reset();
  }
  return {};
}

Status ZmqCollective::take_arrivals() {
  if (core_->arrivals.generation > generation_)
    return fail(Errc::stale_generation, "generation " + std::to_string(core_->arrivals.generation) +
                                            " has begun, " + std::to_string(generation_) +
                                            " is over");
  if (core_->arrivals.generation < generation_) return {};
  for (const auto& [route, hello] : core_->arrivals.by_route) {
    if (hello.rank >= size() || hello.rank == rank_ || hello.members != size())
      return fail(Errc::invalid_argument, "a member with rank " + std::to_string(hello.rank) +
                                              " of " + std::to_string(hello.members) +
                                              " came; this is rank " + std::to_string(rank_) +
                                              " of " + std::to_string(size()));
    if (!rank_of_route_.emplace(route, hello.rank).second) continue;
    if (formed_)
      return fail(Errc::unavailable,
                  members_[hello.rank].member.role + " was lost: it connected anew");
    members_[hello.rank].arrived = true;
    if (core_->local == LocalPath::shared_memory) open_memory(members_[hello.rank], hello.ticket);
  }
  return {};
}

Status ZmqCollective::note(const CollectiveCore::Received& received) {
  const FrameHeader& header = received.header;
  if (header.kind == FrameKind::hello) return take_arrivals();
  const auto known = rank_of_route_.find(received.route);
  if (known == rank_of_route_.end() || header.generation != generation_ ||
      header.source != known->second)
    return {};  // nobody of this communicator
  MemberLink& link = members_[known->second];
  if (header.kind == FrameKind::bye) {
    link.failed = header.total != 0;
    link.left = std::string(received.message.data<char>() + sizeof header,
                            received.message.size() - sizeof header);
  } else if (header.kind == FrameKind::credit) {
    // A member that is done with an operation has sent everything it was asked for in it.
    if (header.operation < operation_)
      return fail(Errc::invalid_argument,
                  link.member.role + " still expects " + std::to_string(header.total) +
                      " bytes in operation " + std::to_string(header.operation) +
                      ", in which this member sent it other sizes");
    link.credit_operation = header.operation;
    link.credit = header.offset;
    link.credit_total = header.total;
    link.reads_ours = header.shared != 0 && link.ours;
  }
  return {};
}

std::string ZmqCollective::missing_members() const {
  std::string missing;
  for (std::uint32_t peer = 0; peer < size(); ++peer) {
    const MemberLink& link = members_[peer];
    if (peer == rank_ || (link.arrived && link.secured)) continue;
    missing += (missing.empty() ? "" : ", ") + link.member.role +
               (link.secured ? " did not join" : " cannot be reached at " + link.member.endpoint);
  }
  return missing;
}

void ZmqCollective::wait_for_news(TimePoint deadline) {
  poll_items_.clear();
  poll_items_.push_back({nullptr, core_->wake->fd(), ZMQ_POLLIN, 0});
  poll_items_.push_back({core_->router.handle(), 0, ZMQ_POLLIN, 0});
  for (MemberLink& link : members_)
    if (link.monitor) poll_items_.push_back({link.monitor->socket().handle(), 0, ZMQ_POLLIN, 0});
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  try {
    zmq::poll(poll_items_, std::max(wait, std::chrono::milliseconds(0)));
  } catch (const zmq::error_t& problem) {
    if (problem.num() != EINTR) throw;
    return;
  }
  if ((poll_items_[0].revents & ZMQ_POLLIN) != 0) core_->wake->clear();
}

}  // namespace crabcast::cluster

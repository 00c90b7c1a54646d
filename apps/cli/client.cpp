#include "apps/cli/client.h"

#include <netdb.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <optional>
#include <random>

#include "actors/control/state_folder.h"
#include "cluster/keys.h"
#include "protocol/envelopes.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

using cluster::Transport;

constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr int kProbeMs = 300;

std::string unique_name() {
  std::random_device random;
  char suffix[40];
  std::snprintf(suffix, sizeof suffix, "%d-%08x%08x", ::getpid(), random(), random());
  return std::string("client:") + suffix;
}

std::string as_endpoint(const std::string& address) {
  return address.find("://") == std::string::npos ? "tcp://" + address : address;
}

bool is_refused(const addrinfo& address) {
  const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  int problem = 0;
  if (::connect(fd, address.ai_addr, address.ai_addrlen) != 0) {
    problem = errno;
    pollfd ready{fd, POLLOUT, 0};
    socklen_t size = sizeof problem;
    if (problem == EINPROGRESS && ::poll(&ready, 1, kProbeMs) == 1 &&
        ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) != 0)
      problem = 0;
  }
  ::close(fd);
  return problem == ECONNREFUSED;
}

// True when the machine of the endpoint refuses the connection: nobody listens at that port. A
// transport would try until its timeout, since whom it calls may be about to start.
bool nobody_listens(const std::string& endpoint) {
  const auto host_at = endpoint.find("://");
  const auto port_at = endpoint.rfind(':');
  if (host_at == std::string::npos || port_at <= host_at) return false;
  const std::string host = endpoint.substr(host_at + 3, port_at - host_at - 3);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), endpoint.c_str() + port_at + 1, &hints, &found) != 0)
    return false;
  bool all_refuse = true;
  for (const addrinfo* address = found; address != nullptr && all_refuse;
       address = address->ai_next)
    all_refuse = is_refused(*address);
  ::freeaddrinfo(found);
  return all_refuse;
}

// Where the controller of this state folder listens.
Result<std::string> recorded_endpoint(const std::filesystem::path& state) {
  const auto file = actors::StateFolder{state}.controller_endpoint();
  const std::string start =
      "; start one with crabcast run or crabcast controller, or name one "
      "with --controller HOST:PORT";
  std::ifstream in(file);
  std::string endpoint;
  if (!in || !std::getline(in, endpoint) || endpoint.empty())
    return fail(Errc::not_found,
                "no controller runs with the state folder " + state.string() + start);
  if (nobody_listens(endpoint))
    return fail(Errc::not_found, "the controller of the state folder " + state.string() +
                                     " has ended: nobody listens at " + endpoint + start);
  return endpoint;
}

class TransportClient final : public ControllerClient {
 public:
  explicit TransportClient(std::string endpoint) : endpoint_(std::move(endpoint)) {}
  ~TransportClient() override {
    if (transport_) transport_->stop();  // no handler runs after this
  }
  Status open(cluster::Keyring keys);
  Result<pb::Envelope> ask(const google::protobuf::Message& body, Duration timeout) override;

 private:
  Status connect(Duration timeout);
  void arrived(const cluster::Inbound& message);
  void lost(const Error& why);
  Error no_answer(Duration timeout) const;

  const std::string endpoint_;
  std::unique_ptr<Transport> transport_;
  ProcessId controller_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::uint64_t request_ = 0;
  std::optional<pb::Envelope> answer_;
  std::optional<Error> down_;
};

Status TransportClient::open(cluster::Keyring keys) {
  cluster::TransportOptions options;
  options.process = ProcessId{unique_name()};
  options.kind = pb::ROLE_CLIENT;
  options.keys = std::move(keys);
  cluster::TransportHandlers handlers;
  handlers.on_message = [this](const cluster::Inbound& message) { arrived(message); };
  handlers.on_peer_up = [](const cluster::PeerInfo&) {};
  handlers.on_peer_down = [this](const cluster::PeerInfo&, const Error& why) { lost(why); };
  auto transport = Transport::start(std::move(options), std::move(handlers));
  if (!transport) return fail(transport.error());
  transport_ = std::move(*transport);
  return connect(kConnectTimeout);
}

Status TransportClient::connect(Duration timeout) {
  {
    const std::scoped_lock lock(mutex_);
    down_.reset();
  }
  auto peer = transport_->connect(endpoint_, timeout);
  if (!peer) {
    lost(peer.error());
    return fail(peer.error().within("controller at " + endpoint_));
  }
  controller_ = peer->process;
  return {};
}

void TransportClient::arrived(const cluster::Inbound& message) {
  const std::scoped_lock lock(mutex_);
  if (request_ == 0 || message.envelope->answers() != request_) return;  // of an ask that gave up
  answer_ = *message.envelope;
  changed_.notify_all();
}

void TransportClient::lost(const Error& why) {
  const std::scoped_lock lock(mutex_);
  down_ = why;
  changed_.notify_all();
}

Error TransportClient::no_answer(Duration timeout) const {
  return {Errc::timeout, "the controller at " + endpoint_ + " gave no answer within " +
                             format_duration(seconds(timeout)) + "; try again"};
}

Result<pb::Envelope> TransportClient::ask(const google::protobuf::Message& body, Duration timeout) {
  const auto deadline = Clock::now() + timeout;
  std::unique_lock lock(mutex_);
  if (down_) {  // it may have been started again since
    lock.unlock();
    CRABCAST_TRY(connect(std::min<Duration>(timeout, kConnectTimeout)));
    lock.lock();
  }
  pb::Envelope envelope;
  envelope.set_protocol(kProtocolVersion);
  envelope.set_from("client");
  envelope.set_to("controller");
  envelope.set_request(++request_);
  set_body(envelope, body);
  answer_.reset();
  lock.unlock();
  CRABCAST_TRY(transport_->send(controller_, envelope));
  lock.lock();
  if (!changed_.wait_until(lock, deadline, [this] { return answer_ || down_; }))
    return fail(no_answer(timeout));
  if (!answer_) return fail(down_->within("controller at " + endpoint_));
  if (answer_->has_failure())
    return fail(errc_from_number(answer_->failure().code()), answer_->failure().message());
  return *std::exchange(answer_, std::nullopt);
}

}  // namespace

std::string random_client_key() {
  std::random_device random;
  char key[40];
  std::snprintf(key, sizeof key, "%08x%08x%08x", random(), random(), random());
  return key;
}

std::string user_name() {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, 4096> buffer{};
  if (::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 && found)
    return found->pw_name;
  return "uid-" + std::to_string(::geteuid());
}

Result<std::unique_ptr<ControllerClient>> ControllerClient::connect(const Common& common) {
  std::string endpoint = as_endpoint(common.controller);
  if (common.controller.empty()) {
    auto recorded = recorded_endpoint(common.state);
    if (!recorded) return fail(recorded.error());
    endpoint = std::move(*recorded);
  }
  auto keys = cluster::load_keyring(actors::StateFolder{common.state}.keys());
  if (!keys) return fail(keys.error());
  auto client = std::make_unique<TransportClient>(endpoint);
  CRABCAST_TRY(client->open(std::move(*keys)));
  return client;
}

}  // namespace crabcast::apps

// Envelopes per second and round-trip latency of the transport, against libzmq used directly: one
// ROUTER and one DEALER with CURVE that carry the same Protobuf envelopes, one in each message.
//
// Both sides serialize every envelope on the sending thread and parse it on the receiving one, and
// take turns in the same run. docs/benchmarks.md says what the figures mean.
#include "cluster/transport.h"

#include <semaphore.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>
#include <vector>
#include <zmq.hpp>

#include "bench/figure.h"
#include "bench/measure.h"
#include "cluster/curve.h"

namespace crabcast::cluster {
namespace {

constexpr std::uint64_t kEnvelopes = 200'000;  // one way, for one round
constexpr int kRoundTrips = 3000;              // for one round
constexpr int kRounds = 7;
constexpr int kQueueMessages = 4096;
constexpr std::uint64_t kLast = ~0ULL;

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "bench transport: %s\n", what.c_str());
  std::exit(1);
}

// What a worker reports after each step: a typical small message.
pb::Envelope small_envelope(std::uint64_t number) {
  pb::Envelope envelope;
  envelope.set_from("worker-0");
  envelope.set_to("job");
  envelope.set_request(number);
  auto& ready = *envelope.mutable_step_ready();
  ready.set_generation(3);
  ready.set_step(number);
  return envelope;
}

// One side of the comparison: a client that sends and a server that receives or echoes.
class Contender {
 public:
  virtual ~Contender() = default;
  // Sends kEnvelopes from a thread of its own; returns envelopes per second at the receiver.
  virtual double one_way() = 0;
  // The median time from a send until the echo has been parsed, in microseconds.
  virtual double round_trip() = 0;
};

class Ours final : public Contender {
 public:
  explicit Ours(const Keyring& keys) {
    ::sem_init(&answered_, 0, 0);
    TransportHandlers at_server, at_client;
    at_server.on_message = [this](Inbound inbound) { serve(inbound); };
    at_client.on_message = [this](const Inbound&) {
      back_ = Clock::now();
      ::sem_post(&answered_);
    };
    at_server.on_peer_down =
        at_client.on_peer_down = [this](const PeerInfo& peer, const Error& why) {
          if (!ending_) give_up(peer.process.value() + " is down: " + why.message);
        };
    server_ = start("server", keys, std::move(at_server));
    client_ = start("client", keys, std::move(at_client));
    const auto endpoint = server_->bind("tcp://127.0.0.1:*");
    if (!endpoint) give_up(endpoint.error().message);
    const auto linked = client_->connect(*endpoint, std::chrono::seconds(5));
    if (!linked) give_up(linked.error().message);
  }

  ~Ours() override { ending_ = true; }

  double one_way() override {
    received_ = 0;
    done_ = std::promise<void>();
    const TimePoint began = Clock::now();
    for (std::uint64_t i = 1; i <= kEnvelopes; ++i) {
      const auto envelope = small_envelope(i);
      Status sent;
      while (!(sent = client_->send(kServer, envelope))) {
        if (sent.error().code != Errc::queue_full) give_up(sent.error().message);
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
    }
    done_.get_future().wait();
    return static_cast<double>(kEnvelopes) / seconds(Clock::now() - began);
  }

  double round_trip() override {
    std::vector<double> times;
    auto envelope = small_envelope(kLast);
    for (int i = 0; i < kRoundTrips; ++i) {
      const TimePoint began = Clock::now();
      if (const auto sent = client_->send(kServer, envelope); !sent) give_up(sent.error().message);
      ::sem_wait(&answered_);
      times.push_back(seconds(back_ - began) * 1e6);
    }
    return bench::median(std::move(times));
  }

 private:
  static std::unique_ptr<Transport> start(const std::string& name, const Keyring& keys,
                                          TransportHandlers handlers) {
    TransportOptions options;
    options.process = ProcessId(name);
    options.keys = keys;
    options.send_queue_messages = kQueueMessages;
    auto started = Transport::start(std::move(options), std::move(handlers));
    if (!started) give_up(started.error().message);
    return std::move(*started);
  }
  void serve(const Inbound& inbound) {
    if (inbound.envelope->request() == kLast) {
      if (const auto sent = server_->send(inbound.from.process, *inbound.envelope); !sent)
        give_up(sent.error().message);
      return;
    }
    if (inbound.envelope->step_ready().step() != ++received_) give_up("an envelope is missing");
    if (received_ == kEnvelopes) done_.set_value();
  }
  const ProcessId kServer{"server"};
  std::uint64_t received_ = 0;
  std::promise<void> done_;
  ::sem_t answered_{};
  TimePoint back_;
  std::atomic<bool> ending_ = false;  // from then on a peer may be down
  std::unique_ptr<Transport> server_, client_;
};

class RawZmq final : public Contender {
 public:
  explicit RawZmq(const Keyring& keys)
      : zap_(ZapThread::start(server_context_, keys.authorized).value()),
        router_(server_context_, zmq::socket_type::router),
        dealer_(client_context_, zmq::socket_type::dealer) {
    use_server_keys(router_, keys);
    use_client_keys(dealer_, keys);
    for (zmq::socket_t* socket : {&router_, &dealer_}) {
      socket->set(zmq::sockopt::sndhwm, kQueueMessages);
      socket->set(zmq::sockopt::rcvhwm, kQueueMessages);
      socket->set(zmq::sockopt::linger, 0);
    }
    const auto endpoint = bind_socket(router_, "tcp://127.0.0.1:*");
    if (!endpoint) give_up(endpoint.error().message);
    dealer_.connect(*endpoint);
  }

  double one_way() override {
    const TimePoint began = Clock::now();
    auto finished = std::async(std::launch::async, [this] {
      for (std::uint64_t i = 1; i <= kEnvelopes; ++i)
        if (receive(router_, true).step_ready().step() != i) give_up("libzmq lost an envelope");
      return Clock::now();
    });
    for (std::uint64_t i = 1; i <= kEnvelopes; ++i) send(dealer_, small_envelope(i));
    return static_cast<double>(kEnvelopes) / seconds(finished.get() - began);
  }

  double round_trip() override {
    auto echo = std::async(std::launch::async, [this] {
      for (int i = 0; i < kRoundTrips; ++i) {
        const auto envelope = receive(router_, true);
        (void)router_.send(route_, zmq::send_flags::sndmore);
        send(router_, envelope);
      }
    });
    std::vector<double> times;
    const auto envelope = small_envelope(kLast);
    for (int i = 0; i < kRoundTrips; ++i) {
      const TimePoint began = Clock::now();
      send(dealer_, envelope);
      (void)receive(dealer_, false);
      times.push_back(seconds(Clock::now() - began) * 1e6);
    }
    echo.get();
    return bench::median(std::move(times));
  }

 private:
  static void send(zmq::socket_t& socket, const pb::Envelope& envelope) {
    zmq::message_t message(envelope.ByteSizeLong());
    envelope.SerializeWithCachedSizesToArray(message.data<std::uint8_t>());
    if (!socket.send(message, zmq::send_flags::none)) give_up("libzmq refused a message");
  }
  pb::Envelope receive(zmq::socket_t& socket, bool routed) {
    if (routed && !socket.recv(route_)) give_up("libzmq received nothing");
    zmq::message_t message;
    if (!socket.recv(message)) give_up("libzmq received nothing");
    pb::Envelope envelope;
    if (!envelope.ParseFromArray(message.data(), static_cast<int>(message.size())))
      give_up("libzmq delivered garbage");
    return envelope;
  }
  zmq::context_t server_context_, client_context_;
  std::unique_ptr<ZapThread> zap_;
  zmq::socket_t router_, dealer_;
  zmq::message_t route_;
};

int run() {
  const auto keys = make_keyring();
  if (!keys) give_up(keys.error().message);
  Ours ours(*keys);
  RawZmq raw(*keys);
  (void)ours.one_way();  // warm up: connections, caches, allocators
  (void)raw.one_way();
  std::vector<double> our_rates, raw_rates, our_times, raw_times;
  for (int round = 0; round < kRounds; ++round) {
    our_rates.push_back(ours.one_way());
    raw_rates.push_back(raw.one_way());
    our_times.push_back(ours.round_trip());
    raw_times.push_back(raw.round_trip());
  }
  using bench::Better;
  bench::print_figure("transport_one_way", bench::median(our_rates), bench::median(raw_rates),
                      "envelopes/s", Better::more);
  bench::print_figure("transport_round_trip_p50", bench::median(our_times),
                      bench::median(raw_times), "us", Better::less);
  return 0;
}

}  // namespace
}  // namespace crabcast::cluster

int main() {
  return crabcast::cluster::run();
}

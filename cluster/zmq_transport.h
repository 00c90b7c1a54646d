// The Transport over ZeroMQ. zmq_transport.cpp: the calls from other threads and the loop.
// zmq_io.cpp: bytes in and out. zmq_links.cpp: the life of links and peers.
#pragma once

#include <poll.h>

#include <atomic>
#include <future>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "cluster/link.h"
#include "cluster/wire.h"

namespace crabcast::cluster {

class ZmqTransport final : public Transport {
 public:
  ZmqTransport(TransportOptions options, TransportHandlers handlers, std::shared_ptr<WakeUp> wake);
  ~ZmqTransport() override;

  Result<std::string> bind(const std::string& address) override;
  Result<PeerInfo> connect(const std::string& endpoint, Duration timeout) override;
  void connect_async(const std::string& endpoint, Duration timeout,
                     std::function<void(Result<PeerInfo>)> done) override;
  Status send(const ProcessId& peer, const pb::Envelope& envelope,
              std::vector<Frame> frames) override;
  void disconnect(const ProcessId& peer, const std::string& reason) override;
  std::vector<PeerInfo> peers() const override;
  void stop(Duration linger) override;

 private:
  using Command = std::function<void()>;

  // ---- Other threads
  // false when the transport has stopped.
  bool post(Command command);
  [[nodiscard]] bool on_io_thread() const { return std::this_thread::get_id() == io_thread_; }
  // Sends what waits for the peer from this thread, if the sockets are free and the link is idle;
  // wakes the I/O thread otherwise.
  void flush_or_wake(Peer& peer);

  // ---- The loop (zmq_transport.cpp; bytes in and out: zmq_io.cpp)
  void run();
  void run_once(std::unique_lock<std::mutex>& io_lock);
  void sleep(std::unique_lock<std::mutex>& io_lock);
  void read_sockets();
  void run_commands();
  [[nodiscard]] std::chrono::milliseconds time_to_next_deadline() const;
  void close_all();
  Result<std::string> bind_now(const std::string& address);
  void read_router();
  void read_dial(Link& link);
  void on_routed(const std::string& routing_id, zmq::message_t payload);
  void on_payload(Link& link, const zmq::message_t& payload);
  void on_head(Link& link, const zmq::message_t& payload);
  void next_raw_frame(Link& link);
  void on_piece(Link& link, const zmq::message_t& payload);
  void on_envelope(Link& link, std::shared_ptr<const pb::Envelope> envelope,
                   std::vector<Frame> frames);
  void flush(Link& link);
  void flush_unbounded(Link& link);
  bool transmit(Link& link, zmq::message_t message);
  void transmit_parcel(Link& link, std::unique_ptr<Parcel> parcel);
  // The transport's own envelopes: not counted, not bounded.
  void transmit_own(Link& link, const pb::Envelope& envelope);
  bool send_to_route(const std::string& routing_id, zmq::message_t message);

  // ---- Links and peers (zmq_links.cpp)
  void begin_dial(const std::string& endpoint, TimePoint deadline,
                  std::function<void(Result<PeerInfo>)> done);
  void open_dial(Link& link);
  void read_dial_monitor(Link& link);
  void dial_failed(Link& link, const std::string& problem);
  void read_router_monitor();
  void connection_broke(Link& link);
  void on_hello(const std::string& routing_id, int fd, const pb::Envelope& envelope);
  void on_welcome(Link& link, const pb::Envelope& envelope);
  void on_heartbeat(Link& link, const pb::Heartbeat& heartbeat);
  void establish(Link& link, PeerInfo info);
  void resume(Link& link);
  void say_hello(Link& link);
  void say_welcome(Link& link);
  void say_heartbeat(Link& link);
  void say_goodbye(Link& link, const std::string& reason);
  void check_timers(TimePoint now);
  // Ends the peer and its links; on_peer_down unless `quiet`.
  void peer_down(const std::shared_ptr<Peer>& peer, Error why, bool goodbye, bool quiet = false);
  // Ends a link that may have no peer yet.
  void fail_link(Link& link, Error why, bool goodbye);
  void close_link(Link& link, std::chrono::milliseconds linger);
  void answer_waiters(Link& link, const Result<PeerInfo>& result);
  void remove_closed_links();
  [[nodiscard]] FailureTimeouts timeouts() const;

  const TransportOptions options_;
  const TransportHandlers handlers_;
  const std::uint64_t incarnation_;
  const std::shared_ptr<WakeUp> wake_;

  mutable std::mutex peers_mutex_;  // guards peers_
  std::unordered_map<ProcessId, std::shared_ptr<Peer>> peers_;

  std::mutex commands_mutex_;  // guards commands_ and accepting_
  std::vector<Command> commands_;
  bool accepting_ = true;

  // Held by the I/O thread whenever it does not sleep, and by a thread that sends directly. Guards
  // everything below: ZeroMQ sockets may change threads, but not be used by two at once.
  std::mutex io_mutex_;
  zmq::context_t context_;
  std::optional<ZapHandler> zap_;
  std::optional<SocketWatch> zap_watch_;
  std::optional<zmq::socket_t> router_;
  std::optional<SocketMonitor> router_monitor_;
  std::optional<SocketWatch> router_watch_;
  std::optional<SocketWatch> router_monitor_watch_;
  std::vector<std::unique_ptr<Link>> links_;
  std::unordered_map<std::string, Link*> by_route_;
  TimePoint last_look_;
  bool look_at_all_ = false;  // a round was cut short
  bool stopping_ = false;
  std::chrono::milliseconds linger_{0};

  // I/O thread
  std::vector<pollfd> poll_items_;
  std::vector<SocketWatch*> watches_;  // one for each item
  std::vector<Link*> polled_;          // the links whose connections are in poll_items_

  std::atomic<std::thread::id> io_thread_{};
  std::mutex stop_mutex_;  // one stop at a time
  std::thread thread_;     // last: starts when everything else stands
};

}  // namespace crabcast::cluster

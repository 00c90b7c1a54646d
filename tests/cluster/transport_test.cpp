#include <netinet/in.h>

#include <future>
#include <numeric>

#include "tests/cluster/raw_peer.h"
#include "tests/cluster/transport_fixture.h"

namespace crabcast::cluster {
namespace {

// Two linked nodes; both up events are taken.
struct Pair {
  explicit Pair(TransportOptions server_options = {}, TransportOptions client_options = {})
      : server("server", std::move(server_options)), client("client", std::move(client_options)) {
    endpoint = server.bind();
    const auto info = client.transport->connect(endpoint, kPatience);
    EXPECT_TRUE(info.has_value()) << info.error().message;
    EXPECT_EQ(client.next().kind, Event::Kind::up);
    EXPECT_EQ(server.next().kind, Event::Kind::up);
  }
  Node server, client;
  std::string endpoint;
};

TEST(Transport, HandshakeTellsBothSidesWhoTheOtherIs) {
  TransportOptions options;
  options.kind = pb::ROLE_WORKER;
  options.node = "node-a";
  Node server("server"), client("client", options);
  const auto endpoint = server.bind();
  const auto info = client.transport->connect(endpoint, kPatience);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->process.value(), "server");
  EXPECT_NE(info->incarnation, 0u);
  const Event seen = server.next();
  EXPECT_EQ(seen.kind, Event::Kind::up);
  EXPECT_EQ(seen.peer.process.value(), "client");
  EXPECT_EQ(seen.peer.kind, pb::ROLE_WORKER);
  EXPECT_EQ(seen.peer.node, "node-a");
  ASSERT_EQ(server.transport->peers().size(), 1u);
  ASSERT_EQ(client.transport->peers().size(), 1u);
  EXPECT_EQ(client.transport->peers()[0].incarnation, info->incarnation);
}

TEST(Transport, TenThousandMessagesArriveInOrderBothWays) {
  Pair pair;
  constexpr std::uint64_t kMessages = 10000;
  const auto pump = [](Node& from, const std::string& to) {
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      const auto sent = send_patiently(*from.transport, to, numbered(i, std::string(i % 97, 'x')));
      if (!sent) return ::testing::AssertionFailure() << sent.error().message;
    }
    return ::testing::AssertionSuccess();
  };
  auto there = std::async(std::launch::async, [&] { return pump(pair.client, "server"); });
  EXPECT_TRUE(pump(pair.server, "client"));
  EXPECT_TRUE(there.get());
  for (Node* node : {&pair.server, &pair.client})
    for (std::uint64_t i = 0; i < kMessages; ++i) {
      const Event event = node->next();
      ASSERT_EQ(event.kind, Event::Kind::message);
      ASSERT_EQ(event.inbound.envelope->request(), i);
      ASSERT_EQ(event.inbound.envelope->failure().message().size(), i % 97);
      ASSERT_EQ(event.inbound.envelope->protocol(), kProtocolVersion);
    }
}

TEST(Transport, RawFramesArriveIntactAndAreReleased) {
  Pair pair;
  constexpr std::size_t kWords = (32 << 20) / sizeof(std::uint32_t);
  auto words = std::make_shared<std::vector<std::uint32_t>>(kWords);
  std::uint32_t state = 12345;
  for (auto& word : *words) word = state = state * 1664525u + 1013904223u;
  const std::weak_ptr<void> alive = words;
  std::vector<Frame> frames{Frame(),
                            Frame(words, words->data(), kWords * 4),
                            Frame(),
                            Frame::copy_of("tail", 4),
                            Frame(words, words->data(), kPieceBytes + 1),
                            Frame()};
  const std::vector<std::uint32_t> expected = *words;
  words.reset();
  ASSERT_TRUE(pair.client.transport->send(ProcessId("server"), numbered(1), std::move(frames)));
  ASSERT_TRUE(pair.client.transport->send(ProcessId("server"), numbered(2)));
  const Event event = pair.server.next();
  ASSERT_EQ(event.kind, Event::Kind::message);
  const auto& got = event.inbound.frames;
  ASSERT_EQ(got.size(), 6u);
  for (const std::size_t empty : {0, 2, 5}) EXPECT_EQ(got[empty].size(), 0u);
  ASSERT_EQ(got[1].size(), kWords * 4);
  EXPECT_EQ(std::memcmp(got[1].data(), expected.data(), kWords * 4), 0);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(got[1].data()) % 64, 0u);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(got[3].data()), 4), "tail");
  ASSERT_EQ(got[4].size(), kPieceBytes + 1);
  EXPECT_EQ(std::memcmp(got[4].data(), expected.data(), kPieceBytes + 1), 0);
  EXPECT_EQ(pair.server.next().inbound.envelope->request(), 2u);
  EXPECT_TRUE(alive.expired()) << "the sender still holds a frame that has arrived";
}

TEST(Transport, HandlersMaySend) {
  Node server("server"), client("client");
  server.on_message = [&server](const Inbound& inbound) {
    pb::Envelope answer;
    answer.set_answers(inbound.envelope->request());
    answer.mutable_done();
    EXPECT_TRUE(server.transport->send(inbound.from.process, answer));
  };
  ASSERT_TRUE(client.transport->connect(server.bind(), kPatience));
  EXPECT_EQ(client.next().kind, Event::Kind::up);
  for (std::uint64_t i = 1; i <= 100; ++i) {
    ASSERT_TRUE(client.transport->send(ProcessId("server"), numbered(i)));
    ASSERT_EQ(client.next().inbound.envelope->answers(), i);
  }
}

TEST(Transport, PeerThatDoesNotReadFillsTheQueue) {
  TransportOptions patient;
  patient.peer_timeout = std::chrono::seconds(60);
  patient.send_queue_messages = 1 << 20;
  patient.send_queue_bytes = 64 << 20;
  Node server("server", patient), client("client", patient);
  std::promise<void> release;
  auto released = release.get_future().share();
  server.on_message = [released](const Inbound&) { released.wait(); };
  ASSERT_TRUE(client.transport->connect(server.bind(), kPatience));
  const auto frame = Frame::copy_of(std::string(1 << 20, 'y').data(), 1 << 20);
  std::uint64_t accepted = 0;
  Status sent;
  // Beyond the client's own 64 MiB lie only the server's high-water mark and the kernel's buffers.
  while (accepted < 1000) {
    sent = client.transport->send(ProcessId("server"), numbered(accepted), {frame});
    if (!sent) {
      // The queue is full now; it is full for good when it stays so while libzmq settles.
      if (accepted >= 64) break;
      std::this_thread::yield();
      continue;
    }
    ++accepted;
  }
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::queue_full);
  EXPECT_LT(accepted, 1000u);
  release.set_value();
  EXPECT_EQ(server.next().kind, Event::Kind::up);
  for (std::uint64_t i = 0; i < accepted; ++i)
    ASSERT_EQ(server.next().inbound.envelope->request(), i);
}

TEST(Transport, QueueIsBoundedInMessages) {
  TransportOptions few;
  few.peer_timeout = std::chrono::seconds(60);
  few.send_queue_messages = 10;
  Node server("server", few), client("client", few);
  std::promise<void> release;
  auto released = release.get_future().share();
  server.on_message = [released](const Inbound&) { released.wait(); };
  ASSERT_TRUE(client.transport->connect(server.bind(), kPatience));
  // A long text, so that the kernel's buffers do not swallow everything.
  const auto envelope = numbered(0, std::string(1 << 20, 'z'));
  Status sent;
  const TimePoint deadline = Clock::now() + kPatience;
  int accepted = 0;
  while ((sent = client.transport->send(ProcessId("server"), envelope)) && Clock::now() < deadline)
    ++accepted;
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::queue_full);
  EXPECT_GE(accepted, 10);
  release.set_value();
}

TEST(Transport, TooLargeAMessageIsRefusedWhereItIsSent) {
  TransportOptions small;
  small.max_message_bytes = 1 << 20;
  Pair pair(small, small);
  const auto frame = Frame::copy_of(std::string(1 << 20, 'y').data(), 1 << 20);
  const auto sent = pair.client.transport->send(ProcessId("server"), numbered(1), {frame});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, Errc::invalid_argument);
}

TEST(Transport, StopDeliversWhatWasSent) {
  Node server("server");
  const auto endpoint = server.bind();
  {
    Node client("client");
    ASSERT_TRUE(client.transport->connect(endpoint, kPatience));
    for (std::uint64_t i = 0; i < 1000; ++i)
      ASSERT_TRUE(send_patiently(*client.transport, "server", numbered(i)));
    client.transport->stop(kPatience);
  }
  EXPECT_EQ(server.next().kind, Event::Kind::up);
  for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_EQ(server.next().inbound.envelope->request(), i);
  const Event last = server.next();
  EXPECT_EQ(last.kind, Event::Kind::down);
  EXPECT_NE(last.why.message.find("stopped"), std::string::npos) << last.why.message;
}

TEST(Transport, DisconnectDeliversTheQueueAndIsQuietHere) {
  Pair pair;
  ASSERT_TRUE(pair.client.transport->send(ProcessId("server"), numbered(1)));
  pair.client.transport->disconnect(ProcessId("server"), "moved away");
  EXPECT_EQ(pair.client.transport->send(ProcessId("server"), numbered(2)).error().code,
            Errc::unavailable);
  EXPECT_EQ(pair.server.next().inbound.envelope->request(), 1u);
  const Event down = pair.server.next();
  EXPECT_EQ(down.kind, Event::Kind::down);
  EXPECT_NE(down.why.message.find("moved away"), std::string::npos);
  ASSERT_TRUE(pair.client.transport->connect(pair.endpoint, kPatience));
  EXPECT_EQ(pair.client.next().kind, Event::Kind::up) << "a down event came after disconnect";
  EXPECT_EQ(pair.server.next().kind, Event::Kind::up);
}

TEST(Transport, SecondConnectReturnsTheLinkThatIsThere) {
  Pair pair;
  const auto again = pair.client.transport->connect(pair.endpoint, kPatience);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->process.value(), "server");
  ASSERT_TRUE(pair.client.transport->send(ProcessId("server"), numbered(7)));
  EXPECT_EQ(pair.server.next().inbound.envelope->request(), 7u);
}

TEST(Transport, BothSidesMayDialEachOther) {
  Node a("a"), b("b");
  const auto at_a = a.bind(), at_b = b.bind();
  auto dial = std::async(std::launch::async, [&] { return a.transport->connect(at_b, kPatience); });
  const auto back = b.transport->connect(at_a, kPatience);
  ASSERT_TRUE(back) << back.error().message;
  ASSERT_TRUE(dial.get());
  EXPECT_EQ(a.next().kind, Event::Kind::up);
  EXPECT_EQ(b.next().kind, Event::Kind::up);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_TRUE(send_patiently(*a.transport, "b", numbered(i)));
    ASSERT_TRUE(send_patiently(*b.transport, "a", numbered(i)));
  }
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(a.next().inbound.envelope->request(), i);
    ASSERT_EQ(b.next().inbound.envelope->request(), i);
  }
}

TEST(Transport, NobodyThereIsATimeout) {
  Node client("client");
  // A port that was free a moment ago.
  const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(probe, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  socklen_t length = sizeof address;
  ::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &length);
  const auto endpoint = "tcp://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  const auto info = client.transport->connect(endpoint, std::chrono::milliseconds(300));
  ::close(probe);
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, Errc::timeout);
  EXPECT_NE(info.error().message.find("nobody listens"), std::string::npos) << info.error().message;
}

TEST(Transport, ConnectWaitsForAServerThatStartsLater) {
  Node server("server"), client("client");
  const auto endpoint = server.bind();
  server.transport->stop();
  std::promise<Result<PeerInfo>> done;
  client.transport->connect_async(endpoint, kPatience,
                                  [&](Result<PeerInfo> info) { done.set_value(std::move(info)); });
  Node late("late");
  ASSERT_TRUE(late.transport->bind(endpoint));
  const auto info = done.get_future().get();
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->process.value(), "late");
}

TEST(Transport, TakenPortIsNamed) {
  Node first("first"), second("second");
  const auto endpoint = first.bind();
  const auto port = endpoint.substr(endpoint.rfind(':') + 1);
  const auto taken = second.transport->bind(endpoint);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().code, Errc::address_in_use);
  EXPECT_NE(taken.error().message.find(port), std::string::npos) << taken.error().message;
  EXPECT_EQ(second.transport->bind("nonsense").error().code, Errc::invalid_argument);
  EXPECT_EQ(second.transport->connect("nonsense", kPatience).error().code, Errc::invalid_argument);
}

// ---- Keys (A-1) ----

TEST(Transport, UnknownKeyGetsNothing) {
  Node server("server");
  const auto endpoint = server.bind();
  TransportOptions options;
  options.keys = make_keyring().value();
  options.keys.server_public = test_keys().server_public;  // it knows whom it talks to
  Node stranger("stranger", options);
  const auto info = stranger.transport->connect(endpoint, kPatience);
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, Errc::unauthenticated) << info.error().message;
  // One who speaks ZeroMQ by hand and insists gets no further.
  RawDialer insistent(options.keys, endpoint);
  for (int i = 0; i < 3; ++i) insistent.send(packed(hello_of("insistent")));
  Node known("known");
  ASSERT_TRUE(known.transport->connect(endpoint, kPatience));
  const Event first = server.next();
  EXPECT_EQ(first.kind, Event::Kind::up);
  EXPECT_EQ(first.peer.process.value(), "known") << "the stranger was seen";
  EXPECT_TRUE(server.quiet_for(std::chrono::milliseconds(300)));
  EXPECT_EQ(stranger.events(), 0u);
}

TEST(Transport, WrongServerKeyIsUnauthenticated) {
  Node server("server");
  const auto endpoint = server.bind();
  TransportOptions options;
  options.keys = test_keys();
  options.keys.server_public = make_keyring().value().server_public;
  Node client("client", options);
  const auto info = client.transport->connect(endpoint, kPatience);
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, Errc::unauthenticated) << info.error().message;
  EXPECT_EQ(server.events(), 0u);
}

TEST(Transport, PlainTextPeerGetsNothing) {
  Node server("server");
  const auto endpoint = server.bind();
  zmq::context_t context;
  zmq::socket_t plain(context, zmq::socket_type::dealer);
  plain.set(zmq::sockopt::linger, 0);
  plain.set(zmq::sockopt::rcvtimeo, 300);
  plain.connect(endpoint);
  ASSERT_TRUE(plain.send(zmq::buffer(packed(hello_of("plain"))), zmq::send_flags::none));
  zmq::message_t answer;
  EXPECT_FALSE(plain.recv(answer).has_value());
  EXPECT_EQ(server.events(), 0u);
}

// ---- Protocol ----

TEST(Transport, OtherProtocolVersionIsRefusedWithAReason) {
  Node server("server");
  RawDialer dialer(test_keys(), server.bind());
  dialer.send(packed(hello_of("old", 99)));
  const auto answer = dialer.receive();
  ASSERT_TRUE(answer && answer->has_failure());
  EXPECT_EQ(answer->failure().code(), static_cast<std::uint32_t>(Errc::protocol_mismatch));
  EXPECT_NE(answer->failure().message().find("99"), std::string::npos);
  EXPECT_EQ(server.events(), 0u);
}

TEST(Transport, ConnectReturnsTheReasonOfARefusal) {
  pb::Envelope refusal;
  refusal.mutable_failure()->set_code(static_cast<std::uint32_t>(Errc::protocol_mismatch));
  refusal.mutable_failure()->set_message("this is version 99");
  RawListener listener(test_keys(), refusal);
  Node client("client");
  const auto info = client.transport->connect(listener.endpoint, kPatience);
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, Errc::protocol_mismatch);
  EXPECT_NE(info.error().message.find("this is version 99"), std::string::npos);
}

TEST(Transport, WelcomeOfAnotherProtocolIsAMismatch) {
  pb::Envelope welcome;
  welcome.set_protocol(99);
  welcome.mutable_welcome()->set_process("future");
  RawListener listener(test_keys(), welcome);
  Node client("client");
  const auto info = client.transport->connect(listener.endpoint, kPatience);
  ASSERT_FALSE(info);
  EXPECT_EQ(info.error().code, Errc::protocol_mismatch);
  EXPECT_EQ(client.events(), 0u);
}

TEST(Transport, MalformedMessagesCloseTheLinkAndNothingElse) {
  Node server("server"), good("good");
  const auto endpoint = server.bind();
  ASSERT_TRUE(good.transport->connect(endpoint, kPatience));
  EXPECT_EQ(server.next().kind, Event::Kind::up);

  std::string cut = packed(numbered(1));
  cut.resize(cut.size() - 1);
  std::string not_protobuf = make_head() + std::string("\x04\0\0\0\xff\xff\xff\xff", 8);
  const auto announcing = [](std::initializer_list<std::uint64_t> lengths) {
    std::string head = packed(numbered(1));
    append_raw_frames(head, std::vector<std::uint64_t>(lengths));
    return head;
  };
  const std::string too_large = announcing({1ULL << 50});
  const std::string overflowing = announcing({~0ULL, ~0ULL, 3});
  std::string endless = announcing({10});
  endless[7] = '\x7f';  // two thousand million frames
  for (const std::string& bad : {std::string("garbage"), std::string(), cut, not_protobuf,
                                 too_large, overflowing, endless, make_head()}) {
    RawDialer dialer(test_keys(), endpoint);
    dialer.send(packed(hello_of("raw")));
    const auto welcome = dialer.receive();
    ASSERT_TRUE(welcome && welcome->has_welcome());
    EXPECT_EQ(server.next().kind, Event::Kind::up);
    dialer.send(bad);
    const Event down = server.next();
    EXPECT_EQ(down.kind, Event::Kind::down);
    EXPECT_EQ(down.why.code, Errc::corrupt) << down.why.message;
    const auto goodbye = dialer.receive();
    ASSERT_TRUE(goodbye && goodbye->has_goodbye());
    dialer.send(packed(numbered(2)));  // ignored: the link is over
  }
  // Announced frames of another size.
  for (const std::size_t size : {9u, 11u}) {
    RawDialer dialer(test_keys(), endpoint);
    dialer.send(packed(hello_of("raw")));
    EXPECT_EQ(server.next().kind, Event::Kind::up);
    dialer.send(announcing({10}));
    dialer.send(std::string(size, 'x'));
    EXPECT_EQ(server.next().why.code, Errc::corrupt);
  }
  ASSERT_TRUE(good.transport->send(ProcessId("server"), numbered(3)));
  EXPECT_EQ(server.next().inbound.envelope->request(), 3u);
}

TEST(Transport, GarbageBeforeHelloIsIgnored) {
  Node server("server");
  RawDialer dialer(test_keys(), server.bind());
  dialer.send("garbage");
  dialer.send(packed(numbered(1)));
  dialer.send(packed(hello_of("raw")));
  const auto welcome = dialer.receive();
  ASSERT_TRUE(welcome && welcome->has_welcome());
  EXPECT_EQ(server.next().kind, Event::Kind::up);
  EXPECT_EQ(server.events(), 0u);
}

TEST(Transport, LostMessagesAreNoticed) {
  Node server("server");
  RawDialer dialer(test_keys(), server.bind());
  dialer.send(packed(hello_of("raw")));
  EXPECT_EQ(server.next().kind, Event::Kind::up);
  dialer.send(packed(numbered(1)));
  EXPECT_EQ(server.next().kind, Event::Kind::message);
  pb::Envelope heartbeat;
  heartbeat.mutable_heartbeat()->set_sequence(1);
  dialer.send(packed(heartbeat));
  dialer.send(packed(numbered(2)));
  EXPECT_EQ(server.next().kind, Event::Kind::message) << "a correct count was refused";
  heartbeat.mutable_heartbeat()->set_sequence(3);
  dialer.send(packed(heartbeat));
  const Event down = server.next();
  EXPECT_EQ(down.kind, Event::Kind::down);
  EXPECT_NE(down.why.message.find("3 sent, 2 received"), std::string::npos) << down.why.message;
}

// ---- Failure ----

TEST(Transport, NewIncarnationIsDownThenUp) {
  Node server("server");
  const auto endpoint = server.bind();
  Node first("worker-0"), second("worker-0");
  const auto info = first.transport->connect(endpoint, kPatience);
  ASSERT_TRUE(info);
  const Event up = server.next();
  ASSERT_TRUE(second.transport->connect(endpoint, kPatience));
  const Event down = server.next(), again = server.next();
  EXPECT_EQ(down.kind, Event::Kind::down);
  EXPECT_EQ(down.peer.incarnation, up.peer.incarnation);
  EXPECT_EQ(again.kind, Event::Kind::up);
  EXPECT_NE(again.peer.incarnation, up.peer.incarnation);
  EXPECT_EQ(first.next().kind, Event::Kind::up);
  EXPECT_EQ(first.next().kind, Event::Kind::down) << "the old life was not told";
  ASSERT_TRUE(server.transport->send(ProcessId("worker-0"), numbered(4)));
  EXPECT_EQ(second.next().kind, Event::Kind::up);
  EXPECT_EQ(second.next().inbound.envelope->request(), 4u);
}

TEST(Transport, BrokenConnectionComesBackWithoutAnEvent) {
  TransportOptions options;
  options.reconnect_grace = std::chrono::seconds(10);
  Node server("server", options), client("client", options);
  CuttableProxy proxy(server.bind());
  ASSERT_TRUE(client.transport->connect(proxy.endpoint, kPatience));
  EXPECT_EQ(server.next().kind, Event::Kind::up);
  EXPECT_EQ(client.next().kind, Event::Kind::up);
  ASSERT_TRUE(client.transport->send(ProcessId("server"), numbered(1)));
  EXPECT_EQ(server.next().inbound.envelope->request(), 1u);
  proxy.cut();
  for (const TimePoint deadline = Clock::now() + kPatience;
       proxy.accepted() < 2 && Clock::now() < deadline;)
    std::this_thread::yield();
  ASSERT_EQ(proxy.accepted(), 2);
  // The client has dialed again, so it knows of the break. The server may not: what it sends
  // before it knows can be lost, which the next heartbeat tells. It knows once 2 has arrived.
  ASSERT_TRUE(client.transport->send(ProcessId("server"), numbered(2)));
  const Event at_server = server.next();
  ASSERT_EQ(at_server.kind, Event::Kind::message) << at_server.why.message;
  EXPECT_EQ(at_server.inbound.envelope->request(), 2u);
  ASSERT_TRUE(server.transport->send(ProcessId("client"), numbered(3)));
  const Event at_client = client.next();
  ASSERT_EQ(at_client.kind, Event::Kind::message) << at_client.why.message;
  EXPECT_EQ(at_client.inbound.envelope->request(), 3u);
}

TEST(Transport, BrokenConnectionThatStaysBrokenIsDown) {
  TransportOptions options;
  options.reconnect_grace = std::chrono::milliseconds(200);
  options.peer_timeout = std::chrono::seconds(60);
  Node server("server", options), client("client", options);
  {
    CuttableProxy proxy(server.bind());
    ASSERT_TRUE(client.transport->connect(proxy.endpoint, kPatience));
    EXPECT_EQ(server.next().kind, Event::Kind::up);
    EXPECT_EQ(client.next().kind, Event::Kind::up);
  }
  const TimePoint cut = Clock::now();
  EXPECT_EQ(server.next().kind, Event::Kind::down);
  EXPECT_EQ(client.next().kind, Event::Kind::down);
  EXPECT_LT(seconds(Clock::now() - cut), 10) << "only the silence was noticed";
  EXPECT_EQ(server.transport->send(ProcessId("client"), numbered(1)).error().code,
            Errc::unavailable);
}

}  // namespace
}  // namespace crabcast::cluster

// Two actor systems with real transports between them, in one process.
#include "actors/switchboard.h"

#include <gmock/gmock.h>

#include <caf/all.hpp>
#include <future>
#include <numeric>

namespace crabcast::actors {
namespace {

using testing::HasSubstr;

constexpr auto kPatience = std::chrono::seconds(20);  // a slow machine is not a failure
constexpr auto kLong = std::chrono::minutes(5);       // longer than any test may take

const cluster::Keyring& keys() {
  static const cluster::Keyring keyring = cluster::make_keyring().value();
  return keyring;
}

// One process: its actors and its switchboard.
struct Side {
  explicit Side(const std::string& name, cluster::TransportOptions options = {}) {
    options.process = ProcessId{name};
    options.keys = keys();
    board = Switchboard::start(system, std::move(options)).value();
  }
  ~Side() {
    board->stop();
    for (const auto& actor : actors) caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  }
  template <class Behavior>
  caf::actor spawn(Behavior behavior) {
    auto actor = system.spawn(
        [](caf::event_based_actor* self, const Behavior& make) { return make(self); }, behavior);
    actors.push_back(actor);
    return actor;
  }

  caf::actor_system_config config;
  caf::actor_system system{config};
  std::unique_ptr<Switchboard> board;
  std::vector<caf::actor> actors;
};

// Answers GetJob with the job's state, anything else with an error, and GetLog never.
caf::behavior responder(caf::event_based_actor*) {
  return {[](const DeliveryPtr& message) {
    const auto& envelope = *message->envelope;
    if (envelope.has_get_job()) {
      pb::JobStatus status;
      status.set_job(envelope.get_job().job());
      status.set_reason("asked by '" + envelope.from() + "'");
      answer(*message, status, message->frames);
    } else if (!envelope.has_get_log()) {
      answer(*message, Error{Errc::invalid_spec, "line 3: no such field"});
    }
  }};
}

class SwitchboardTest : public testing::Test {
 protected:
  SwitchboardTest() {
    far_.board->publish("responder", far_.spawn(responder));
    endpoint_ = far_.board->bind("tcp://127.0.0.1:*").value();
    peer_ = near_.board->connect(endpoint_, kPatience).value().process;
  }

  static OutboundPtr get_job(const std::string& job, std::vector<cluster::Frame> frames = {}) {
    pb::GetJob body;
    body.set_job(job);
    return outbound(body, std::move(frames));
  }
  Result<DeliveryPtr> ask(const caf::actor& who, const OutboundPtr& what,
                          Duration timeout = kPatience) {
    caf::scoped_actor self{near_.system};
    Result<DeliveryPtr> result = fail(Errc::internal, "");
    self->request(who, timeout, what)
        .receive([&](const DeliveryPtr& reply) { result = reply; },
                 [&](const caf::error& error) { result = fail(from_caf(error)); });
    return result;
  }
  // The reason of the actor's end; fails the test when it lives on.
  static caf::error end_of(caf::scoped_actor& self) {
    caf::error reason;
    self->receive([&](const caf::down_msg& down) { reason = down.reason; },
                  caf::after(kPatience) >> [] { ADD_FAILURE() << "it is still alive"; });
    return reason;
  }

  Side far_{"far"}, near_{"near"};
  std::string endpoint_;
  ProcessId peer_{""};
};

TEST_F(SwitchboardTest, ARequestIsAnswered) {
  auto reply = ask(near_.board->proxy(peer_, "responder"), get_job("job-7"));
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ((*reply)->envelope->job_status().job(), "job-7");
  EXPECT_EQ((*reply)->from.process.value(), "far");
}

TEST_F(SwitchboardTest, ManyRequestsAreToldApart) {
  auto proxy = near_.board->proxy(peer_, "responder");
  caf::scoped_actor self{near_.system};
  std::vector<caf::response_handle<caf::blocking_actor, caf::message, true>> waiting;
  constexpr int kMany = 500;
  for (int i = 0; i < kMany; ++i)
    waiting.push_back(self->request(proxy, kPatience, get_job(std::to_string(i))));
  for (int i = kMany - 1; i >= 0; --i)
    waiting[static_cast<std::size_t>(i)].receive(
        [&](const DeliveryPtr& reply) {
          EXPECT_EQ(reply->envelope->job_status().job(), std::to_string(i));
        },
        [&](const caf::error& error) { ADD_FAILURE() << from_caf(error).message; });
}

TEST_F(SwitchboardTest, AFailureArrivesAsAnError) {
  auto reply = ask(near_.board->proxy(peer_, "responder"), outbound(pb::ListJobs{}));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, Errc::invalid_spec);
  EXPECT_EQ(reply.error().message, "line 3: no such field");
}

TEST_F(SwitchboardTest, AnUnknownActorIsNotFound) {
  auto reply = ask(near_.board->proxy(peer_, "nobody"), get_job("x"));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, Errc::not_found);
  EXPECT_THAT(reply.error().message, HasSubstr("nobody"));
  far_.board->withdraw("responder");
  EXPECT_EQ(ask(near_.board->proxy(peer_, "responder"), get_job("x")).error().code,
            Errc::not_found);
}

TEST_F(SwitchboardTest, FramesArriveInOrderAndWhole) {
  std::string big(3 << 20, '\0');
  std::iota(big.begin(), big.end(), '\0');
  const std::string small = "abc";
  auto reply = ask(near_.board->proxy(peer_, "responder"),
                   get_job("x", {cluster::Frame::copy_of(big.data(), big.size()),
                                 cluster::Frame::copy_of(small.data(), small.size()),
                                 {}}));
  ASSERT_TRUE(reply) << reply.error().message;
  const auto& frames = (*reply)->frames;
  ASSERT_EQ(frames.size(), 3U);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(frames[0].data()), frames[0].size()), big);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(frames[1].data()), frames[1].size()), small);
  EXPECT_EQ(frames[2].size(), 0U);
}

// A published actor's name travels with what it sends, so the other one can write back.
TEST_F(SwitchboardTest, APublishedActorGetsLettersBack) {
  far_.board->publish("correspondent",
                      far_.spawn([](caf::event_based_actor* self) -> caf::behavior {
                        return {[self](const DeliveryPtr& message) {
                          EXPECT_EQ(message->envelope->from(), "writer");
                          self->send(message->sender, get_job("the answer"));
                        }};
                      }));
  auto answers = std::make_shared<std::promise<std::string>>();
  auto result = answers->get_future();
  auto writer = near_.spawn([=, to = near_.board->proxy(peer_, "correspondent")](
                                caf::event_based_actor* self) -> caf::behavior {
    return {[=](const std::string&) { self->send(to, get_job("a letter")); },
            [=](const DeliveryPtr& message) {
              answers->set_value(message->envelope->get_job().job());
            }};
  });
  near_.board->publish("writer", writer);
  caf::anon_send(writer, std::string("go"));
  ASSERT_EQ(result.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(result.get(), "the answer");
}

TEST_F(SwitchboardTest, AProxyDiesWithItsPeer) {
  auto proxy = near_.board->proxy(peer_, "responder");
  EXPECT_EQ(proxy, near_.board->proxy(peer_, "responder")) << "one proxy for one actor";
  caf::scoped_actor self{near_.system};
  self->monitor(proxy);
  far_.board->stop();
  EXPECT_EQ(end_of(self), caf::exit_reason::remote_link_unreachable);
  auto late = ask(proxy, get_job("x"));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::unavailable);
}

TEST_F(SwitchboardTest, WhoWaitsForAPeerThatStopsHearsOfItAtOnce) {
  auto proxy = near_.board->proxy(peer_, "responder");
  caf::scoped_actor self{near_.system};
  auto waiting = self->request(proxy, kLong, outbound(pb::GetLog{}));
  ASSERT_TRUE(ask(proxy, get_job("it is there")));  // and so the first request is
  const auto started = Clock::now();
  far_.board->stop();
  waiting.receive([](const DeliveryPtr&) { ADD_FAILURE() << "nobody answers this"; },
                  [](const caf::error& error) {
                    EXPECT_EQ(from_caf(error).code, Errc::unavailable);
                    EXPECT_THAT(from_caf(error).message, HasSubstr("far"));
                  });
  EXPECT_LT(Clock::now() - started, kPatience);
}

TEST_F(SwitchboardTest, WhoWaitsWhenTheOwnSideStopsHearsOfItToo) {
  caf::scoped_actor self{near_.system};
  auto proxy = near_.board->proxy(peer_, "responder");
  auto waiting = self->request(proxy, kLong, outbound(pb::GetLog{}));
  near_.board->stop();
  waiting.receive(
      [](const DeliveryPtr&) { ADD_FAILURE() << "nobody answers this"; },
      [](const caf::error& error) { EXPECT_EQ(from_caf(error).code, Errc::unavailable); });
}

TEST_F(SwitchboardTest, DisconnectEndsTheProxiesOfThatPeerOnBothSides) {
  ASSERT_TRUE(ask(near_.board->proxy(peer_, "responder"), get_job("x")));
  caf::scoped_actor here{near_.system}, there{far_.system};
  here->monitor(near_.board->proxy(peer_, "responder"));
  there->monitor(far_.board->proxy(ProcessId{"near"}, "somebody"));
  near_.board->disconnect(peer_, "enough");
  EXPECT_EQ(end_of(here), caf::exit_reason::remote_link_unreachable);
  EXPECT_EQ(end_of(there), caf::exit_reason::remote_link_unreachable);
  EXPECT_FALSE(near_.board->connected(peer_));
}

TEST_F(SwitchboardTest, AProxyForAProcessThatIsNotConnectedIsDeadAtOnce) {
  caf::scoped_actor self{near_.system};
  self->monitor(near_.board->proxy(ProcessId{"stranger"}, "responder"));
  EXPECT_EQ(end_of(self), caf::exit_reason::remote_link_unreachable);
}

TEST_F(SwitchboardTest, APeerThatConnectsAgainGetsFreshProxies) {
  auto old = near_.board->proxy(peer_, "responder");
  near_.board->disconnect(peer_, "a pause");
  ASSERT_TRUE(near_.board->connect(endpoint_, kPatience));
  auto fresh = near_.board->proxy(peer_, "responder");
  EXPECT_NE(old, fresh);
  EXPECT_TRUE(ask(fresh, get_job("x")));
}

TEST_F(SwitchboardTest, ConnectAsyncTellsItsActor) {
  caf::scoped_actor self{near_.system};
  const auto wait = [&] {
    std::optional<Connected> result;
    self->receive([&](const Connected& connected) { result = connected; },
                  caf::after(kPatience) >> [] { ADD_FAILURE() << "nothing was told"; });
    return result;
  };
  near_.board->connect_async(endpoint_, kPatience, caf::actor_cast<caf::actor>(self));
  auto good = wait();
  ASSERT_TRUE(good && *good->peer);
  EXPECT_EQ(good->endpoint, endpoint_);
  EXPECT_EQ((*good->peer)->process.value(), "far");
  far_.board->stop();
  near_.board->connect_async(endpoint_, std::chrono::milliseconds(200),
                             caf::actor_cast<caf::actor>(self));
  auto bad = wait();
  ASSERT_TRUE(bad);
  EXPECT_FALSE(bad->peer->has_value());
}

// Nobody waits for a plain message, so its loss would be a gap that nobody sees.
TEST(SwitchboardLimits, AMessageThatCannotBeSentTakesThePeerDown) {
  cluster::TransportOptions narrow;
  narrow.send_queue_bytes = 64 << 10;
  Side far{"far"}, near{"near", narrow};
  const auto endpoint = far.board->bind("tcp://127.0.0.1:*").value();
  const auto peer = near.board->connect(endpoint, kPatience).value().process;
  auto proxy = near.board->proxy(peer, "sink");
  caf::scoped_actor self{near.system};
  self->monitor(proxy);
  const std::string bytes(1 << 20, 'x');
  const auto frame = cluster::Frame::copy_of(bytes.data(), bytes.size());
  // Each fills the queue by itself; the ones behind it find it full.
  for (int i = 0; i < 50; ++i) self->send(proxy, outbound(pb::Done{}, {frame}));
  bool down = false;
  self->receive([&](const caf::down_msg&) { down = true; }, caf::after(kPatience) >> [] {});
  EXPECT_TRUE(down);
  EXPECT_FALSE(near.board->connected(peer));
}

}  // namespace
}  // namespace crabcast::actors

// The gateway on a real port: limits, hostile clients, and streams of events.
#include "actors/control/gateway/server.h"

#include <gmock/gmock.h>
#include <spdlog/spdlog.h>

#include <random>

#include "tests/gateway/raw_client.h"
#include "tests/gateway/stub_controller.h"

namespace crabcast::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() { spdlog::set_level(spdlog::level::off); }
  ~ServerTest() override { spdlog::set_level(spdlog::level::info); }
  void start(Listener::Options connections = {}, ApiOptions api = {}) {
    GatewayOptions options;
    options.bind = "127.0.0.1:0";
    options.tokens = folder_ / "tokens";
    options.version = "1.2.3";
    options.api = api;
    options.api.rate = {1e6, 1e6};
    options.connections = connections;
    auto started = Gateway::start(std::move(options), std::make_unique<StubAsk>(controller_));
    ASSERT_TRUE(started) << started.error().message;
    gateway_ = std::move(*started);
  }
  RawClient client(const char* from = nullptr) { return RawClient(gateway_->address(), from); }
  int status_of(const std::string& request) { return client().status_of(request); }
  void expect_alive() { EXPECT_EQ(status_of(get("/healthz")), 200); }

  testing::TemporaryFolder folder_;
  std::shared_ptr<StubController> controller_ = std::make_shared<StubController>();
  Tokens tokens_{folder_ / "tokens"};
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(ServerTest, AnAddressForOthersNeedsTokens) {
  const auto bound = [&](const std::string& bind) {
    GatewayOptions options;
    options.bind = bind;
    options.tokens = folder_ / "tokens";
    return Gateway::start(options, std::make_unique<StubAsk>(controller_));
  };
  const auto refused = bound("0.0.0.0:0");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::permission_denied);
  EXPECT_THAT(refused.error().message, HasSubstr("crabcast token add"));
  for (const char* bad :
       {"", "8080", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "no.such.host.invalid:1"})
    EXPECT_FALSE(bound(bad)) << bad;
  tokens_.add("carol", Role::viewer);
  EXPECT_TRUE(bound("0.0.0.0:0"));
  const auto first = bound("127.0.0.1:0");
  ASSERT_TRUE(first);
  EXPECT_EQ(bound((*first)->address()).error().code, Errc::address_in_use);
}

TEST_F(ServerTest, ManyRequestsOnOneConnection) {
  start();
  auto one = client();
  for (int i = 0; i < 5; ++i) {
    one.send(get("/api/v1/me"));
    const auto head = one.read_until("\r\n\r\n");
    EXPECT_THAT(head, StartsWith("HTTP/1.1 200"));
    EXPECT_THAT(head, HasSubstr("Content-Security-Policy: default-src 'none'"));
    EXPECT_THAT(head, HasSubstr("Cache-Control: no-store"));
    EXPECT_THAT(head, Not(HasSubstr("Access-Control")));
    EXPECT_THAT(one.read_until("}"), HasSubstr("1.2.3"));
  }
  one.send(get("/healthz") + get("/healthz"));  // one behind the other
  EXPECT_THAT(one.read_until("ok\n"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(one.read_until("ok\n"), StartsWith("HTTP/1.1 200"));
  const std::string head =
      "HEAD /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  one.send(head);
  const auto all = one.read_all();
  EXPECT_THAT(all, StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(all.ends_with("\r\n\r\n")) << all;
}

TEST_F(ServerTest, ARangeGetsTheWholeAndNothingIsExpanded) {
  start();
  EXPECT_EQ(status_of(get("/assets/app.css", "Range: bytes=0-0,0-0,0-0\r\n")), 200);
  EXPECT_EQ(status_of("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
                      "Content-Type: application/json\r\nContent-Length: 3\r\n\r\nabc"),
            415);
}

TEST_F(ServerTest, ALargeBodyIsRefusedBeforeItIsRead) {
  start();
  const auto began = Clock::now();
  auto one = client();
  one.send(
      "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 1073741824\r\n\r\n");
  const std::string piece(1 << 20, 'x');
  int sent = 0;
  while (sent < 1024 && one.send(piece)) ++sent;  // until it hangs up
  EXPECT_LT(sent, 64) << "MiB were taken";
  EXPECT_LT(seconds(Clock::now() - began), 10);
  auto polite = client();
  EXPECT_EQ(polite.status_of("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
                             "Expect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n"),
            413);
  EXPECT_THAT(polite.read_all(), HasSubstr("1.0 MiB"));
  EXPECT_EQ(status_of("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
                      "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            411);
  EXPECT_EQ(controller_->asked("SubmitJob"), 0);
}

TEST_F(ServerTest, WhoIsNotLetInCannotSendABody) {
  tokens_.add("carol", Role::viewer);
  start();
  auto one = client();
  EXPECT_EQ(one.status_of("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
                          "Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"),
            401);
  EXPECT_THAT(one.read_all(), HasSubstr("Connection: close"));
}

TEST_F(ServerTest, LargeHeadsAndOddOnesAreRefused) {
  start();
  EXPECT_EQ(status_of(get("/healthz", "A: " + std::string(17 * 1024, 'a') + "\r\n")), 431);
  std::string many;
  for (int i = 0; i < 3000; ++i) many += "H" + std::to_string(i) + ": 1\r\n";
  EXPECT_EQ(status_of(get("/healthz", many)), 431);
  EXPECT_EQ(status_of(get("/" + std::string(20000, 'a'))), 431);
  EXPECT_EQ(status_of(get("/healthz", "Host: evil\r\n")), 400);
  EXPECT_EQ(status_of(get("/healthz", "Content-Length: 5\r\nContent-Length: 6\r\n") + "hello"),
            400);
  EXPECT_EQ(status_of(get("/healthz", "Content-Length: 5\r\n") + "hello"), 400);
  EXPECT_EQ(status_of(get("/healthz", "Content-Length: -5\r\n")), 400);
  EXPECT_EQ(status_of(get("/healthz", "Range: x\r\n")), 416);
  EXPECT_EQ(status_of("NONSENSE\r\n\r\n"), 400);
  EXPECT_EQ(status_of("QUERY / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405);
  EXPECT_EQ(status_of("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405);
  EXPECT_EQ(status_of("GET http://other/ HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
  expect_alive();
}

// A body that nobody read must not become the next request.
TEST_F(ServerTest, WhatFollowsARefusedRequestIsNotARequest) {
  start();
  auto one = client();
  one.send("POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\n" +
           get("/api/v1/nodes"));
  const auto all = one.read_all();
  EXPECT_THAT(all, StartsWith("HTTP/1.1 404"));
  EXPECT_EQ(all.find("HTTP/1.1", 1), std::string::npos);
  EXPECT_EQ(controller_->asked("ListNodes"), 0);
}

TEST_F(ServerTest, AFloodFromOneAddressLeavesRoomForOthers) {
  start({.connections = 40, .connections_each = 20});
  std::vector<RawClient> flood;
  for (int i = 0; i < 60; ++i) {
    flood.push_back(client());
    flood.back().send("GET / HTTP/1.1\r\n");  // and nothing more
  }
  int refused = 0;
  for (int i = 20; i < 60; ++i)
    refused += flood[static_cast<std::size_t>(i)].read_all().find("503") != std::string::npos;
  EXPECT_GE(refused, 35);
  EXPECT_EQ(client("127.0.0.9").status_of(get("/healthz")), 200) << "somebody else";
  flood.clear();
  EXPECT_TRUE(testing::eventually([&] { return client().status_of(get("/healthz")) == 200; },
                                  std::chrono::seconds(10)));
}

TEST_F(ServerTest, RandomBytesBreakNothing) {
  start();
  std::mt19937 random(20261);
  const std::string seeds[] = {
      get("/api/v1/jobs?limit=5&state=open", "Authorization: Bearer abc\r\n"),
      get("/api/v1/jobs/alice-1/logs/worker-0?offset=7", "Accept-Encoding: gzip\r\n"),
      "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
      "Content-Length: 26\r\n\r\n{\"spec\":\"a\",\"hold\":true}  "};
  for (int round = 0; round < 600; ++round) {
    std::string text = seeds[random() % 3];
    for (auto changes = random() % 8 + 1; changes > 0; --changes) {
      const auto at = random() % text.size();
      switch (random() % 4) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, random() % 9);
          break;
        case 2:
          text.insert(at, std::string(random() % 5, static_cast<char>(random())));
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 30));
      }
      if (text.empty()) text = "x";
    }
    auto one = client();
    one.send(text);
    one.finish_sending();
    const auto answer = one.read_all();
    EXPECT_TRUE(answer.empty() || answer.starts_with("HTTP/1.1 ")) << round;
    EXPECT_EQ(answer.find("HTTP/1.1 500"), std::string::npos) << round << ": " << text;
  }
  expect_alive();
}

TEST_F(ServerTest, EventsAreStreamedAndResumed) {
  for (int i = 0; i < 3; ++i) controller_->add_event("alice-1", "old");
  start();
  ASSERT_TRUE(testing::eventually([&] { return status_of(get("/api/v1/events/stream")) == 200; },
                                  std::chrono::seconds(5)));
  auto now = client(), again = client(), bobs = client();
  now.send(get("/api/v1/events/stream"));
  again.send(get("/api/v1/events/stream", "Last-Event-ID: 1\r\n"));
  bobs.send(get("/api/v1/events/stream?job=bob-2&after=0"));
  EXPECT_THAT(now.read_until("\r\n\r\n"), HasSubstr("text/event-stream"));
  EXPECT_THAT(now.read_until("events after 3"), HasSubstr("retry: 2000"));
  EXPECT_THAT(again.read_until("id: 2\n"), HasSubstr("id: 2"));
  controller_->add_event("alice-1", "new <b>");
  controller_->add_event("bob-2", "his");
  EXPECT_THAT(now.read_until("\n\n"), Not(HasSubstr("id: 3")));
  EXPECT_THAT(now.read_until("id: 4\n"), Not(HasSubstr("id: 3\n")));
  EXPECT_THAT(now.read_until("\n\n"), HasSubstr("\"kind\":\"new <b>\""));
  const auto his = bobs.read_until("id: 5\n");
  EXPECT_THAT(his, Not(HasSubstr("id: 4\n")));
  EXPECT_EQ(status_of(get("/api/v1/events/stream", "Last-Event-ID: x\r\n")), 400);
}

TEST_F(ServerTest, AStreamEndsWithItsTokenAndWithTheGateway) {
  const auto carol = tokens_.add("carol", Role::viewer), dan = tokens_.add("dan", Role::viewer);
  start();
  const auto header = [](const std::string& token) {
    return "Authorization: Bearer " + token + "\r\n";
  };
  ASSERT_TRUE(testing::eventually(
      [&] { return status_of(get("/api/v1/events/stream", header(dan))) == 200; },
      std::chrono::seconds(5)));
  auto one = client(), other = client();
  one.send(get("/api/v1/events/stream", header(carol)));
  other.send(get("/api/v1/events/stream", header(dan)));
  one.read_until("events after");
  other.read_until("events after");
  tokens_.revoke("carol");
  EXPECT_THAT(one.read_all(), HasSubstr("the token was revoked"));
  gateway_->stop();
  EXPECT_TRUE(other.read_all().size() < 1000);
  gateway_.reset();
}

TEST_F(ServerTest, StreamsAreFew) {
  ApiOptions few;
  few.most_streams_each = 2;
  start({}, few);
  std::vector<RawClient> open;
  ASSERT_TRUE(testing::eventually(
      [&] {
        open.clear();
        open.push_back(client());
        return open[0].status_of(get("/api/v1/events/stream")) == 200;
      },
      std::chrono::seconds(5)));
  // The one that was only asked for its status is gone as soon as the gateway sees it.
  open.push_back(client());
  ASSERT_EQ(open[1].status_of(get("/api/v1/events/stream")), 200);
  EXPECT_EQ(status_of(get("/api/v1/events/stream")), 503);
}

}  // namespace
}  // namespace crabcast::gateway

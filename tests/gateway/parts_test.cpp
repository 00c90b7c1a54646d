// Small parts: targets, tokens, buckets, JSON.
#include <gmock/gmock.h>

#include "actors/control/gateway/http.h"
#include "actors/control/gateway/json.h"
#include "actors/control/gateway/rate_limit.h"
#include "actors/control/gateway/routes.h"
#include "actors/control/gateway/tokens.h"
#include "protocol/envelope.pb.h"
#include "storage/files.h"
#include "tests/support/program.h"

namespace crabcast::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using namespace std::chrono_literals;

TEST(Target, IsSplitAndDecoded) {
  Request request;
  request.target = "/api/v1/jobs/a%2Fb?x=1+2&y=%C3%A4&z";
  ASSERT_TRUE(split_target(request));
  EXPECT_THAT(request.path, ElementsAre("api", "v1", "jobs", "a/b"));
  EXPECT_EQ(request.query.find("x")->second, "1 2");
  EXPECT_EQ(request.query.find("y")->second, "\xc3\xa4");
  EXPECT_EQ(request.query.find("z")->second, "");
  request = {};
  request.target = "/";
  ASSERT_TRUE(split_target(request));
  EXPECT_THAT(request.path, IsEmpty());
}

TEST(Target, IsRefusedWhenItCannotBeMeant) {
  for (const char* target :
       {"", "a", "*", "http://a/b", "//a", "/a//b", "/a/", "/..", "/a/../b", "/%2e%2e", "/%", "/%4",
        "/%zz", "/%00", "/a%0a", "/%ff", "/%c0%af", "/a?b=%1f", "/a?%ed%a0%80=1"}) {
    Request request;
    request.target = target;
    EXPECT_FALSE(split_target(request)) << target;
  }
}

TEST(Tokens, AreStoredAsHashesThatOnlyTheirOwnerReads) {
  const testing::TemporaryFolder folder;
  const auto file = folder / "tokens";
  EXPECT_EQ(read_tokens(file).error().code, Errc::not_found);
  const auto secret = make_token().value();
  EXPECT_NE(secret, make_token().value());
  EXPECT_GE(secret.size(), 32U);
  const auto text = tokens_text({{"a", "alice@x", Role::submitter, hash_token(secret), 5}});
  EXPECT_EQ(text.find(secret), std::string::npos);
  ASSERT_TRUE(storage::replace_file(file, text, 0600));
  const auto tokens = read_tokens(file);
  ASSERT_TRUE(tokens) << tokens.error().message;
  ASSERT_EQ(tokens->size(), 1U);
  EXPECT_EQ((*tokens)[0].owner, "alice@x");
  EXPECT_EQ((*tokens)[0].role, Role::submitter);
  EXPECT_EQ((*tokens)[0].hash, hash_token(secret));
  std::filesystem::permissions(file, std::filesystem::perms(0640));
  EXPECT_EQ(read_tokens(file).error().code, Errc::permission_denied);
}

TEST(Tokens, ABrokenFileSaysWhere) {
  const testing::TemporaryFolder folder;
  const auto file = folder / "tokens";
  ASSERT_TRUE(storage::replace_file(file, tokens_text({}), 0600));
  ASSERT_TRUE(read_tokens(file));
  const std::string head = "crabcast_tokens: 1\ntokens:\n", hash(64, 'a');
  const std::pair<std::string, std::string> all[] = {
      {"[", "no YAML"},
      {"crabcast_tokens: 2\ntokens: []\n", "version 1"},
      {"crabcast_tokens: 1\n", "no list"},
      {head + "  - {name: a, owner: b, role: king, sha256: " + hash + "}\n", "line 3"},
      {head + "  - {name: a, owner: b, role: admin, sha256: abc}\n", "64 hexadecimal"},
      {head + "  - {name: a/b, owner: b, role: admin, sha256: " + hash + "}\n", "name has"},
      {head + "  - {name: a, owner: b, role: admin, sha256: " + hash + "}\n" +
           "  - {name: a, owner: b, role: admin, sha256: " + hash + "}\n",
       "two tokens"}};
  for (const auto& [text, why] : all) {
    testing::write_file(file, text);
    const auto tokens = read_tokens(file);
    ASSERT_FALSE(tokens) << text;
    EXPECT_THAT(tokens.error().message, HasSubstr(why)) << text;
  }
}

TEST(RateLimit, GivesABurstAndThenARate) {
  RateLimit limit({10, 3});
  const TimePoint now{};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.take("a", now), 0);
  EXPECT_NEAR(limit.take("a", now), 0.1, 1e-9);
  EXPECT_EQ(limit.take("b", now), 0) << "each has its own";
  EXPECT_EQ(limit.take("a", now + 100ms), 0);
  EXPECT_GT(limit.take("a", now + 100ms), 0);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(limit.take("a", now + 1h), 0) << "no more than the burst";
  EXPECT_GT(limit.take("a", now + 1h), 0);
}

TEST(RateLimit, ManyKeysCostBoundedMemoryAndFreeNobodyWhoIsBusy) {
  RateLimit limit({0.001, 2});
  const TimePoint now{};
  limit.take("busy", now);
  limit.take("busy", now);
  for (int i = 0; i < 20000; ++i) limit.take("key" + std::to_string(i), now);
  EXPECT_LE(limit.keys(), RateLimit::kMostKeys);
  EXPECT_GT(limit.take("busy", now), 0);
}

TEST(Json, ShowsEveryFieldAndWhatIsNoNumberIsNull) {
  pb::JobStatus job;
  job.set_state(pb::JOB_RUNNING);
  job.set_loss(std::numeric_limits<double>::quiet_NaN());
  job.set_step(1ULL << 40);
  job.add_losses()->set_task("captioning");
  auto& score = *job.mutable_evaluation()->add_scores();
  (*score.mutable_details())["bleu"] = 0.5;
  const auto json = to_json(job);
  EXPECT_EQ(json["state"], "running");
  EXPECT_TRUE(json["loss"].is_null());
  EXPECT_EQ(json["step"], 1ULL << 40);
  EXPECT_EQ(json["losses"][0]["task"], "captioning");
  EXPECT_EQ(json["evaluation"]["scores"][0]["details"]["bleu"], 0.5);
  EXPECT_EQ(json["owner"], "");
  EXPECT_FALSE(json.contains("stages")) << "a message that is not set";
}

TEST(Routes, NamesAndPathsAreUnique) {
  std::set<std::string> seen;
  for (const auto& route : routes()) {
    EXPECT_TRUE(seen.insert(route.method + " " + route.path).second) << route.path;
    if (!route.summary.empty()) EXPECT_TRUE(seen.insert(route.id).second) << route.id;
  }
  EXPECT_EQ(match("GET", {"api", "v1", "events", "stream"}).route->id, "streamEvents");
  EXPECT_EQ(match("HEAD", {"api", "v1", "jobs"}).route->id, "listJobs");
  EXPECT_EQ(match("GET", {"api", "v1", "jobs", std::string(201, 'a')}).route, nullptr);
}

}  // namespace
}  // namespace crabcast::gateway

// Who may do what, and what becomes of answers and errors.
#include "actors/control/gateway/api.h"

#include <gmock/gmock.h>

#include "actors/control/gateway/json.h"
#include "tests/gateway/stub_controller.h"

namespace crabcast::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class ApiTest : public ::testing::Test {
 protected:
  void open(bool loopback = true, ApiOptions options = {}) {
    options.loopback = loopback;
    options.tokens = folder_ / "tokens";
    options.version = "1.2.3";
    api_ = std::make_unique<Api>(std::move(options), std::make_unique<StubAsk>(controller_));
  }
  Response ask(const std::string& method, const std::string& target, const std::string& token = "",
               const std::string& body = "") {
    if (!api_) open();
    return api_->handle(request(method, target, token, body));
  }
  static json parsed(const Response& response) { return json::parse(response.body); }

  testing::TemporaryFolder folder_;
  std::shared_ptr<StubController> controller_ = std::make_shared<StubController>();
  Tokens tokens_{folder_ / "tokens"};
  std::unique_ptr<Api> api_;
};

TEST_F(ApiTest, EveryRoleMayDoWhatItsRouteSaysAndNoMore) {
  const std::map<Role, std::string> secrets = {
      {Role::anyone, ""},
      {Role::viewer, tokens_.add("carol", Role::viewer)},
      {Role::submitter, tokens_.add("alice", Role::submitter)},
      {Role::admin, tokens_.add("root", Role::admin)}};
  ApiOptions options;
  options.failed_logins = {0.1, 1000};
  open(true, options);
  std::size_t checked = 0;
  for (const auto& route : routes()) {
    for (const auto& [role, secret] : secrets) {
      std::string path = route.path;
      for (const auto& [name, value] : {std::pair{"{job}", "alice-1"},
                                        {"{role}", "worker-0"},
                                        {"{node}", "node-a"},
                                        {"{file}", "app.css"}})
        if (const auto at = path.find(name); at != std::string::npos)
          path.replace(at, std::string(name).size(), value);
      const auto got = api_->admit(request(route.method, path, secret));
      const int status = got.refusal ? got.refusal->status : 0;
      if (role >= route.role)
        EXPECT_EQ(status, 0) << route.id << " as " << to_string(role);
      else
        EXPECT_EQ(status, role == Role::anyone ? 401 : 403)
            << route.id << " as " << to_string(role);
      ++checked;
    }
  }
  EXPECT_GT(checked, 100U);
}

TEST_F(ApiTest, ASubmitterActsOnItsOwnJobsOnly) {
  const auto alice = tokens_.add("alice", Role::submitter), root = tokens_.add("root", Role::admin);
  for (const std::string what : {"cancel", "pause", "resume", "hold", "release"}) {
    const auto response = ask("POST", "/api/v1/jobs/bob-2/" + what, alice);
    EXPECT_EQ(response.status, 403) << what;
    EXPECT_THAT(response.body, HasSubstr("belongs to bob"));
  }
  EXPECT_EQ(ask("POST", "/api/v1/jobs/bob-2/scale", alice, R"({"workers":2})").status, 403);
  EXPECT_EQ(controller_->asked("CancelJob") + controller_->asked("ScaleJob"), 0);
  EXPECT_EQ(ask("POST", "/api/v1/jobs/alice-1/cancel", alice).status, 200);
  EXPECT_EQ(ask("POST", "/api/v1/jobs/bob-2/cancel", root).status, 200);
  EXPECT_EQ(ask("POST", "/api/v1/jobs/nobody-9/cancel", alice).status, 404);
  controller_->add_job("old-4", "", pb::JOB_RUNNING);
  EXPECT_EQ(ask("POST", "/api/v1/jobs/old-4/cancel", alice).status, 403) << "nobody's";
}

TEST_F(ApiTest, ASubmittedJobHasTheOwnerAndTheKeyOfItsToken) {
  const auto alice = tokens_.add("alice", Role::submitter);
  json body = {{"spec", kSpec}, {"client_key", "k"}, {"hold", true}, {"array_index", 3}};
  const auto response = ask("POST", "/api/v1/jobs", alice, body.dump());
  EXPECT_EQ(response.status, 201) << response.body;
  EXPECT_EQ(parsed(response)["job"], "new-3");
  EXPECT_EQ(controller_->submitted().owner(), "alice");
  EXPECT_EQ(controller_->submitted().client_key(), "alice/k");
  EXPECT_TRUE(controller_->submitted().hold());
  EXPECT_EQ(controller_->submitted().array_index(), 3U);
  body["resume"] = true;  // there is a job `bob` of bob's, which goes on under this name
  EXPECT_EQ(ask("POST", "/api/v1/jobs", alice, body.dump()).status, 403);
  EXPECT_EQ(controller_->asked("SubmitJob"), 1);
}

TEST_F(ApiTest, ARevokedTokenStopsWorkingAtOnceAndALostFileLetsNobodyIn) {
  const auto carol = tokens_.add("carol", Role::viewer);
  EXPECT_EQ(ask("GET", "/api/v1/jobs", carol).status, 200);
  EXPECT_EQ(ask("GET", "/api/v1/jobs", carol + "x").status, 401);
  tokens_.revoke("carol");
  EXPECT_EQ(ask("GET", "/api/v1/jobs", carol).status, 401);
  std::filesystem::remove(folder_ / "tokens");
  EXPECT_EQ(ask("GET", "/api/v1/jobs").status, 401);
  testing::write_file(folder_ / "tokens", "crabcast_tokens: [");
  const auto broken = ask("GET", "/api/v1/jobs", carol);
  EXPECT_EQ(broken.status, 503);
  EXPECT_THAT(broken.body, HasSubstr("nobody is let in"));
}

TEST_F(ApiTest, WithoutTokensOnlyThisMachineIsAdmin) {
  EXPECT_EQ(parsed(ask("GET", "/api/v1/me"))["role"], "admin");
  open(false);
  EXPECT_EQ(ask("GET", "/api/v1/me").status, 401);
  EXPECT_EQ(ask("GET", "/healthz").status, 200);
  tokens_.add("carol", Role::viewer);  // from now on loopback needs one, too
  open(true);
  EXPECT_EQ(ask("GET", "/api/v1/me").status, 401);
}

TEST_F(ApiTest, OtherSitesChangeNothingAndOtherNamesReadNothing) {
  open();
  const auto with = [&](const std::string& name, const std::string& value,
                        const std::string& method = "POST") {
    auto one = request(method, method == "POST" ? "/api/v1/jobs/bob-2/cancel" : "/api/v1/jobs");
    one.headers[name] = value;
    return api_->handle(one).status;
  };
  EXPECT_EQ(with("origin", "http://evil.example"), 403);
  EXPECT_EQ(with("origin", "null"), 403);
  EXPECT_EQ(with("sec-fetch-site", "cross-site"), 403);
  EXPECT_EQ(with("sec-fetch-site", "same-site"), 403);
  EXPECT_EQ(with("content-type", "text/plain"), 415) << "a form needs no preflight";
  EXPECT_EQ(with("host", "evil.example:8080", "GET"), 421) << "DNS rebinding";
  EXPECT_EQ(with("host", "127.0.0.1.evil.example", "GET"), 421);
  EXPECT_EQ(with("host", "", "GET"), 400);
  EXPECT_EQ(controller_->asked("CancelJob"), 0);
  EXPECT_EQ(with("origin", "http://127.0.0.1:8080"), 200);
  EXPECT_EQ(with("host", "localhost:1", "GET"), 200);
  EXPECT_EQ(with("host", "[::1]:8080", "GET"), 200);
}

TEST_F(ApiTest, EachTokenAndEachGuesserHasItsRate) {
  const auto carol = tokens_.add("carol", Role::viewer), dan = tokens_.add("dan", Role::viewer);
  ApiOptions options;
  options.rate = {0.001, 3};
  options.failed_logins = {0.001, 2};
  open(true, options);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(ask("GET", "/api/v1/me", carol).status, 200);
  const auto limited = ask("GET", "/api/v1/me", carol);
  EXPECT_EQ(limited.status, 429);
  ASSERT_FALSE(limited.headers.empty());
  EXPECT_EQ(limited.headers[0].first, "Retry-After");
  EXPECT_EQ(ask("GET", "/api/v1/me", dan).status, 200) << "others keep working";
  EXPECT_EQ(ask("GET", "/api/v1/me", "guess").status, 401);
  EXPECT_EQ(ask("GET", "/api/v1/me", "guess").status, 401);
  EXPECT_EQ(ask("GET", "/api/v1/me", "guess").status, 429);
  EXPECT_EQ(ask("GET", "/api/v1/me", dan).status, 200) << "of the same address, with a token";
}

TEST_F(ApiTest, JobsComeInPagesTheNewestFirst) {
  for (int i = 3; i < 13; ++i)
    controller_->add_job("old-" + std::to_string(i), "alice", pb::JOB_SUCCEEDED);
  auto page = parsed(ask("GET", "/api/v1/jobs?limit=5"));
  EXPECT_EQ(page["total"], 12);
  EXPECT_EQ(page["pages"], 3);
  EXPECT_EQ(page["jobs"].size(), 5U);
  EXPECT_EQ(page["jobs"][0]["job"], "old-12");
  page = parsed(ask("GET", "/api/v1/jobs?limit=5&page=3"));
  ASSERT_EQ(page["jobs"].size(), 2U);
  EXPECT_EQ(page["jobs"][1]["job"], "alice-1");
  EXPECT_EQ(parsed(ask("GET", "/api/v1/jobs?state=open"))["total"], 2);
  EXPECT_EQ(parsed(ask("GET", "/api/v1/jobs?state=pending&owner=bob"))["total"], 1);
  EXPECT_EQ(parsed(ask("GET", "/api/v1/jobs?queue=research&search=old-1"))["total"], 3);
  EXPECT_EQ(parsed(ask("GET", "/api/v1/jobs?queue=resear"))["total"], 0);
  EXPECT_EQ(controller_->asked("ListJobs"), 1) << "one list serves all of these";
}

TEST_F(ApiTest, WhatIsWrongIsNamed) {
  const std::pair<std::string, std::string> all[] = {
      {"/api/v1/jobs?limit=0", "limit"},
      {"/api/v1/jobs?limit=abc", "limit"},
      {"/api/v1/jobs?limit=1&limit=2", "twice"},
      {"/api/v1/jobs?stat=open", "'stat'"},
      {"/api/v1/jobs?state=dead", "state"},
      {"/api/v1/events?after=-1", "after"},
      {"/api/v1/events?after=99999999999999999999", "after"}};
  for (const auto& [target, named] : all) {
    const auto response = ask("GET", target);
    EXPECT_EQ(response.status, 400) << target;
    EXPECT_THAT(response.body, HasSubstr(named)) << target;
  }
  const std::string jobs = "/api/v1/jobs";
  for (const char* body : {"[]", "{", "{}", R"({"spec":1})", R"({"spec":""})", R"({"spec":null})",
                           R"({"spec":"a","hold":"yes"})", R"({"spec":"a","array_index":-1})",
                           R"({"spec":"a","array_index":1.5})", R"({"spec":"a","x":{}})"})
    EXPECT_EQ(ask("POST", jobs, "", body).status, 400) << body;
  EXPECT_EQ(ask("POST", jobs, "", std::string(100000, '[')).status, 400);
  EXPECT_EQ(ask("GET", "/nothing").status, 404);
  const auto other = ask("DELETE", "/api/v1/jobs");
  EXPECT_EQ(other.status, 405);
  ASSERT_FALSE(other.headers.empty());
  EXPECT_EQ(other.headers[0].second, "GET, POST");
}

TEST_F(ApiTest, ErrorsOfTheControllerHaveTheirStatus) {
  EXPECT_EQ(ask("GET", "/api/v1/jobs/none-1").status, 404);
  EXPECT_EQ(ask("POST", "/api/v1/jobs/bob-2/hold").status, 501);
  for (const auto& [code, status] : {std::pair{Errc::unavailable, 503},
                                     {Errc::timeout, 504},
                                     {Errc::internal, 500},
                                     {Errc::already_exists, 409},
                                     {Errc::invalid_spec, 400},
                                     {Errc::permission_denied, 403}}) {
    controller_->fail_with({code, "why"});
    const auto response = ask("GET", "/api/v1/nodes");
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(parsed(response)["error"]["message"], "why");
  }
  EXPECT_EQ(ask("GET", "/readyz").status, 503);
  EXPECT_EQ(ask("GET", "/healthz").status, 200) << "the process lives all the same";
}

TEST_F(ApiTest, ReadyIsWhenTheControllerHasRecovered) {
  bool ready = false;
  ApiOptions options;
  options.is_ready = [&] { return ready; };
  open(true, options);
  EXPECT_EQ(ask("GET", "/readyz").status, 503);
  ready = true;
  EXPECT_EQ(ask("GET", "/readyz").status, 200);
}

TEST_F(ApiTest, LogsThatAreNoTextBecomeText) {
  const auto response = ask("GET", "/api/v1/jobs/bob-2/logs/worker-0?offset=0");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(parsed(response)["text"], "a line\n\xef\xbf\xbd<script>");
}

TEST_F(ApiTest, IncidentsAreFoundAmongManyEvents) {
  for (int i = 0; i < 2500; ++i) controller_->add_event("alice-1", "step", i % 1000 == 999);
  auto page = parsed(ask("GET", "/api/v1/incidents"));
  EXPECT_EQ(page["events"].size(), 2U);
  EXPECT_EQ(page["next"], 2500);
  EXPECT_FALSE(page["more"]);
  page = parsed(ask("GET", "/api/v1/jobs/alice-1/incidents?limit=1"));
  EXPECT_EQ(page["next"], 1000);
  EXPECT_TRUE(page["more"]);
  EXPECT_EQ(parsed(ask("GET", "/api/v1/jobs/bob-2/events"))["events"].size(), 0U);
}

TEST_F(ApiTest, TheDashboardIsServedWithItsTypeAndNothingElseIs) {
  const auto page = ask("GET", "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_THAT(page.type, HasSubstr("text/html"));
  EXPECT_THAT(page.body, HasSubstr("<title>Crabcast</title>"));
  EXPECT_THAT(ask("GET", "/assets/app.js").type, HasSubstr("javascript"));
  EXPECT_GT(ask("GET", "/assets/chart.js").body.size(), 100000U);
  EXPECT_EQ(ask("GET", "/assets/passwd").status, 404);
  auto again = request("GET", "/assets/app.css");
  for (const auto& [name, value] : ask("GET", "/assets/app.css").headers)
    if (name == "ETag") again.headers["if-none-match"] = value;
  EXPECT_EQ(api_->handle(again).status, 304);
}

}  // namespace
}  // namespace crabcast::gateway

// A real controller, agent and job behind the gateway, and its pages in a real browser.
#include <gmock/gmock.h>

#include <regex>

#include "tests/process/cluster.h"

namespace crabcast::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

int shell(const std::string& command) {
  return std::system(("bash -c '" + command + "'").c_str());
}

class Dashboard : public Cluster {
 protected:
  // "http://127.0.0.1:PORT"
  std::string start_gateway() {
    daemons_.push_back(std::make_unique<Program>(
        "crabcast", std::vector<std::string>{"--state", state_.string(), "controller", "--bind",
                                             "127.0.0.1:*", "--http", "127.0.0.1:0"}));
    const Program& controller = *daemons_.back();
    static const std::regex at(R"(dashboard and API at (http://[0-9.:]+)/)");
    std::smatch found;
    std::string log;
    EXPECT_TRUE(eventually(
        [&] {
          log = controller.err() + controller.out();
          return std::regex_search(log, found, at);
        },
        20s))
        << log;
    return found[1];
  }
  // What the browser makes of a page after a few seconds; its console goes to console_.
  std::string open(const std::string& url, const std::string& options, const std::string& what) {
    const auto out = (folder_ / "page").string(), log = (folder_ / "console").string();
    const auto command =
        "timeout 90 chromium --headless=new --no-sandbox --disable-gpu "
        "--no-first-run --enable-logging=stderr --user-data-dir=" +
        (folder_ / "browser").string() + " --virtual-time-budget=5000 " + options + " " + what +
        " \"" + url + "\" > " + out + " 2> " + log;
    EXPECT_EQ(shell(command), 0) << read_file(log);
    console_ = read_file(log);
    return read_file(out);
  }
  std::string console_;
};

TEST_F(Dashboard, EveryPageOpensInABrowserLightDarkAndOnAPhone) {
  if (shell("command -v chromium > /dev/null") != 0)
    GTEST_SKIP() << "chromium is missing: apt-get install chromium";
  const auto url = start_gateway();
  start_agent("node-a", "127.0.0.2");
  const auto job = submit({.name = "seen", .steps = 12, .workers_max = 1});
  ASSERT_TRUE(eventually([&] { return state_of(job) == "succeeded"; }, 240s)) << state_of(job);

  const std::pair<std::string, std::vector<std::string>> pages[] = {
      {"#/cluster", {"node-a", "healthy", "CPUs in use", "Latest events", job}},
      {"#/jobs", {job, "succeeded", "12 / 12"}},
      {"#/jobs/" + job, {job, "Loss by task", "captioning", "Generations", "12", "Prediction"}},
      {"#/jobs/nothing-9", {"no job is named", "See all jobs"}},
      {"#/actors", {"Actors", job, "worker-0"}},
      {"#/elsewhere", {"There is no such page"}}};
  const std::pair<std::string, std::string> looks[] = {
      {"light", "--window-size=1280,900 --blink-settings=preferredColorScheme=1"},
      {"dark", "--window-size=1280,900 --blink-settings=preferredColorScheme=0"},
      {"phone", "--window-size=360,740"}};
  for (const auto& [page, texts] : pages) {
    std::map<std::string, std::string> pictures;
    for (const auto& [look, options] : looks) {
      const auto dom = open(url + "/" + page, options, "--dump-dom");
      for (const auto& text : texts) EXPECT_THAT(dom, HasSubstr(text)) << page << " " << look;
      EXPECT_THAT(console_, Not(HasSubstr("Refused to"))) << page << " " << look;
      EXPECT_THAT(console_, Not(HasSubstr("Uncaught"))) << page << " " << look;
      if (page != "#/jobs/nothing-9") EXPECT_THAT(dom, Not(HasSubstr("note bad"))) << page;
      const auto picture = folder_ / "picture.png";
      open(url + "/" + page, options, "--screenshot=" + picture.string());
      pictures[look] = read_file(picture);
      EXPECT_GT(pictures[look].size(), 4000U) << page << " " << look;
    }
    EXPECT_NE(pictures["light"], pictures["dark"]) << page;
  }
}

TEST_F(Dashboard, ATokenIsAskedForAndARevokedOneIsRefused) {
  const auto url = start_gateway();
  const auto code = [&](const std::string& token) {
    const auto out = (folder_ / "code").string();
    shell("exec 3<>/dev/tcp/127.0.0.1/" + url.substr(url.rfind(':') + 1) +
          "; printf \"GET /api/v1/me HTTP/1.0\\r\\nHost: localhost\\r\\nAuthorization: Bearer " +
          token + "\\r\\n\\r\\n\" >&3; head -n 1 <&3 > " + out);
    return read_file(out).substr(9, 3);
  };
  EXPECT_EQ(code("none"), "200") << "without tokens";
  const auto added = ask({"token", "add", "carol", "--json"});
  ASSERT_EQ(added.code, 0) << added.err;
  const std::string token = nlohmann::json::parse(added.out)["token"];
  EXPECT_EQ(code("none"), "401");
  EXPECT_EQ(code(token), "200");
  EXPECT_THAT(ask({"token", "ls"}).out, HasSubstr("viewer"));
  EXPECT_THAT(ask({"token", "ls"}).out, Not(HasSubstr(token)));
  EXPECT_EQ(ask({"token", "add", "carol"}).code, 3) << "the name is taken";
  EXPECT_EQ(ask({"token", "add", "x", "--role", "king"}).code, 3);
  EXPECT_EQ(ask({"token", "revoke", "nobody"}).code, 4);
  ASSERT_EQ(ask({"token", "revoke", "carol"}).code, 0);
  EXPECT_EQ(code(token), "401");
  EXPECT_EQ(ask({"--json", "controller", "--bind", "127.0.0.1:*", "--http", "nonsense"}).code, 3);
}

}  // namespace
}  // namespace crabcast::testing

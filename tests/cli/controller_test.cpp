// The verbs that talk to a controller, against a real one without nodes.
#include <signal.h>

#include "tests/cli/cli_fixture.h"

namespace crabcast::testing {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ControllerVerbsTest : public CliTest {
 protected:
  ControllerVerbsTest() {
    write_file(folder_ / "job.yaml", small_spec("tiny"));
    start();
  }
  void start() {
    controller_ = std::make_unique<Program>(
        "crabcast",
        std::vector<std::string>{"controller", "--state", state(), "--bind", "127.0.0.1:*"});
    EXPECT_TRUE(eventually([&] { return run({"nodes"}).code == 0; }, 60s)) << controller_->err();
  }
  // Submits and returns the job's id.
  std::string submit(std::vector<std::string> options = {}) const {
    options.insert(options.begin(), {"submit", folder_ / "job.yaml"});
    const auto done = run(options);
    EXPECT_EQ(done.code, 0) << done.err;
    return done.out.substr(0, done.out.find('\n'));
  }
  std::unique_ptr<Program> controller_;
};

TEST_F(ControllerVerbsTest, SubmitLookAndCancel) {
  const std::string job = submit();
  EXPECT_EQ(job, "tiny-1");
  const json waiting = run_json({"ps"}).at("jobs");
  ASSERT_EQ(waiting.size(), 1U);
  EXPECT_EQ(waiting[0].at("state"), "pending");
  EXPECT_THAT(waiting[0].at("reason").get<std::string>(), HasSubstr("No node has joined"));
  EXPECT_EQ(run_json({"status", job}).at("job"), job);
  const auto nodes = run({"nodes"});
  EXPECT_THAT(nodes.err, HasSubstr("no node has joined"));
  EXPECT_THAT(run({"events", job}).out, HasSubstr("submitted  tiny-1  waits to be placed"));
  EXPECT_EQ(run({"ps", job}).code, 0);
  EXPECT_EQ(run({"logs", job}).code, 4) << "it was never placed";

  EXPECT_THAT(run({"cancel", job}).out, HasSubstr("tiny-1 is cancelled"));
  EXPECT_EQ(run_json({"ps"}).at("jobs").size(), 0U);
  EXPECT_EQ(run_json({"ps", "--all"}).at("jobs")[0].at("state"), "cancelled");
  EXPECT_EQ(run({"cancel", job}).code, 3) << "it has ended";
  for (const char* verb : {"status", "cancel", "events", "logs", "ps"})
    EXPECT_EQ(run({verb, "nobody-1"}).code, 4) << verb;
}

TEST_F(ControllerVerbsTest, SubmitsWithOneKeyAreOneJob) {
  EXPECT_EQ(submit({"--key", "nightly"}), "tiny-1");
  EXPECT_EQ(submit({"--key", "nightly"}), "tiny-1");
  EXPECT_EQ(submit(), "tiny-2");
  EXPECT_EQ(submit(), "tiny-3");
  const json accepted = run_json({"submit", folder_ / "job.yaml", "--key", "nightly"});
  EXPECT_EQ(accepted.at("job"), "tiny-1");
  EXPECT_EQ(accepted.at("client_key"), "nightly");
}

TEST_F(ControllerVerbsTest, FollowingShowsWhatComesAndEndsWithTheJob) {
  const std::string job = submit();
  Program follower("crabcast", {"--state", state().string(), "events", "-f", job});
  ASSERT_TRUE(eventually([&] { return !follower.out().empty(); }, 60s)) << follower.err();
  EXPECT_FALSE(follower.wait(0s).has_value());
  EXPECT_EQ(run({"cancel", job}).code, 0);
  EXPECT_EQ(follower.wait(60s), 0) << follower.err();
}

TEST_F(ControllerVerbsTest, ADeadControllerLeavesItsState) {
  const std::string job = submit();
  controller_->signal(SIGKILL);
  EXPECT_EQ(controller_->wait(30s), 128 + SIGKILL);
  const auto stored = run({"ps"});
  EXPECT_EQ(stored.code, 0) << stored.err;
  EXPECT_THAT(stored.err, HasSubstr("this is the stored state"));
  EXPECT_THAT(stored.out, HasSubstr("tiny-1  pending"));
  start();
  EXPECT_EQ(run_json({"ps"}).at("jobs")[0].at("job"), job) << "an accepted job must survive";
}

TEST_F(ControllerVerbsTest, AnUnknownKeyIsRefused) {
  const std::string endpoint = read_file(state() / "controller" / "endpoint");
  const auto address = endpoint.substr(6, endpoint.find('\n') - 6);
  // The cluster's server key, but a client key that nobody let in.
  const fs::path other = folder_ / "other";
  Program stranger("crabcast", {"controller", "--state", other, "--bind", "127.0.0.1:*"});
  ASSERT_TRUE(eventually([&] { return fs::exists(other / "controller" / "endpoint"); }, 60s));
  stranger.signal(SIGTERM);
  EXPECT_EQ(stranger.wait(60s), 0) << stranger.err();
  fs::remove(other / "keys" / "server.secret");
  fs::copy_file(state() / "keys" / "server.public", other / "keys" / "server.public",
                fs::copy_options::overwrite_existing);
  const auto done = run_program("crabcast", {"ps", "--state", other, "--controller", address});
  EXPECT_EQ(done.code, 5) << done.err;
  EXPECT_THAT(done.err, HasSubstr("refused this process's key"));
  EXPECT_EQ(done.out, "");
}

TEST_F(ControllerVerbsTest, AControllerThatIsNotThereIsUnavailable) {
  const auto done = run({"ps", "--controller", "127.0.0.1:1"});
  EXPECT_EQ(done.code, 6) << done.err;
  EXPECT_THAT(done.err, HasSubstr("tcp://127.0.0.1:1"));
}

}  // namespace
}  // namespace crabcast::testing

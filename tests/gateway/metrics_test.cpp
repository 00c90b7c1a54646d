// What Prometheus is told: the names that docs/metrics.md lists, within bounds, and rules and
// dashboards that name no others.
#include "actors/control/gateway/metrics.h"

#include <gmock/gmock.h>

#include <regex>
#include <set>

#include "actors/control/gateway/cluster_metrics.h"
#include "tests/gateway/stub_controller.h"

namespace crabcast::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

std::filesystem::path source() {
  const char* folder = std::getenv("CRABCAST_SOURCE");
  return folder == nullptr ? "." : folder;
}

pb::JobStatus job(const std::string& id) {
  pb::JobStatus job;
  job.set_job(id);
  job.set_queue("research");
  job.set_state(pb::JOB_RUNNING);
  job.set_step(7);
  job.set_steps(10);
  job.set_newest_checkpoint(5);
  auto& loss = *job.add_losses();
  loss.set_task("captioning");
  loss.set_loss_sum(6);
  loss.set_tokens(4);
  job.mutable_stages()->set_forward(2.5);
  auto& score = *job.mutable_evaluation()->add_scores();
  score.set_task("captioning");
  for (const unsigned depth : {3U, 9U}) {
    auto& actor = *job.add_actors();
    actor.set_kind(pb::ROLE_WORKER);
    actor.set_state(pb::ACTOR_HEALTHY);
    actor.set_mailbox(depth);
  }
  return job;
}

ClusterState everything() {
  ClusterState state;
  state.jobs = {job("a-1")};
  auto& node = state.nodes.emplace_back();
  node.set_node("node-a");
  node.set_state(pb::ACTOR_HEALTHY);
  node.add_taints("sick: hot");
  node.mutable_total()->set_gpus(8);
  node.mutable_free()->set_gpus(3);
  auto& queue = state.queues.emplace_back();
  queue.set_queue("research");
  queue.mutable_used()->set_gpus(5);
  queue.mutable_guaranteed()->set_gpus(4);
  queue.mutable_borrowed()->set_gpus(1);
  queue.mutable_limit()->set_gpus(8);
  return state;
}

// All that can be exposed is.
std::string full_text(Metrics& metrics) {
  metrics.asked("GetJob", 0.002, true);
  metrics.served("getJob", 200);
  metrics.refused_connection("all");
  metrics.stream_ended("slow");
  pb::Event event;
  event.set_severity(pb::SEVERITY_ERROR);
  event.mutable_incident()->set_culprit("worker-3");
  metrics.heard(event);
  return metrics.text(everything(), Clock::now(), 1000);
}

std::set<std::string> names_in(const std::string& text, const std::string& pattern) {
  std::set<std::string> names;
  const std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it)
    names.insert((*it)[1]);
  return names;
}

TEST(Metrics, ThePageListsWhatIsExposed) {
  Metrics metrics("1");
  const auto exposed = names_in(full_text(metrics), "# TYPE (crabcast_[a-z_]+) ");
  const auto page =
      names_in(testing::read_file(source() / "docs" / "metrics.md"), R"(\| `(crabcast_[a-z_]+)`)");
  EXPECT_GT(exposed.size(), 35U);
  EXPECT_EQ(exposed, page);
}

TEST(Metrics, ValuesAreThoseOfTheCluster) {
  Metrics metrics("1.2");
  const auto text = full_text(metrics);
  for (const char* line :
       {"crabcast_build_info{version=\"1.2\"} 1", "crabcast_job_step{job=\"a-1\"} 7",
        "crabcast_job_task_loss{job=\"a-1\",task=\"captioning\"} 1.5",
        "crabcast_job_stage_seconds_total{job=\"a-1\",stage=\"forward\"} 2.5",
        "crabcast_actor_mailbox_depth{job=\"a-1\",kind=\"worker\"} 9",
        "crabcast_actors{kind=\"worker\",state=\"healthy\"} 2",
        "crabcast_jobs{queue=\"research\",state=\"running\"} 1",
        "crabcast_queue_borrowed{queue=\"research\",resource=\"gpus\"} 1",
        "crabcast_node_free{node=\"node-a\",resource=\"gpus\"} 3",
        "crabcast_node_tainted{node=\"node-a\"} 1", "crabcast_incidents_total{kind=\"worker\"} 1",
        "crabcast_http_requests_total{code=\"200\",route=\"getJob\"} 1"})
    EXPECT_THAT(text, HasSubstr(line));
}

TEST(Metrics, TheAgeOfACheckpointCountsFromItsChange) {
  Metrics metrics("1");
  ClusterState state = everything();
  const auto at = [&](std::int64_t ms) { return metrics.text(state, Clock::now(), ms); };
  at(1000);
  EXPECT_THAT(at(31000), HasSubstr("crabcast_job_checkpoint_age_seconds{job=\"a-1\"} 30\n"));
  state.jobs[0].set_newest_checkpoint(6);
  EXPECT_THAT(at(41000), HasSubstr("crabcast_job_checkpoint_age_seconds{job=\"a-1\"} 0\n"));
}

TEST(Metrics, LabelsAreBounded) {
  Metrics metrics("1");
  ClusterState state;
  for (std::size_t i = 0; i < Metrics::kMostJobs + 50; ++i) {
    state.jobs.push_back(job("job-" + std::to_string(i)));
    state.jobs.back().set_submitted_unix_ms(static_cast<std::int64_t>(i));
  }
  const auto text = metrics.text(state, Clock::now(), 1);
  const auto jobs = names_in(text, "crabcast_job_step\\{job=\"([^\"]+)\"");
  EXPECT_EQ(jobs.size(), Metrics::kMostJobs);
  EXPECT_FALSE(jobs.contains("job-0")) << "the oldest are left out";
  pb::Event event;
  for (int i = 0; i < 1000; ++i) {
    event.mutable_incident()->set_culprit("strange" + std::to_string(i));
    metrics.heard(event);
  }
  EXPECT_THAT(metrics.text({}, Clock::now(), 1), Not(HasSubstr("strange")));
}

TEST(Metrics, AJobThatEndedIsShownForAWhile) {
  Metrics metrics("1");
  ClusterState state = everything();
  EXPECT_TRUE(metrics.ended_since(state).empty());
  state.jobs.clear();
  EXPECT_THAT(metrics.ended_since(state), ::testing::ElementsAre("a-1"));
}

TEST(Metrics, ANumberThatIsNoneIsLeftOut) {
  ClusterState state = everything();
  state.jobs[0].set_loss(std::numeric_limits<double>::quiet_NaN());
  for (const auto& family : cluster_metrics(state, {})) EXPECT_NE(family.name, "crabcast_job_loss");
}

TEST(Metrics, LabelsThatAreHostileAreEscaped) {
  Metrics metrics("1");
  ClusterState state = everything();
  state.nodes[0].set_node("a\"} 1\ncrabcast_fake 2\n");
  const auto text = metrics.text(state, Clock::now(), 1);
  EXPECT_THAT(text, Not(HasSubstr("\ncrabcast_fake 2")));
}

// ---- deploy/
// -----------------------------------------------------------------------------------------

TEST(Deploy, RulesAndDashboardsNameMetricsThatThereAre) {
  Metrics metrics("1");
  auto known = names_in(full_text(metrics), "# TYPE (crabcast_[a-z_]+) ");
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source() / "deploy")) {
    const auto path = entry.path().string();
    if (!path.ends_with(".json") && !path.ends_with("alerts.yml")) continue;
    ++files;
    const auto text = testing::read_file(entry.path());
    if (path.ends_with(".json")) EXPECT_FALSE(nlohmann::json::parse(text).empty());
    for (auto name : names_in(text, "(crabcast_[a-z_]+)")) {
      if (name == "crabcast_controller_request_seconds_bucket")
        name = "crabcast_controller_request_seconds";
      EXPECT_TRUE(known.contains(name)) << path << " names " << name;
    }
  }
  EXPECT_GE(files, 3U);
}

int run(const std::string& command) {
  return std::system(command.c_str());
}

TEST(Deploy, PromtoolTakesRulesConfigurationAndMetrics) {
  if (run("command -v promtool > /dev/null") != 0)
    GTEST_SKIP() << "promtool is missing: apt-get install prometheus";
  const auto folder = (source() / "deploy" / "prometheus").string();
  const testing::TemporaryFolder out;
  const auto log = (out / "log").string();
  EXPECT_EQ(run("promtool check rules " + folder + "/alerts.yml > " + log + " 2>&1"), 0)
      << testing::read_file(log);
  EXPECT_EQ(run("promtool test rules " + folder + "/alerts_test.yml > " + log + " 2>&1"), 0)
      << testing::read_file(log);
  EXPECT_EQ(run("cd " + folder + " && promtool check config --syntax-only prometheus.yml > " + log +
                " 2>&1"),
            0)
      << testing::read_file(log);
  Metrics metrics("1");
  testing::write_file(out / "metrics", full_text(metrics));
  EXPECT_EQ(run("promtool check metrics < " + (out / "metrics").string() + " > " + log + " 2>&1"),
            0)
      << testing::read_file(log);
}

}  // namespace
}  // namespace crabcast::gateway

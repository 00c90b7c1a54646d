#include "storage/registry.h"

#include <gtest/gtest.h>

#include "tests/storage/fixtures.h"

namespace crabcast::storage {
namespace {

pb::JobRecord job_record(const std::string& id, std::uint64_t seq, const std::string& key = "") {
  pb::JobRecord record;
  record.set_job(id);
  record.set_submit_seq(seq);
  record.set_client_key(key);
  record.set_state(pb::JOB_PENDING);
  return record;
}

class RegistryTest : public testing::Test {
 protected:
  RegistryTest() { reopen(); }
  void reopen() {
    registry_.reset();
    registry_ = must(Registry::open(folder_ / "registry"));
  }
  TempFolder folder_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, JobsComeInSubmitOrder) {
  must(registry_->put_job(job_record("a", 3), Sync::yes));
  must(registry_->put_job(job_record("b", 1), Sync::yes));
  must(registry_->put_job(job_record("c", 2), Sync::yes));
  pb::JobRecord running = job_record("a", 3);
  running.set_state(pb::JOB_RUNNING);
  running.add_placement()->set_role("coordinator");
  must(registry_->put_job(running, Sync::yes));
  reopen();
  const auto jobs = must(registry_->jobs());
  ASSERT_EQ(jobs.size(), 3U);
  EXPECT_EQ(jobs[0].job(), "b");
  EXPECT_EQ(jobs[1].job(), "c");
  EXPECT_EQ(jobs[2].SerializeAsString(), running.SerializeAsString());
  EXPECT_EQ(must(registry_->job(JobId("a")))->state(), pb::JOB_RUNNING);
  EXPECT_FALSE(must(registry_->job(JobId("z"))).has_value());
  EXPECT_EQ(registry_->put_job({}, Sync::no).error().code, Errc::invalid_argument);
}

TEST_F(RegistryTest, AClientKeyFindsItsJob) {
  must(registry_->put_job(job_record("a", 1, "key-1"), Sync::yes));
  must(registry_->put_job(job_record("a", 1, "key-1"), Sync::yes));
  EXPECT_EQ(registry_->put_job(job_record("b", 2, "key-1"), Sync::yes).error().code,
            Errc::already_exists);
  reopen();
  EXPECT_EQ(must(registry_->job_by_client_key("key-1")), JobId("a"));
  EXPECT_FALSE(must(registry_->job_by_client_key("key")).has_value());
  EXPECT_FALSE(must(registry_->job(JobId("b"))).has_value());
}

TEST_F(RegistryTest, ASeriesReplacesTheOneBefore) {
  pb::JobSeries series;
  EXPECT_EQ(registry_->put_series(series, Sync::no).error().code, Errc::invalid_argument);
  series.set_job("a");
  series.add_points()->set_step(1);
  must(registry_->put_series(series, Sync::no));
  series.add_points()->set_step(2);
  must(registry_->put_series(series, Sync::yes));
  must(registry_->put_job(job_record("a", 1), Sync::yes));
  reopen();
  EXPECT_EQ(must(registry_->series(JobId("a")))->SerializeAsString(), series.SerializeAsString());
  EXPECT_FALSE(must(registry_->series(JobId("b"))).has_value());
  EXPECT_EQ(must(registry_->jobs()).size(), 1U) << "a series is no job";
}

TEST_F(RegistryTest, SubmitNumbersAreNeverGivenTwice) {
  EXPECT_EQ(must(registry_->next_submit_seq()), 1U);
  EXPECT_EQ(must(registry_->next_submit_seq()), 2U);
  reopen();
  EXPECT_EQ(must(registry_->next_submit_seq()), 3U);
}

TEST_F(RegistryTest, KeepsNodesAndEvents) {
  pb::NodeRecord node;
  node.set_node("node-1");
  node.mutable_total()->set_cpus(2);
  must(registry_->put_node(node, Sync::yes));
  node.mutable_total()->set_cpus(4);
  must(registry_->put_node(node, Sync::yes));
  pb::Event event;
  event.set_kind("node_joined");
  EXPECT_EQ(must(registry_->append_event(event, Sync::no)), 1U);
  reopen();
  EXPECT_EQ(must(registry_->append_event(event, Sync::no)), 2U);
  const auto nodes = must(registry_->nodes());
  ASSERT_EQ(nodes.size(), 1U);
  EXPECT_EQ(nodes[0].total().cpus(), 4);
  EXPECT_EQ(must(registry_->events(1, 10)).size(), 1U);
}

TEST_F(RegistryTest, ReadOnlyReadsAndRefusesToWrite) {
  must(registry_->put_job(job_record("a", 1, "key-1"), Sync::no));
  const auto reader = must(Registry::open_read_only(folder_ / "registry"));
  EXPECT_EQ(must(reader->jobs()).size(), 1U);
  EXPECT_EQ(reader->put_job(job_record("b", 2), Sync::no).error().code, Errc::permission_denied);
  EXPECT_EQ(reader->next_submit_seq().error().code, Errc::permission_denied);
  EXPECT_EQ(Registry::open(folder_ / "registry").error().code, Errc::already_exists);
}

}  // namespace
}  // namespace crabcast::storage

// What the controller decides when clients, nodes and queues ask for it, step by step.
#include "actors/control/cluster_machine.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "protocol/envelopes.h"

namespace crabcast::actors {
namespace {

using std::chrono::seconds;

constexpr PeerNumber kAgent = 1000, kCoordinator = 2000;

// A controller whose writes succeed at once, unless a test keeps them back.
class ClusterMachineTest : public ::testing::Test {
 protected:
  ClusterMachineTest() { begin({}); }

  void begin(ClusterHistory history, scheduler::ClusterPolicy policy = standard()) {
    machine_.emplace(ClusterOptions{"c", true, std::move(policy)});
    EXPECT_TRUE(machine_->start(std::move(history), now()).empty());
    machine_->on_recovery_over(now());
    settle();
  }
  static scheduler::ClusterPolicy standard() { return scheduler::ClusterPolicy::standard(); }
  static scheduler::ClusterPolicy with_preemption() {
    auto policy = standard();
    policy.preemption = scheduler::PreemptionPolicy{seconds(10), seconds(20)};
    return policy;
  }

  [[nodiscard]] Moment now() const { return {TimePoint{} + time_, time_.count() * 1000}; }
  void pass(seconds time) {
    for (seconds i{0}; i < time; i += seconds(1)) {
      time_ += seconds(1);
      machine_->on_tick(now());
      settle();
    }
  }

  // Sends it as a client or peer; the answer's body, or nothing with `refused_`.
  pb::Envelope ask(const google::protobuf::Message& body, PeerNumber from = 0) {
    pb::Envelope envelope;
    set_body(envelope, body);
    refused_ = {Errc::ok, ""};
    answer_.Clear();
    asked_ = ++last_request_;
    machine_->on_message(from, asked_, envelope, now());
    settle();
    return answer_;
  }
  // Carries out what can be done, and keeps what was sent.
  void settle() {
    while (!machine_->actions.empty()) {
      auto actions = std::exchange(machine_->actions, {});
      for (auto& action : actions) {
        if (auto* answer = std::get_if<Answer>(&action)) {
          if (answer->request == asked_) answer_ = answer->body;
        } else if (auto* refuse = std::get_if<Refuse>(&action)) {
          if (refuse->request == asked_) refused_ = refuse->error;
        } else if (auto* store = std::get_if<StoreJob>(&action)) {
          stored_[store->record.job()] = store->record;
          machine_->on_stored(store->write, now());
        } else if (auto* node = std::get_if<StoreNode>(&action)) {
          stored_nodes_[node->record.node()] = node->record;
          machine_->on_stored(node->write, now());
        } else if (auto* tell = std::get_if<Tell>(&action)) {
          told_.emplace_back(tell->peer, tell->body);
        } else if (auto* start = std::get_if<StartCoordinator>(&action)) {
          starts_.push_back(start->launch);
        } else if (auto* events = std::get_if<StoreEvents>(&action)) {
          for (const auto& event : events->events) events_.push_back(event.kind());
        }
      }
    }
  }

  void join(const std::string& node, double cpus, PeerNumber peer = kAgent,
            const std::vector<std::string>& labels = {}) {
    pb::RegisterAgent hello;
    hello.set_node(node);
    hello.mutable_total()->set_cpus(cpus);
    hello.mutable_total()->set_memory_bytes(1ULL << 40);
    for (const auto& label : labels) hello.add_labels(label);
    EXPECT_TRUE(ask(hello, peer).has_done());
  }
  static JobSpec spec(double cpus = 1, Priority priority = Priority::normal) {
    JobSpec spec;
    spec.name = "j";
    spec.model.base = "nano";
    spec.data.corpus.synthetic.emplace();
    spec.priority = priority;
    spec.resources.worker.cpus = cpus;
    spec.resources.loader.cpus = 0.1;
    spec.resources.evaluators = 0;
    return spec;
  }
  std::string submit(const JobSpec& spec, const std::string& key = "", bool hold = false) {
    pb::SubmitJob body;
    body.set_spec_yaml(to_yaml(spec));
    body.set_client_key(key);
    body.set_hold(hold);
    body.set_owner("ada");
    return ask(body).job_accepted().job();
  }
  // The coordinator of the job's newest start registers.
  void coordinator_joins(const std::string& job, PeerNumber peer = kCoordinator) {
    pb::RegisterCoordinator hello;
    hello.set_job(job);
    hello.set_fence(stored_.at(job).attempts());
    EXPECT_TRUE(ask(hello, peer).has_done()) << refused_.message;
  }
  void coordinator_ends(const std::string& job, pb::JobState state,
                        PeerNumber peer = kCoordinator) {
    pb::JobReport report;
    report.mutable_status()->set_job(job);
    report.mutable_status()->set_state(state);
    report.set_ended(true);
    report.set_fence(stored_.at(job).attempts());
    EXPECT_TRUE(ask(report, peer).has_done()) << refused_.message;
  }
  std::string run(const JobSpec& spec, PeerNumber peer = kCoordinator) {
    const std::string job = submit(spec);
    EXPECT_EQ(stored_.at(job).state(), pb::JOB_STARTING);
    coordinator_joins(job, peer);
    return job;
  }
  pb::JobStatus status(const std::string& job) {
    pb::GetJob get;
    get.set_job(job);
    return ask(get).job_status();
  }
  // The last message to the peer that has such a body.
  template <class Has>
  std::optional<pb::Envelope> last_told(PeerNumber peer, Has has) {
    for (auto it = told_.rbegin(); it != told_.rend(); ++it)
      if (it->first == peer && (it->second.*has)()) return it->second;
    return {};
  }
  pb::JobState state(const std::string& job) { return stored_.at(job).state(); }

  std::optional<ClusterMachine> machine_;
  seconds time_{1000};
  RequestNumber last_request_ = 0, asked_ = 0;
  pb::Envelope answer_;
  Error refused_{Errc::ok, ""};
  std::map<std::string, pb::JobRecord> stored_;
  std::map<std::string, pb::NodeRecord> stored_nodes_;
  std::vector<std::pair<PeerNumber, pb::Envelope>> told_;
  std::vector<pb::RoleLaunch> starts_;
  std::vector<std::string> events_;
};

// ---- submit -------------------------------------------------------------------------------------

TEST_F(ClusterMachineTest, ASubmitIsAcknowledgedWhenItIsDurable) {
  pb::Envelope envelope;
  envelope.mutable_submit_job()->set_spec_yaml(to_yaml(spec()));
  machine_->on_message(0, 7, envelope, now());
  ASSERT_EQ(machine_->actions.size(), 1U);
  const auto store = std::get<StoreJob>(machine_->actions.front());
  machine_->actions.clear();
  machine_->on_stored(store.write, now());
  ASSERT_FALSE(machine_->actions.empty());
  EXPECT_EQ(std::get<Answer>(machine_->actions.front()).request, 7U);
}

TEST_F(ClusterMachineTest, TheSameSubmitTwiceIsOneJobAlsoBeforeItIsDurable) {
  pb::Envelope envelope;
  envelope.mutable_submit_job()->set_spec_yaml(to_yaml(spec()));
  envelope.mutable_submit_job()->set_client_key("k");
  machine_->on_message(0, 1, envelope, now());
  machine_->on_message(0, 2, envelope, now());
  ASSERT_EQ(machine_->actions.size(), 1U) << "the second one waits for the first one's write";
  const auto store = std::get<StoreJob>(machine_->actions.front());
  machine_->actions.clear();
  machine_->on_stored(store.write, now());
  EXPECT_EQ(std::get<Answer>(machine_->actions.at(0)).body.job_accepted().job(), "j-1");
  EXPECT_EQ(std::get<Answer>(machine_->actions.at(1)).body.job_accepted().job(), "j-1");
  settle();
  EXPECT_EQ(submit(spec(), "k"), "j-1");
  EXPECT_EQ(submit(spec(), "other"), "j-2");
}

TEST_F(ClusterMachineTest, ASubmitThatCannotBeStoredIsRefusedAndLeavesNothing) {
  pb::Envelope envelope;
  envelope.mutable_submit_job()->set_spec_yaml(to_yaml(spec()));
  machine_->on_message(0, 1, envelope, now());
  const auto store = std::get<StoreJob>(machine_->actions.front());
  machine_->actions.clear();
  machine_->on_not_stored(store.write, {Errc::disk_full, "full"});
  EXPECT_EQ(std::get<Refuse>(machine_->actions.front()).error.code, Errc::disk_full);
  EXPECT_FALSE(machine_->knows("j-1"));
}

TEST_F(ClusterMachineTest, AQueueThatIsNotThereIsRefused) {
  JobSpec other = spec();
  other.queue = "nobody";
  EXPECT_EQ(submit(other), "");
  EXPECT_EQ(refused_.code, Errc::not_found) << refused_.message;
}

// ---- dependencies, holds ------------------------------------------------------------------------

TEST_F(ClusterMachineTest, AJobRunsAfterThoseThatItNames) {
  join("a", 8);
  const std::string first = run(spec());
  JobSpec then = spec();
  then.name = "then";
  then.schedule.after = {"j"};  // the newest of that name
  const std::string second = submit(then);
  EXPECT_EQ(state(second), pb::JOB_PENDING);
  EXPECT_EQ(status(second).pending_reason(), "dependency");
  EXPECT_NE(status(second).reason().find(first), std::string::npos) << status(second).reason();
  coordinator_ends(first, pb::JOB_SUCCEEDED);
  EXPECT_EQ(state(second), pb::JOB_STARTING);
}

TEST_F(ClusterMachineTest, WhenItsPredecessorFailsAJobIsCancelledAndSoAreThoseAfterIt) {
  join("a", 8);
  const std::string first = run(spec());
  JobSpec then = spec();
  then.name = "then";
  then.schedule.after = {first};
  const std::string second = submit(then);
  then.name = "last";
  then.schedule.after = {second};
  const std::string third = submit(then);
  coordinator_ends(first, pb::JOB_FAILED);
  EXPECT_EQ(state(second), pb::JOB_CANCELLED);
  EXPECT_EQ(state(third), pb::JOB_CANCELLED);
  EXPECT_NE(stored_.at(third).reason().find(second), std::string::npos);
}

TEST_F(ClusterMachineTest, APredecessorThatNobodyKnowsIsRefused) {
  JobSpec then = spec();
  then.schedule.after = {"nobody"};
  EXPECT_EQ(submit(then), "");
  EXPECT_EQ(refused_.code, Errc::not_found);
}

TEST_F(ClusterMachineTest, AHeldJobStartsWhenItIsReleased) {
  join("a", 8);
  const std::string job = submit(spec(), "", true);
  EXPECT_EQ(state(job), pb::JOB_PENDING);
  EXPECT_EQ(status(job).pending_reason(), "held");
  pb::HoldJob release;
  release.set_job(job);
  EXPECT_TRUE(ask(release).has_done());
  EXPECT_EQ(state(job), pb::JOB_STARTING);
  release.set_hold(true);
  ask(release);
  EXPECT_EQ(refused_.code, Errc::invalid_argument) << "it does not wait any more";
}

// ---- pause, resume, cancel ----------------------------------------------------------------------

TEST_F(ClusterMachineTest, APausedJobGoesOnWhenItIsResumed) {
  join("a", 8);
  const std::string job = run(spec());
  pb::CancelJob pause;
  pause.set_job(job);
  pause.set_keep(true);
  EXPECT_TRUE(ask(pause).has_done());
  const auto stop = last_told(kCoordinator, &pb::Envelope::has_stop_job);
  ASSERT_TRUE(stop);
  EXPECT_TRUE(stop->stop_job().keep());
  coordinator_ends(job, pb::JOB_STOPPED);
  EXPECT_EQ(state(job), pb::JOB_STOPPED);
  pass(seconds(5));
  EXPECT_EQ(state(job), pb::JOB_STOPPED);
  pb::ResumeJob resume;
  resume.set_job(job);
  EXPECT_TRUE(ask(resume).job_accepted().resumed());
  EXPECT_EQ(state(job), pb::JOB_STARTING);
  EXPECT_FALSE(stored_.at(job).stop_asked());
  ask(resume);
  EXPECT_EQ(refused_.code, Errc::invalid_argument);
}

// J-1: the coordinator dies before it heard of it.
TEST_F(ClusterMachineTest, AnAcknowledgedCancelSurvivesTheCoordinatorsNode) {
  join("a", 8);
  const std::string job = run(spec());
  pb::CancelJob cancel;
  cancel.set_job(job);
  EXPECT_TRUE(ask(cancel).has_done());
  machine_->on_down(kCoordinator, now());
  machine_->on_down(kAgent, now());
  settle();
  EXPECT_EQ(state(job), pb::JOB_CANCELLED);
}

// And before its controller could tell it: the next one does.
TEST_F(ClusterMachineTest, AnAcknowledgedCancelSurvivesTheController) {
  join("a", 8);
  const std::string job = run(spec());
  pb::CancelJob cancel;
  cancel.set_job(job);
  EXPECT_TRUE(ask(cancel).has_done());
  told_.clear();
  ClusterHistory left;
  left.jobs.push_back(stored_.at(job));
  begin(left);
  join("a", 8);
  pb::RegisterCoordinator hello;
  hello.set_job(job);
  hello.set_fence(1);
  ask(hello, kCoordinator);
  EXPECT_TRUE(last_told(kCoordinator, &pb::Envelope::has_stop_job) ||
              state(job) == pb::JOB_CANCELLED);
}

// ---- preemption, time limits --------------------------------------------------------------------

TEST_F(ClusterMachineTest, AGangMakesRoomForAHigherPriorityAndGoesOnLater) {
  begin({}, with_preemption());
  join("a", 3);
  const std::string low = run(spec(2, Priority::low));
  pass(seconds(15));
  const std::string high = submit(spec(2, Priority::high));
  EXPECT_EQ(state(high), pb::JOB_PENDING);
  EXPECT_EQ(status(high).pending_reason(), "room_is_coming") << status(high).reason();
  const auto stop = last_told(kCoordinator, &pb::Envelope::has_stop_job);
  ASSERT_TRUE(stop);
  EXPECT_TRUE(stop->stop_job().keep());
  coordinator_ends(low, pb::JOB_STOPPED);
  EXPECT_EQ(state(low), pb::JOB_PENDING);
  EXPECT_EQ(stored_.at(low).preemptions(), 1U);
  EXPECT_EQ(stored_.at(low).ran_ms(), 15'000);
  EXPECT_EQ(state(high), pb::JOB_STARTING);
  coordinator_joins(high, kCoordinator + 1);
  coordinator_ends(high, pb::JOB_SUCCEEDED, kCoordinator + 1);
  EXPECT_EQ(state(low), pb::JOB_STARTING);
  EXPECT_EQ(stored_.at(low).attempts(), 2U);
}

TEST_F(ClusterMachineTest, AGangThatDoesNotLeaveInTimeIsEnded) {
  begin({}, with_preemption());
  join("a", 3);
  const std::string low = run(spec(2, Priority::low));
  pass(seconds(15));
  const std::string high = submit(spec(2, Priority::high));
  pass(seconds(60));
  const auto stop = last_told(kAgent, &pb::Envelope::has_stop_role);
  ASSERT_TRUE(stop);
  EXPECT_EQ(stop->stop_role().role(), "coordinator");
  EXPECT_EQ(stop->stop_role().fence(), 1U);
  pb::RoleExited exit;
  exit.set_job(low);
  exit.set_fence(1);
  exit.set_exit_code(-1);
  exit.set_signal(15);
  ask(exit, kAgent);
  EXPECT_EQ(state(low), pb::JOB_PENDING);
  EXPECT_EQ(state(high), pb::JOB_STARTING);
}

TEST_F(ClusterMachineTest, AJobThatRanForItsTimeLimitHasFailed) {
  join("a", 8);
  JobSpec limited = spec();
  limited.schedule.time_limit_seconds = 30;
  const std::string job = run(limited);
  pass(seconds(29));
  EXPECT_FALSE(last_told(kCoordinator, &pb::Envelope::has_stop_job));
  pass(seconds(3));
  ASSERT_TRUE(last_told(kCoordinator, &pb::Envelope::has_stop_job));
  coordinator_ends(job, pb::JOB_STOPPED);
  EXPECT_EQ(state(job), pb::JOB_FAILED);
  EXPECT_NE(stored_.at(job).reason().find("time_limit"), std::string::npos);
}

// ---- nodes --------------------------------------------------------------------------------------

TEST_F(ClusterMachineTest, ADrainedNodeIsLeftInGoodOrder) {
  join("a", 3);
  const std::string job = run(spec(2));
  pb::DrainNode drain;
  drain.set_node("a");
  drain.set_drain(true);
  drain.set_reason("new disk");
  EXPECT_TRUE(ask(drain).has_done());
  EXPECT_TRUE(stored_nodes_.at("a").draining());
  ASSERT_TRUE(last_told(kCoordinator, &pb::Envelope::has_stop_job));
  coordinator_ends(job, pb::JOB_STOPPED);
  EXPECT_EQ(state(job), pb::JOB_PENDING);
  EXPECT_EQ(stored_.at(job).preemptions(), 0U);
  join("b", 3, kAgent + 1);
  EXPECT_EQ(state(job), pb::JOB_STARTING);
  EXPECT_EQ(stored_.at(job).placement(0).node(), "b");
  // It stays drained when the controller is started again.
  ClusterHistory left;
  left.nodes.push_back(stored_nodes_.at("a"));
  begin(left);
  join("a", 3);
  EXPECT_EQ(state(submit(spec(2))), pb::JOB_PENDING);
  drain.set_drain(false);
  EXPECT_TRUE(ask(drain).has_done());
  EXPECT_EQ(starts_.back().slot().node(), "a");
}

TEST_F(ClusterMachineTest, WorkersLeaveADrainedNodeAndComeBackElsewhere) {
  join("a", 3);
  join("b", 2, kAgent + 1);
  JobSpec wide = spec(1.5);
  wide.resources.workers_min = wide.resources.workers_max = 2;
  wide.train.lanes = 2;
  const std::string job = run(wide);
  const auto node_of = [&](const std::string& role) {
    for (const auto& slot : stored_.at(job).placement())
      if (slot.role() == role) return slot.node();
    return std::string();
  };
  const std::string home = node_of("coordinator");
  const std::string role = node_of("worker-0") == home ? "worker-1" : "worker-0";
  ASSERT_NE(node_of(role), home);
  pb::DrainNode drain;
  drain.set_node(node_of(role));
  drain.set_drain(true);
  ask(drain);
  const auto changed = last_told(kCoordinator, &pb::Envelope::has_placement_changed);
  ASSERT_TRUE(changed);
  ASSERT_EQ(changed->placement_changed().removed_size(), 1);
  EXPECT_EQ(changed->placement_changed().removed(0), role);
  EXPECT_FALSE(last_told(kCoordinator, &pb::Envelope::has_stop_job)) << "the job goes on";
  // It is gone, as its coordinator reports, and another node is there.
  pb::JobReport report;
  report.mutable_status()->set_job(job);
  report.set_fence(stored_.at(job).attempts());
  ask(report, kCoordinator);
  join("c", 2, kAgent + 2);
  EXPECT_EQ(node_of(role), "c");
}

TEST_F(ClusterMachineTest, ASickNodeGetsNothingNew) {
  join("a", 8);
  pb::AgentReport report;
  report.set_node("a");
  report.add_problems("GPU 3 fell off the bus");
  ask(report, kAgent);
  const std::string job = submit(spec());
  EXPECT_EQ(state(job), pb::JOB_PENDING);
  report.clear_problems();
  ask(report, kAgent);
  EXPECT_EQ(state(job), pb::JOB_STARTING);
}

TEST_F(ClusterMachineTest, AJobGoesWhereItsLabelsAre) {
  join("a", 8);
  JobSpec picky = spec();
  picky.schedule.nodes = {"gpu=h100"};
  const std::string job = submit(picky);
  EXPECT_EQ(status(job).pending_reason(), "no_matching_node");
  join("b", 8, kAgent + 1, {"gpu=h100"});
  EXPECT_EQ(stored_.at(job).placement(0).node(), "b");
}

// ---- what it tells ------------------------------------------------------------------------------

TEST_F(ClusterMachineTest, ListsAreFilteredAndPaged) {
  for (int i = 0; i < 7; ++i) submit(spec());
  pb::ListJobs query;
  query.set_limit(3);
  auto page = ask(query).job_list();
  ASSERT_EQ(page.jobs_size(), 3);
  EXPECT_EQ(page.jobs(0).job(), "j-5");
  EXPECT_EQ(page.jobs(2).job(), "j-7");
  EXPECT_EQ(page.total(), 7U);
  query.set_before(page.next());
  page = ask(query).job_list();
  EXPECT_EQ(page.jobs(0).job(), "j-2");
  query.set_before(page.next());
  page = ask(query).job_list();
  ASSERT_EQ(page.jobs_size(), 1);
  EXPECT_EQ(page.next(), 0U);
  query.Clear();
  query.set_owner("bob");
  EXPECT_EQ(ask(query).job_list().jobs_size(), 0);
  query.set_owner("ada");
  query.add_states(pb::JOB_RUNNING);
  EXPECT_EQ(ask(query).job_list().jobs_size(), 0);
}

TEST_F(ClusterMachineTest, ExplainsWhyAJobWaits) {
  join("a", 2);
  const std::string job = submit(spec(64));
  pb::ExplainJob query;
  query.set_job(job);
  const auto explanation = ask(query).explanation();
  EXPECT_EQ(explanation.reason(), "larger_than_cluster");
  EXPECT_FALSE(explanation.text().empty());
  EXPECT_FALSE(explanation.would_help().empty());
  EXPECT_GT(explanation.arithmetic_size(), 0);
}

}  // namespace
}  // namespace crabcast::actors

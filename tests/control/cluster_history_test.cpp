// The controller's decisions in histories that a seed draws, in virtual time: clients, agents and
// coordinators over a network that is late and breaks, nodes that die and come back, a registry
// that loses what it had not written, and controllers that die at any moment.
//
// What must hold (docs/reliability.md): J-1, an acknowledged submit or cancel is never lost; T-1,
// of two coordinators of a job only the one that was started last is heard; no room is given twice;
// nobody is answered twice; and when all is calm again, every job comes to its end.
#include <gtest/gtest.h>

#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>

#include "actors/control/cluster_machine.h"
#include "protocol/envelopes.h"

namespace crabcast::actors {
namespace {

using std::chrono::milliseconds;

constexpr auto kTick = milliseconds(500);
constexpr auto kCalmAfter = std::chrono::seconds(120);  // no more blows
constexpr auto kEnd = std::chrono::seconds(1500);       // by then every job has come to its end

class ClusterPlay {
 public:
  explicit ClusterPlay(std::uint64_t seed) : random_(seed), seed_(seed) {
    const int nodes = draw(1, 4);
    for (int i = 0; i < nodes; ++i) nodes_["n" + std::to_string(i)].cpus = draw(2, 6);
    start_controller();
    for (auto& [name, node] : nodes_) after(draw(0, 3000), [this, name = name] { boot(name); });
    const int jobs = draw(2, 8);
    for (int i = 0; i < jobs; ++i)
      after(draw(0, 60000),
            [this, i] { client_submits("key-" + std::to_string(i), random_spec()); });
    const int blows = draw(0, 14);
    for (int i = 0; i < blows; ++i) after(draw(1000, 110000), [this] { strike(); });
    after(count(kCalmAfter), [this] { calm(); });
    tick();
  }

  void play() {
    while (!events_.empty() && failure_.empty()) {
      auto next = events_.top();
      events_.pop();
      now_ = next.at;
      if (now_ > TimePoint{} + kEnd) break;
      if (now_ > TimePoint{} + kCalmAfter && all_over() && acknowledged_all()) break;
      next.what();
      check_room();
    }
    for (const auto& [key, job] : acknowledged_) {
      const auto stored = disk_.find(job);
      if (stored == disk_.end()) {
        broken("J-1: job " + job + " was acknowledged and is gone");
        continue;
      }
      const auto state = stored->second.state();
      if (!is_over(state) && state != pb::JOB_STOPPED && !stored->second.held())
        broken("job " + job + " did not come to its end: state " + pb::JobState_Name(state) +
               (machine_ ? "; " + machine_->scheduler().why(JobId{job}, now_).text : ""));
      if (cancelled_.contains(job) && state != pb::JOB_CANCELLED && !ended_before_.contains(job))
        broken("J-1: job " + job + " was cancelled and has state " + pb::JobState_Name(state));
    }
  }
  [[nodiscard]] const std::string& failure() const { return failure_; }
  [[nodiscard]] int ends() const { return ends_; }
  [[nodiscard]] int deaths() const { return deaths_; }

 private:
  struct Timed {
    TimePoint at;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Timed& o) const {
      return std::tuple(o.at, o.order) < std::tuple(at, order);
    }
  };
  // A process that is one job's coordinator.
  struct Coordinator {
    std::string job, node;
    std::uint64_t fence = 0;
    PeerNumber connection = 0;  // to the controller of `incarnation`
    int incarnation = 0;
    bool stopping = false;
    pb::JobState end = pb::JOB_UNSPECIFIED;  // what it wants to report
  };
  struct Node {
    std::int64_t cpus = 0;
    bool up = false;
    PeerNumber connection = 0;
    int incarnation = 0;
    std::map<std::string, std::shared_ptr<Coordinator>> running;  // by job
    std::map<std::string, pb::RoleExited> farewells;
    std::map<std::string, std::uint64_t> fences;
    std::map<std::string, pb::HeldReplica> stores;
  };

  // ---- time and chance
  int draw(int least, int most) { return std::uniform_int_distribution<int>(least, most)(random_); }
  bool chance(int percent) { return draw(1, 100) <= percent; }
  static int count(Duration d) {
    return static_cast<int>(std::chrono::duration_cast<milliseconds>(d).count());
  }
  void after(int ms, std::function<void()> what) {
    events_.push({now_ + milliseconds(ms), ++order_, std::move(what)});
  }
  // In order on each way, whatever each message takes.
  void on_its_way(const std::string& way, std::function<void()> what) {
    TimePoint& last = arrivals_[way];
    last = std::max(last + Duration(1), now_ + milliseconds(draw(1, 60)));
    events_.push({last, ++order_, std::move(what)});
  }
  [[nodiscard]] Moment moment() const {
    return {now_, std::chrono::duration_cast<milliseconds>(now_.time_since_epoch()).count()};
  }
  void broken(const std::string& what) {
    if (failure_.empty()) failure_ = "seed " + std::to_string(seed_) + ": " + what;
  }

  // ---- the controller
  void start_controller() {
    trace("controller starts");
    ++incarnation_;
    ClusterHistory history;
    for (const auto& [id, record] : disk_) history.jobs.push_back(record);
    for (const auto& [id, record] : node_disk_) history.nodes.push_back(record);
    machine_ = std::make_unique<ClusterMachine>(ClusterOptions{"c", true, policy()});
    EXPECT_TRUE(machine_->start(std::move(history), moment()).empty());
    carry_out();
    after(5000, alive([this] {
            machine_->on_recovery_over(moment());
            carry_out();
          }));
    for (auto& [name, node] : nodes_)
      if (node.up) after(draw(10, 1500), alive([this, name = name] { connect_agent(name); }));
    for (auto& [name, node] : nodes_)
      for (auto& [id, coordinator] : node.running)
        after(draw(10, 2500), [this, coordinator = coordinator] { connect(coordinator); });
  }
  static scheduler::ClusterPolicy policy() {
    auto policy = scheduler::ClusterPolicy::standard();
    policy.preemption =
        scheduler::PreemptionPolicy{std::chrono::seconds(5), std::chrono::seconds(5)};
    return policy;
  }
  // Only for the controller that is there now.
  std::function<void()> alive(std::function<void()> what) {
    return [this, what = std::move(what), incarnation = incarnation_] {
      if (machine_ && incarnation == incarnation_) what();
    };
  }
  void kill_controller() {
    if (!machine_) return;
    ++deaths_;
    machine_.reset();
    // Writes under way: those up to some point were written.
    trace("controller dies");
    const auto kept = static_cast<std::size_t>(draw(0, static_cast<int>(writing_.size())));
    for (std::size_t i = 0; i < kept; ++i) writing_[i].put();
    writing_.clear();
    after(draw(50, 9000), [this] { start_controller(); });
  }
  void tick() {
    if (machine_) {
      machine_->on_tick(moment());
      carry_out();
    }
    after(count(kTick), [this] { tick(); });
  }

  struct Writing {
    std::uint64_t number;
    std::function<void()> put;
  };
  void write(std::uint64_t number, std::function<void()> put) {
    writing_.push_back({number, std::move(put)});
    on_its_way("disk", alive([this, number] {
                 if (writing_.empty() || writing_.front().number != number) return;
                 if (chance(1)) {  // it is refused
                   writing_.pop_front();
                   machine_->on_not_stored(number, {Errc::io_error, "staged"});
                 } else {
                   writing_.front().put();
                   writing_.pop_front();
                   machine_->on_stored(number, moment());
                 }
                 carry_out();
               }));
  }

  // With CRABCAST_TRACE every message and action is printed.
  void trace(const std::string& what) const {
    static const bool on = std::getenv("CRABCAST_TRACE") != nullptr;
    if (on) std::printf("%9.3f %s\n", seconds(now_.time_since_epoch()), what.c_str());
  }

  void carry_out() {
    while (!machine_->actions.empty()) {
      auto actions = std::exchange(machine_->actions, {});
      for (auto& action : actions) std::visit([this](auto& each) { act(each); }, action);
    }
  }
  void act(Answer& action) {
    const auto asked = requests_.extract(action.request);
    if (asked.empty()) return broken("a request was answered twice");
    asked.mapped()(action.body, Errc::ok);
  }
  void act(Refuse& action) {
    trace("refused: " + action.error.message);
    const auto asked = requests_.extract(action.request);
    if (asked.empty()) return broken("a request was answered twice");
    asked.mapped()({}, action.error.code);
  }
  void act(StoreJob& action) {
    trace("store " + action.record.job() + ": " + pb::JobState_Name(action.record.state()));
    write(action.write, [this, record = action.record] {
      const auto known = disk_.find(record.job());
      if (known != disk_.end() && known->second.attempts() > record.attempts())
        broken("T-1: the fence of " + record.job() + " went back");
      disk_[record.job()] = record;
    });
  }
  void act(StoreNode& action) {
    write(action.write, [this, record = action.record] { node_disk_[record.node()] = record; });
  }
  void act(StoreEvents& action) {
    for (const auto& event : action.events) {
      trace("event " + event.kind() + " " + event.message());
      // A job that is back with its node takes its room, whoever was placed there meanwhile.
      if (event.kind() == "node_back") may_overlap_ = true;
    }
  }
  void act(Forward& action) { requests_.erase(action.request); }
  void act(Tell& action) {
    trace("to " + std::to_string(action.peer) + ": " + action.body.ShortDebugString());
    const auto coordinator = coordinators_.find(action.peer);
    if (coordinator != coordinators_.end()) {
      if (const auto process = coordinator->second.lock())
        on_its_way("to-" + process->job + std::to_string(process->fence),
                   [this, process, body = action.body] { coordinator_hears(process, body); });
      return;
    }
    for (auto& [name, node] : nodes_)
      if (node.up && node.connection == action.peer && action.body.has_stop_role())
        on_its_way("to-" + name, [this, name = name, body = action.body.stop_role()] {
          const auto found = nodes_[name].running.find(body.job());
          if (found != nodes_[name].running.end() && found->second->fence == body.fence())
            end(found->second, 0);
        });
  }
  void act(StartCoordinator& action) {
    trace("start " + action.launch.job() + " with fence " + std::to_string(action.launch.fence()));
    for (auto& [name, node] : nodes_) {
      if (!node.up || node.connection != action.agent) continue;
      return on_its_way("to-" + name, [this, name = name, launch = action.launch] {
        start_coordinator(name, launch);
      });
    }
  }

  // What somebody says to the controller; `then` hears the answer, if one comes.
  using Then = std::function<void(const pb::Envelope&, Errc)>;
  void ask(const std::string& way, PeerNumber from, const google::protobuf::Message& body,
           Then then) {
    pb::Envelope envelope;
    set_body(envelope, body);
    const RequestNumber number = then ? ++last_request_ : 0;
    if (then) requests_[number] = std::move(then);
    on_its_way(way, alive([this, from, number, envelope] {
                 trace("from " + std::to_string(from) + ": " + envelope.ShortDebugString());
                 machine_->on_message(from, number, envelope, moment());
                 carry_out();
               }));
  }

  // ---- clients
  std::string random_spec() {
    JobSpec spec;
    spec.name = "j";
    spec.model.base = "nano";
    spec.data.corpus.synthetic.emplace();
    spec.priority = static_cast<Priority>(draw(0, 3));
    spec.resources.workers_max = static_cast<std::uint32_t>(draw(1, 3));
    spec.resources.evaluators = 0;
    spec.resources.loader.cpus = 0.25;
    spec.resources.worker.cpus = 0.5;
    if (chance(15)) spec.schedule.preemption = Preemption::never;
    if (chance(20)) spec.schedule.time_limit_seconds = draw(20, 60);
    if (chance(20) && !acknowledged_.empty()) spec.schedule.after = {acknowledged_.begin()->second};
    return to_yaml(spec);
  }
  // Again until it is acknowledged, as crabcast submit does.
  void client_submits(const std::string& key, const std::string& yaml) {
    if (acknowledged_.contains(key)) return;
    pb::SubmitJob submit;
    submit.set_spec_yaml(yaml);
    submit.set_client_key(key);
    unacknowledged_.insert(key);
    if (machine_)
      ask("client", 0, submit, [this, key](const pb::Envelope& body, Errc code) {
        if (code != Errc::ok) {
          if (code != Errc::io_error) unacknowledged_.erase(key);  // never taken
          return;
        }
        const std::string job = body.job_accepted().job();
        for (const auto& [other, known] : acknowledged_)
          if (known == job && other != key) broken("two submits became one job " + job);
        if (!disk_.contains(job)) broken("J-1: " + job + " was acknowledged before it was durable");
        acknowledged_[key] = job;
        unacknowledged_.erase(key);
      });
    after(3000, [this, key, yaml] {
      if (unacknowledged_.contains(key)) client_submits(key, yaml);
    });
  }
  template <class Body>
  Body about_some_job() {
    Body body;
    auto at = acknowledged_.begin();
    std::advance(at, draw(0, static_cast<int>(acknowledged_.size()) - 1));
    body.set_job(at->second);
    return body;
  }

  // ---- agents
  void boot(const std::string& name) {
    Node& node = nodes_[name];
    if (node.up) return;
    node.up = true;
    connect_agent(name);
  }
  void connect_agent(const std::string& name) {
    Node& node = nodes_[name];
    if (!node.up || !machine_ || (node.connection != 0 && node.incarnation == incarnation_)) return;
    node.connection = ++last_peer_;
    node.incarnation = incarnation_;
    pb::RegisterAgent hello;
    hello.set_node(name);
    hello.set_endpoint("tcp://" + name);
    hello.mutable_total()->set_cpus(static_cast<double>(node.cpus));
    hello.mutable_total()->set_memory_bytes(1ULL << 40);
    for (const auto& [id, process] : node.running) *hello.add_running() = describe(*process);
    for (const auto& [id, store] : node.stores) *hello.add_replicas() = store;
    ask(name, node.connection, hello, [](const pb::Envelope&, Errc) {});
    for (const auto& [job, farewell] : node.farewells) tell_farewell(name, farewell);
    report(name, node.connection);
  }
  void report(const std::string& name, PeerNumber connection) {
    after(1000, [this, name, connection] {
      Node& node = nodes_[name];
      if (!node.up || node.connection != connection || node.incarnation != incarnation_) return;
      pb::AgentReport report;
      report.set_node(name);
      for (const auto& [id, process] : node.running) *report.add_running() = describe(*process);
      for (const auto& [id, store] : node.stores) *report.add_replicas() = store;
      ask(name, connection, report, nullptr);
      this->report(name, connection);
    });
  }
  static pb::RoleStarted describe(const Coordinator& process) {
    pb::RoleStarted started;
    started.set_job(process.job);
    started.set_role("coordinator");
    started.set_kind(pb::ROLE_COORDINATOR);
    started.set_fence(process.fence);
    return started;
  }
  void tell_farewell(const std::string& name, const pb::RoleExited& farewell) {
    Node& node = nodes_[name];
    if (!machine_ || node.connection == 0 || node.incarnation != incarnation_) return;
    ask(name, node.connection, farewell, [this, name, farewell](const pb::Envelope&, Errc) {
      auto& kept = nodes_[name].farewells;
      const auto known = kept.find(farewell.job());
      if (known != kept.end() && known->second.fence() == farewell.fence()) kept.erase(known);
    });
  }
  void drop_agent(const std::string& name) {  // its connection breaks, and it comes back
    Node& node = nodes_[name];
    if (!node.up || node.connection == 0) return;
    const PeerNumber connection = std::exchange(node.connection, 0);
    on_its_way(name, alive([this, connection] {
                 machine_->on_down(connection, moment());
                 carry_out();
               }));
    after(draw(100, 4000), [this, name] { connect_agent(name); });
  }
  void kill_node(const std::string& name) {
    Node& node = nodes_[name];
    if (!node.up) return;
    trace("node " + name + " dies");
    node.up = false;
    for (auto& [id, process] : node.running) process->job.clear();
    node.running.clear();
    node.farewells.clear();
    node.fences.clear();
    const PeerNumber connection = std::exchange(node.connection, 0);
    on_its_way(name, alive([this, connection] {
                 machine_->on_down(connection, moment());
                 carry_out();
               }));
    after(draw(500, 20000), [this, name] { boot(name); });
  }

  // ---- coordinators
  void start_coordinator(const std::string& name, const pb::RoleLaunch& launch) {
    Node& node = nodes_[name];
    if (!node.up) return;
    auto& fence = node.fences[launch.job()];
    if (launch.fence() < fence) return;  // it was told of a later one
    fence = launch.fence();
    node.farewells.erase(launch.job());
    if (const auto old = node.running.find(launch.job()); old != node.running.end()) {
      if (old->second->fence == launch.fence()) return;
      old->second->job.clear();
      node.running.erase(old);
    }
    auto process = std::make_shared<Coordinator>();
    process->job = launch.job();
    process->node = name;
    process->fence = launch.fence();
    node.running[launch.job()] = process;
    auto& store = node.stores[launch.job()];
    store.set_job(launch.job());
    store.set_fence(std::max(store.fence(), launch.fence()));
    connect(process);
    after(draw(500, 30000), [this, process] {
      if (process->job.empty() || process->stopping) return;
      process->stopping = true;
      process->end = chance(90) ? pb::JOB_SUCCEEDED : pb::JOB_FAILED;
      farewell(process);
    });
  }
  void connect(const std::shared_ptr<Coordinator>& process) {
    if (process->job.empty() || !machine_ ||
        (process->connection != 0 && process->incarnation == incarnation_))
      return;
    const PeerNumber connection = ++last_peer_;
    process->connection = connection;
    process->incarnation = incarnation_;
    coordinators_[connection] = process;
    pb::RegisterCoordinator hello;
    hello.set_job(process->job);
    hello.set_fence(process->fence);
    const std::string way = process->job + std::to_string(process->fence);
    ask(way, connection, hello, [this, process](const pb::Envelope&, Errc code) {
      if (process->job.empty()) return;
      if (code == Errc::stale_generation || code == Errc::not_found) return end(process, 9);
      if (code != Errc::ok) {
        process->connection = 0;
        after(1000, [this, process] { connect(process); });
        return;
      }
      heard_[process->job] = std::max(heard_[process->job], process->fence);
      if (process->end != pb::JOB_UNSPECIFIED) farewell(process);
    });
  }
  void coordinator_hears(const std::shared_ptr<Coordinator>& process, const pb::Envelope& body) {
    if (process->job.empty() || process->stopping || !body.has_stop_job()) return;
    if (chance(10)) return;  // it is stuck, and does not leave in time
    process->stopping = true;
    process->end = body.stop_job().keep() ? pb::JOB_STOPPED : pb::JOB_CANCELLED;
    after(draw(10, 3000), [this, process] { farewell(process); });
  }
  // It tells its end, if the controller is there, and goes.
  void farewell(const std::shared_ptr<Coordinator>& process) {
    if (process->job.empty()) return;
    if (!machine_ || process->connection == 0 || process->incarnation != incarnation_)
      return end(process, 0);
    pb::JobReport report;
    report.mutable_status()->set_job(process->job);
    report.mutable_status()->set_state(process->end);
    report.set_ended(true);
    report.set_fence(process->fence);
    const std::string way = process->job + std::to_string(process->fence);
    ask(way, process->connection, report,
        [this, process, job = process->job](const pb::Envelope&, Errc code) {
          if (code == Errc::ok) {
            ++ends_;
            if (heard_[job] > process->fence)
              broken("T-1: a coordinator of " + job + " was heard after a later one");
            if (process->end == pb::JOB_SUCCEEDED || process->end == pb::JOB_FAILED)
              ended_before_.insert(job);
          }
          end(process, 0);
        });
    after(4000, [this, process] { end(process, 0); });
  }
  void end(const std::shared_ptr<Coordinator>& process, int signal) {
    if (process->job.empty()) return;
    Node& node = nodes_[process->node];
    pb::RoleExited exit;
    exit.set_job(process->job);
    exit.set_role("coordinator");
    exit.set_fence(process->fence);
    exit.set_exit_code(signal == 0 ? 0 : 15);
    node.running.erase(process->job);
    process->job.clear();
    if (process->end == pb::JOB_SUCCEEDED || process->end == pb::JOB_FAILED)
      ended_before_.insert(exit.job());  // it may have ended unheard before it was cancelled
    node.farewells[exit.job()] = exit;
    tell_farewell(process->node, exit);
  }

  // ---- blows
  void strike() {
    auto node = nodes_.begin();
    std::advance(node, draw(0, static_cast<int>(nodes_.size()) - 1));
    switch (draw(0, acknowledged_.empty() ? 3 : 8)) {
      case 0:
      case 1:
        return kill_controller();
      case 2:
        return kill_node(node->first);
      case 3:
        return drop_agent(node->first);
      case 4: {
        const auto cancel = about_some_job<pb::CancelJob>();
        if (machine_)
          ask("client", 0, cancel, [this, job = cancel.job()](const pb::Envelope&, Errc code) {
            if (code == Errc::ok) cancelled_.insert(job);
          });
        return;
      }
      case 5: {
        auto scale = about_some_job<pb::ScaleJob>();
        scale.set_workers(static_cast<std::uint32_t>(draw(1, 4)));
        if (machine_) ask("client", 0, scale, [](const pb::Envelope&, Errc) {});
        return;
      }
      case 6: {
        auto hold = about_some_job<pb::HoldJob>();
        hold.set_hold(true);
        if (machine_) ask("client", 0, hold, [](const pb::Envelope&, Errc) {});
        after(draw(100, 20000), [this, hold]() mutable {
          hold.set_hold(false);
          if (machine_) ask("client", 0, hold, [](const pb::Envelope&, Errc) {});
        });
        return;
      }
      default: {
        pb::DrainNode drain;
        drain.set_node(node->first);
        drain.set_drain(true);
        if (machine_) ask("client", 0, drain, [](const pb::Envelope&, Errc) {});
      }
    }
  }
  // Everybody is up and nothing is drained or held any more.
  void calm() {
    for (auto& [name, node] : nodes_) {
      if (!node.up) boot(name);
      if (!machine_) continue;
      pb::DrainNode drain;
      drain.set_node(name);
      ask("client", 0, drain, [](const pb::Envelope&, Errc) {});
    }
    for (const auto& [key, job] : acknowledged_) {
      pb::HoldJob hold;
      hold.set_job(job);
      if (machine_) ask("client", 0, hold, [](const pb::Envelope&, Errc) {});
    }
    if (!all_over()) after(20000, [this] { calm(); });
  }

  // ---- checks
  void check_room() {
    if (!machine_ || may_overlap_ || deaths_ > 0) return;
    for (const auto& node : machine_->scheduler().nodes()) {
      const auto free = machine_->scheduler().free_on(node.id);
      if (free.cpu_millis < 0) broken("more was placed on " + node.id.value() + " than it has");
    }
  }
  [[nodiscard]] bool all_over() const {
    for (const auto& [id, record] : disk_)
      if (!is_over(record.state()) && record.state() != pb::JOB_STOPPED) return false;
    return writing_.empty();
  }
  [[nodiscard]] bool acknowledged_all() const { return unacknowledged_.empty(); }

  std::mt19937_64 random_;
  const std::uint64_t seed_;
  TimePoint now_{};
  std::priority_queue<Timed> events_;
  std::uint64_t order_ = 0;
  std::map<std::string, TimePoint> arrivals_;
  std::unique_ptr<ClusterMachine> machine_;
  int incarnation_ = 0, deaths_ = 0, ends_ = 0;
  std::deque<Writing> writing_;
  std::map<std::string, pb::JobRecord> disk_;
  std::map<std::string, pb::NodeRecord> node_disk_;
  std::map<std::string, Node> nodes_;
  std::map<PeerNumber, std::weak_ptr<Coordinator>> coordinators_;
  PeerNumber last_peer_ = 0;
  RequestNumber last_request_ = 0;
  std::map<RequestNumber, Then> requests_;
  std::map<std::string, std::string> acknowledged_;  // client key -> job
  std::set<std::string> unacknowledged_, cancelled_, ended_before_;
  bool may_overlap_ = false;
  std::map<std::string, std::uint64_t> heard_;
  std::string failure_;
};

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(ClusterHistories, NothingIsLostAndEveryJobComesToItsEnd) {
  const std::uint64_t first = number_from("CRABCAST_SEED", 1);
  const std::uint64_t histories =
      number_from("CRABCAST_HISTORIES", std::getenv("CRABCAST_SEED") ? 1 : 10'000);
  int ends = 0, deaths = 0;
  for (std::uint64_t seed = first; seed < first + histories; ++seed) {
    ClusterPlay history(seed);
    history.play();
    ASSERT_EQ(history.failure(), "");
    ends += history.ends();
    deaths += history.deaths();
  }
  if (histories > 100) {
    EXPECT_GT(ends, static_cast<int>(histories));
    EXPECT_GT(deaths, static_cast<int>(histories / 2));
  }
}

}  // namespace
}  // namespace crabcast::actors

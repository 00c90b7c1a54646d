// A whole cast in virtual time around one JobMachine: agents, workers, loaders, evaluators, the
// ledger and the checkpoint store, each as the real one behaves, as far as the machine can tell:
// simulated_cast.cpp is the job actor with its stores, simulated_processes.cpp the agents and what
// they run, simulated_members.cpp the members' work, simulated_blows.cpp what befalls them all.
//
// A worker's state after step n is a number that depends only on the steps before (expected_state),
// so whoever applies a step twice, skips one, or loads the wrong state is found at once (T-2). The
// cast checks on the way what must hold at each moment: T-1, the ledger is contiguous, lanes are a
// partition, a generation's number is never used twice, nothing happens after Finish.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/control/job_machine.h"

namespace crabcast::actors {

using std::chrono::milliseconds;

// How long things take; each is stretched by up to (1 + jitter).
struct Pace {
  Duration link = milliseconds(1);
  Duration agent = milliseconds(5);  // an order to the agent, or its notice of an exit
  Duration start = milliseconds(500);
  Duration load = milliseconds(100);
  Duration compute = milliseconds(50);
  Duration optimizer = milliseconds(2);
  Duration ledger = milliseconds(5);
  Duration save = milliseconds(200);
  Duration evaluate = milliseconds(1000);
  Duration peer_death = milliseconds(200);  // until a collective notices it
  Duration grace = milliseconds(500);       // a broken connection may come back this long
  Duration reconnect = milliseconds(300);   // then its process tries to come back
  Duration silence = std::chrono::seconds(5);
  Duration tick = milliseconds(100);
  double jitter = 0;
};

struct CastOptions {
  JobSpec spec;
  JobTimeouts timeouts;
  Pace pace;
  std::uint64_t seed = 1;
  std::set<std::uint64_t> non_finite;       // steps
  std::map<std::uint64_t, double> spikes;   // steps -> their loss
  std::uint64_t epoch_steps = 0;            // what loaders make of the epochs
  std::map<std::string, std::string> base;  // hash by role, where it is not "base"
  std::set<std::string> on_node_b;          // roles that are not on node-a
};

class Cast {
 public:
  explicit Cast(CastOptions options);

  // ---- time
  void run_for(Duration time);
  // Until `done` holds; false when the job was over before, or the time.
  bool run_until(const std::function<bool()>& done, Duration limit = std::chrono::hours(1));
  bool run_to_end(Duration limit = std::chrono::hours(1)) {
    return run_until([this] { return finish.has_value(); }, limit);
  }
  TimePoint now() const { return now_; }
  void at(Duration delay, std::function<void()> action);

  // ---- what befalls the cast
  void kill(const std::string& role);    // SIGKILL
  void hang(const std::string& role);    // its working thread stands still
  void freeze(const std::string& role);  // the whole process stands still
  // Its connection, which it opens again; the coordinator notices after a while.
  void break_link(const std::string& role, Duration noticed_after = {});
  void fail_collective(const std::string& role);
  // What its ledger was writing may have become durable.
  void restart_coordinator(Duration away, bool write_survives = false);
  // The connection to a node's agent breaks; it comes back, and its processes ran on.
  void lose_agent(Duration away, const std::string& node = "node-a");
  // An agent dies, and its processes with it; the next one of that node knows nothing.
  void kill_agent(Duration away, const std::string& node);
  // The coordinator dies with all processes of its node.
  void lose_node_of_coordinator(Duration away, bool write_survives = false);
  void repeat_late(const std::string& role, Duration delay);       // what it said last, once more
  void repeat_exit_late(const std::string& role, Duration delay);  // the notice of its last end
  void stop(bool keep);
  // The controller places roles; one that is there already may move to another node.
  void place(const std::string& role, const std::string& node = "node-a");
  void fatal_fault(const std::string& role, Errc code, const std::string& message);
  void drain(const std::string& role);  // SIGTERM
  void scale(const std::vector<std::string>& removed, std::uint32_t workers_min = 0);

  int failing_saves = 0;  // so many of the next ones fail
  bool saves_never_end = false;
  std::set<std::string> never_start;                       // roles whose processes do not register
  std::set<std::string> cannot_start;                      // roles that the agent refuses
  std::map<std::string, std::uint64_t> wrong_once;         // role -> step with a wrong gradient
  std::map<std::string, std::uint64_t> wrong_update_once;  // role -> step that is applied wrongly
  std::set<std::uint64_t> corrupt;                         // checkpoints that do not verify

  // ---- what there is
  struct Process;
  std::shared_ptr<Process> process(const std::string& role) const;
  bool alive(const std::string& role) const { return process(role) != nullptr; }
  std::string doing(const std::string& role) const;
  std::vector<pb::Event> all(const std::string& kind) const;
  std::size_t count(const std::string& kind) const { return all(kind).size(); }
  std::uint64_t committed() const { return ledger.size(); }
  std::uint64_t expected_state(std::uint64_t step);
  JobMachine& machine() { return *machine_; }
  pb::JobStatus status() const { return machine_->status(now_, 0); }
  std::vector<std::string> living(pb::RoleKind kind) const;
  pb::ActorState state_of(const std::string& role) const;
  bool all_registered() const;
  bool leaving() const { return machine_->leaving(); }
  // Processes that an agent which the coordinator reaches still runs.
  std::vector<std::string> within_reach() const;

  std::vector<pb::CommitRecord> ledger;
  std::map<std::uint64_t, std::uint64_t> store;  // checkpoint -> state
  std::vector<pb::Event> events;
  std::vector<pb::Generation> generations;
  std::uint64_t stored_generation = 0;  // the newest number that was given away
  pb::Rollbacks rollbacks;
  std::vector<std::uint64_t> rewinds;
  std::vector<std::pair<std::string, std::uint64_t>> evaluations;  // role, checkpoint; as asked
  std::map<std::string, int> lost;    // by culprit: losses that the coordinator spoke of
  std::map<std::string, int> starts;  // by role
  std::optional<Finish> finish;
  CastOptions options;

 private:
  struct Run;
  using ProcessPtr = std::shared_ptr<Process>;
  using RunPtr = std::shared_ptr<Run>;

  Duration stretched(Duration time);
  void tick();
  void trace(const std::string& line) const;
  bool step_once();
  void carry_out();
  void tell(const std::function<void(JobMachine&)>& what);
  JobHistory history() const;
  bool leaves_state(std::uint64_t step) const;
  std::vector<double> losses_up_to(std::uint64_t step) const;
  void begin_coordinator();

  void act(const SendTo& action);
  void act(const PublishGeneration& action);
  void act(const WriteCommit& action);
  void act(const WriteQuarantine& action);
  void act(const RewindLedger& action);
  void act(const VoidCheckpoints& action);
  void act(const RecordRollbacks& action);
  void act(const RecordEvent& action);
  void act(const StartProcess& action);
  void act(const StopProcess& action);
  void act(const FindCheckpoint& action);
  void act(const ApplyRetention& action);
  void act(const Finish& action);
  void send(const std::string& role, const pb::Envelope& envelope);
  void expect_the_end_of(const std::string& role);
  void check_generation(const pb::Generation& generation);
  void in_ledger_order(std::function<void()> then);
  void check_record(const pb::CommitRecord& record);

  struct Order {
    std::string node;
    std::string starts;  // role; empty for an order to stop
    std::function<void()> carry_out;
  };
  struct Agent {
    bool alive = true;
    bool connected = false;
    std::uint64_t link = 0;                      // changes with each connection
    std::map<std::string, ProcessPtr> running;   // by role
    TimePoint order_free{}, notice_free{};       // both go in order
    std::vector<Order> waiting;                  // until it is connected
    std::vector<std::function<void()>> unheard;  // exits while nobody watched
  };
  void connect_agent(const std::string& node);
  void agent_connected(const std::string& node);
  void agent_is_down(const std::string& node);
  void give(Order order);
  void forget_starts(const std::string& role);
  void role_started(const std::string& node, const ProcessPtr& p);
  void role_exited(const ProcessPtr& p, const std::string& evidence);
  std::vector<ProcessPtr> running() const;

  void start_process(const pb::RoleSlot& slot);
  void connect(const ProcessPtr& p);
  // By value: they take it out of what is running.
  void end_process(ProcessPtr p, const std::string& evidence);
  void stop_living(ProcessPtr p, Duration link_noticed_after);
  void expect_told(const ProcessPtr& p) const;
  using Said = std::function<void(JobMachine&, const std::string& sender)>;
  void say(const ProcessPtr& p, Said what);
  void break_link(const ProcessPtr& p, Duration noticed_after);
  void link_is_down(const ProcessPtr& p, std::uint64_t link);
  void report_progress(const ProcessPtr& p, std::uint64_t link);
  void receive(const ProcessPtr& p, const pb::Envelope& envelope);

  void doing(Process& p, const std::string& what);
  void receive_commit(const ProcessPtr& p, const pb::Commit& commit);
  void next_task(const ProcessPtr& p);
  void begin_run(const ProcessPtr& p, const pb::Generation& generation);
  void load_from_peer(const ProcessPtr& p, const RunPtr& run);
  void loaded(const ProcessPtr& p, const RunPtr& run);
  void join(const ProcessPtr& p, const RunPtr& run, const std::string& where,
            std::function<void(const ProcessPtr&)> then);
  void begin_step(const ProcessPtr& p, const RunPtr& run, std::uint64_t step);
  void report_step(const ProcessPtr& p, const RunPtr& run);
  void decide(const ProcessPtr& p);
  void end_run(const ProcessPtr& p);
  void fault(const ProcessPtr& p, const RunPtr& run, Errc code, const std::string& message,
             bool fatal = false);
  // Goes on with a run after a while, if its process can and it was not superseded.
  void later(Duration time, const ProcessPtr& p, const RunPtr& run, std::function<void()> then);
  void save(const ProcessPtr& p, std::uint64_t id);
  void evaluate_next(const ProcessPtr& p);

  std::mt19937_64 random_;
  TimePoint now_{std::chrono::hours(1)};
  std::multimap<TimePoint, std::function<void()>> queue_;
  std::unique_ptr<JobMachine> machine_;
  std::uint64_t coordinator_ = 0;  // changes with each restart
  bool coordinator_up_ = false;
  std::map<std::string, Agent> agents_;  // by node
  std::vector<pb::RoleSlot> placement_;
  std::map<std::string, std::function<void()>> last_exit_;  // by role
  // Whom the coordinator talks to, by role: process and connection.
  std::map<std::string, std::pair<int, std::uint64_t>> members_;
  std::map<int, ProcessPtr> processes_;
  int next_pid_ = 100;
  std::uint64_t next_link_ = 1;
  TimePoint ledger_free_{};
  std::optional<pb::CommitRecord> writing_;
  std::vector<std::uint64_t> states_;
  std::set<std::string> going_;   // roles that are to end, though their process may start yet
  std::uint64_t void_saves_ = 0;  // saves that began before are void
  std::map<std::string, std::string> unreachable_;  // role and node; its incident is still open
  std::set<std::tuple<std::uint64_t, std::uint64_t, std::string>> reported_;  // gen, step, role
  std::map<std::uint64_t, std::uint64_t> offers_;  // generation -> state of its source
  // (generation, place) -> who has come there
  std::map<std::pair<std::uint64_t, std::string>,
           std::map<std::string, std::pair<RunPtr, std::function<void(const ProcessPtr&)>>>>
      meetings_;
};

struct Cast::Run {
  pb::Generation generation;
  pb::GenerationMember me;
  std::uint64_t step = 0;
  bool interruptible = false;  // waits for others: a newer generation ends it at once
  bool over = false;
};

struct Cast::Process {
  pb::RoleSlot slot;
  int pid = 0;
  bool alive = true;
  bool hung = false;
  bool frozen = false;
  bool told = false;       // the coordinator spoke of its loss
  std::uint64_t link = 0;  // changes with each connection; 0: none
  TimePoint out_free{}, in_free{};
  std::string what = "starting";
  std::uint64_t progress = 0;
  std::function<void(JobMachine&, const std::string&)> last_said;
  // A worker's
  std::uint64_t applied = 0, state = 0, newest = 0, pending = 0;
  bool wrong = false;  // its state, since an update that was applied wrongly
  struct Decision {
    std::uint64_t step = 0;
    bool skip = false;
    std::uint64_t checkpoint = 0;
  };
  std::optional<Decision> decided;
  RunPtr run;
  std::deque<std::function<void(const ProcessPtr&)>> tasks;  // of the training thread
  // An evaluator's
  std::deque<pb::Evaluate> evaluations;
  bool evaluating = false;

  [[nodiscard]] const std::string& role() const { return slot.role(); }
  [[nodiscard]] bool works() const { return alive && !hung && !frozen; }
};

}  // namespace crabcast::actors

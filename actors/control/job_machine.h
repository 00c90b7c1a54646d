// The coordinator's decisions: membership, generations, commits, checkpoints, evaluation, incidents
// of one job (docs/architecture.md, "A step"; invariants T-1, C-2, H-1).
//
// Pure: no I/O, no clock, no threads. Each call takes what happened and when, and appends what is
// to be done to `actions`, in order. The job actor (job.h) carries the actions out; tests stage any
// history in virtual time.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "actors/control/mixture.h"
#include "actors/control/own_standstill.h"
#include "actors/control/step_watch.h"
#include "protocol/clock.h"
#include "protocol/envelope.pb.h"
#include "protocol/error.h"
#include "protocol/job_spec.h"

namespace crabcast::actors {

// Named timeouts of a job, so that a test can shorten one and a message can name it.
struct JobTimeouts {
  Duration gather = std::chrono::seconds(60);  // first workers present -> start without the rest
  // A started process must have registered, or have told of progress so long ago at most.
  Duration registration = std::chrono::seconds(120);
  Duration preparation = std::chrono::hours(24);   // then it must have registered all the same
  Duration form = std::chrono::seconds(30);        // a generation must be ready
  Duration checkpoint = std::chrono::minutes(10);  // from its Commit to a sealed manifest
  Duration evaluation = std::chrono::minutes(30);
  Duration leave = std::chrono::seconds(10);       // members end after LeaveJob or StopProcess
  Duration stuck_least = std::chrono::seconds(5);  // nobody is taken for stuck before
  std::uint32_t losses_without_progress = 3;       // of one process; then the job ends
  Duration back_off_first = std::chrono::milliseconds(200);
  Duration back_off_most = std::chrono::seconds(10);
};

// What is to be done. Each is carried out in order; those that answer do so through a JobMachine
// call.
struct SendTo {
  std::string role;
  pb::Envelope envelope;
};
struct PublishGeneration {  // its number is stored first -> on_generation_failed if it cannot be
  pb::Generation generation;
  std::vector<std::string> roles;
};
struct WriteCommit {  // -> on_commit_durable
  pb::CommitRecord record;
};
struct WriteQuarantine {  // before the commit of their step -> on_quarantine_durable
  std::vector<pb::BadSample> samples;
};
struct RewindLedger {
  std::uint64_t step = 0;
};
struct VoidCheckpoints {  // those after the step, and those that are being written
  std::uint64_t after = 0;
};
struct RecordRollbacks {  // before anything that follows from them
  pb::Rollbacks rollbacks;
};
struct RecordEvent {
  pb::Event event;
};
struct StartProcess {
  pb::RoleSlot slot;
  std::uint32_t restarts = 0;
};
struct StopProcess {  // at once -> on_gone, or on_nothing_to_stop
  std::string role;
  std::string node;
};
struct FindCheckpoint {       // -> on_checkpoint_found: the newest that verifies
  std::uint64_t at_most = 0;  // newer ones are not of this history, or not trusted
};
struct ApplyRetention {
  std::set<std::uint64_t> in_use;
};
struct Finish {  // the job is over; nothing follows
  pb::JobState state = pb::JOB_UNSPECIFIED;
  Error error;  // code ok unless the state is JOB_FAILED
};
using JobAction = std::variant<SendTo, PublishGeneration, WriteCommit, WriteQuarantine,
                               RewindLedger, VoidCheckpoints, RecordRollbacks, RecordEvent,
                               StartProcess, StopProcess, FindCheckpoint, ApplyRetention, Finish>;

// A failure whose incident was not told to its end.
struct OpenLoss {
  pb::Event event;
  bool replaced = false;  // another process took the lost one's place
};

// Where a job stands when its coordinator starts: zeros for a new one.
struct JobHistory {
  std::uint64_t last_commit = 0;
  bool last_skipped = false;          // that step's update was not applied
  std::uint64_t last_generation = 0;  // of that step
  std::uint64_t generation = 0;       // the newest whose number was given away
  std::set<std::uint64_t> checkpoints;
  std::set<std::uint64_t> evaluated;
  std::optional<std::string> base_hash;  // of its checkpoints
  std::uint32_t restarts = 0;            // of its processes, since it was started or resumed
  std::vector<pb::BadSample> quarantined;
  std::optional<pb::CorpusInfo> corpus;    // that its steps were trained on; nullopt: none were
  std::vector<pb::MixtureChange> mixture;  // of policy adaptive
  TaskLosses window;                       // since the last of these was decided
  pb::Rollbacks rollbacks;
  std::vector<double> losses;  // of the last steps that count for LossWatch
  std::vector<OpenLoss> open_losses;
};

std::string sample_name(const pb::SampleRef& sample);  // "avqa:12"

// An event of this kind ends a run of the job.
bool ends_a_run(const std::string& event_kind);

// Follows what events tell of losses and incidents: `open` are the losses without an incident. A
// coordinator's own death would make it forget them (H-1).
void note_losses(std::vector<OpenLoss>& open, const pb::Event& event);

// The evidence against a member that cannot be reached, whatever else became of it.
inline constexpr const char* kConnectionLost = "its connection was lost";

class JobMachine {
 public:
  JobMachine(std::string job, JobSpec spec, std::vector<pb::RoleSlot> placement, JobHistory history,
             JobTimeouts timeouts = {});

  void start(TimePoint now);
  // An agent that is connected again names a process of this job that runs there.
  void adopt_process(const std::string& role, int pid, TimePoint now);
  // The answer to StartProcess.
  void on_started(const std::string& role, int pid);
  // Whether it is taken for the process of its role from now on. It is not when that process has
  // ended, or is being killed, or another one runs.
  bool on_registered(const pb::RegisterMember& member, TimePoint now);
  // The process ended; or, with exited == false, it cannot be reached any more. A pid (0: unknown)
  // tells the end of an earlier process from that of the one which runs now.
  void on_gone(const std::string& role, const std::string& evidence, bool exited, TimePoint now,
               int pid = 0);
  // The agent of a node is gone, and with it its processes. One incident for all of them.
  void on_node_gone(const std::string& node, TimePoint now);
  // This coordinator took the place of one that ended `seconds_ago`; after start(). An incident.
  void on_restarted(const std::string& evidence, double seconds_ago, TimePoint now);
  // The agent was to stop the role's process, and runs none.
  void on_nothing_to_stop(const std::string& role, TimePoint now);
  void on_fault(const std::string& role, const pb::MemberFault& fault, TimePoint now);
  // Of one that is registered, or is getting ready to.
  void on_progress(const pb::MemberProgress& progress, TimePoint now);
  void on_generation_failed(std::uint64_t generation, const Error& error, TimePoint now);
  void on_generation_ready(const std::string& role, const pb::GenerationReady& ready,
                           TimePoint now);
  void on_step_ready(const std::string& role, const pb::StepReady& ready, TimePoint now);
  void on_commit_durable(std::uint64_t step, TimePoint now);
  void on_commit_failed(std::uint64_t step, const Error& error, TimePoint now);
  void on_quarantine_durable(TimePoint now);
  void on_quarantine_failed(const Error& error, TimePoint now);
  // window: losses up to the checkpoint since the last change of the mixture before it. losses: as
  // in JobHistory, up to the checkpoint.
  void on_checkpoint_found(std::optional<std::uint64_t> checkpoint, TimePoint now,
                           const TaskLosses& window = {}, const std::vector<double>& losses = {});
  void on_checkpoint_stored(std::uint64_t checkpoint, TimePoint now);
  void on_checkpoint_failed(std::uint64_t checkpoint, const Error& error, TimePoint now);
  // Whether it is a result of this history, and to be stored.
  bool on_evaluation(const std::string& role, const pb::EvaluationDone& done, TimePoint now);
  void on_placement(const std::vector<pb::RoleSlot>& placement, TimePoint now);
  void on_start_failed(const std::string& role, const Error& error, TimePoint now);
  // The member was told to go: it leaves as soon as nothing is lost with it.
  void on_draining(const std::string& role, const std::string& reason, TimePoint now);
  // Roles that leave, because the job is to have fewer workers.
  void on_scaled(const std::vector<std::string>& removed, std::uint32_t workers_min, TimePoint now);
  // keep: checkpoint first and end as stopped; otherwise end as cancelled at once.
  void on_stop(bool keep, const std::string& reason, TimePoint now);
  void on_tick(TimePoint now);

  // What the calls since the last one decided.
  std::vector<JobAction> take_actions();

  // The wall time is only used to say since when each actor is in its state.
  [[nodiscard]] pb::JobStatus status(TimePoint now, std::int64_t now_unix_ms) const;
  [[nodiscard]] std::string node_of(const std::string& role) const;
  [[nodiscard]] std::vector<std::string> roles_on(const std::string& node) const;
  [[nodiscard]] const JobSpec& spec() const { return spec_; }
  [[nodiscard]] bool leaving() const { return phase_ == Phase::leaving; }
  [[nodiscard]] bool finished() const { return finished_; }
  [[nodiscard]] const std::optional<pb::CorpusInfo>& corpus() const { return corpus_; }

 private:
  enum class Phase {
    gathering,  // waiting for members to register
    finding,    // waiting for on_checkpoint_found
    forming,    // a generation was published; not all are ready
    running,
    finishing,  // the last step is committed: checkpoint, evaluation
    leaving,    // LeaveJob was sent
  };
  struct Member {
    pb::RoleSlot slot;
    std::optional<pb::RoleSlot> moved;  // where its next process starts
    pb::ActorState state = pb::ACTOR_STARTING;
    std::string reason;
    TimePoint since{};
    TimePoint last_sign{};      // of life
    TimePoint last_progress{};  // its progress counter moved
    std::uint64_t progress = 0;
    std::string doing;
    std::uint32_t mailbox = 0;
    int pid = 0;              // 0: not known yet
    int lost_pid = 0;         // of the process before, on the same node
    bool process_up = false;  // started, and not known to have ended
    bool registered = false;
    bool condemned = false;  // it is being killed: nothing that it says counts any more
    TimePoint condemned_at{};
    std::optional<std::uint64_t> holds;  // step after whose update its state is; workers
    bool trained = false;                // its process cannot begin afresh any more
    std::uint32_t faults = 0;            // reported since the last commit
    std::uint32_t loaders_blamed = 0;    // for its waiting, since the last commit
    std::uint32_t losses = 0;            // of its processes, since the last commit
    std::uint32_t restarts = 0;
    SlowWatch pace;                     // of its steps, beside those of the others
    bool draining = false;              // told us that it was told to go
    bool unwanted = false;              // the job has fewer workers from now on
    std::optional<TimePoint> released;  // LeaveJob was sent, and its process is to end
    std::optional<TimePoint> restart_at;
    pb::RegisterMember registration;
    // In the current generation:
    bool in_generation = false;
    bool ready = false;
    double load_seconds = 0;
    std::optional<pb::StepReady> step_ready;
    std::optional<std::uint64_t> evaluating;
    TimePoint evaluating_since{};
  };
  // A failure on its way to being repaired: H-1.
  struct OpenIncident {
    pb::Event event;
    std::vector<std::string> lost;  // roles
    TimePoint detected{};
    std::optional<TimePoint> opened, formed;
    bool members_changed = false;  // it needs a generation to be repaired
    double decided_before = 0;     // seconds that passed before this coordinator was there
    bool own_standstill = false;
  };
  using SampleId = std::pair<std::uint32_t, std::uint64_t>;  // data set, index

  // What a member says of a step's sum and of the parameters that it was computed from.
  struct Vote {
    std::uint64_t gradient = 0;
    std::uint64_t parameters = 0;
    bool finite = true;
    friend auto operator<=>(const Vote&, const Vote&) = default;
  };
  // Members disagreed, none of them by a majority: when the step is computed again, those that said
  // something else are known.
  struct Dispute {
    std::uint64_t step = 0;
    std::map<std::string, Vote> votes;
  };

  // A checkpoint that a member was asked for.
  struct Save {
    std::string role;
    TimePoint since{};
  };

  // membership (job_machine.cpp)
  void stop_process(const std::string& role);
  static bool is_another(const Member& member, int pid);
  void worker_registered(const std::string& role, bool rejoins, TimePoint now);
  void tell_missed_verdict(const std::string& role);
  static void move(Member& member, const pb::RoleSlot& slot);
  void start_process(const std::string& role, const std::string& reason, TimePoint now);
  void check_registration(TimePoint now);
  void send_loader_directory();
  // what members must see alike (job_machine_agreement.cpp)
  bool accept_corpus(const std::string& role, TimePoint now);
  bool accept_base(const std::string& role, TimePoint now);
  // losses and restarts (job_machine_losses.cpp)
  // fine_until: when it was seen to be well for the last time; its last message, unless said
  // otherwise.
  void lose_member(const std::string& role, const std::string& evidence, bool exited, TimePoint now,
                   std::optional<TimePoint> fine_until = std::nullopt);
  bool give_up_for_lack_of_progress(const std::string& role, const std::string& evidence,
                                    TimePoint now);
  void condemn(const std::string& role, TimePoint now);
  void stop_condemned(TimePoint now);
  void open_incident(const std::string& role, const std::string& evidence, TimePoint fine_until,
                     TimePoint now);
  void reopen_incidents(const std::vector<OpenLoss>& losses, TimePoint now);
  // Peers that seem to be gone have given this process up, which stood still: its own incident.
  void blame_own_standstill(const std::vector<std::string>& lost, bool members_changed,
                            TimePoint now);
  void take_over_lost_connections(const std::string& node, OpenIncident& incident);
  void open_incident(OpenIncident incident, const std::string& culprit, const std::string& doing,
                     const std::string& evidence);
  void schedule_restart(const std::string& role, TimePoint now);
  void refuse_restart(const std::string& role, TimePoint now);
  void restart_due(TimePoint now);
  void settle_incidents(TimePoint now);
  // generations (job_machine_generation.cpp)
  void open_generation_when_possible(TimePoint now);
  // source: "peer", "checkpoint" or "fresh"
  void open_generation(const std::string& source, TimePoint now);
  void drop_generation();
  void rewind(std::uint64_t step, const TaskLosses& window, const std::vector<double>& losses);
  bool restart_trained(TimePoint now);
  void check_forming(TimePoint now);
  std::vector<std::string> eligible_workers() const;
  std::vector<std::string> in_generation() const;
  bool state_lives() const;
  // All steps are committed. Somebody holds the state after the last one.
  bool trained_to_the_end() const;
  bool more_workers_expected() const;
  // Processes of that kind that run or will run again.
  std::size_t left(pb::RoleKind kind) const;
  bool trains() const { return phase_ == Phase::forming || phase_ == Phase::running; }
  // standstills and slow members (job_machine_watch.cpp)
  void forgive_own_standstill(TimePoint now);
  Duration stuck_after() const;
  void check_hang(TimePoint now);
  void blame_for_batch(const std::string& role, TimePoint now);
  void renew_patience(TimePoint now);
  void watch_pace(const std::vector<std::string>& roles, TimePoint now);
  // numbers that go wrong (job_machine_numbers.cpp)
  Vote vote_of(const std::string& role) const;
  bool agree(const std::vector<std::string>& roles, TimePoint now);
  void outvote(const std::vector<std::string>& roles, const Vote& vote, TimePoint now);
  void dispute(const std::vector<std::string>& roles, TimePoint now);
  bool settle_dispute(const std::vector<std::string>& roles, TimePoint now);
  bool accept_numbers(pb::CommitRecord& record, bool finite, TimePoint now);
  void roll_back(const pb::CommitRecord& record, const std::string& what, TimePoint now);
  bool undone(std::uint64_t step) const;
  bool spend_restart(const std::string& why, Errc code, TimePoint now);
  void distrust_states_after(std::uint64_t step, const std::string& reason, TimePoint now);
  // members that go in good order (job_machine_drain.cpp)
  static bool leaves(const Member& member) { return member.draining || member.unwanted; }
  bool everybody_leaves() const;
  void release(const std::string& role, TimePoint now);
  void release_leavers(TimePoint now, bool between_steps = false);
  void stop_late_leavers(TimePoint now);
  void left_in_good_order(const std::string& role, TimePoint now);
  // steps (job_machine_steps.cpp)
  void commit_when_all_ready(TimePoint now);
  pb::CommitRecord make_record(const std::vector<std::string>& roles, TimePoint now) const;
  void send_verdicts(const pb::CommitRecord& record, TimePoint now);
  bool save_due(const pb::CommitRecord& record);
  void account(const pb::CommitRecord& record, TimePoint now);
  // samples (job_machine_samples.cpp)
  void quarantine_into(pb::CommitRecord& record, const pb::LaneReport& lane) const;
  bool is_bad(const pb::SampleRef& sample, std::uint64_t step) const;
  bool follows_quarantine(const pb::CommitRecord& record, TimePoint now);
  void learn_bad(const pb::BadSample& bad, pb::SamplingHistory& news);
  void tell_loaders(const pb::SamplingHistory& news);
  void learn_from(const pb::CommitRecord& record, TimePoint now);
  void send_sampling_history(const std::string& role);
  void check_quarantine(TimePoint now);
  // checkpoints, evaluation, end (job_machine_end.cpp)
  bool forget_save(std::uint64_t checkpoint, const Error& error);
  void forget_saves_of(const std::string& role, const std::string& why);
  void check_saves(TimePoint now);
  // Asks a worker that holds the state after the last commit to save it; false when there is none.
  bool save_last_state(TimePoint now);
  bool evaluation_due(std::uint64_t checkpoint) const;
  bool evaluates_something() const;
  void queue_evaluation(std::uint64_t checkpoint);
  void give_back_evaluation(const std::string& role);
  void check_evaluations(TimePoint now);
  void start_evaluations(TimePoint now);
  // The job, or all that train, stop with the checkpoint that is being made: no further step is
  // committed.
  bool stops_here() const {
    return (stop_asked_ || everybody_leaves()) && saving_.contains(last_commit_);
  }
  void save_and_stop(TimePoint now);
  // All steps are done and stored: only evaluations may be missing, and no worker is needed.
  bool result_is_safe() const {
    return phase_ == Phase::finishing && checkpoints_.contains(last_commit_);
  }
  void enter_finishing(TimePoint now);
  void finish_when_done(TimePoint now);
  void leave(pb::JobState state, Error error, TimePoint now);
  void finish_when_all_left(TimePoint now);
  // helpers
  static void set_state(Member& member, pb::ActorState state, std::string reason, TimePoint now);
  void send(const std::string& role, const google::protobuf::Message& body);
  void event(pb::Severity severity, const std::string& kind, const std::string& subject,
             const std::string& message);
  void refresh_status();
  // Unknown while epochs are asked for and no loader has told the corpus's size.
  std::optional<std::uint64_t> total_steps() const;

  std::string job_;
  JobSpec spec_;
  JobTimeouts timeouts_;
  std::vector<JobAction> actions_;
  std::map<std::string, Member> members_;
  Phase phase_ = Phase::gathering;
  std::uint64_t generation_ = 0;
  std::uint64_t last_commit_ = 0;
  bool last_skipped_ = false;                   // how that step was decided,
  std::uint64_t last_commit_generation_ = 0;    // and in which generation
  std::uint64_t first_step_ = 1;                // of the current generation
  std::optional<pb::CommitRecord> committing_;  // is being written
  std::set<std::string> committing_roles_;      // reported it, and can apply it
  bool regroup_ = false;                        // open a new generation after the next commit
  std::optional<TimePoint> regroup_at_;         // or then, whatever comes first
  std::string generation_reason_ = "start";
  // States after later steps are not used any more, whoever holds them.
  std::optional<std::uint64_t> trusted_up_to_;
  std::optional<Dispute> dispute_;
  pb::Rollbacks rollbacks_;
  LossWatch loss_watch_;
  std::deque<double> step_seconds_;  // of the last steps of this generation
  OwnStandstill own_standstill_;
  std::optional<TimePoint> first_worker_at_;
  TimePoint forming_since_{}, last_commit_at_{}, started_{};
  std::optional<pb::CorpusInfo> corpus_;
  std::optional<std::string> base_hash_;
  std::map<SampleId, pb::BadSample> quarantine_;
  std::vector<pb::BadSample> quarantining_;  // are being written
  std::optional<AdaptiveMixture> mixture_;
  std::set<std::uint64_t> checkpoints_, evaluated_;
  std::map<std::uint64_t, Save> saving_;  // by checkpoint
  std::set<std::uint64_t> void_saves_;    // of a history that was given up; may be stored yet
  std::optional<Errc> save_trouble_;      // of the disk, since a checkpoint was stored
  bool save_owed_ = false;                // a checkpoint is due that no commit has brought yet
  std::uint32_t final_save_tries_ = 0;
  std::optional<TimePoint> final_save_at_;
  std::deque<std::uint64_t> to_evaluate_;
  std::map<std::uint64_t, int> evaluation_tries_;
  std::uint32_t restarts_used_ = 0;
  std::deque<OpenIncident> incidents_;
  std::vector<OpenLoss> open_losses_;  // until start()
  bool told_of_losses_ = false;        // an incident has told of those that are being lost
  bool stop_asked_ = false;
  std::string stop_reason_;
  pb::JobState leave_state_ = pb::JOB_UNSPECIFIED;
  Error leave_error_;
  TimePoint leaving_since_{};
  bool killed_late_ones_ = false;
  bool finished_ = false;
  pb::JobStatus status_;
  std::deque<std::pair<TimePoint, std::uint64_t>> recent_commits_;  // for samples/s
  std::map<std::string, std::deque<pb::TaskLoss>> recent_losses_;
};

}  // namespace crabcast::actors

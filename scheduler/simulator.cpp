#include "scheduler/simulator.h"

#include <algorithm>
#include <cmath>
#include <queue>

#include "protocol/common.pb.h"
#include "scheduler/job.h"
#include "scheduler/simulator_books.h"

namespace crabcast::scheduler {
namespace {

// What a gang and a single worker take to save their work and leave.
constexpr Duration kGangLeaves = std::chrono::seconds(30);
constexpr Duration kWorkerLeaves = std::chrono::seconds(15);
constexpr std::size_t kMostPoints = 400;

TimePoint time_at(double seconds) {
  return TimePoint{} + std::chrono::hours(1) +
         std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}
double seconds_at(TimePoint at) {
  return seconds(at - time_at(0));
}

struct Event {
  enum class Kind {
    arrives,
    finishes,
    overdue,      // its own estimate is over
    grows_old,    // it has waited for as long as the starvation bound
    stops,        // over its time limit
    is_requeued,  // preempted
    role_leaves,
    node_down,
    node_up,
    wake
  };
  TimePoint at;
  std::uint64_t order = 0;  // of equal times
  Kind kind = Kind::wake;
  std::size_t subject = 0;  // job or node
  std::uint64_t run = 0;    // of the job, so that what it did before does not count
  std::string role;
  bool operator<(const Event& other) const {
    return at != other.at ? at > other.at : order > other.order;
  }
};

// How a job's work goes on. Work is counted in seconds with workers_min workers.
struct Run {
  double work_left = 0;
  double rate = 0;
  TimePoint since;
  Duration ran{};
  std::uint64_t number = 0;  // changes with every start, stop and change of rate
  std::uint64_t stay = 0;    // changes with every start and stop
  bool ever_started = false;
};

class Simulation {
 public:
  Simulation(const Workload& workload, const SimulationOptions& options)
      : workload_(workload),
        options_(options),
        scheduler_(workload.policy),
        books_(workload, options.check) {}

  Result<SimulationResult> run() {
    prepare();
    while (!events_.empty() && broken_.empty()) {
      const TimePoint at = events_.top().at;
      account_until(at);
      now_ = at;
      while (!events_.empty() && events_.top().at == at) {
        const Event event = events_.top();
        events_.pop();
        ++result_.events;
        apply(event);
      }
      decide();
    }
    if (broken_.empty()) check_end();
    if (!broken_.empty())
      return fail(Errc::internal, "seed " + std::to_string(options_.seed) + ", event " +
                                      std::to_string(result_.events) + " at " +
                                      std::to_string(seconds_at(now_)) + " s, " + broken_);
    summarize();
    return std::move(result_);
  }

 private:
  using Kind = Event::Kind;

  void push(TimePoint at, Kind kind, std::size_t subject, std::uint64_t run = 0,
            std::string role = {}) {
    events_.push({at, ++order_, kind, subject, run, std::move(role)});
  }

  void prepare() {
    now_ = last_arrival_ = time_at(0);
    for (const Node& node : workload_.nodes) scheduler_.upsert_node(node);
    runs_.resize(workload_.jobs.size());
    for (std::size_t i = 0; i < workload_.jobs.size(); ++i) {
      runs_[i].work_left = workload_.jobs[i].duration;
      last_arrival_ = std::max(last_arrival_, time_at(workload_.jobs[i].submitted));
      push(time_at(workload_.jobs[i].submitted), Kind::arrives, i);
    }
    down_.resize(workload_.nodes.size());
    for (const NodeOutage& outage : workload_.outages) {
      const std::size_t node = books_.node_number(outage.node);
      push(time_at(outage.at), Kind::node_down, node);
      push(time_at(outage.at + outage.lasts), Kind::node_up, node);
    }
  }

  BookedJob& job(std::size_t number) { return books_.jobs()[number]; }
  std::size_t number_of(const BookedJob& job) const {
    return static_cast<std::size_t>(job.job - workload_.jobs.data());
  }
  void report(const BookedJob& job, const Books::Broken& broken) {
    if (broken && broken_.empty()) broken_ = "job " + job.job->request.id.value() + ": " + *broken;
  }

  void apply(const Event& event) {
    switch (event.kind) {
      case Kind::arrives:
        return submit(job(event.subject));
      case Kind::finishes:
        if (runs_[event.subject].number == event.run) finish(job(event.subject));
        return;
      case Kind::overdue:
        if (runs_[event.subject].stay == event.run) overdue(job(event.subject));
        return;
      case Kind::grows_old:
        if (runs_[event.subject].stay == event.run) books_.grow_old(job(event.subject), now_);
        return;
      case Kind::stops:
        if (runs_[event.subject].stay == event.run) stop(job(event.subject));
        return;
      case Kind::is_requeued:
        if (runs_[event.subject].stay == event.run) requeue(job(event.subject));
        return;
      case Kind::role_leaves:
        if (runs_[event.subject].stay == event.run) role_leaves(job(event.subject), event.role);
        return;
      case Kind::node_down:
        return node_down(event.subject);
      case Kind::node_up:
        return node_up(event.subject);
      case Kind::wake:
        if (wake_ && *wake_ <= now_) wake_.reset();
        return;
    }
  }

  // ---- What happens ----------------------------------------------------------------------------

  void submit(BookedJob& job) {
    Run& run = runs_[number_of(job)];
    JobRequest request = job.job->request;
    request.ran = run.ran;
    if (const Status taken = scheduler_.submit(std::move(request)); !taken)
      report(job, taken.error().message);
    begin_to_wait(job);
  }

  void begin_to_wait(BookedJob& job) {
    books_.wait(job, now_);
    Run& run = runs_[number_of(job)];
    ++run.stay;
    ++run.number;
    run.rate = 0;
    if (workload_.policy.starvation)
      push(now_ + *workload_.policy.starvation, Kind::grows_old, number_of(job), run.stay);
  }

  void finish(BookedJob& job) {
    result_.makespan = seconds_at(now_);
    books_.end(job);
    ++runs_[number_of(job)].stay;
    scheduler_.remove_job(job.job->request.id);
    ++result_.finished;
  }

  void overdue(BookedJob& job) {
    const auto limit = job.job->request.schedule.time_limit_seconds;
    const TimePoint deadline =
        limit ? job.started - runs_[number_of(job)].ran +
                    std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*limit))
              : now_;
    if (deadline > now_)
      job.expected_end = deadline;
    else
      job.expected_end.reset();
    books_.estimate_was_wrong();
  }

  void stop(BookedJob& job) {
    books_.end(job);
    ++runs_[number_of(job)].stay;
    ++runs_[number_of(job)].number;
    scheduler_.remove_job(job.job->request.id);
    ++result_.expired;
  }

  void requeue(BookedJob& job) {
    Run& run = runs_[number_of(job)];
    run.ran += now_ - job.started;
    books_.take_back_all(job);
    JobRequest request = job.job->request;
    request.ran = run.ran;
    if (const Status taken = scheduler_.requeue(std::move(request)); !taken)
      report(job, taken.error().message);
    begin_to_wait(job);
    books_.estimate_was_wrong();  // it asks for its room again
  }

  void role_leaves(BookedJob& job, const std::string& role) {
    scheduler_.release_role(job.job->request.id, role);
    books_.take_back(job, role);
    work_goes_on(job);
  }

  void node_down(std::size_t node) {
    if (down_[node].count++ > 0) return;
    down_[node].since = now_;
    const auto losers = books_.on_node(node);
    books_.node_down(node);
    scheduler_.remove_node(workload_.nodes[node].id);
    for (BookedJob* job : losers) {
      const auto roles = job->roles;
      const bool lost_all = std::all_of(roles.begin(), roles.end(),
                                        [&](const auto& role) { return role.node == node; });
      if (lost_all) {
        books_.take_back_all(*job);
        save_progress(*job);
        begin_to_wait(*job);
        continue;
      }
      for (const BookedRole& role : roles)
        if (role.node == node) books_.take_back(*job, role.role);
      work_goes_on(*job);
    }
  }

  void node_up(std::size_t node) {
    if (--down_[node].count > 0) return;
    books_.node_up(node, down_[node].since, now_);
    scheduler_.upsert_node(workload_.nodes[node]);
  }

  // ---- Work ------------------------------------------------------------------------------------

  void save_progress(BookedJob& job) {
    Run& run = runs_[number_of(job)];
    run.work_left = std::max(0.0, run.work_left - run.rate * seconds(now_ - run.since));
    run.since = now_;
  }

  // Its roles are others now: so is the time at which it finishes.
  void work_goes_on(BookedJob& job) {
    save_progress(job);
    Run& run = runs_[number_of(job)];
    ++run.number;
    const JobRequest& request = job.job->request;
    std::size_t workers = 0, others = 0;
    for (const BookedRole& role : job.roles) {
      const bool is_worker =
          std::any_of(request.workers.begin(), request.workers.end(),
                      [&](const auto& asked) { return asked.role == role.role; });
      ++(is_worker ? workers : others);
    }
    const bool stands = others == request.fixed.size() && workers >= request.workers_min;
    run.rate = !stands || job.state != BookedJob::State::running
                   ? 0
                   : static_cast<double>(std::max<std::size_t>(workers, 1)) /
                         std::max<std::uint32_t>(request.workers_min, 1);
    if (run.rate > 0)
      push(now_ + std::chrono::duration_cast<Duration>(
                      std::chrono::duration<double>(run.work_left / run.rate)),
           Kind::finishes, number_of(job), run.number);
  }

  // ---- Decisions -------------------------------------------------------------------------------

  void decide() {
    if (options_.before_decision) options_.before_decision();
    const Decisions decisions = scheduler_.schedule(now_);
    if (options_.after_decision) options_.after_decision();
    ++result_.decisions;
    for (const Placement& placement : decisions.start) start(placement);
    for (const Placement& placement : decisions.add) {
      BookedJob& job = *books_.find(placement.job);
      report(job, books_.place(job, placement, false, scheduler_, now_));
      work_goes_on(job);
      result_.grown += static_cast<std::uint32_t>(placement.roles.size());
    }
    for (const Shrink& shrink : decisions.shrink) leave(shrink);
    for (const Preempt& preempt : decisions.preempt) {
      BookedJob& job = *books_.find(preempt.victim);
      leave(job, Kind::is_requeued);
      ++result_.preempted;
    }
    for (const JobId& id : decisions.expired) leave(*books_.find(id), Kind::stops);
    if (const auto broken = books_.check_reservation(scheduler_, now_); broken && broken_.empty())
      broken_ = *broken;
    if (const auto wake = scheduler_.next_wake(now_); wake && (!wake_ || *wake < *wake_)) {
      wake_ = wake;
      push(*wake, Kind::wake, 0);
    }
    note_point();
  }

  void start(const Placement& placement) {
    BookedJob& job = *books_.find(placement.job);
    report(job, books_.place(job, placement, true, scheduler_, now_));
    Run& run = runs_[number_of(job)];
    ++run.stay;
    ++result_.admitted;
    if (placement.backfill) ++result_.backfilled;
    if (!run.ever_started)
      waits_[job.job->request.queue].push_back(seconds(now_ - job.waiting_since));
    run.ever_started = true;
    run.since = now_;
    JobRequest request = job.job->request;
    request.ran = run.ran;
    job.expected_end.reset();
    if (const auto left = remaining(request)) {
      job.expected_end = now_ + *left;
      push(*job.expected_end, Kind::overdue, number_of(job), run.stay);
    }
    work_goes_on(job);
  }

  void leave(const Shrink& shrink) {
    BookedJob& job = *books_.find(shrink.job);
    for (const std::string& role : shrink.roles) {
      for (BookedRole& held : job.roles)
        if (held.role == role) held.leaving = true;
      push(now_ + kWorkerLeaves, Kind::role_leaves, number_of(job), runs_[number_of(job)].stay,
           role);
      ++result_.shrunk;
    }
    books_.estimate_was_wrong();
  }

  void leave(BookedJob& job, Kind how) {
    if (job.state != BookedJob::State::running) return;  // it leaves already
    save_progress(job);
    job.state = BookedJob::State::leaving;
    Run& run = runs_[number_of(job)];
    run.rate = 0;
    ++run.number;
    push(now_ + kGangLeaves, how, number_of(job), run.stay);
    books_.estimate_was_wrong();
  }

  // Nothing happens any more: whoever still waits must have a reason that time does not mend.
  void check_end() {
    for (BookedJob& job : books_.jobs()) {
      if (job.state == BookedJob::State::over) continue;
      ++result_.never_started;
      const Pending pending = scheduler_.why(job.job->request.id, now_);
      const bool for_good = pending.reason >= PendingReason::no_such_queue &&
                            pending.reason <= PendingReason::store_node_too_small;
      if (!for_good)
        report(job,
               "it never ran: " + std::string(to_string(pending.reason)) + ", " + pending.text);
    }
  }

  // ---- Figures ---------------------------------------------------------------------------------

  [[nodiscard]] TimelinePoint point() const {
    const auto share = [](std::int64_t part, std::int64_t whole) {
      return whole <= 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
    };
    const Amount &used = books_.used(), &all = books_.healthy();
    return {seconds_at(now_),           share(used.cpu_millis, all.cpu_millis),
            share(used.gpus, all.gpus), share(used.memory_bytes, all.memory_bytes),
            books_.running(),           books_.waiting()};
  }

  void account_until(TimePoint to) {
    const double time = seconds(to - now_);
    const TimelinePoint now = point();
    if (to <= last_arrival_) {
      cpu_time_ += now.cpus * time;
      gpu_time_ += now.gpus * time;
      memory_time_ += now.memory * time;
    }
    if (books_.waiting() > 0) {
      waiting_time_ += time;
      idle_while_waiting_ += std::max(0.0, 1 - now.gpus) * time;
    }
  }

  void note_point() {
    if (books_.running() > 0 || books_.waiting() > 0) result_.makespan = seconds_at(now_);
    // What is left are looks at the clock for jobs that are over.
    if (result_.finished + result_.expired == workload_.jobs.size() && books_.waiting() == 0 &&
        !result_.timeline.empty() && result_.timeline.back().running == 0)
      return;
    auto& line = result_.timeline;
    if (!line.empty() && seconds_at(now_) < line.back().at + spacing_) return;
    line.push_back(point());
    if (line.size() < 2 * kMostPoints) return;
    for (std::size_t i = 0; i < kMostPoints; ++i) line[i] = line[2 * i];
    line.resize(kMostPoints);
    spacing_ = 2 * std::max(spacing_, (line.back().at - line.front().at) / (4.0 * kMostPoints));
  }

  static WaitingTimes quantiles(const std::string& queue, std::vector<double> waits) {
    WaitingTimes times{queue, static_cast<std::uint32_t>(waits.size()), 0, 0, 0, 0};
    if (waits.empty()) return times;
    std::sort(waits.begin(), waits.end());
    const auto at = [&](double q) {
      return waits[std::min(waits.size() - 1,
                            static_cast<std::size_t>(q * static_cast<double>(waits.size())))];
    };
    times.median = at(0.5);
    times.p90 = at(0.9);
    times.p99 = at(0.99);
    times.most = waits.back();
    return times;
  }

  void summarize() {
    const double time = seconds(last_arrival_ - time_at(0));
    if (time > 0) {
      result_.cpus_used = cpu_time_ / time;
      result_.gpus_used = gpu_time_ / time;
      result_.memory_used = memory_time_ / time;
    }
    if (waiting_time_ > 0) result_.fragmentation = idle_while_waiting_ / waiting_time_;
    std::vector<double> all;
    double sum = 0, squares = 0;
    for (const auto& [queue, waits] : waits_) {
      all.insert(all.end(), waits.begin(), waits.end());
      double whole = 0;
      for (const double wait : waits) whole += wait;
      const double service = 1 / (1 + whole / static_cast<double>(waits.size()) / kFairnessScale);
      sum += service;
      squares += service * service;
    }
    if (squares > 0) result_.fairness = sum * sum / (static_cast<double>(waits_.size()) * squares);
    result_.waiting.push_back(quantiles("", std::move(all)));
    for (auto& [queue, waits] : waits_) result_.waiting.push_back(quantiles(queue, waits));
  }

  static constexpr double kFairnessScale = 3600;

  struct Down {
    int count = 0;
    TimePoint since;
  };

  const Workload& workload_;
  const SimulationOptions& options_;
  Scheduler scheduler_;
  Books books_;
  std::vector<Run> runs_;
  std::vector<Down> down_;
  std::priority_queue<Event> events_;
  std::uint64_t order_ = 0;
  TimePoint now_, last_arrival_;
  std::optional<TimePoint> wake_;
  std::string broken_;
  SimulationResult result_;
  std::map<std::string, std::vector<double>> waits_;
  double cpu_time_ = 0, gpu_time_ = 0, memory_time_ = 0;
  double waiting_time_ = 0, idle_while_waiting_ = 0;
  double spacing_ = 0;
};

}  // namespace

Result<SimulationResult> simulate(const Workload& workload, const SimulationOptions& options) {
  return Simulation(workload, options).run();
}

}  // namespace crabcast::scheduler

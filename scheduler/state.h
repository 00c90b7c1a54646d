// All that the scheduler knows, and the changes to it that keep its parts in agreement. Only the
// sources of this folder include this; others see scheduler.h.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "scheduler/fair_share.h"
#include "scheduler/job.h"
#include "scheduler/nodes.h"
#include "scheduler/placement.h"
#include "scheduler/scheduler.h"

namespace crabcast::scheduler {

struct User {
  std::string name;
  UserPolicy policy;
  Amount used;
  std::uint32_t running = 0;
  std::set<Job*, HeardBefore> parked;  // jobs that its limit stops
};

// Room kept for the first job that waits.
struct Kept {
  Job* job = nullptr;
  std::optional<TimePoint> start;
  std::vector<Seat> seats;
  std::map<Slot, Amount> need;  // of the seats, by node
};

// Set of (time, job), first things first.
struct SoonerBefore {
  bool operator()(const std::pair<TimePoint, Job*>& a, const std::pair<TimePoint, Job*>& b) const {
    return a.first != b.first ? a.first < b.first : a.second->serial < b.second->serial;
  }
};
using Agenda = std::set<std::pair<TimePoint, Job*>, SoonerBefore>;

struct ClusterState {
  ClusterPolicy policy;
  Nodes nodes;
  QueueTree queues;
  std::unordered_map<JobId, std::unique_ptr<Job>> jobs;
  std::unordered_map<std::string, std::unique_ptr<User>> users;
  TimePoint now;
  std::uint64_t heard = 0;

  // By time
  Agenda ends;                             // running jobs whose end is expected
  Agenda deadlines;                        // running jobs with a time limit
  Agenda aging;                            // jobs in line that are not aged
  std::set<Job*, HeardBefore> unstamped;   // began to wait or to run since the last schedule()
  std::set<Job*, HeardBefore> endless;     // running, and nobody knows until when
  std::set<Job*, HeardBefore> coming;      // some or all of their roles were asked to go
  std::set<Job*, InLineBefore> growable;   // running with fewer than workers_max
  std::set<Job*, HeardBefore> lacking;     // running without a role that they need
  std::set<Job*, HeardBefore> elastic;     // running with more than workers_min
  std::set<Job*, HeardBefore> impossible;  // aside until nodes or the policy change

  // What was decided so far in this epoch: it ends when room becomes free.
  std::uint64_t epoch = 1;
  bool freed = true;
  bool changed = true;
  std::uint32_t tries_left = 0;  // for backfill
  std::unordered_map<std::string, std::uint32_t> shapes;
  std::vector<std::uint64_t> failed_free,
      failed_gap;  // by shape: the last epoch in which it failed
  std::optional<Kept> kept;
  JobId asked_for;                     // the last that others were asked to make room for,
  std::optional<TimePoint> ask_again;  // and when that is worth another look

  Job* find(const JobId& id);
  [[nodiscard]] const Job* find(const JobId& id) const;
  Job& add(JobRequest request);
  void erase(Job& job);
  // Takes the request's demands over, and finds its queue and user.
  void take_request(Job& job, JobRequest request);
  void find_queue(Job& job);
  void set_policy(ClusterPolicy to);

  // Lines: a waiting job stands in its queue's line or aside with a reason, a running one in line
  // only while it lacks roles.
  void settle(Job& job);
  void leave_line(Job& job);
  void put_aside(Job& job, PendingReason reason, std::string text, std::string help);
  void reconsider_impossible();

  // Roles
  void seat(Job& job, const RoleRequest& role, Slot node);
  void unseat(Job& job, std::size_t index);
  void roles_changed(Job& job);  // of a running one
  void lost_some(Job& job);      // roles are gone: with the last of them it waits again
  void start_running(Job& job);
  void stop_running(Job& job);
  void start_clock(Job& job);  // it begins to run now
  void nodes_changed();
  void room_freed();
  void judge_anew(Job& job);       // the reason why it is aside may be gone
  void demands_changed(Job& job);  // its roles are others than before
  void drop_reservation_of(const Job& job);
  void count_demands(Job& job);
  void count_worker(Job& job);
  std::uint32_t shape_of(const Job& job, const std::vector<const RoleRequest*>& roles);
  std::uint32_t shape_number(const std::string& key);
};

[[nodiscard]] Status validate(const JobRequest& request);
bool is_preemptible(const Job& job);
// 0: none or a leaving one is counted as gone.
std::size_t workers_of(const Job& job);

}  // namespace crabcast::scheduler

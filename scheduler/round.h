// One round of decisions: what schedule() does.
#pragma once

#include "scheduler/state.h"

namespace crabcast::scheduler {

class Round {
 public:
  Round(ClusterState& state, TimePoint now) : state_(state) { state_.now = now; }
  Decisions run();

 private:
  void look_at_the_clock();
  void begin_epoch();
  void try_reserved();
  void replace_lost_roles();
  // False: nobody further back is tried.
  bool consider(Job& job);
  bool stopped_by_user(Job& job, const Job* reserved);
  bool can_never_run(Job& job);
  [[nodiscard]] bool must_spare_reserved(const Job& job) const;
  [[nodiscard]] std::vector<Amount> room_for(const Job& job) const;
  std::optional<std::vector<Seat>> find_seats(Job& job);
  void start(Job& job, const std::vector<Seat>& seats);
  bool replace_lost(Job& job);
  void reserve_for(Job& job);
  void take_over(Job& job);
  bool ask_for_room(Job& head);
  void grow();
  bool grow_by_one(Job& job);
  [[nodiscard]] RolePlacement placed(const RoleRequest& role, Slot node) const;
  Placement& added_to(const Job& job);

  ClusterState& state_;
  Decisions decisions_;
  int takeovers_ = 0;
};

}  // namespace crabcast::scheduler

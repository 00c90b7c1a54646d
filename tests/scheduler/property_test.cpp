// Random histories of a cluster, from seeds: what must hold after each decision, whatever happened.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "tests/scheduler/staged.h"

namespace crabcast::scheduler {
namespace {

constexpr int kSeeds = 40;
constexpr int kEventsPerSeed = 250;

// The test's own books, kept from the answers alone.
struct Books {
  std::map<NodeId, Node> nodes;
  std::map<JobId, JobRequest> requests;
  std::map<JobId, std::map<std::string, RolePlacement>> running;  // started jobs, their roles

  [[nodiscard]] bool waits(const JobId& id) const { return !running.contains(id); }

  [[nodiscard]] Amount free_on(const NodeId& id) const {
    Amount free = nodes.at(id).total;
    for (const auto& [job, roles] : running)
      for (const auto& [name, role] : roles)
        if (role.node == id) free -= role.need;
    return free;
  }

  static Amount minimum(const JobRequest& request) {
    Amount sum;
    for (const RoleRequest& role : request.fixed) sum += role.need;
    for (std::uint32_t i = 0; i < request.workers_min; ++i) sum += request.workers[i].need;
    return sum;
  }

  // Surely placeable on the empty cluster: one healthy node would hold all of it.
  [[nodiscard]] bool surely_possible(const JobRequest& request) const {
    return std::any_of(nodes.begin(), nodes.end(), [&](const auto& node) {
      return node.second.healthy && minimum(request).fits_in(node.second.total);
    });
  }

  [[nodiscard]] bool fits_on_one_node_now(const JobRequest& request) const {
    return std::any_of(nodes.begin(), nodes.end(), [&](const auto& node) {
      return node.second.healthy && minimum(request).fits_in(free_on(node.first));
    });
  }

  // True when `a` stands before `b` in line.
  static bool before(const JobRequest& a, const JobRequest& b) {
    if (a.priority != b.priority) return a.priority > b.priority;
    return a.submit_seq < b.submit_seq;
  }

  void lose_roles_on(const NodeId& id) {
    for (auto& [job, roles] : running)
      std::erase_if(roles, [&](const auto& role) { return role.second.node == id; });
    std::erase_if(running, [](const auto& job) { return job.second.empty(); });
  }
};

class History {
 public:
  explicit History(std::uint64_t seed) : random_(seed) {}

  void play() {
    for (int i = 0; i < kEventsPerSeed && !testing::Test::HasFatalFailure(); ++i) {
      change();
      decide();
    }
    drain();
  }

 private:
  std::uint64_t pick(std::uint64_t bound) { return random_() % bound; }

  template <class Map>
  typename Map::key_type any_of(const Map& map) {
    return std::next(map.begin(), static_cast<std::ptrdiff_t>(pick(map.size())))->first;
  }

  void change() {
    const std::uint64_t dice = pick(100);
    if (dice < 40) return submit();
    if (dice < 65 && !books_.running.empty()) return end_job(any_of(books_.running));
    if (dice < 70 && !books_.requests.empty()) return end_job(any_of(books_.requests));
    if (dice < 80 && !books_.running.empty()) return lose_role();
    if (dice < 86 && !books_.nodes.empty()) return toggle_health();
    if (dice < 90 && !books_.nodes.empty()) return lose_node();
    if (books_.nodes.size() < 6) join_node();
  }

  void join_node() {
    const Node node{
        NodeId("n" + std::to_string(pick(9))),
        {static_cast<std::int64_t>(pick(16) + 1) * 500, static_cast<std::int64_t>(pick(3)) * 2,
         static_cast<std::int64_t>(pick(32) + 4) * kGiB},
        true};
    if (books_.nodes.contains(node.id)) return;
    books_.nodes[node.id] = node;
    each([&](Scheduler& s) { s.upsert_node(node); });
  }

  void toggle_health() {
    Node& node = books_.nodes.at(any_of(books_.nodes));
    node.healthy = !node.healthy;
    each([&](Scheduler& s) { s.upsert_node(node); });
  }

  void lose_node() {
    const NodeId id = any_of(books_.nodes);
    books_.nodes.erase(id);
    books_.lose_roles_on(id);
    each([&](Scheduler& s) { s.remove_node(id); });
  }

  void submit() {
    JobRequest request;
    request.submit_seq = ++seq_;
    request.id = JobId("j" + std::to_string(seq_));
    request.priority = static_cast<Priority>(pick(4));
    request.fixed.push_back({"coordinator", 1, {100, 0, kGiB / 4}});
    for (std::uint64_t i = pick(3); i > 0; --i)
      request.fixed.push_back({"loader-" + std::to_string(i), 2, {500, 0, kGiB}});
    const std::uint64_t max = pick(5) + 1;
    request.workers_min = static_cast<std::uint32_t>(pick(max) + 1);
    const Amount need{static_cast<std::int64_t>(pick(8) + 1) * 250,
                      pick(4) == 0 ? static_cast<std::int64_t>(pick(3)) : 0,
                      static_cast<std::int64_t>(pick(6) + 1) * kGiB};
    for (std::uint64_t i = 0; i < max; ++i)
      request.workers.push_back({"worker-" + std::to_string(i), 3, need});
    books_.requests[request.id] = request;
    each([&](Scheduler& s) { ASSERT_TRUE(s.submit(request).has_value()); });
  }

  void end_job(const JobId& id) {
    books_.requests.erase(id);
    books_.running.erase(id);
    each([&](Scheduler& s) { s.remove_job(id); });
  }

  void lose_role() {
    const JobId id = any_of(books_.running);
    auto& roles = books_.running.at(id);
    const std::string role = any_of(roles);
    roles.erase(role);
    if (roles.empty()) books_.running.erase(id);
    each([&](Scheduler& s) { s.release_role(id, role); });
  }

  // After a round every waiting job has exactly one reason, and it is not `none`.
  void check_reasons() {
    std::set<JobId> listed;
    for (const Pending& pending : scheduler_.pending(now_)) {
      ASSERT_TRUE(books_.waits(pending.job)) << pending.job.value();
      ASSERT_TRUE(listed.insert(pending.job).second);
      ASSERT_FALSE(pending.text.empty());
      ASSERT_NE(pending.reason, PendingReason::none) << pending.job.value() << pending.text;
      ASSERT_EQ(pending.reason, scheduler_.why(pending.job, now_).reason);
      if (pending.reason == PendingReason::larger_than_cluster) {
        ASSERT_FALSE(books_.surely_possible(books_.requests.at(pending.job)));
      }
    }
    for (const auto& [id, request] : books_.requests)
      ASSERT_EQ(books_.waits(id), listed.contains(id)) << id.value();
  }

  void decide() {
    now_ += std::chrono::seconds(1);
    const Books before = books_;
    const auto placements = placed_now(scheduler_, now_);
    const auto again = placed_now(twin_, now_);
    ASSERT_EQ(text(placements), text(again)) << "equal calls gave different answers";
    std::set<JobId> started;
    for (const Placement& placement : placements) record(placement, before, started);
    check_room();
    check_line(before, started);
    check_reasons();
    ASSERT_TRUE(scheduler_.schedule(now_).empty()) << "a second round found more";
    ASSERT_TRUE(twin_.schedule(now_).empty());
  }

  void record(const Placement& placement, const Books& before, std::set<JobId>& started) {
    const JobRequest& request = books_.requests.at(placement.job);
    std::map<std::string, Amount> asked;
    for (const RoleRequest& role : request.fixed) asked[role.role] = role.need;
    for (const RoleRequest& role : request.workers) asked[role.role] = role.need;
    const bool starts = before.waits(placement.job) && started.insert(placement.job).second;
    auto& roles = books_.running[placement.job];
    for (const RolePlacement& role : placement.roles) {
      ASSERT_TRUE(asked.contains(role.role));
      ASSERT_EQ(asked.at(role.role), role.need);
      ASSERT_TRUE(books_.nodes.contains(role.node));
      ASSERT_TRUE(books_.nodes.at(role.node).healthy);
      ASSERT_TRUE(roles.emplace(role.role, role).second) << role.role << " placed twice";
    }
    if (!starts) return;
    // No partial gang.
    for (const RoleRequest& role : request.fixed) ASSERT_TRUE(roles.contains(role.role));
    ASSERT_GE(roles.size(), request.fixed.size() + request.workers_min);
  }

  void check_room() {
    for (const auto& [id, node] : books_.nodes) {
      const Amount free = books_.free_on(id);
      ASSERT_TRUE(Amount{}.fits_in(free)) << id.value() << " is over-committed";
      ASSERT_EQ(free, scheduler_.free_on(id));
    }
  }

  void check_line(const Books& before, const std::set<JobId>& started) {
    for (const auto& [id, waiting] : books_.requests) {
      if (!books_.waits(id) || !books_.surely_possible(waiting)) continue;
      for (const JobId& other : started) {
        ASSERT_FALSE(Books::before(waiting, books_.requests.at(other)))
            << other.value() << " overtook " << id.value();
      }
      for (const auto& [job, roles] : books_.running) {
        if (before.waits(job)) continue;
        const std::size_t needed = books_.requests.at(job).workers_min;
        ASSERT_LE(workers_in(roles), std::max(workers_in(before.running.at(job)), needed))
            << job.value() << " grew while " << id.value() << " waited";
      }
    }
    // The head of the line waits only when no node could hold it whole.
    const JobRequest* head = nullptr;
    for (const auto& [id, request] : books_.requests) {
      const bool needs_roles = books_.waits(id) || lacks_roles(id);
      if (!needs_roles || !books_.surely_possible(request)) continue;
      if (head == nullptr || Books::before(request, *head)) head = &request;
    }
    if (head != nullptr && books_.waits(head->id) && !someone_before(*head)) {
      ASSERT_FALSE(books_.fits_on_one_node_now(*head))
          << head->id.value() << " waits for no reason";
    }
  }

  // Anybody in line before it, though only an exhaustive search could say whether it is possible.
  bool someone_before(const JobRequest& head) {
    return std::any_of(books_.requests.begin(), books_.requests.end(), [&](const auto& entry) {
      return (books_.waits(entry.first) || lacks_roles(entry.first)) &&
             Books::before(entry.second, head);
    });
  }

  static std::size_t workers_in(const std::map<std::string, RolePlacement>& roles) {
    return static_cast<std::size_t>(std::count_if(roles.begin(), roles.end(), [](const auto& role) {
      return role.first.starts_with("worker-");
    }));
  }

  bool lacks_roles(const JobId& id) {
    const auto& roles = books_.running.at(id);
    const JobRequest& request = books_.requests.at(id);
    const std::size_t workers = workers_in(roles);
    return roles.size() - workers < request.fixed.size() || workers < request.workers_min;
  }

  // When the running jobs end, every job that can run runs at some time: nobody starves.
  void drain() {
    while (!books_.running.empty()) {
      end_job(any_of(books_.running));
      ASSERT_NO_FATAL_FAILURE(decide());
    }
    for (const auto& [id, request] : books_.requests)
      ASSERT_FALSE(books_.surely_possible(request)) << id.value() << " never ran";
  }

  static std::string text(const std::vector<Placement>& placements) {
    std::string all;
    for (const Placement& placement : placements) {
      all += placement.job.value();
      for (const RolePlacement& role : placement.roles)
        all += " " + role.role + "@" + role.node.value();
      all += "\n";
    }
    return all;
  }

  template <class Change>
  void each(const Change& apply) {
    apply(scheduler_);
    apply(twin_);
  }

  std::mt19937_64 random_;
  Books books_;
  Scheduler scheduler_;
  Scheduler twin_;
  std::uint64_t seq_ = 0;
  TimePoint now_ = kStart;
};

class RandomHistory : public testing::TestWithParam<int> {};

TEST_P(RandomHistory, KeepsEveryPromise) {
  SCOPED_TRACE("seed " + std::to_string(GetParam()));
  History(static_cast<std::uint64_t>(GetParam())).play();
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomHistory, testing::Range(1, kSeeds + 1));

}  // namespace
}  // namespace crabcast::scheduler

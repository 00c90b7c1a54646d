#include "scheduler/policy.h"

#include <algorithm>

#include "protocol/format.h"

namespace crabcast::scheduler {
namespace {

std::string nearest_hint(const std::string& name, const std::vector<std::string>& known) {
  const auto nearest = nearest_name(name, known);
  return nearest ? "did you mean " + *nearest + "? " : "";
}

// The queue itself or the nearest above it for which `says` is not empty; null: none.
template <class Says>
const QueuePolicy* nearest_that(const ClusterPolicy& policy, std::string path, const Says& says) {
  for (; !path.empty(); path = parent_queue(path))
    if (const QueuePolicy* queue = policy.find(path); queue != nullptr && !says(*queue).empty())
      return queue;
  return nullptr;
}

Status admits_user(const ClusterPolicy& policy, const std::string& path, const std::string& user) {
  const auto* queue = nearest_that(policy, path, [](const auto& q) { return q.users; });
  if (queue == nullptr ||
      std::find(queue->users.begin(), queue->users.end(), user) != queue->users.end())
    return {};
  return fail(Errc::permission_denied,
              "queue " + path + " takes jobs of " + join_names(queue->users) + ", not of " +
                  (user.empty() ? "an unnamed user" : user) +
                  "; choose another queue, or ask for " + "an entry in users of " + queue->path);
}

Status admits_priority(const ClusterPolicy& policy, const std::string& path, Priority priority) {
  const auto* queue = nearest_that(policy, path, [](const auto& q) { return q.priorities; });
  if (queue == nullptr) return {};
  std::vector<std::string> names;
  for (const Priority allowed : queue->priorities) {
    if (allowed == priority) return {};
    names.emplace_back(crabcast::to_string(allowed));
  }
  return fail(Errc::permission_denied,
              "queue " + path + " takes jobs of priority " + join_names(names) + ", not " +
                  std::string(crabcast::to_string(priority)) + "; change priority in the spec");
}

}  // namespace

ClusterPolicy ClusterPolicy::standard() {
  ClusterPolicy policy;
  policy.queues.push_back({"default"});
  return policy;
}

const QueuePolicy* ClusterPolicy::find(const std::string& path) const {
  const auto found = std::find_if(queues.begin(), queues.end(),
                                  [&](const QueuePolicy& queue) { return queue.path == path; });
  return found == queues.end() ? nullptr : &*found;
}

bool ClusterPolicy::has_children(const std::string& path) const {
  return std::any_of(queues.begin(), queues.end(), [&](const QueuePolicy& queue) {
    return queue.path.size() > path.size() && queue.path[path.size()] == '/' &&
           queue.path.starts_with(path);
  });
}

std::vector<std::string> ClusterPolicy::leaves() const {
  std::vector<std::string> paths;
  for (const QueuePolicy& queue : queues)
    if (!has_children(queue.path)) paths.push_back(queue.path);
  return paths;
}

const UserPolicy* ClusterPolicy::user(const std::string& name) const {
  auto found = users.find(name);
  if (found == users.end()) found = users.find("*");
  return found == users.end() ? nullptr : &found->second;
}

Status ClusterPolicy::admits(const std::string& queue, const std::string& user,
                             Priority priority) const {
  if (find(queue) == nullptr)
    return fail(Errc::not_found, "there is no queue " + queue + "; " +
                                     nearest_hint(queue, leaves()) +
                                     "`crabcast queues` lists them");
  if (has_children(queue)) {
    std::vector<std::string> below;
    for (const std::string& leaf : leaves())
      if (leaf.starts_with(queue + "/")) below.push_back(leaf);
    return fail(Errc::not_found,
                "queue " + queue + " has others below it; choose one of " + join_names(below));
  }
  CRABCAST_TRY(admits_user(*this, queue, user));
  return admits_priority(*this, queue, priority);
}

std::string parent_queue(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

}  // namespace crabcast::scheduler

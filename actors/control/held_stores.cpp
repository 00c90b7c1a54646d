#include "actors/control/held_stores.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

#include "storage/fence.h"
#include "storage/files.h"
#include "storage/job_store.h"

namespace crabcast::actors {
namespace {

namespace fs = std::filesystem;
using storage::JobStore;

Status move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    return fail(error_from_errno(error.value(), "move " + from.string() + " to " + to.string()));
  CRABCAST_TRY(storage::sync_folder(to.parent_path()));
  if (from.parent_path() == to.parent_path()) return {};
  return storage::sync_folder(from.parent_path());
}

struct Store {
  std::uint64_t fence = 0;  // that has it
  pb::HeldReplica held;     // zeros without a checkpoint
};

// The newest checkpoint that is not known to be damaged, and who wrote the last commit in it.
Status describe_newest(const JobStore& store, pb::HeldReplica& held) {
  const auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  const auto damaged = store.damages();
  if (!damaged) return fail(damaged.error());
  for (auto id = ids->rbegin(); id != ids->rend(); ++id) {
    const auto manifest = store.manifest(*id);
    if (!manifest || damaged->contains(*id)) continue;
    held.set_newest_checkpoint(id->value());
    return store.for_each_commit(Step{manifest->ledger_step() - 1},
                                 [&](const pb::CommitRecord& last) {
                                   held.set_fence(last.fence());
                                   return false;
                                 });
  }
  return {};
}

// nullopt: there is none.
Result<std::optional<Store>> look_at(const fs::path& folder, const std::string& job) {
  std::error_code error;
  if (!fs::exists(folder, error)) return std::optional<Store>();
  Store found;
  found.held.set_job(job);
  const auto store = JobStore::open_read_only(folder);
  // A folder in which no store was set up yet holds nothing.
  if (!store && store.error().code == Errc::not_found) return std::optional(found);
  if (!store) return fail(store.error());
  const auto fence = storage::fence_of(**store);
  if (!fence) return fail(fence.error());
  found.fence = *fence;
  CRABCAST_TRY(describe_newest(**store, found.held));
  return std::optional(std::move(found));
}

struct Held {
  std::optional<Store> own, copy;
  [[nodiscard]] bool copy_is_newer() const {
    return copy && is_newer(copy->held, own ? own->held : pb::HeldReplica{});
  }
};

Result<Held> look(const StateFolder& state, const std::string& job) {
  auto own = look_at(StateFolder::store(state.job(job)), job);
  if (!own) return fail(own.error());
  auto copy = look_at(state.replica(job), job);
  if (!copy) return fail(copy.error());
  return Held{std::move(*own), std::move(*copy)};
}

}  // namespace

std::optional<pb::HeldReplica> held_store(const StateFolder& state, const std::string& job) {
  const auto held = look(state, job);
  if (!held) {
    spdlog::warn("a store of {} cannot be read: {}", job, held.error().message);
    return std::nullopt;
  }
  const auto& newest = held->copy_is_newer() ? held->copy : held->own;
  if (!newest || newest->held.newest_checkpoint() == 0) return std::nullopt;
  return newest->held;
}

Result<std::optional<std::uint64_t>> fence_of_own_store(const StateFolder& state,
                                                        const std::string& job) {
  const auto own = look_at(StateFolder::store(state.job(job)), job);
  if (!own) return fail(own.error());
  return *own ? std::optional((*own)->fence) : std::nullopt;
}

std::vector<pb::HeldReplica> held_stores(const StateFolder& state) {
  std::set<std::string> jobs;
  for (const fs::path& folder : {state.root / "jobs", state.replicas()}) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
      jobs.insert(it->path().filename());
  }
  std::vector<pb::HeldReplica> all;
  for (const std::string& job : jobs)
    if (auto held = held_store(state, job)) all.push_back(std::move(*held));
  return all;
}

Status set_aside(const fs::path& folder, std::uint64_t fence) {
  const std::string name = folder.string() + ".superseded-" + std::to_string(fence);
  std::string free = name;
  for (int number = 2; fs::exists(free); ++number) free = name + "." + std::to_string(number);
  spdlog::warn("{} is set aside as {}", folder.string(), free);
  return move(folder, free);
}

Result<bool> set_older_aside(const StateFolder& state, const std::string& job) {
  const auto held = look(state, job);
  if (!held) return fail(held.error());
  if (!held->own || !held->copy_is_newer()) return false;
  CRABCAST_TRY(set_aside(StateFolder::store(state.job(job)), held->own->fence));
  return true;
}

Result<std::optional<std::uint64_t>> restore_store(const StateFolder& state, const std::string& job,
                                                   const std::string& node) {
  const auto held = look(state, job);
  if (!held) return fail(held.error());
  if (!held->copy_is_newer()) return std::optional<std::uint64_t>();
  const auto checkpoint = held->copy->held.newest_checkpoint();
  {
    // Before the older one goes: a copy that cannot be opened replaces nothing.
    auto store = JobStore::open(state.replica(job));
    if (!store) return fail(store.error());
    CRABCAST_TRY((*store)->put_value(
        kRestoredKey,
        "goes on from checkpoint " + std::to_string(checkpoint) + " of the copy on node " + node,
        storage::Sync::yes));
  }
  const fs::path store = StateFolder::store(state.job(job));
  if (held->own) CRABCAST_TRY(set_aside(store, held->own->fence));
  CRABCAST_TRY(storage::make_folder(store.parent_path()));
  CRABCAST_TRY(move(state.replica(job), store));
  std::error_code left_behind;  // an empty folder does no harm
  fs::remove(state.replica(job).parent_path(), left_behind);
  return std::optional(checkpoint);
}

}  // namespace crabcast::actors

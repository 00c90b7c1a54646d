#include "actors/control/controller_actors.h"

#include <caf/all.hpp>

#include "actors/messages.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

using storage::Sync;

constexpr std::size_t kEventsPage = 1024;

struct SchedulerState {
  static inline const char* name = "scheduler";
  scheduler::Scheduler decisions;
  caf::actor controller;

  void decide(caf::event_based_actor* self) {
    Decisions result;
    result.placements = decisions.schedule();
    result.pending = decisions.pending();
    self->send(controller, std::move(result));
  }
};

caf::behavior scheduler_actor(caf::stateful_actor<SchedulerState>* self,
                              const caf::actor& controller) {
  self->state.controller = controller;
  auto& state = self->state;
  return {
      [self, &state](const NodeJoined& joined) {
        state.decisions.upsert_node(joined.node);
        state.decide(self);
      },
      [self, &state](const NodeLeft& left) {
        state.decisions.remove_node(left.node);
        state.decide(self);
      },
      [self, &state](const JobQueued& queued) -> caf::result<void> {
        if (auto taken = state.decisions.submit(queued.request); !taken)
          return to_caf(taken.error());
        state.decide(self);
        return caf::unit;
      },
      [self, &state](const JobAdopted& adopted) {
        state.decisions.adopt(adopted.request, adopted.placement);
        state.decide(self);
      },
      [self, &state](const JobResized& resized) -> caf::result<std::vector<std::string>> {
        auto surplus = state.decisions.resize(resized.request);
        if (!surplus) return to_caf(surplus.error());
        state.decide(self);
        return std::move(*surplus);
      },
      [self, &state](const JobGone& gone) {
        state.decisions.remove_job(gone.job);
        state.decide(self);
      },
      [self, &state](const JobHeldTo& held) {
        state.decisions.hold_to(held.job, held.nodes);
        state.decide(self);
      },
      [self, &state](const RoleGone& gone) {
        state.decisions.release_role(gone.job, gone.role);
        state.decide(self);
      },
  };
}

struct RegistryState {
  static inline const char* name = "registry";
  std::shared_ptr<storage::Registry> registry;

  Result<std::vector<pb::Event>> events(const ReadEvents& query) const;
};

// Events of one job, a page of the whole list at a time.
Result<std::vector<pb::Event>> RegistryState::events(const ReadEvents& query) const {
  std::vector<pb::Event> chosen;
  std::uint64_t after = query.after_seq;
  while (chosen.size() < query.limit) {
    auto page = registry->events(after, kEventsPage);
    if (!page) return fail(page.error());
    if (page->empty()) break;
    after = page->back().seq();
    for (auto& event : *page)
      if ((query.job.empty() || event.job() == query.job) && chosen.size() < query.limit)
        chosen.push_back(std::move(event));
  }
  return chosen;
}

caf::behavior registry_actor(caf::stateful_actor<RegistryState>* self,
                             std::shared_ptr<storage::Registry> registry) {
  self->state.registry = std::move(registry);
  auto& state = self->state;
  return {
      // J-1: what a client was told is durable before it was told.
      [&state](const PutJob& put) -> caf::result<void> {
        Status stored = fault_point("registry.write.before");
        if (stored) stored = state.registry->put_job(*put.record, Sync::yes);
        if (stored) stored = fault_point("registry.write.after");
        if (!stored) return to_caf(stored.error());
        return caf::unit;
      },
      [&state](NewSequence) -> caf::result<std::uint64_t> {
        auto seq = state.registry->next_submit_seq();
        if (!seq) return to_caf(seq.error());
        return *seq;
      },
      [&state](const PutEvents& put) -> caf::result<void> {
        for (const auto& event : *put.events)
          if (auto stored = state.registry->append_event(event, Sync::no); !stored)
            return to_caf(stored.error());
        return caf::unit;
      },
      [&state](const ReadEvents& query) -> caf::result<EventsRead> {
        auto events = state.events(query);
        if (!events) return to_caf(events.error());
        return EventsRead{std::make_shared<const std::vector<pb::Event>>(std::move(*events))};
      },
      // Charts are worth no wait for the disk.
      [&state](const PutSeries& put) -> caf::result<void> {
        if (auto stored = state.registry->put_series(*put.series, Sync::no); !stored)
          return to_caf(stored.error());
        return caf::unit;
      },
      [&state](const ReadSeries& query) -> caf::result<SeriesRead> {
        auto series = state.registry->series(query.job);
        if (!series) return to_caf(series.error());
        auto found = series->value_or(pb::JobSeries{});
        found.set_job(query.job.value());
        return SeriesRead{std::make_shared<const pb::JobSeries>(std::move(found))};
      },
  };
}

}  // namespace

caf::actor spawn_scheduler(caf::actor_system& system, const caf::actor& controller) {
  return system.spawn(scheduler_actor, controller);
}

caf::actor spawn_registry(caf::actor_system& system, std::shared_ptr<storage::Registry> registry) {
  return system.spawn<caf::detached>(registry_actor, std::move(registry));
}

}  // namespace crabcast::actors

#include "actors/control/registry_actor.h"

#include <caf/all.hpp>

#include "actors/messages.h"
#include "protocol/fault_points.h"

namespace crabcast::actors {
namespace {

using storage::Sync;

constexpr std::size_t kEventsPage = 1024;

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
      // What it says is asked again or comes again.
      [&state](const PutNode& put) -> caf::result<void> {
        if (auto stored = state.registry->put_node(*put.record, Sync::yes); !stored)
          return to_caf(stored.error());
        return caf::unit;
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

caf::actor spawn_registry(caf::actor_system& system, std::shared_ptr<storage::Registry> registry) {
  return system.spawn<caf::detached>(registry_actor, std::move(registry));
}

}  // namespace crabcast::actors

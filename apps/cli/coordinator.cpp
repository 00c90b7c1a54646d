// `crabcast role LAUNCH`: the coordinator process of a job, started by an agent.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <caf/all.hpp>

#include "actors/control/job.h"
#include "actors/control/state_folder.h"
#include "actors/launch.h"
#include "apps/cli/control_process.h"
#include "apps/cli/verbs.h"
#include "cluster/keys.h"
#include "protocol/fault_points.h"
#include "protocol/spec_changes.h"
#include "storage/fence.h"
#include "storage/stored_spec.h"

namespace crabcast::apps {
namespace {

using actors::Switchboard;
using storage::Sync;

// Listens where the coordinator before this one did, so that its members find it again; anywhere
// else when it is the first, or that port is taken.
Result<std::string> bind_again(Switchboard& switchboard, storage::JobStore& store,
                               const std::string& key, const std::string& host) {
  auto before = store.value(key);
  if (!before) return fail(before.error());
  Result<std::string> endpoint = fail(Errc::not_found, "");
  if (*before) endpoint = switchboard.bind(**before);
  if (!endpoint) endpoint = switchboard.bind("tcp://" + host + ":*");
  if (endpoint) CRABCAST_TRY(store.put_value(key, *endpoint, Sync::yes));
  return endpoint;
}

// What the store holds was trained with another spec, perhaps one that this one cannot go on from.
Status check_spec(const storage::JobStore& store, const JobSpec& spec) {
  const auto last = store.last_commit();
  if (!last) return fail(last.error());
  const auto yaml = storage::newest_spec(store);
  if (!yaml) return fail(yaml.error());
  if (!*last || !*yaml) return {};
  const auto before = parse_job_spec(**yaml, "the spec of the store");
  if (!before) return fail(before.error().error());
  const Status same = check_resumable(*before, spec);
  return same ? same : fail(same.error().within("the job cannot go on with this spec"));
}

struct Coordinator {
  actors::JobOptions options;
  std::unique_ptr<Switchboard> control, bulk;
};

Result<std::unique_ptr<Coordinator>> open(caf::actor_system& system, const std::string& file) {
  auto coordinator = std::make_unique<Coordinator>();
  auto& options = coordinator->options;
  auto launch = actors::read_launch(file);
  if (!launch) return fail(launch.error());
  options.launch = std::move(*launch);
  CRABCAST_TRY(arm_faults("coordinator"));
  auto spec = parse_job_spec(options.launch.spec_yaml(), file);
  if (!spec) return fail(spec.error().error());
  options.spec = std::move(*spec);
  auto keys = cluster::load_keyring(options.launch.keys_dir());
  if (!keys) return fail(keys.error());

  auto store = storage::JobStore::open(actors::StateFolder::store(options.launch.job_dir()));
  if (!store) return fail(store.error());
  options.store = std::move(*store);
  // The database's lock keeps others on this machine out while this process lives; the fence, those
  // whom the controller has replaced.
  CRABCAST_TRY(storage::take_fence(*options.store, options.launch.fence()));
  CRABCAST_TRY(check_spec(*options.store, options.spec));
  CRABCAST_TRY(storage::put_spec(*options.store, options.launch.spec_yaml()));
  CRABCAST_TRY(options.store->put_value("job", options.launch.job(), Sync::yes));
  auto history = actors::read_history(*options.store, options.spec.data.mixture);
  if (!history) return fail(history.error());
  options.history = std::move(*history);

  cluster::TransportOptions transport;
  transport.kind = pb::ROLE_COORDINATOR;
  transport.node = options.launch.slot().node();
  transport.keys = *keys;
  transport.process =
      ProcessId{options.launch.job() + "/coordinator:" + std::to_string(::getpid())};
  auto control = Switchboard::start(system, transport);
  if (!control) return fail(control.error());
  coordinator->control = std::move(*control);
  transport.process = ProcessId{transport.process.value() + "/bulk"};
  auto bulk = Switchboard::start(system, transport);
  if (!bulk) return fail(bulk.error());
  coordinator->bulk = std::move(*bulk);
  options.control = coordinator->control.get();
  options.bulk = coordinator->bulk.get();
  auto endpoint =
      bind_again(*coordinator->control, *options.store, "endpoint", options.launch.bind_host());
  if (!endpoint) return fail(endpoint.error());
  options.control_endpoint = *endpoint;
  auto bulk_endpoint =
      bind_again(*coordinator->bulk, *options.store, "bulk_endpoint", options.launch.bind_host());
  if (!bulk_endpoint) return fail(bulk_endpoint.error());
  options.bulk_endpoint = *bulk_endpoint;
  return coordinator;
}

}  // namespace

Exit role(const std::string& launch_file) {
  spdlog::set_level(spdlog::level::info);
  ActorSystem actors;
  auto coordinator = open(actors.system(), launch_file);
  if (!coordinator) {
    spdlog::critical("coordinator: {}", coordinator.error().message);
    return exit_of(coordinator.error().code);
  }
  spdlog::info("coordinator of {} at {}", (*coordinator)->options.launch.job(),
               (*coordinator)->options.control_endpoint);
  caf::scoped_actor self{actors.system()};
  auto job = actors::spawn_job(actors.system(), (*coordinator)->options);
  self->monitor(job);
  job = nullptr;
  Exit code = Exit::ok;
  self->receive([&](const caf::down_msg& down) {
    if (down.reason == caf::exit_reason::user_shutdown) return;
    const auto why = actors::from_caf(down.reason);
    spdlog::critical("coordinator: {}", why.message);
    code = exit_of(why.code);
  });
  (*coordinator)->control->stop();
  (*coordinator)->bulk->stop();
  return code;
}

}  // namespace crabcast::apps

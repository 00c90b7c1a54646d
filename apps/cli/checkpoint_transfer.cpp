// ckpt export, ckpt import.
#include "actors/control/state_folder.h"
#include "apps/cli/checkpoint_source.h"
#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "protocol/clock.h"
#include "storage/checkpoint_export.h"
#include "storage/registry.h"

namespace crabcast::apps {
namespace {

namespace fs = std::filesystem;
using actors::StateFolder;
using storage::ExportedCheckpoint;
using storage::JobStore;
using storage::Sync;

std::string description(const ExportedCheckpoint& exported) {
  return "checkpoint " + std::to_string(exported.manifest.checkpoint().id()) + " of " +
         exported.manifest.job();
}

Status import_into(const ExportedCheckpoint& exported, const fs::path& folder) {
  auto store = open_to_change(folder);
  if (!store) return fail(store.error());
  return import_checkpoint(exported, **store);
}

Result<std::unique_ptr<storage::Registry>> open_registry(const StateFolder& state) {
  auto registry = storage::Registry::open(state.registry());
  if (registry || registry.error().code != Errc::already_exists) return registry;
  return fail(Errc::unavailable,
              "a controller runs with the state folder " + state.root.string() +
                  ", and only it may make jobs; stop it for a moment (jobs go on without it), or "
                  "name a stopped job with --job");
}

// Its record is written last, so that a job that is listed is whole.
Result<std::string> import_as_new_job(const StateFolder& state,
                                      const ExportedCheckpoint& exported) {
  const auto spec = parse_job_spec(exported.spec_yaml, "spec.yaml");
  if (!spec) return fail(spec.error().error());
  auto registry = open_registry(state);
  if (!registry) return fail(registry.error());
  const auto seq = (*registry)->next_submit_seq();
  if (!seq) return fail(seq.error());
  pb::JobRecord record;
  record.set_job(spec->name + "-" + std::to_string(*seq));
  record.set_name(spec->name);
  record.set_spec_yaml(to_yaml(*spec));
  record.set_spec_hash(spec_hash(*spec));
  record.set_state(pb::JOB_STOPPED);
  record.set_reason("imported: " + description(exported));
  record.set_submit_seq(*seq);
  record.set_submitted_unix_ms(unix_ms_now());
  const fs::path job_dir = state.job(record.job());
  Status done;
  {
    auto store = JobStore::open(StateFolder::store(job_dir));
    if (!store) return fail(store.error());
    done = (*store)->put_value("job", record.job(), Sync::no);
    if (done) done = import_checkpoint(exported, **store);
  }
  if (done) done = (*registry)->put_job(record, Sync::yes);
  if (done) return record.job();
  std::error_code error;
  fs::remove_all(job_dir, error);
  return fail(done.error());
}

}  // namespace

Exit ckpt_export(const Common& common, const CheckpointOptions& options) {
  const auto opened = open_checkpoint(common, options.job, options.store, options.id);
  if (!opened) return complain(opened.error(), common.json);
  const auto job = opened->store->value("job");
  if (!job) return complain(job.error(), common.json);
  const auto id = opened->manifest.id();
  const Status done =
      export_checkpoint(*opened->store, job->value_or(options.job), CheckpointId(id), options.out);
  if (!done) return complain(done.error(), common.json);
  if (common.json)
    print_json({{"id", id}, {"folder", options.out.string()}});
  else
    print_text("checkpoint " + std::to_string(id) + " is in " + options.out.string() + "\n");
  return Exit::ok;
}

Exit ckpt_import(const Common& common, const CheckpointImportOptions& options) {
  const auto exported = storage::open_export(options.folder);
  if (!exported) return complain(exported.error(), common.json);
  Result<std::string> job = options.job;
  if (options.job.empty() && options.store.empty()) {
    job = import_as_new_job({common.state}, *exported);
  } else {
    const auto folder = store_folder(common, options.job, options.store);
    const Status done = folder ? import_into(*exported, *folder) : fail(folder.error());
    if (!done) job = fail(done.error());
  }
  if (!job) return complain(job.error(), common.json);
  if (common.json)
    print_json({{"id", exported->manifest.checkpoint().id()}, {"job", *job}});
  else
    print_text(description(*exported) + " is in " + (job->empty() ? options.store.string() : *job) +
               "\n");
  return Exit::ok;
}

}  // namespace crabcast::apps

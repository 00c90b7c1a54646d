// ckpt pin, ckpt unpin, ckpt gc.
#include "apps/cli/checkpoint_source.h"
#include "apps/cli/client.h"
#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "protocol/clock.h"
#include "protocol/format.h"
#include "storage/retention.h"

namespace crabcast::apps {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using storage::JobStore;

Status pin_here(JobStore& store, const CheckpointOptions& options, bool pinned) {
  const auto id = find_checkpoint(store, options.id);
  if (!id) return fail(id.error());
  if (!pinned) return store.unpin(*id);
  pb::CheckpointPin pin;
  pin.set_unix_ms(unix_ms_now());
  pin.set_note(options.note);
  return store.pin(*id, pin);
}

// The coordinator of a job that runs does it.
Status pin_there(const Common& common, const CheckpointOptions& options, bool pinned) {
  auto client = ControllerClient::connect(common);
  if (!client) return fail(client.error());
  pb::PinCheckpoint body;
  body.set_job(options.job);
  body.set_id(options.id.value_or(0));
  body.set_pinned(pinned);
  body.set_note(options.note);
  auto answer = (*client)->ask(body);
  return answer ? Status() : fail(answer.error());
}

Status set_pin(const Common& common, const CheckpointOptions& options, bool pinned) {
  auto folder = store_folder(common, options.job, options.store);
  if (!folder) return fail(folder.error());
  auto store = open_to_change(*folder);
  if (store) return pin_here(**store, options, pinned);
  if (store.error().code != Errc::unavailable || options.job.empty()) return fail(store.error());
  return pin_there(common, options, pinned);
}

Exit finish_pin(const Common& common, const CheckpointOptions& options, bool pinned) {
  const Status done = set_pin(common, options, pinned);
  if (!done) return complain(done.error(), common.json);
  if (common.json)
    print_json({{"id", *options.id}, {"pinned", pinned}});
  else
    print_text("checkpoint " + std::to_string(*options.id) +
               (pinned ? " is pinned\n" : " is not pinned any more\n"));
  return Exit::ok;
}

std::uint64_t bytes_in(const fs::path& folder) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;
    const auto bytes = it->is_regular_file(gone) ? it->file_size(gone) : 0;
    if (!gone) sum += bytes;
  }
  return sum;
}

struct Plan {
  storage::RetentionPolicy policy;
  std::set<CheckpointId> in_use;
  storage::Reasons kept;
  std::vector<CheckpointId> deleted;
  std::uint64_t bytes = 0;  // of these
  storage::LeftOver left_over;
};

Result<Plan> make_plan(const JobStore& store, const CheckpointOptions& options) {
  Plan plan;
  const auto spec = spec_of_job(store);
  if (!spec) return fail(spec.error());
  plan.policy = storage::retention_of(spec->checkpoint);
  if (options.keep_last) plan.policy.last = *options.keep_last;
  const auto ids = store.checkpoint_ids();
  if (!ids) return fail(ids.error());
  const auto last = store.last_commit();
  if (!last) return fail(last.error());
  // What the job goes on from; those beyond the ledger are of a history that was taken back.
  for (const CheckpointId id : *ids)
    if (*last && id.value() <= (*last)->step()) plan.in_use = {id};
  auto kept = store.retained(plan.policy, plan.in_use);
  if (!kept) return fail(kept.error());
  plan.kept = std::move(*kept);
  for (const CheckpointId id : *ids) {
    if (plan.kept.contains(id)) continue;
    plan.deleted.push_back(id);
    if (const auto manifest = store.manifest(id)) plan.bytes += manifest->bytes();
  }
  const auto left_over = store.left_over();
  if (!left_over) return fail(left_over.error());
  plan.left_over = *left_over;
  return plan;
}

// Returns the bytes that were given back.
Result<std::uint64_t> carry_out(const Plan& plan, const fs::path& folder) {
  const std::uint64_t before = bytes_in(folder);
  auto store = open_to_change(folder);  // which drops what was left over
  if (!store) return fail(store.error());
  const auto dropped = (*store)->apply_retention(plan.policy, plan.in_use);
  if (!dropped) return fail(dropped.error());
  CRABCAST_TRY((*store)->compact());
  store->reset();
  const std::uint64_t after = bytes_in(folder);
  return before > after ? before - after : 0;
}

std::string to_text(const Plan& plan, bool dry_run, std::uint64_t freed) {
  std::string text;
  for (const auto& [id, reasons] : plan.kept)
    text += "keep    " + std::to_string(id.value()) + "  " + join_names(reasons) + "\n";
  for (const CheckpointId id : plan.deleted)
    text += (dry_run ? "delete  " : "deleted ") + std::to_string(id.value()) + "\n";
  if (plan.left_over.files > 0)
    text += std::to_string(plan.left_over.files) +
            " files of checkpoints that were never finished, " +
            format_bytes(plan.left_over.bytes) + "\n";
  if (dry_run) return text + format_bytes(plan.bytes + plan.left_over.bytes) + " would be free\n";
  return text + format_bytes(freed) + " are free again\n";
}

json to_json(const Plan& plan, bool dry_run, std::uint64_t freed) {
  json kept = json::array(), deleted = json::array();
  for (const auto& [id, reasons] : plan.kept)
    kept.push_back({{"id", id.value()}, {"kept_for", reasons}});
  for (const CheckpointId id : plan.deleted) deleted.push_back(id.value());
  json all = {{"dry_run", dry_run},
              {"kept", kept},
              {"deleted", deleted},
              {"left_over_files", plan.left_over.files},
              {"left_over_bytes", plan.left_over.bytes}};
  all[dry_run ? "would_free_bytes" : "freed_bytes"] =
      dry_run ? plan.bytes + plan.left_over.bytes : freed;
  return all;
}

}  // namespace

Exit ckpt_pin(const Common& common, const CheckpointOptions& options) {
  return finish_pin(common, options, true);
}

Exit ckpt_unpin(const Common& common, const CheckpointOptions& options) {
  return finish_pin(common, options, false);
}

Exit ckpt_gc(const Common& common, const CheckpointOptions& options) {
  auto folder = store_folder(common, options.job, options.store);
  if (!folder) return complain(folder.error(), common.json);
  auto store = JobStore::open_read_only(*folder);
  if (!store) return complain(store.error(), common.json);
  const auto plan = make_plan(**store, options);
  if (!plan) return complain(plan.error(), common.json);
  store->reset();
  std::uint64_t freed = 0;
  if (!options.dry_run) {
    const auto done = carry_out(*plan, *folder);
    if (!done) return complain(done.error(), common.json);
    freed = *done;
  }
  if (common.json)
    print_json(to_json(*plan, options.dry_run, freed));
  else
    print_text(to_text(*plan, options.dry_run, freed));
  return Exit::ok;
}

}  // namespace crabcast::apps

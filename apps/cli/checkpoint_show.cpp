// ckpt show.
#include <algorithm>

#include "apps/cli/checkpoint_source.h"
#include "apps/cli/output.h"
#include "protocol/format.h"
#include "protocol/spec_changes.h"
#include "storage/checkpoint_diff.h"
#include "storage/stored_spec.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;
using storage::JobStore;

// What the store says of a checkpoint besides its manifest.
struct Surroundings {
  std::vector<SpecChange> changes;  // from its spec to the job's
  std::string spec_problem;         // why they are not known
  std::optional<pb::CheckpointPin> pin;
  std::optional<pb::CheckpointDamage> damage;
  std::vector<std::string> kept_for;
  std::optional<pb::CommitRecord> commit;  // its last step
};

Status compare_specs(const JobStore& store, const pb::CheckpointManifest& manifest,
                     const JobSpec& now, Surroundings& around) {
  const auto yaml = storage::spec_of(store, manifest);
  if (!yaml) return fail(yaml.error());
  const auto then = parse_job_spec(*yaml, "the checkpoint's spec");
  if (!then) return fail(then.error().error());
  around.changes = spec_changes(*then, now);
  return {};
}

template <class Mark>
std::optional<Mark> mark_of(const std::map<CheckpointId, Mark>& marks, CheckpointId id) {
  const auto found = marks.find(id);
  return found == marks.end() ? std::nullopt : std::optional(found->second);
}

Result<Surroundings> look_around(const JobStore& store, const pb::CheckpointManifest& manifest) {
  const CheckpointId id(manifest.id());
  Surroundings around;
  const auto pins = store.pins();
  if (!pins) return fail(pins.error());
  around.pin = mark_of(*pins, id);
  const auto damages = store.damages();
  if (!damages) return fail(damages.error());
  around.damage = mark_of(*damages, id);
  CRABCAST_TRY(
      store.for_each_commit(Step{manifest.ledger_step() - 1}, [&](const pb::CommitRecord& commit) {
        around.commit = commit;
        return false;
      }));
  const auto now = spec_of_job(store);
  if (!now) {
    around.spec_problem = now.error().message;
    return around;
  }
  if (const Status compared = compare_specs(store, manifest, *now, around); !compared)
    around.spec_problem = compared.error().message;
  const auto kept = store.retained(storage::retention_of(now->checkpoint), {});
  if (!kept) return fail(kept.error());
  if (const auto reasons = kept->find(id); reasons != kept->end())
    around.kept_for = reasons->second;
  return around;
}

json to_json(const pb::CheckpointManifest& manifest, const Surroundings& around) {
  json all = manifest_json(manifest);
  json tensors = json::array();
  for (const auto& tensor : manifest.tensors())
    tensors.push_back({{"name", tensor.name()},
                       {"layout", storage::layout_text(tensor)},
                       {"bytes", tensor.bytes()}});
  json changes = json::array();
  for (const auto& change : around.changes)
    changes.push_back({{"field", change.field},
                       {"checkpoint", change.before},
                       {"job", change.after},
                       {"allowed", change.allowed}});
  all["tensors"] = tensors;
  all["ledger_step"] = manifest.ledger_step();
  all["spec_changes"] = changes;
  all["pinned"] = around.pin.has_value();
  if (around.pin) all["pin_note"] = around.pin->note();
  all["damaged"] = around.damage.has_value();
  all["kept_for"] = around.kept_for;
  if (around.commit) all["learning_rate"] = around.commit->learning_rate();
  return all;
}

std::string line(const std::string& name, const std::string& text) {
  return name + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + text + "\n";
}

std::string counted(int count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string spec_text(const pb::CheckpointManifest& manifest, const Surroundings& around) {
  std::string text = manifest.spec_hash();
  if (!around.spec_problem.empty()) return text + " (" + around.spec_problem + ")";
  if (around.changes.empty()) return text + ", the job's";
  for (const auto& change : around.changes)
    text += "\n            " + change.text() + (change.allowed ? "" : " (cannot go on)");
  return text;
}

std::string to_text(const pb::CheckpointManifest& manifest, const Surroundings& around) {
  std::string text = line("checkpoint", std::to_string(manifest.id()));
  text += line("taken", "after step " + std::to_string(manifest.step()) + ", in generation " +
                            std::to_string(manifest.generation()) + ", " +
                            time_text(manifest.unix_ms()));
  text += line("size", format_bytes(manifest.bytes()) + " in " +
                           counted(manifest.chunks_size(), "chunk") + ", " +
                           counted(manifest.tensors_size(), "tensor"));
  text += line("spec", spec_text(manifest, around));
  text += line("base", manifest.base_hash().empty() ? "-" : manifest.base_hash());
  text += line("ledger", "up to step " + std::to_string(manifest.ledger_step()) +
                             (around.commit ? ", learning rate " +
                                                  short_number(around.commit->learning_rate())
                                            : ", which is not there any more"));
  const std::map<std::string, double> metrics(manifest.metrics().begin(), manifest.metrics().end());
  for (const auto& [name, value] : metrics)
    text += line("metric", name + " " + number_text(value, 4));
  text += line("kept for", around.kept_for.empty() ? "nothing: the job will delete it"
                                                   : join_names(around.kept_for));
  if (around.pin)
    text += line("pinned", time_text(around.pin->unix_ms()) + "  " + around.pin->note());
  if (around.damage)
    for (const auto& problem : around.damage->problems()) text += line("DAMAGED", problem);
  std::vector<std::vector<std::string>> rows;
  for (const auto& tensor : manifest.tensors())
    rows.push_back({tensor.name(), storage::layout_text(tensor), format_bytes(tensor.bytes())});
  return text + "\n" + format_table({"TENSOR", "LAYOUT", "BYTES"}, rows);
}

}  // namespace

Exit ckpt_show(const Common& common, const CheckpointOptions& options) {
  const auto opened = open_checkpoint(common, options.job, options.store, options.id);
  if (!opened) return complain(opened.error(), common.json);
  const auto around = look_around(*opened->store, opened->manifest);
  if (!around) return complain(around.error(), common.json);
  if (common.json)
    print_json(to_json(opened->manifest, *around));
  else
    print_text(to_text(opened->manifest, *around));
  return Exit::ok;
}

}  // namespace crabcast::apps

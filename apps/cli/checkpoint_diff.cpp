// ckpt diff.
#include "storage/checkpoint_diff.h"

#include <cmath>

#include "apps/cli/checkpoint_source.h"
#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "protocol/format.h"
#include "protocol/spec_changes.h"
#include "storage/stored_spec.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;
using storage::CheckpointDifference;
using storage::TensorDifference;

struct Side {
  std::unique_ptr<storage::JobStore> store;
  std::unique_ptr<storage::CheckpointReader> checkpoint;
  std::optional<JobSpec> spec;
  std::optional<pb::CommitRecord> commit;
  [[nodiscard]] const pb::CheckpointManifest& manifest() const { return checkpoint->manifest(); }
};

Result<Side> open_side(const Common& common, const std::string& text) {
  const auto at = text.rfind('@');
  const std::string place = text.substr(0, at);
  std::optional<std::uint64_t> number;
  if (at != std::string::npos) {
    number = parse_whole(text.substr(at + 1));
    if (!number) {
      return fail(Errc::invalid_argument,
                  "what follows @ is the number of a checkpoint, as "
                  "crabcast ckpt ls shows it, not '" +
                      excerpt(text.substr(at + 1)) + "'");
    }
  }
  const bool is_folder = place.find('/') != std::string::npos;
  const auto folder = store_folder(common, is_folder ? "" : place, is_folder ? place : "");
  if (!folder) return fail(folder.error());
  auto store = storage::JobStore::open_read_only(*folder);
  if (!store) return fail(store.error());
  Side side{std::move(*store), nullptr, std::nullopt, std::nullopt};
  const auto id = find_checkpoint(*side.store, number);
  if (!id) return fail(id.error().within(place));
  auto checkpoint = side.store->open_checkpoint(*id);
  if (!checkpoint) return fail(checkpoint.error());
  side.checkpoint = std::move(*checkpoint);
  if (const auto yaml = storage::spec_of(*side.store, side.manifest()))
    if (auto spec = parse_job_spec(*yaml, text)) side.spec = std::move(*spec);
  CRABCAST_TRY(side.store->for_each_commit(Step{side.manifest().ledger_step() - 1},
                                           [&](const pb::CommitRecord& commit) {
                                             side.commit = commit;
                                             return false;
                                           }));
  return side;
}

// What is not in the tensors, as pairs of texts.
std::vector<std::array<std::string, 3>> state_rows(const Side& a, const Side& b) {
  const auto rate = [](const Side& side) {
    return side.commit ? short_number(side.commit->learning_rate()) : "not known";
  };
  std::vector<std::array<std::string, 3>> rows = {
      {"base", a.manifest().base_hash(), b.manifest().base_hash()},
      {"step", std::to_string(a.manifest().step()), std::to_string(b.manifest().step())},
      {"generation", std::to_string(a.manifest().generation()),
       std::to_string(b.manifest().generation())},
      {"learning rate", rate(a), rate(b)}};
  if (!a.spec || !b.spec) {
    rows.push_back({"spec", a.manifest().spec_hash(), b.manifest().spec_hash()});
  } else {
    for (const auto& change : spec_changes(*a.spec, *b.spec))
      rows.push_back({change.field, change.before, change.after});
  }
  std::erase_if(rows, [](const auto& row) { return row[1] == row[2]; });
  return rows;
}

const char* name_of(TensorDifference::Kind kind) {
  switch (kind) {
    case TensorDifference::Kind::equal:
      return "equal";
    case TensorDifference::Kind::changed:
      return "changed";
    case TensorDifference::Kind::reshaped:
      return "reshaped";
    case TensorDifference::Kind::removed:
      return "removed";
    case TensorDifference::Kind::added:
      return "added";
  }
  return "";
}

std::string to_text(const std::vector<std::array<std::string, 3>>& state,
                    const CheckpointDifference& difference) {
  std::string text;
  for (const auto& [name, before, after] : state)
    text += name + ": " + before + " -> " + after + "\n";
  std::vector<std::vector<std::string>> rows;
  std::size_t equal = 0;
  for (const auto& tensor : difference.tensors) {
    const bool changed = tensor.kind == TensorDifference::Kind::changed;
    const bool reshaped = tensor.kind == TensorDifference::Kind::reshaped;
    if (tensor.kind == TensorDifference::Kind::equal) ++equal;
    rows.push_back({tensor.name, name_of(tensor.kind),
                    changed ? short_number(tensor.max_change) : "-",
                    changed ? short_number(tensor.relative_l2) : "-",
                    reshaped ? tensor.before + " -> " + tensor.after : ""});
  }
  text += format_table({"TENSOR", "CHANGE", "MAX", "RELATIVE L2", ""}, rows);
  return text + std::to_string(equal) + " of " + std::to_string(rows.size()) +
         " tensors are equal, " + std::to_string(difference.equal_chunks) + " of " +
         std::to_string(difference.chunks) + " chunks\n";
}

json to_json(const std::vector<std::array<std::string, 3>>& state,
             const CheckpointDifference& difference) {
  const auto number = [](double value) { return std::isfinite(value) ? json(value) : json(); };
  json fields = json::array(), tensors = json::array();
  for (const auto& [name, before, after] : state)
    fields.push_back({{"field", name}, {"before", before}, {"after", after}});
  for (const auto& tensor : difference.tensors) {
    tensors.push_back({{"name", tensor.name}, {"change", name_of(tensor.kind)}});
    if (tensor.kind != TensorDifference::Kind::changed) continue;
    tensors.back()["max_change"] = number(tensor.max_change);
    tensors.back()["relative_l2"] = number(tensor.relative_l2);
  }
  return {{"fields", fields},
          {"tensors", tensors},
          {"chunks", difference.chunks},
          {"equal_chunks", difference.equal_chunks}};
}

}  // namespace

Exit ckpt_diff(const Common& common, const CheckpointDiffOptions& options) {
  const auto before = open_side(common, options.before);
  if (!before) return complain(before.error(), common.json);
  const auto after = open_side(common, options.after);
  if (!after) return complain(after.error(), common.json);
  const auto difference = storage::difference_of(*before->checkpoint, *after->checkpoint);
  if (!difference) return complain(difference.error(), common.json);
  const auto state = state_rows(*before, *after);
  if (common.json)
    print_json(to_json(state, *difference));
  else
    print_text(to_text(state, *difference));
  return Exit::ok;
}

}  // namespace crabcast::apps

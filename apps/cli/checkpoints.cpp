// ckpt ls, ckpt verify.
#include "apps/cli/checkpoint_source.h"
#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"
#include "storage/job_store.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;
using storage::JobStore;
using storage::VerifyReport;

constexpr auto kScore = "eval/mean";

// What people should know before they rely on it.
std::string marks_of(bool pinned, bool damaged) {
  return pinned && damaged ? "pinned, DAMAGED" : pinned ? "pinned" : damaged ? "DAMAGED" : "";
}

std::vector<std::string> row_of(const pb::CheckpointManifest& manifest, const std::string& marks) {
  const auto score = manifest.metrics().find(kScore);
  return {std::to_string(manifest.id()),
          std::to_string(manifest.step()),
          std::to_string(manifest.generation()),
          time_text(manifest.unix_ms()),
          format_bytes(manifest.bytes()),
          std::to_string(manifest.chunks_size()),
          score == manifest.metrics().end() ? "-" : number_text(score->second, 3),
          marks};
}

std::string verify_text(const VerifyReport& report) {
  std::string text = "checkpoint " + std::to_string(report.id.value()) +
                     (report.ok() ? ": ok, " : ": DAMAGED, ") + std::to_string(report.chunks) +
                     (report.chunks == 1 ? " chunk, " : " chunks, ") + format_bytes(report.bytes) +
                     "\n";
  for (const auto& problem : report.problems) text += "  " + problem + "\n";
  return text;
}

}  // namespace

Exit ckpt_ls(const Common& common, const CheckpointOptions& options) {
  auto folder = store_folder(common, options.job, options.store);
  if (!folder) return complain(folder.error(), common.json);
  auto store = JobStore::open_read_only(*folder);
  if (!store) return complain(store.error(), common.json);
  auto ids = (*store)->checkpoint_ids();
  if (!ids) return complain(ids.error(), common.json);
  const auto pins = (*store)->pins();
  if (!pins) return complain(pins.error(), common.json);
  const auto damages = (*store)->damages();
  if (!damages) return complain(damages.error(), common.json);
  json list = json::array();
  std::vector<std::vector<std::string>> rows;
  std::vector<Error> problems;
  for (const auto id : *ids) {
    auto manifest = (*store)->manifest(id);
    if (manifest) {
      const bool pinned = pins->contains(id), damaged = damages->contains(id);
      list.push_back(manifest_json(*manifest));
      list.back()["pinned"] = pinned;
      list.back()["damaged"] = damaged;
      rows.push_back(row_of(*manifest, marks_of(pinned, damaged)));
    } else {
      list.push_back({{"id", id.value()}, {"problem", manifest.error().message}});
      rows.push_back(
          {std::to_string(id.value()), "-", "-", "-", "-", "-", "-", marks_of(false, true)});
      problems.push_back(manifest.error());
    }
  }
  if (common.json)
    print_json({{"store", folder->string()}, {"checkpoints", list}});
  else
    print_text(format_table(
        {"ID", "STEP", "GENERATION", "TIME", "BYTES", "CHUNKS", "SCORE", "MARKS"}, rows));
  if (ids->empty()) note("no checkpoint is stored yet", common.quiet);
  for (const auto& problem : problems) complain(problem, false);
  return problems.empty() ? Exit::ok : Exit::failed;
}

Exit ckpt_verify(const Common& common, const CheckpointOptions& options) {
  auto folder = store_folder(common, options.job, options.store);
  if (!folder) return complain(folder.error(), common.json);
  auto store = JobStore::open_read_only(*folder);
  if (!store) return complain(store.error(), common.json);
  std::vector<CheckpointId> ids;
  if (options.id) {
    ids.emplace_back(*options.id);
  } else {
    auto all = (*store)->checkpoint_ids();
    if (!all) return complain(all.error(), common.json);
    ids = std::move(*all);
  }
  // A check that looked at nothing must not pass.
  if (ids.empty())
    return complain({Errc::not_found, "there is no checkpoint in " + folder->string()},
                    common.json);
  json list = json::array();
  bool ok = true;
  for (const auto id : ids) {
    auto report = (*store)->verify(id);
    if (!report) return complain(report.error(), common.json);
    ok = ok && report->ok();
    list.push_back({{"id", id.value()},
                    {"ok", report->ok()},
                    {"chunks", report->chunks},
                    {"bytes", report->bytes},
                    {"problems", report->problems}});
    if (!common.json) print_text(verify_text(*report));
  }
  if (common.json) print_json({{"store", folder->string()}, {"ok", ok}, {"checkpoints", list}});
  return ok ? Exit::ok : Exit::failed;
}

}  // namespace crabcast::apps

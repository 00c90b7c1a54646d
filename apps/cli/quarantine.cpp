// quarantine: the training samples of a job that cannot be read.
#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"
#include "protocol/tasks.h"
#include "storage/job_store.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;
using storage::JobStore;

constexpr std::size_t kReasonShown = 200;

std::string data_set_of(const pb::BadSample& bad) {
  const auto dataset = bad.sample().dataset();
  if (dataset < kDatasetNames.size()) return std::string(kDatasetNames.at(dataset));
  return std::to_string(dataset);
}

}  // namespace

Exit quarantine(const Common& common, const CheckpointOptions& options) {
  auto folder = store_folder(common, options.job, options.store);
  if (!folder) return complain(folder.error(), common.json);
  auto store = JobStore::open_read_only(*folder);
  if (!store) return complain(store.error(), common.json);
  auto quarantined = (*store)->quarantine();
  if (!quarantined) return complain(quarantined.error(), common.json);
  json list = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& bad : *quarantined) {
    list.push_back({{"dataset", data_set_of(bad)},
                    {"index", bad.sample().index()},
                    {"step", bad.step()},
                    {"stage", bad.stage()},
                    {"reason", bad.reason()},
                    {"unix_ms", bad.unix_ms()}});
    rows.push_back({data_set_of(bad), std::to_string(bad.sample().index()),
                    std::to_string(bad.step()), bad.stage(), excerpt(bad.reason(), kReasonShown)});
  }
  if (common.json)
    print_json({{"store", folder->string()}, {"samples", list}});
  else if (!rows.empty())
    print_text(format_table({"DATA SET", "ROW", "STEP", "STAGE", "REASON"}, rows));
  if (rows.empty()) note("no sample is in quarantine", common.quiet);
  return Exit::ok;
}

}  // namespace crabcast::apps

// report: what a job's store says of it, while it runs or after.
#include "apps/cli/job_source.h"
#include "apps/cli/output.h"
#include "apps/cli/report.h"
#include "apps/cli/verbs.h"

namespace crabcast::apps {

Exit report(const Common& common, const CheckpointOptions& options) {
  auto folder = store_folder(common, options.job, options.store);
  if (!folder) return complain(folder.error(), common.json);
  auto store = storage::JobStore::open_read_only(*folder);
  if (!store) return complain(store.error(), common.json);
  auto made = job_report(**store);
  if (!made) return complain(made.error(), common.json);
  if (common.json)
    print_json(*made);
  else
    print_text(report_text(*made));
  return Exit::ok;
}

}  // namespace crabcast::apps

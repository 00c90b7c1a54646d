// policy check: what a policy file says, or what is wrong with it.
#include "apps/cli/output.h"
#include "apps/cli/policy_file.h"
#include "apps/cli/spec_file.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;
using scheduler::Quota;

json to_json(const Quota& quota) {
  json object = json::object();
  if (quota.cpu_millis) object["cpus"] = static_cast<double>(*quota.cpu_millis) / 1000;
  if (quota.gpus) object["gpus"] = *quota.gpus;
  if (quota.memory_bytes) object["memory_bytes"] = *quota.memory_bytes;
  return object;
}

std::string text_of(const Quota& quota) {
  return quota.empty() ? "-" : scheduler::to_string(quota);
}

}  // namespace

Result<scheduler::ClusterPolicy> read_policy(const std::string& path) {
  auto text = read_spec_text(path, "policy");
  if (!text) return fail(text.error());
  auto policy = scheduler::parse_policy(*text, path == "-" ? "stdin" : path);
  if (!policy) return fail(policy.error().error());
  return std::move(*policy);
}

Exit policy_check(const Common& common, const std::string& file) {
  const auto policy = read_policy(file);
  if (!policy) return complain(policy.error(), common.json);
  json list = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& queue : policy->queues) {
    list.push_back({{"queue", queue.path},
                    {"weight", queue.weight},
                    {"guaranteed", to_json(queue.guaranteed)},
                    {"limit", to_json(queue.limit)},
                    {"users", queue.users}});
    rows.push_back({queue.path, exact_number(queue.weight), text_of(queue.guaranteed),
                    text_of(queue.limit), queue.users.empty() ? "-" : join_names(queue.users)});
  }
  if (common.json)
    print_json({{"queues", list}, {"users", policy->users.size()}});
  else
    print_text(format_table({"QUEUE", "WEIGHT", "GUARANTEED", "AT MOST", "USERS"}, rows));
  return Exit::ok;
}

}  // namespace crabcast::apps

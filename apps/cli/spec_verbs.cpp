// init, diff, clone: specs of new jobs, and of jobs that there are.
#include "apps/cli/client.h"
#include "apps/cli/output.h"
#include "apps/cli/verbs.h"
#include "protocol/format.h"
#include "protocol/spec_changes.h"

namespace crabcast::apps {
namespace {

using nlohmann::json;

Result<JobSpec> spec_of(ControllerClient& client, const std::string& job) {
  pb::GetSpec query;
  query.set_job(job);
  auto answer = client.ask(query);
  if (!answer) return fail(answer.error());
  auto spec = parse_job_spec(answer->spec_text().yaml(), job);
  if (!spec) return fail(spec.error().error());
  return std::move(*spec);
}

}  // namespace

Exit init(const Common& common, const std::string& name) {
  const std::string text = job_spec_template(name.empty() ? "my-job" : name);
  if (auto spec = parse_job_spec(text, "spec"); !spec)
    return complain(spec.error().error(), common.json);
  if (common.json)
    print_json({{"spec", text}});
  else
    print_text(text);
  return Exit::ok;
}

Exit diff(const Common& common, const std::string& before, const std::string& after) {
  auto client = ControllerClient::connect(common);
  if (!client) return complain(client.error(), common.json);
  auto a = spec_of(**client, before), b = spec_of(**client, after);
  for (const auto* one : {&a, &b})
    if (!*one) return complain(one->error(), common.json);
  const auto changes = spec_changes(*a, *b);
  if (common.json) {
    json fields = json::array();
    for (const auto& change : changes)
      fields.push_back({{"field", change.field}, {before, change.before}, {after, change.after}});
    print_json({{"differences", fields}});
    return Exit::ok;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& change : changes) rows.push_back({change.field, change.before, change.after});
  print_text(rows.empty() ? "the specs are the same\n"
                          : format_table({"FIELD", before, after}, rows));
  return Exit::ok;
}

Exit clone(const Common& common, const CloneOptions& options) {
  auto client = ControllerClient::connect(common);
  if (!client) return complain(client.error(), common.json);
  auto spec = spec_of(**client, options.job);
  if (!spec) return complain(spec.error(), common.json);
  auto changed = with_changes(*spec, options.changes);
  if (!changed) return complain(changed.error(), common.json);
  if (options.print) {
    print_text(to_yaml(*changed));
    return Exit::ok;
  }
  pb::SubmitJob body;
  body.set_spec_yaml(to_yaml(*changed));
  body.set_client_key(random_client_key());
  body.set_owner(user_name());
  auto answer = (*client)->ask(body);
  if (!answer) return complain(answer.error(), common.json);
  const auto& job = answer->job_accepted().job();
  if (common.json)
    print_json({{"job", job}, {"cloned", options.job}});
  else
    print_text(job + "\n");
  return Exit::ok;
}

}  // namespace crabcast::apps

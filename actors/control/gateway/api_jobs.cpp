// The gateway's API: jobs.
#include <algorithm>

#include "actors/control/gateway/api.h"
#include "actors/control/gateway/api_snapshot.h"
#include "actors/control/gateway/json.h"
#include "protocol/job_spec.h"

namespace crabcast::gateway {
namespace {

using std::chrono::seconds;

constexpr auto kFresh = seconds(2);  // a list of jobs
constexpr auto kLogTimeout = seconds(30);
constexpr std::uint64_t kPageOfJobs = 50;

bool is_over(pb::JobState state) {
  return state == pb::JOB_SUCCEEDED || state == pb::JOB_FAILED || state == pb::JOB_CANCELLED ||
         state == pb::JOB_STOPPED;
}

bool has_state(const pb::JobStatus& job, const std::string& wanted) {
  if (wanted.empty()) return true;
  if (wanted == "open") return !is_over(job.state());
  if (wanted == "ended") return is_over(job.state());
  return short_name(*pb::JobState_descriptor()->FindValueByNumber(job.state())) == wanted;
}

bool is_wanted(const pb::JobStatus& job, const Call& call) {
  const auto queue = call.text("queue"), owner = call.text("owner"), search = call.text("search");
  return has_state(job, call.text("state")) &&
         (queue.empty() || job.queue() == queue || job.queue().starts_with(queue + "/")) &&
         (owner.empty() || job.owner() == owner) && job.job().find(search) != std::string::npos;
}

// What a row of a list needs.
nlohmann::json row_of(const pb::JobStatus& job) {
  pb::JobStatus row = job;
  row.clear_actors();
  row.mutable_evaluation()->clear_examples();
  if (!job.has_evaluation()) row.clear_evaluation();
  return to_json(row);
}

pb::GetJob get(const Call& call) {
  pb::GetJob body;
  body.set_job(call.text("job"));
  return body;
}

}  // namespace

Result<std::shared_ptr<const pb::JobList>> Api::all_jobs() {
  const std::scoped_lock lock(snapshot_->asking);
  if (snapshot_->all && Clock::now() - snapshot_->at < kFresh) return snapshot_->all;
  pb::ListJobs body;
  body.set_all(true);
  auto answer = ask(body);
  if (!answer) return fail(answer.error());
  auto list = std::make_shared<pb::JobList>((*answer)->job_list());
  std::sort(list->mutable_jobs()->pointer_begin(), list->mutable_jobs()->pointer_end(),
            [](const pb::JobStatus* a, const pb::JobStatus* b) {
              return std::pair(a->submitted_unix_ms(), a->job()) >
                     std::pair(b->submitted_unix_ms(), b->job());
            });
  snapshot_->all = std::move(list);
  snapshot_->at = Clock::now();
  return snapshot_->all;
}

Response Api::list_jobs(const Call& call) {
  const auto all = all_jobs();
  if (!all) return error_response(all.error());
  const auto limit = call.whole("limit", kPageOfJobs), page = call.whole("page", 1);
  std::uint64_t total = 0, last_seq = 0;
  auto rows = nlohmann::json::array();
  for (const auto& job : (*all)->jobs()) {
    if (!is_wanted(job, call)) continue;
    if (total >= (page - 1) * limit && rows.size() < limit) {
      rows.push_back(row_of(job));
      last_seq = job.submit_seq();
    }
    ++total;
  }
  Response response;
  response.body = dump({{"jobs", std::move(rows)},
                        {"total", total},
                        {"next", total > page * limit ? last_seq : 0},
                        {"page", page},
                        {"pages", (total + limit - 1) / limit}});
  return response;
}

// The controller resumes by name: a submitter must not go on with a job of somebody else.
Status Api::may_resume(const Call& call) {
  if (!call.flag("resume") || call.caller.role == Role::admin) return {};
  const auto spec = parse_job_spec(call.text("spec"), "spec");
  if (!spec) return fail(spec.error().error());
  const auto all = all_jobs();
  if (!all) return fail(all.error());
  for (const auto& job : (*all)->jobs())
    if (job.name() == spec->name && job.owner() != call.caller.owner &&
        job.state() != pb::JOB_SUCCEEDED && job.state() != pb::JOB_CANCELLED)
      return fail(Errc::permission_denied, "job " + job.job() +
                                               " has this name and another owner; submit without "
                                               "resume, or choose another name");
  return {};
}

Response Api::submit_job(const Call& call) {
  if (const Status allowed = may_resume(call); !allowed) return error_response(allowed.error());
  pb::SubmitJob body;
  body.set_spec_yaml(call.text("spec"));
  // A key is one token's own: nobody learns of another's job by guessing its key.
  if (const auto key = call.text("client_key"); !key.empty())
    body.set_client_key(call.caller.name.empty() ? key : call.caller.name + "/" + key);
  body.set_resume(call.flag("resume"));
  body.set_hold(call.flag("hold"));
  body.set_array(call.text("array"));
  body.set_array_index(static_cast<std::uint32_t>(call.whole("array_index", 0)));
  body.set_owner(call.caller.owner);
  return json_of(ask(body, seconds(30)), 201);
}

Response Api::get_job(const Call& call) {
  return json_of(ask(get(call)));
}

Response Api::cancel(const Call& call, bool keep) {
  pb::CancelJob body;
  body.set_job(call.text("job"));
  body.set_keep(keep);
  return act(call, body);
}

Response Api::cancel_job(const Call& call) {
  return cancel(call, false);
}
Response Api::pause_job(const Call& call) {
  return cancel(call, true);
}

Response Api::resume_job(const Call& call) {
  pb::ResumeJob body;
  body.set_job(call.text("job"));
  return act(call, body);
}

Response Api::scale_job(const Call& call) {
  pb::ScaleJob body;
  body.set_job(call.text("job"));
  body.set_workers(static_cast<std::uint32_t>(call.whole("workers", 0)));
  return act(call, body);
}

Response Api::hold(const Call& call, bool hold) {
  pb::HoldJob body;
  body.set_job(call.text("job"));
  body.set_hold(hold);
  return act(call, body);
}

Response Api::hold_job(const Call& call) {
  return hold(call, true);
}
Response Api::release_job(const Call& call) {
  return hold(call, false);
}

Response Api::explain_job(const Call& call) {
  pb::ExplainJob body;
  body.set_job(call.text("job"));
  return json_of(ask(body));
}

Response Api::job_spec(const Call& call) {
  pb::GetSpec body;
  body.set_job(call.text("job"));
  return json_of(ask(body));
}

Response Api::job_series(const Call& call) {
  pb::GetSeries body;
  body.set_job(call.text("job"));
  return json_of(ask(body));
}

Response Api::job_checkpoints(const Call& call) {
  const auto answer = ask(get(call));
  if (!answer) return error_response(answer.error());
  const auto& job = (*answer)->job_status();
  Response response;
  response.body = dump({{"checkpoints", job.checkpoints()},
                        {"newest_checkpoint", job.newest_checkpoint()},
                        {"replicated_checkpoint", job.replicated_checkpoint()}});
  return response;
}

Response Api::job_actors(const Call& call) {
  pb::ListActors body;
  body.set_job(call.text("job"));  // empty: of all
  return json_of(ask(body));
}

Response Api::job_log(const Call& call) {
  pb::GetLog body;
  body.set_job(call.text("job"));
  body.set_role(call.text("role"));
  body.set_offset(call.whole("offset", 0));
  body.set_limit(static_cast<std::uint32_t>(call.whole("limit", 64 * 1024)));
  return json_of(ask(body, kLogTimeout));
}

}  // namespace crabcast::gateway

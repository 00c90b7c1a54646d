// The controller's decisions: what clients ask of jobs.
#include <algorithm>
#include <utility>

#include "actors/control/cluster_machine.h"
#include "protocol/spec_changes.h"

namespace crabcast::actors {

// ---- submit -------------------------------------------------------------------------------------

void ClusterMachine::submit(RequestNumber request, const pb::SubmitJob& body, Moment now) {
  auto spec = parse_job_spec(body.spec_yaml(), "spec");
  if (!spec) return refuse(request, spec.error().error());
  for (auto& [id, job] : jobs_) {  // the same submit once more
    if (body.client_key().empty() || job.record.client_key() != body.client_key()) continue;
    if (!job.is_durable) return job.submitters.push_back(request);
    pb::JobAccepted accepted;
    accepted.set_job(id);
    return answer(request, accepted);
  }
  if (Job* job = body.resume() ? resumable(spec->name) : nullptr)
    return submit_again(request, *job, *spec, now);
  if (const Status admitted = options_.policy.admits(spec->queue, body.owner(), spec->priority);
      !admitted && options_.recover)
    return refuse(request, admitted.error());
  if (const Status resolved = resolve_dependencies(*spec); !resolved)
    return refuse(request, resolved.error());

  const std::uint64_t seq = next_seq_++;
  const std::string id = spec->name + "-" + std::to_string(seq);
  Job& job = jobs_[id];
  job.spec = std::move(*spec);
  job.submitters.push_back(request);
  job.record.set_job(id);
  job.record.set_name(job.spec.name);
  job.record.set_spec_yaml(to_yaml(job.spec));
  job.record.set_spec_hash(spec_hash(job.spec));
  job.record.set_submit_seq(seq);
  job.record.set_submitted_unix_ms(now.unix_ms);
  job.record.set_client_key(body.client_key());
  job.record.set_owner(body.owner());
  job.record.set_held(body.hold());
  job.record.set_array(body.array());
  job.record.set_array_index(body.array_index());
  job.record.set_state(pb::JOB_PENDING);
  store(job, Purpose::submit);
}

// By a name, the newest of that name; from then on by its id.
Status ClusterMachine::resolve_dependencies(JobSpec& spec) const {
  for (std::string& name : spec.schedule.after) {
    if (jobs_.contains(name)) continue;
    const Job* newest = nullptr;
    for (const auto& [id, job] : jobs_)
      if (job.record.name() == name &&
          (!newest || job.record.submit_seq() > newest->record.submit_seq()))
        newest = &job;
    if (!newest)
      return fail(Errc::not_found, "schedule.after: no job is named '" + name +
                                       "', by id or by name; see crabcast ps --all");
    name = newest->record.job();
  }
  return {};
}

void ClusterMachine::check_dependencies(Job& job, Moment now) {
  if (job.record.state() != pb::JOB_PENDING || job.spec.schedule.after.empty()) return;
  std::string missing;
  for (const std::string& id : job.spec.schedule.after) {
    const auto found = jobs_.find(id);
    const auto state = found == jobs_.end() ? pb::JOB_FAILED : found->second.record.state();
    if (state == pb::JOB_FAILED || state == pb::JOB_CANCELLED)
      return finish(job, pb::JOB_CANCELLED,
                    id + ", which it was to run after, " +
                        (state == pb::JOB_FAILED ? "failed" : "was cancelled"),
                    Errc::cancelled, now);
    if (state != pb::JOB_SUCCEEDED) missing += (missing.empty() ? "" : ", ") + id;
  }
  const JobId id{job.record.job()};
  if (missing.empty())
    scheduler_.unblock(id);
  else
    scheduler_.block(id, "Runs after " + missing + ".");
}

// ---- again --------------------------------------------------------------------------------------

ClusterMachine::Job* ClusterMachine::resumable(const std::string& spec_name) {
  Job* newest = nullptr;
  for (auto& [id, job] : jobs_) {
    if (job.record.name() != spec_name || job.coordinator != 0) continue;
    if (is_over(job.record.state()) && job.record.state() != pb::JOB_FAILED) continue;
    if (!newest || job.record.submit_seq() > newest->record.submit_seq()) newest = &job;
  }
  return newest;
}

void ClusterMachine::submit_again(RequestNumber request, Job& job, const JobSpec& spec,
                                  Moment now) {
  if (const Status same = check_resumable(job.spec, spec); !same) {
    Error error = same.error().within(job.record.job() + " cannot go on with this spec");
    error.message +=
        "; undo this, or begin a new job (crabcast run --fresh, crabcast submit without --resume)";
    return refuse(request, std::move(error));
  }
  const auto after = job.spec.schedule.after;
  job.spec = spec;
  job.spec.schedule.after = after;  // it was fulfilled once
  job.record.set_spec_yaml(to_yaml(job.spec));
  job.record.set_spec_hash(spec_hash(job.spec));
  job.record.clear_ended_unix_ms();
  job.record.clear_stop_asked();
  enqueue(job, now);
  store(job, Purpose::resume, request);
}

void ClusterMachine::resume(RequestNumber request, const pb::ResumeJob& body, Moment now) {
  Job* job = find(body.job(), request);
  if (!job) return;
  const auto state = job->record.state();
  if (state != pb::JOB_STOPPED && state != pb::JOB_FAILED)
    return refuse(request,
                  {Errc::invalid_argument, "job " + body.job() + " is neither stopped nor failed"});
  submit_again(request, *job, job->spec, now);
}

void ClusterMachine::enqueue(Job& job, Moment now) {
  lose_place(job, now);
  job.status.reset();
  if (job.record.stop_asked())
    return finish(job, job.record.stop_keep() ? pb::JOB_STOPPED : pb::JOB_CANCELLED,
                  "asked by a client", Errc::ok, now);
  job.record.set_state(pb::JOB_PENDING);
  job.record.set_reason("");
  job.record.clear_error_code();
  (void)scheduler_.requeue(request_of(job));  // refused only for requests that no spec makes
  check_dependencies(job, now);
}

// ---- what clients ask of a job ------------------------------------------------------------------

void ClusterMachine::cancel(RequestNumber request, const pb::CancelJob& body, Moment now) {
  Job* job = find(body.job(), request);
  if (!job) return;
  if (is_over(job->record.state()))
    return refuse(request, {Errc::invalid_argument, "job " + body.job() + " has ended already"});
  // J-1: durable before it is acknowledged, also when everybody dies before the job has ended.
  job->record.set_stop_asked(true);
  job->record.set_stop_keep(body.keep());
  if (job->coordinator == 0) {
    finish(*job, body.keep() ? pb::JOB_STOPPED : pb::JOB_CANCELLED, "asked by a client", Errc::ok,
           now);
  } else {
    job->leaving = Leaving::no;
    job->record.set_state(pb::JOB_STOPPING);
    tell_to_stop(*job);
  }
  store(*job, Purpose::acknowledge, request);
}

void ClusterMachine::tell_to_stop(const Job& job) {
  pb::StopJob stop;
  stop.set_job(job.record.job());
  stop.set_keep(job.record.stop_keep());
  stop.set_reason("asked by a client");
  tell(job.coordinator, stop);
}

void ClusterMachine::hold(RequestNumber request, const pb::HoldJob& body) {
  Job* job = find(body.job(), request);
  if (!job) return;
  if (job->record.state() != pb::JOB_PENDING)
    return refuse(request,
                  {Errc::invalid_argument, "job " + body.job() +
                                               " does not wait; crabcast pause stops one that "
                                               "runs"});
  job->record.set_held(body.hold());
  scheduler_.hold(JobId{body.job()}, body.hold());
  store(*job, Purpose::acknowledge, request);
}

void ClusterMachine::pin(RequestNumber request, const pb::PinCheckpoint& body) {
  Job* job = find(body.job(), request);
  if (!job) return;
  if (job->coordinator == 0)
    return refuse(request, {Errc::unavailable, "job " + body.job() + " does not run"});
  Forward forward{request, job->coordinator, {}};
  *forward.body.mutable_pin_checkpoint() = body;
  actions.push_back(std::move(forward));
}

void ClusterMachine::scale(RequestNumber request, const pb::ScaleJob& body) {
  Job* job = find(body.job(), request);
  if (!job) return;
  if (is_over(job->record.state()))
    return refuse(request, {Errc::invalid_argument, "job " + body.job() + " has ended already"});
  const auto lanes = job->spec.train.lanes;
  if (body.workers() < 1 || body.workers() > lanes)
    return refuse(request, {Errc::invalid_argument,
                            "job " + body.job() + " can have from 1 to " + std::to_string(lanes) +
                                " workers (train.lanes), not " + std::to_string(body.workers())});
  job->record.set_workers(body.workers());
  // J-1: what was asked for is durable before it is acknowledged.
  store(*job, Purpose::scale, request);
}

void ClusterMachine::resize(Job& job, Moment now) {
  event(job, pb::SEVERITY_INFO, "scaled", "to " + std::to_string(job.record.workers()) + " workers",
        now);
  const auto state = job.record.state();
  if (state == pb::JOB_STOPPED || is_over(state)) return;  // it has them when it goes on
  if (const auto surplus = scheduler_.resize(request_of(job)))
    take_away(job, {surplus->begin(), surplus->end()});
}

// What the spec asks for, with the workers that were asked for since, and where its store is.
scheduler::JobRequest ClusterMachine::request_of(const Job& job) const {
  JobSpec spec = job.spec;
  if (const auto workers = job.record.workers(); workers > 0) {
    spec.resources.workers_max = workers;
    spec.resources.workers_min = std::min(spec.resources.workers_min, workers);
  }
  auto request = scheduler::job_request(JobId{job.record.job()}, spec, job.record.submit_seq());
  for (auto& role : request.fixed)
    if (role.kind == pb::ROLE_COORDINATOR) role.only_on = nodes_with_store(job.record.job());
  request.owner = job.record.owner();
  request.held = job.record.held();
  request.ran = std::chrono::milliseconds(job.record.ran_ms());
  if (!options_.recover && !options_.policy.find(request.queue)) request.queue = "default";
  return request;
}

void ClusterMachine::finish(Job& job, pb::JobState state, const std::string& reason, Errc code,
                            Moment now) {
  lose_place(job, now);
  job.record.set_state(state);
  job.record.set_reason(reason);
  job.record.set_error_code(static_cast<std::int32_t>(code));
  job.record.set_ended_unix_ms(now.unix_ms);
  store(job);
  scheduler_.remove_job(JobId{job.record.job()});
  for (auto& [id, other] : jobs_) {
    const auto& after = other.spec.schedule.after;
    if (std::find(after.begin(), after.end(), job.record.job()) != after.end())
      check_dependencies(other, now);
  }
}

}  // namespace crabcast::actors
